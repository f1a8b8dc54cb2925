"""A small Raft cluster in memory: cores, disks that forget, a network that does as it is told.

Nothing moves by itself: whoever holds a `World` says what ticks, arrives, gets lost, is written,
crashes. Every step is watched by a `Witness`, which sees only what leaves a core.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from attrs import Factory, define, evolve, field, fields

from meshswarm import codec
from meshswarm.errors import MeshswarmError
from meshswarm.ids import Index, NodeId
from meshswarm.raft.config import RaftConfig, Rng
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot, Message, RequestVote, VoteReply
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import (
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Snapshot,
    SnapshotMeta,
)
from tests.support.raft_witness import Witness


@define
class Disk:
    """What one node has written: `pending` writes are lost in a crash."""

    hard_state: HardState = HardState()
    entries: list[Entry] = Factory(list)
    snapshot: Snapshot | None = None
    pending: list[Ready] = Factory(list)
    is_slow: bool = False

    @property
    def last_index(self) -> Index:
        floor = self.snapshot.meta.index if self.snapshot else 0
        return Index(max(floor, self.entries[-1].index if self.entries else 0))

    def complete(self) -> int:
        """Make the oldest pending write durable; its token."""
        ready = self.pending.pop(0)
        assert ready.token is not None
        assert ready.hard_state is not None
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            self.entries.clear()
        if ready.entries:
            first = ready.entries[0].index
            self.entries = [entry for entry in self.entries if entry.index < first]
            self.entries += ready.entries
        self.hard_state = ready.hard_state
        return ready.token


@define
class Machine:
    """The replicated state: the data applied so far, in order."""

    index: Index = Index(0)
    history: list[bytes] = Factory(list)

    def snapshot(self, meta: SnapshotMeta) -> Snapshot:
        return Snapshot(meta, codec.dumps([int(meta.index), self.history]))

    @classmethod
    def restored(cls, snapshot: Snapshot) -> "Machine":
        match codec.loads(snapshot.data):
            case [int() as index, [*history]]:
                return cls(Index(index), [data for data in history if isinstance(data, bytes)])
            case other:
                raise AssertionError(f"not a snapshot: {other!r}")


@define
class Node:
    """One member: `core` is None while it is down."""

    id: NodeId
    config: RaftConfig
    rng: Rng
    first_conf: ConfState
    disk: Disk = Factory(Disk)
    machine: Machine = Factory(Machine)
    core: RaftCore | None = None
    reads: list[tuple[object, Index]] = Factory(list)
    rejected_reads: list[object] = Factory(list)

    def start(self, *, recovering: bool = False) -> None:
        """Boot from the disk."""
        snapshot = self.disk.snapshot
        self.machine = Machine.restored(snapshot) if snapshot else Machine()
        self.core = RaftCore(
            self.config,
            self.rng,
            hard_state=self.disk.hard_state,
            conf=snapshot.meta.conf if snapshot else self.first_conf,
            snapshot=snapshot.meta if snapshot else None,
            entries=self.disk.entries,
            applied=self.machine.index,
            recovering=recovering,
            blank=snapshot is None and not self.disk.entries,
        )

    @property
    def running(self) -> RaftCore:
        assert self.core is not None, f"{self.id} is down"
        return self.core


def _ignore(line: str) -> None:
    """Nobody listens."""


@define
class World:
    """The cluster. `wire` holds what is in flight, oldest first; `cuts` are one-way."""

    nodes: dict[NodeId, Node]
    wire: list[Message] = Factory(list)
    cuts: set[tuple[NodeId, NodeId]] = Factory(set)
    witness: Witness = Factory(Witness)
    tell: Callable[[str], None] = field(default=_ignore)

    @classmethod
    def of(
        cls,
        voters: Iterable[str],
        *,
        rng_of: Callable[[NodeId], Rng],
        config: RaftConfig,
        learners: Iterable[str] = (),
        strangers: Iterable[str] = (),
    ) -> "World":
        """A cluster of these members, started; `strangers` run, but are no members."""
        conf = ConfState(
            tuple(NodeId(voter) for voter in voters), tuple(NodeId(node) for node in learners)
        )
        nodes = {
            node: Node(node, evolve(config, node_id=node), rng_of(node), conf)
            for node in conf.members
        }
        for name in strangers:
            stranger = NodeId(name)
            nodes[stranger] = Node(
                stranger, evolve(config, node_id=stranger), rng_of(stranger), conf
            )
        world = cls(nodes)
        for node in nodes.values():
            node.start()
        return world

    def alive(self) -> list[Node]:
        """The nodes that run, in order."""
        return [self.nodes[node] for node in sorted(self.nodes) if self.nodes[node].core]

    def leader(self) -> Node | None:
        """The running leader of the highest term."""
        leaders = [node for node in self.alive() if node.running.status().leader == node.id]
        return max(leaders, key=lambda node: node.running.status().term, default=None)

    # What may happen

    def tick(self, node: NodeId) -> None:
        """A tick of one node; what it was spared to say until now, it says before."""
        core = self.nodes[node].running
        core.catch_up(core.news)
        core.tick()
        self.pump(node)

    def deliver(self, message: Message, *, keep: bool = False) -> None:
        """Let a message arrive (and, with `keep`, arrive again later) unless its way is cut."""
        if not keep:
            self.wire.remove(message)
        target = self.nodes.get(message.to)
        if target is None or target.core is None or (message.from_, message.to) in self.cuts:
            self._lose(message)
            return
        self.tell(f"{describe(message)}")
        target.core.step(message)
        self.pump(message.to)

    def drop(self, message: Message) -> None:
        self.wire.remove(message)
        self._lose(message)

    def _lose(self, message: Message) -> None:
        self.tell(f"{describe(message)} LOST")
        sender = self.nodes[message.from_].core
        if isinstance(message, InstallSnapshot) and sender is not None:
            sender.snapshot_sent(message.to, ok=False)
            self.pump(message.from_)

    def write(self, node: NodeId) -> None:
        """Complete a node's oldest pending write, if it has one."""
        member = self.nodes[node]
        if member.disk.pending:
            self._complete_write(member)
            self.pump(node)

    def crash(self, node: NodeId) -> None:
        """Kill a node: memory and pending writes are lost; what it sent stays in flight."""
        member = self.nodes[node]
        member.core = None
        member.disk.pending.clear()
        self.witness.crashed(node)

    def store(self, node: NodeId, entries: Sequence[Entry], hard_state: HardState) -> None:
        """Boot a node that has this on its disk."""
        self.nodes[node].disk.entries = list(entries)
        self.nodes[node].disk.hard_state = hard_state
        self.witness.stored(node, entries)
        self.restart(node)

    def wipe(self, node: NodeId) -> None:
        """A node's disk is replaced by an empty one while it is down."""
        member = self.nodes[node]
        assert member.core is None, f"{node} runs"
        member.disk = Disk(is_slow=member.disk.is_slow)
        self.witness.wiped(node)

    def restart(self, node: NodeId, *, recovering: bool = False) -> None:
        """Boot a node from its disk; what was in flight to it is lost with its connections."""
        self.wire = [message for message in self.wire if message.to != node]
        member = self.nodes[node]
        member.start(recovering=recovering)
        self.witness.restarted(
            node,
            member.disk.hard_state,
            member.disk.snapshot.meta if member.disk.snapshot else None,
            member.disk.entries,
        )
        self.pump(node)

    def compact(self, node: NodeId, keep: int) -> None:
        """Take a snapshot of what is applied, store it, and compact the log."""
        member = self.nodes[node]
        meta = member.running.snapshot_meta()
        if member.disk.pending or meta.index == 0:
            return  # a snapshot is stored in order with the writes
        member.disk.snapshot = member.machine.snapshot(meta)
        member.disk.entries = [e for e in member.disk.entries if e.index > meta.index - keep]
        member.running.compact(meta, keep=keep)
        self.pump(node)

    def ask(self, node: NodeId, request: Callable[[RaftCore], object]) -> object:
        """Make a request of a node; the error if it is refused."""
        try:
            return request(self.nodes[node].running)
        except MeshswarmError as error:
            return error
        finally:
            self.pump(node)

    # Carrying out

    def pump(self, node: NodeId) -> None:
        """Carry out all that a node wants done, by the embedder's duties. No commit index waits,
        unless for entries that a thrifty leader spared its peers."""
        member = self.nodes[node]
        while member.core is not None and (
            member.core.has_ready()
            or (not member.config.thrifty and member.core.catch_up(member.core.news))
        ):
            self._carry_out(member, member.core.ready())
        if member.core is not None:
            self.witness.saw_status(member.core.status())

    def _carry_out(self, node: Node, ready: Ready) -> None:
        core = node.running
        self.witness.saw_ready(node.id, core.status(), ready)
        if ready.soft_state:
            leader = ready.soft_state.leader or "nobody"
            gone = ", removed" if ready.soft_state.removed else ""
            self.tell(f"{node.id} is {ready.soft_state.role.value}, leader {leader}{gone}")
        self._send(ready.messages)
        if ready.token is not None:
            node.disk.pending.append(ready)
            if node.disk.is_slow:
                self.tell(f"{node.id} writes #{ready.token}")
            else:
                self._complete_write(node)
        if ready.snapshot is not None:
            node.machine = Machine.restored(ready.snapshot)
            self.tell(f"{node.id} restores {describe_meta(ready.snapshot.meta)}")
            core.applied(ready.snapshot.meta.index)
        for entry in ready.committed:
            self._apply(node, entry)
        for read in ready.read_states:
            self.tell(f"{node.id} reads {read.context} at {read.index}")
            node.reads.append((read.context, read.index))
        for context in ready.rejected_reads:
            self.tell(f"{node.id} rejects read {context}")
            node.rejected_reads.append(context)
        for peer in ready.snapshot_requests:
            core.send_snapshot(peer, node.machine.snapshot(core.snapshot_meta()))

    def _complete_write(self, node: Node) -> None:
        token = node.disk.complete()
        self.witness.wrote(node.id, node.disk.hard_state)
        if node.disk.is_slow:
            self.tell(f"{node.id} wrote #{token}")
        self._send(node.running.persisted(token))

    def _apply(self, node: Node, entry: Entry) -> None:
        assert entry.index == node.machine.index + 1, (
            f"{node.id} applies {entry.index} after {node.machine.index}"
        )
        node.machine.index = entry.index
        if entry.kind is EntryKind.NORMAL:
            node.machine.history.append(entry.data)
        self.tell(f"{node.id} applies {describe_entry(entry)}")
        node.running.applied(entry.index)

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.witness.saw_message(message)
            self.wire.append(message)


