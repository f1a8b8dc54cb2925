"""The values that Raft speaks of: hard state, configuration, entries, snapshots, roles."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from attrs import field, frozen

from meshswarm.ids import Index, NodeId, Term


class Role(Enum):
    """What this node is to the others right now; `status` shows the value.

    DISCONNECTED is a manager that for one maximal election timeout has neither heard a leader nor
    reached a quorum; it is a report laid over follower or candidate, never a
    state of the algorithm.
    """

    FOLLOWER = "Follower"
    CANDIDATE = "Candidate"
    LEADER = "Leader"
    LEARNER = "Learner"
    DISCONNECTED = "Disconnected"


class EntryKind(Enum):
    """How an entry is applied: NOOP and CONF_CHANGE are Raft's own, NORMAL is the embedder's."""

    NORMAL = 0
    NOOP = 1
    CONF_CHANGE = 2


@frozen
class Entry:
    """One log entry; `data` is opaque to Raft and encoded once, by whoever proposed it."""

    index: Index
    term: Term
    data: bytes
    kind: EntryKind = EntryKind.NORMAL


@frozen
class HardState:
    """What must be durable before anyone is told of it (Raft Figure 2, "persistent state").

    `commit` is saved too: configurations take effect when applied, so whoever restarts must know
    which of them were committed.
    """

    term: Term = Term(0)
    vote: NodeId | None = None
    commit: Index = Index(0)


class News(NamedTuple):
    """What a leader's peers should know before long: its commit index, where its log ends, and the
    position of its reads."""

    commit: Index
    last: Index
    reads: int


def _sorted_ids(ids: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(set(ids)))


@frozen
class ConfState:
    """The members: voters decide, learners only receive. Ids are unique and sorted.

    `removed` are former members, which never become members again: a disk that was restored or
    forgotten somewhere must not come back as one. `has_founders`: the voters are those of the
    founding, and never were others; False where that is not known.
    """

    voters: tuple[NodeId, ...] = field(converter=_sorted_ids)
    learners: tuple[NodeId, ...] = field(default=(), converter=_sorted_ids)
    removed: tuple[NodeId, ...] = field(default=(), converter=_sorted_ids)
    has_founders: bool = False

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Voters and learners."""
        return tuple(sorted({*self.voters, *self.learners}))


class ConfChangeKind(Enum):
    """The single-server changes (thesis section 4)."""

    ADD_LEARNER = "add_learner"
    ADD_VOTER = "add_voter"
    DEMOTE = "demote"
    REMOVE = "remove"


@frozen
class ConfChange:
    """One member added, promoted, demoted to a learner or removed; effective when applied."""

    kind: ConfChangeKind
    node: NodeId


@frozen
class SnapshotMeta:
    """What a snapshot stands for: everything up to and including (`index`, `term`)."""

    index: Index
    term: Term
    conf: ConfState


@frozen
class Snapshot:
    """A snapshot as Raft handles it: `data` is opaque, the embedder's state or what names it."""

    meta: SnapshotMeta
    data: bytes
