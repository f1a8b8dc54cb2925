"""Raft's five safety properties under everything that a network and power can do (Raft Figure 3).

Hypothesis decides what happens next; `Witness` watches. At the end all faults stop, and the
cluster must come to life again with everything that was ever committed.
"""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from meshswarm.ids import NodeId
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.types import ConfChange, ConfChangeKind
from tests.support.raft_world import Node, World

VOTERS, STRANGERS = ("a", "b", "c"), ("d", "e")
NODES = [NodeId(name) for name in (*VOTERS, *STRANGERS)]
CALM_ROUNDS = 200
"""Ticks within which a cluster without faults must be whole: ten of its longest timeouts."""

nodes = st.sampled_from(NODES)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class RaftIsSafe(RuleBasedStateMachine):
    """A cluster of three voters and two nodes that may join."""

    world: World

    @initialize(
        seed=st.integers(0, 1_000),
        pre_vote=st.booleans(),
        check_quorum=st.booleans(),
        thrifty=st.booleans(),
    )
    def start(self, seed: int, pre_vote: bool, check_quorum: bool, thrifty: bool) -> None:
        self.check_quorum = check_quorum
        config = RaftConfig(
            node_id=NodeId("-"),
            election_ticks=5,
            max_append_entries=3,
            max_inflight=3,
            max_inflight_bytes=200,
            snapshot_elections=4,
            pre_vote=pre_vote,
            check_quorum=check_quorum,
            thrifty=thrifty,
        )
        self.world = World.of(
            VOTERS,
            strangers=STRANGERS,
            config=config,
            rng_of=lambda node: random.Random(f"{seed}{node}"),
        )
        for node in self.world.nodes.values():
            node.disk.is_slow = True
        self.proposed = 0
        self.reads: dict[str, int] = {}

    # Time and messages

    @rule(node=nodes, count=st.integers(1, 12))
    def tick(self, node: NodeId, count: int) -> None:
        if self.world.nodes[node].core:
            for _ in range(count):
                self.world.tick(node)

    @rule()
    def tick_all(self) -> None:
        for node in self.world.alive():
            self.world.tick(node.id)

    @rule(place=st.integers(0), keep=st.booleans())
    @precondition(lambda self: self.world.wire)
    def deliver(self, place: int, keep: bool) -> None:
        """Any message, not the oldest: the network reorders, and repeats (`keep`)."""
        self.world.deliver(self.world.wire[place % len(self.world.wire)], keep=keep)

    @rule(count=st.integers(1, 30))
    @precondition(lambda self: self.world.wire)
    def deliver_oldest(self, count: int) -> None:
        for _ in range(count):
            if self.world.wire:
                self.world.deliver(self.world.wire[0])

    @rule(place=st.integers(0))
    @precondition(lambda self: self.world.wire)
    def drop(self, place: int) -> None:
        self.world.drop(self.world.wire[place % len(self.world.wire)])

    @rule(sender=nodes, receiver=nodes)
    def cut(self, sender: NodeId, receiver: NodeId) -> None:
        self.world.cuts.add((sender, receiver))

    @rule()
    def heal(self) -> None:
        self.world.cuts.clear()

    # Disks and lives

    @rule(node=nodes)
    def write(self, node: NodeId) -> None:
        self.world.write(node)

    @rule()
    def write_all(self) -> None:
        for node in self.world.alive():
            while node.disk.pending:
                self.world.write(node.id)

    @rule(node=nodes)
    def crash(self, node: NodeId) -> None:
        if self.world.nodes[node].core:
            self.world.crash(node)

    @rule(node=nodes)
    def restart(self, node: NodeId) -> None:
        if not self.world.nodes[node].core:
            self.world.restart(node)

    @rule(node=nodes, keep=st.integers(0, 3))
    def compact(self, node: NodeId, keep: int) -> None:
        if self.world.nodes[node].core:
            self.world.compact(node, keep)

    # Requests: asked of whoever runs; most refuse

    @rule(node=nodes, count=st.integers(1, 5))
    def propose(self, node: NodeId, count: int) -> None:
        if self.world.nodes[node].core:
            datas = [f"{self.proposed + n}".encode() for n in range(count)]
            self.proposed += count
            self.world.ask(node, lambda core: core.propose(datas))

    @rule(node=nodes)
    def read(self, node: NodeId) -> None:
        if self.world.nodes[node].core:
            context = f"read {len(self.reads)}"
            self.reads[context] = max(self.world.witness.committed, default=0)
            self.world.ask(node, lambda core: core.read_index(context))
            self._reads_are_fresh()

    @rule(node=nodes, to=nodes)
    def transfer(self, node: NodeId, to: NodeId) -> None:
        if self.world.nodes[node].core:
            self.world.ask(node, lambda core: core.transfer_leadership(to))

    @rule(node=nodes, kind=st.sampled_from(ConfChangeKind), who=nodes, force=st.booleans())
    @precondition(lambda self: self.check_quorum)  # else removed nodes disturb (thesis 4.2.3)
    def change_members(self, node: NodeId, kind: ConfChangeKind, who: NodeId, force: bool) -> None:
        if self.world.nodes[node].core:
            change = ConfChange(kind, who)
            self.world.ask(node, lambda core: core.propose_conf_change(change, force=force))

    @rule(kind=st.sampled_from(ConfChangeKind), who=nodes, names=st.sets(nodes, max_size=3))
    @precondition(lambda self: self.check_quorum)
    def change_members_at_the_leader(
        self, kind: ConfChangeKind, who: NodeId, names: set[NodeId]
    ) -> None:
        """A change that is taken, and that at first reaches only some."""
        leader = self.world.leader()
        if leader is not None:
            change = ConfChange(kind, who)
            self.world.ask(leader.id, lambda core: core.propose_conf_change(change, force=True))
            for message in [m for m in self.world.wire if m.from_ == leader.id and m.to in names]:
                self.world.deliver(message)

    @rule(node=nodes, peer=nodes)
    def unreachable(self, node: NodeId, peer: NodeId) -> None:
        if self.world.nodes[node].core:
            self.world.ask(node, lambda core: core.unreachable(peer))

    # What must hold

    def _reads_are_fresh(self) -> None:
        """A read sees everything that was applied anywhere before it was asked for."""
        for node in self.world.nodes.values():
            for context, index in node.reads:
                assert index >= self.reads[str(context)], f"{context} at {index} on {node.id}"

    def teardown(self) -> None:
        """Faults end: a leader comes, and every member holds everything that was committed."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.cuts.clear()
        for node in world.nodes.values():
            node.disk.is_slow = False
            while node.disk.pending:
                world.write(node.id)
            if node.core is None:
                world.restart(node.id)
        for _ in range(CALM_ROUNDS):
            for node in world.alive():
                world.tick(node.id)
            while world.wire:
                world.deliver(world.wire[0])
        self._reads_are_fresh()
        self._is_whole()

    def _is_whole(self) -> None:
        leader = self.world.leader()
        assert leader is not None, [node.running.status() for node in self.world.alive()]
        status = leader.running.status()
        assert status.commit == status.last_index
        assert max(self.world.witness.committed, default=0) <= status.commit
        members = [self.world.nodes[node] for node in status.conf.members]
        for member in members:
            assert _state(leader) == _state(member), f"{leader.id} and {member.id} differ"


def _state(node: Node) -> tuple[int, list[bytes]]:
    return node.machine.index, node.machine.history


TestRaftIsSafe = RaftIsSafe.TestCase
TestRaftIsSafe.settings = settings(
    max_examples=60,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