DULL = {
    "read_position",
    "hint_index",
    "hint_term",
    "commit_term",
    "recovery",
    "vouched",
    "vouched_at",
}
"""What need not be told if it is 0."""


def describe(message: Message) -> str:
    """A message on one line: what differs from the ordinary."""
    words = [f"{message.from_}->{message.to}", type(message).__name__]
    for name in (attribute.name for attribute in fields(type(message))):
        value = getattr(message, name)
        dull = (
            value is False
            or (name in DULL and not value)
            or (isinstance(message, VoteReply) and not value)
            or (isinstance(message, RequestVote) and name == "commit" and not value)
        )
        if name not in ("from_", "to") and not dull:
            words.append(_describe_field(name, value))
    return " ".join(words)


def _describe_field(name: str, value: object) -> str:
    if value is True:
        return name
    if isinstance(value, tuple):
        return f"entries=[{' '.join(describe_entry(entry) for entry in value)}]"
    if isinstance(value, Snapshot):
        return describe_meta(value.meta)
    return f"{name}={value}"


def describe_entry(entry: Entry) -> str:
    """index/term and what it holds."""
    match entry.kind:
        case EntryKind.NORMAL:
            text = entry.data.decode() if len(entry.data) <= 12 else f"{len(entry.data)} bytes"
        case EntryKind.NOOP:
            text = "-"
        case EntryKind.CONF_CHANGE:
            text = "membership"
        case _:
            assert_never(entry.kind)
    return f"{entry.index}/{entry.term}:{text}"


def describe_meta(meta: SnapshotMeta) -> str:
    """A snapshot's position and members."""
    return f"snapshot={meta.index}/{meta.term} members={','.join(meta.conf.members)}"
