"""A random walk of a small Raft cluster whose nodes lose their disks, from one seed.

As in `raft_walk` the membership changes meanwhile. Disks are wiped, or damaged (then the node knows
it, and still has its term and vote), at any moment at which enough voters of every membership that
may be in force stay whole; often just as a leader that was replaced comes back. Reads are judged,
too.
"""

from attrs import evolve

from meshswarm.ids import Index, NodeId
from meshswarm.raft import confchange
from meshswarm.raft.messages import Message
from meshswarm.raft.quorum import majority_of
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfState, Entry, EntryKind
from tests.support.raft_walk import Walk
from tests.support.raft_world import Disk, Node

CALM_TICKS = 15
CALMS = 20
"""So many are enough for all to be whole."""

AWAY_TICKS = 40
"""Within so many a leader that is cut off is replaced, or it is not."""


class LossWalk(Walk):
    """One walk; `losses_made` counts disks, `replaced` the leaders whose helpers lost theirs."""

    LENGTHS = (100, 300, 800)

    def __init__(self, seed: int) -> None:
        super().__init__(seed, pre_vote=True)
        self.losses_made = self.replaced = self.reads = 0
        self.is_whole = False
        self._founders = next(iter(self.world.nodes.values())).first_conf
        self._newest: tuple[Index, ConfState] = Index(0), self._founders
        self._incomplete: set[NodeId] = set()
        self._late: dict[int, Message] = {}
        """What processes sent that are gone: no peer takes it after a word of their successor's."""
        self._asked: dict[object, Index] = {}

    def go(self, steps: int) -> None:
        """Take so many steps, after the founding; half of them have to do with losses and reads."""
        self._found()
        steps_of_loss = (self._read, self._lose, self._replace, self._replace, self.calm)
        for _ in range(steps):
            if self.chance.random() < 0.5:
                self.chance.choice(steps_of_loss)()
            else:
                super().go(1)
            self._note()

    def _found(self) -> None:
        self.calm()
        self.calm()

    def come_to_rest(self) -> bool:
        """As there; and whoever lost something has got it back."""
        for name in self.nodes:
            if self.world.nodes[name].core is None:
                self._restart(name)
        if not super().come_to_rest():
            return False
        status = {node.id: node.running.status() for node in self.world.alive()}
        members = self.world.leader().running.status().conf.members  # type: ignore[union-attr]
        assert not [name for name in members if name in status and status[name].recovering]
        return True

    def _note(self) -> None:
        """Keep the disks' word on who lacks something, the newest membership, and judge reads."""
        for node in self.world.alive():
            status = node.running.status()
            if status.recovering:
                self._incomplete.add(node.id)
            else:
                self._incomplete.discard(node.id)
            if status.applied > self._newest[0]:
                self._newest = status.applied, status.conf
            for context, index in node.reads:
                asked = self._asked[context]
                assert index >= asked, f"{node.id} reads at {index} what was asked for at {asked}"
            node.reads.clear()

    # Steps

    def _arrive(self, message: Message, *, keep: bool = False) -> None:
        """It does not, if the successor of its sender was heard there."""
        link = message.from_, message.to
        if id(message) not in self._late and link not in self.world.cuts:
            overtaken = {key for key, m in self._late.items() if (m.from_, m.to) == link}
            self.world.wire[:] = [m for m in self.world.wire if id(m) not in overtaken]
        self.world.deliver(message, keep=keep)
        self._note()

    def _restart(self, name: NodeId) -> None:
        sent = [message for message in self.world.wire if message.from_ == name]
        self._late |= {id(message): message for message in sent}
        self.world.restart(name, recovering=name in self._incomplete)

    def _settle(self, share: float = 1.0) -> None:
        """Most of what can arrive does."""
        for _ in range(200):
            free = [m for m in self.world.wire if (m.from_, m.to) not in self.world.cuts]
            if not free:
                return
            if self.chance.random() <= share:
                self._arrive(free[0])
            else:
                self.world.drop(free[0])

    def calm(self) -> None:
        """A while without cuts, in which disks are quick and whoever is down comes up."""
        self.world.cuts.clear()
        for node in self.world.nodes.values():
            if node.core is None:
                self._restart(node.id)
        for _ in range(CALM_TICKS):
            for node in self.world.alive():
                while node.disk.pending:
                    self.world.write(node.id)
                self.world.tick(node.id)
            self._settle()

    def _read(self) -> None:
        for node in self.world.alive():
            if node.running.leads:
                self.reads += 1
                self._asked[self.reads] = max(self.world.witness.committed, default=Index(0))
                self.world.ask(node.id, lambda core: core.read_index(self.reads))

    def _lose(self) -> bool:
        """Wipe or damage the disk of somebody who may lose it."""
        able = [name for name in self.nodes if self._may_lose(name)]
        if not able:
            return False
        name = self.chance.choice(able)
        node = self.world.nodes[name]
        if node.core is not None:
            self.world.crash(name)
        if self.chance.random() < 0.7:
            self.world.wipe(name)
            self._incomplete.discard(name)
        else:
            self._damage(node)
        self.losses_made += 1
        self._lost(name)
        if self.chance.random() < 0.9:
            self._restart(name)
        return True

    def _lost(self, name: NodeId) -> None:
        """This one's disk was lost."""

    def _damage(self, node: Node) -> None:
        """What is left are the snapshot, term and vote."""
        index = node.disk.snapshot.meta.index if node.disk.snapshot else Index(0)
        node.disk = Disk(
            hard_state=evolve(node.disk.hard_state, commit=index),
            snapshot=node.disk.snapshot,
            is_slow=node.disk.is_slow,
        )
        self._incomplete.add(node.id)

    def _replace(self) -> None:
        """Cut a leader off until there is another, let somebody lose its disk who may have helped,
        and bring it together with the old one, away from the new."""
        leaders = [node.id for node in self.world.alive() if node.running.leads]
        if not leaders:
            return
        old = self.chance.choice(leaders)
        self._part({old})
        new = self._another(old)
        if new is None or self.world.nodes[old].core is None:
            return
        for _ in range(self.chance.randrange(3)):
            self._ask()
            self._settle(0.9)
        if not self._lose():
            return
        self.replaced += 1
        self._part({new} if self.chance.random() < 0.7 else {new, self.chance.choice(self.nodes)})
        for _ in range(self.chance.randrange(1, 8)):
            if (core := self.world.nodes[old].core) is None or not core.leads:
                return
            self._read()
            self.world.ask(old, lambda core: core.propose([b"y"]))
            self.world.tick(old)
            self._settle(0.95)

    def _another(self, old: NodeId) -> NodeId | None:
        quick = self.chance.choice(self.nodes)
        for _ in range(AWAY_TICKS):
            for node in self.world.alive():
                for _ in range(0 if node.id == old else 2 if node.id == quick else 1):
                    self.world.tick(node.id)
            self._settle(0.95)
            for node in self.world.alive():
                if node.id != old and node.running.leads:
                    return node.id
        return None

    def _part(self, some: set[NodeId]) -> None:
        """Cut these off from all others, who reach each other."""
        self.world.cuts = {
            (a, b) for a in self.nodes for b in self.nodes if (a in some) != (b in some)
        }

    # What may be lost

    def _may_lose(self, name: NodeId) -> bool:
        if not self.world.nodes[name].disk.last_index:
            return False
        whole = {
            node.id
            for node in self.world.nodes.values()
            if node.id not in {name, *self._incomplete} and node.disk.last_index
        }
        return all(
            len(whole & set(conf.voters)) >= majority_of(len(conf.voters))
            for conf in self._possible_confs()
        )

    def _possible_confs(self) -> list[ConfState]:
        """The founders', the newest that was applied, and what one more change makes of it."""
        applied, newest = self._newest
        confs = [self._founders, newest]
        for node in self.world.nodes.values():
            for entry in _entries_of(node):
                if entry.kind is EntryKind.CONF_CHANGE and entry.index > applied:
                    try:
                        confs.append(confchange.changed(newest, confchange.decode(entry.data)))
                    except ConfChangeRefused:
                        continue
        return confs


