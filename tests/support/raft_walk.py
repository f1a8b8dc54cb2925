"""A random walk of a small Raft cluster whose membership changes all the time, from one seed.

After it all faults end, and then some nodes die for good: as many as leave a majority of the newest
membership, and somebody who knows it. The rest must elect a leader and hold what was committed.
"""

import random

from meshswarm.ids import NodeId
from meshswarm.raft import confchange
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.messages import Message
from meshswarm.raft.quorum import majority_of
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState, EntryKind
from tests.support.raft_world import Node, World

CALM_ROUNDS = 300
KINDS = tuple(ConfChangeKind)
WEIGHTS = (4, 4, 3, 1)
"""Removed nodes never return, so removals are rare; the kinds are in the order of the enum."""


class Walk:
    """One walk; `changes` counts the membership changes that were taken."""

    def __init__(self, seed: int, *, pre_vote: bool = False) -> None:
        self.chance = random.Random(seed)
        count = self.chance.choice((1, 2, 3, 3, 4, 5))
        names = "abcdefg"[: count + self.chance.randint(1, 2)]
        config = RaftConfig(
            node_id=NodeId("-"),
            election_ticks=5,
            max_append_entries=self.chance.choice((1, 2, 4_096)),
            max_inflight=self.chance.choice((1, 3, 16)),
            snapshot_elections=4,
            pre_vote=self.chance.random() < 0.8 or pre_vote,
            thrifty=self.chance.random() < 0.5,
        )
        self.world = World.of(
            names[:count],
            strangers=names[count:],
            config=config,
            rng_of=lambda node: random.Random(f"{seed}{node}"),
        )
        for node in self.world.nodes.values():
            node.disk.is_slow = self.chance.random() < 0.3
        self.nodes = list(self.world.nodes)
        self.losses = self.chance.choice((0, 0.02, 0.2))
        self.changes = 0

    def found(self) -> None:
        """Let the founders begin, undisturbed."""
        while not self.world.witness.committed:
            for name in self.nodes:
                self.world.tick(name)
                self.world.write(name)
            for message in list(self.world.wire):
                self.world.deliver(message)

    def go(self, steps: int) -> None:
        """Take so many steps, most of them such that something comes of it."""
        for _ in range(steps):
            step = self.chance.choices(
                (self._deliver, self._tick, self._write, self._ask, self._break, self._mend),
                (45, 20, 10, 14, 3, 3),
            )[0]
            step()

    # Steps

    def _deliver(self) -> None:
        for _ in range(self.chance.randint(1, 7)):
            wire = self.world.wire
            if not wire:
                return
            message = wire[0] if self.chance.random() < 0.8 else self.chance.choice(wire)
            if self.chance.random() < self.losses:
                self.world.drop(message)
            else:
                self._arrive(message, keep=self.chance.random() < 0.03)

    def _arrive(self, message: Message, *, keep: bool = False) -> None:
        self.world.deliver(message, keep=keep)

    def _restart(self, name: NodeId) -> None:
        self.world.restart(name)

    def _tick(self) -> None:
        alive = self.world.alive()
        together = self.chance.random() < 0.5
        for node in alive if together else self.chance.sample(alive, min(1, len(alive))):
            for _ in range(1 if together else self.chance.randint(1, 8)):
                self.world.tick(node.id)

    def _write(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            self.world.write(self.chance.choice(self.nodes))

    def _break(self) -> None:
        alive = self.world.alive()
        if alive and self.chance.random() < 0.5:
            self.world.crash(self.chance.choice(alive).id)
        else:
            sender, receiver = self.chance.choices(self.nodes, k=2)
            self.world.cuts.add((sender, receiver))

    def _mend(self) -> None:
        down = [node for node in self.nodes if self.world.nodes[node].core is None]
        alive = self.world.alive()
        match self.chance.randrange(3):
            case 0 if down:
                self._restart(self.chance.choice(down))
            case 1 if alive:
                self.world.compact(self.chance.choice(alive).id, self.chance.randrange(3))
            case _:
                self.world.cuts.clear()

    def _ask(self) -> None:
        leader = self.world.leader()
        if leader is None:
            return
        to = self.chance.choice(self.nodes)
        match self.chance.choices((0, 1, 2), (5, 8, 1))[0]:
            case 0:
                self.world.ask(leader.id, lambda core: core.propose([b"x"]))
            case 1:
                change = ConfChange(self.chance.choices(KINDS, WEIGHTS)[0], to)
                force = self.chance.random() < 0.6
                answer = self.world.ask(
                    leader.id, lambda core: core.propose_conf_change(change, force=force)
                )
                self.changes += isinstance(answer, tuple)
            case _:
                self.world.ask(leader.id, lambda core: core.transfer_leadership(to))

    # The end

    def come_to_rest(self) -> bool:
        """End the faults, bury some nodes, and see that the rest is whole; False if nobody could
        ask that of them, because too many voters hold nothing or would be asked for."""
        world = self.world
        world.cuts.clear()
        for node in world.nodes.values():
            node.disk.is_slow = False
            while node.disk.pending:
                world.write(node.id)
            if node.core is None:
                world.restart(node.id)
        world.wire.clear()
        committed = max(world.witness.committed, default=0)
        dead = self._buried()
        if dead is None:
            return False
        for name in dead:
            world.crash(name)
        for _ in range(CALM_ROUNDS):
            for node in world.alive():
                world.tick(node.id)
            while world.wire:
                world.deliver(world.wire[0])
        self._is_whole(committed)
        return True

    def _buried(self) -> set[NodeId] | None:
        """Who may die, by chance; None if the living could not elect even so."""
        newest = max(self.world.nodes.values(), key=lambda node: node.running.status().applied)
        changed_at = _last_change(newest)
        dead: set[NodeId] = set()
        for name in self.chance.sample(self.nodes, self.chance.randrange(len(self.nodes))):
            living = [node for node in self.world.nodes.values() if node.id not in {*dead, name}]
            knows = any(node.running.status().applied >= changed_at for node in living)
            if knows and _elects(newest.running.status().conf, living):
                dead.add(name)
        living = [node for node in self.world.nodes.values() if node.id not in dead]
        possible = [newest.running.status().conf, *(conf for n in living for conf in _pending(n))]
        return dead if all(_elects(conf, living) for conf in possible) else None

    def _is_whole(self, committed: int) -> None:
        leader = self.world.leader()
        alive = [node.running.status() for node in self.world.alive()]
        assert leader is not None, f"no leader among {alive}"
        status = leader.running.status()
        assert status.last_index == status.commit >= committed
        for name in status.conf.members:
            member = self.world.nodes[name]
            if member.core is not None:
                assert leader.machine.history == member.machine.history, f"{name} differs"


def _elects(conf: ConfState, living: list[Node]) -> bool:
    """Whether these are a majority of the voters, not counting those who vote for nobody."""
    statuses = {node.id: node.running.status() for node in living}
    able = [
        voter
        for voter in conf.voters
        if voter in statuses and statuses[voter].last_index and not statuses[voter].recovering
    ]
    return len(able) >= majority_of(len(conf.voters))


def _last_change(node: Node) -> int:
    """Where the newest membership that a node has applied was made."""
    base = node.disk.snapshot.meta.index if node.disk.snapshot else 0
    applied = node.running.status().applied
    kind = EntryKind.CONF_CHANGE
    return max(
        (e.index for e in node.disk.entries if e.kind is kind and e.index <= applied), default=base
    )


def _pending(node: Node) -> list[ConfState]:
    """The memberships that changes in a node's log may lead to."""
    status = node.running.status()
    found: list[ConfState] = []
    for entry in node.disk.entries:
        if entry.kind is EntryKind.CONF_CHANGE and entry.index > status.applied:
            try:
                found.append(confchange.changed(status.conf, confchange.decode(entry.data)))
            except ConfChangeRefused:
                continue
    return found