class FoundingWalk(LossWalk):
    """Any minority may lose its disk, from the first moment on, though others were never up or hold
    nothing yet. Nothing may be lost; that somebody leads in the end is promised as long as the
    voters are the founders."""

    LENGTHS = (80, 150, 300)

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._wiped: set[NodeId] = set()
        """Whose disk was lost, until they hold a log that they take for whole."""

    def go(self, steps: int) -> None:
        """Take so many steps from the very first on, some of them without those who start late."""
        for name in self.nodes:
            if self.chance.random() < 0.3:
                self.world.crash(name)
        for _ in range(self.chance.choice((0, 40, 80, 150))):
            match self.chance.choices(range(3), (8, 6, 86))[0]:
                case 0:
                    self._lose()
                case 1:
                    self._part({self.chance.choice(self.nodes)})
                case _:
                    Walk.go(self, 1)
            self._note()
        super().go(steps)

    def come_to_rest(self) -> bool:
        """All are up again: whether it is promised that they go on then. They do."""
        self.calm()
        is_promised = self._is_promised()
        for _ in range(CALMS if is_promised else 2):
            self.calm()
        if is_promised:
            leader = self.world.leader()
            assert leader is not None, "no leader"
            members = leader.running.status().conf.members
            recovering = [n for n in members if self.world.nodes[n].running.status().recovering]
            assert not recovering, f"{recovering} still recover"
        return is_promised

    def _is_promised(self) -> bool:
        """Who holds nothing counts as lost, once something is committed."""
        statuses = {node.id: node.running.status() for node in self.world.alive()}
        confs = {status.conf for status in statuses.values() if status.last_index}
        if any(
            entry.kind is EntryKind.CONF_CHANGE for n in statuses for entry in self._unapplied(n)
        ):
            return False
        if len(confs) > 1 or not all(conf.has_founders for conf in confs):
            return False
        voters = set(self._founders.voters)
        if not any(status.commit for status in statuses.values()):
            return True
        lost = {n for n in voters if statuses[n].recovering or not statuses[n].last_index}
        return len(lost) < majority_of(len(voters))

    def _unapplied(self, name: NodeId) -> list[Entry]:
        node = self.world.nodes[name]
        applied = node.running.status().applied
        return [entry for entry in _entries_of(node) if entry.index > applied]

    def _found(self) -> None:
        """It is part of the walk."""

    def _note(self) -> None:
        super()._note()
        self._wiped -= {
            node.id
            for node in self.world.alive()
            if node.running.status().last_index and not node.running.status().recovering
        }

    def _may_lose(self, name: NodeId) -> bool:
        lost = {name, *self._incomplete, *self._wiped}
        return all(
            len(lost & set(conf.voters)) < majority_of(len(conf.voters))
            for conf in self._possible_confs()
        )

    def _lost(self, name: NodeId) -> None:
        self._wiped.add(name)


def _entries_of(node: Node) -> list[Entry]:
    """On its disk, or on the way there."""
    return [*node.disk.entries, *(e for ready in node.disk.pending for e in ready.entries)]
