"""One core by hand: made from what was durable, fed with messages that others might have sent."""

from collections.abc import Sequence

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import AppendEntries, AppendReply, Message, VoteReply
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import ConfState, Entry, EntryKind, HardState, SnapshotMeta

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")
THREE = ConfState((A, B, C))


class Shortest:
    """Chance that always draws the least."""

    def randrange(self, start: int, _stop: int, /) -> int:
        return start


def entries_of(terms: Sequence[int], first: int = 1) -> list[Entry]:
    """Entries with these terms."""
    return [
        Entry(Index(index), Term(term), b"", EntryKind.NORMAL)
        for index, term in enumerate(terms, first)
    ]


def core_of(
    *,
    terms: Sequence[int] = (),
    term: int = 0,
    vote: NodeId | None = None,
    commit: int = 0,
    conf: ConfState = THREE,
    config: RaftConfig | None = None,
    snapshot: SnapshotMeta | None = None,
    entries: Sequence[Entry] | None = None,
    recovering: bool = False,
    blank: bool = False,
) -> RaftCore:
    """Node a with this on its disk."""
    return RaftCore(
        config or RaftConfig(node_id=A),
        Shortest(),
        hard_state=HardState(Term(term), vote, Index(commit)),
        conf=conf,
        snapshot=snapshot,
        entries=entries_of(terms) if entries is None else entries,
        applied=snapshot.index if snapshot else Index(0),
        recovering=recovering,
        blank=blank,
    )


def carried_out(core: RaftCore) -> tuple[list[Ready], list[Message]]:
    """Everything that is due, written and applied at once: the Readys, and what was sent."""
    readys: list[Ready] = []
    sent: list[Message] = []
    while core.has_ready() or core.catch_up(core.news):
        ready = core.ready()
        readys.append(ready)
        sent += ready.messages
        if ready.token is not None:
            sent += core.persisted(ready.token)
        if ready.snapshot is not None:
            core.applied(ready.snapshot.meta.index)
        if ready.committed:
            core.applied(ready.committed[-1].index)
    return readys, sent


def sent_by(core: RaftCore) -> list[Message]:
    """What a core sends now."""
    return carried_out(core)[1]


def elected(core: RaftCore) -> RaftCore:
    """The same core as leader, by the votes of all others."""
    for _ in range(100):
        core.tick()
        if core.has_ready():
            break
    for pre_vote in (True, False):
        sent_by(core)
        term = Term(core.status().term + (1 if pre_vote else 0))
        for voter in core.status().conf.voters:
            if voter != A:
                core.step(VoteReply(from_=voter, to=A, term=term, granted=True, pre_vote=pre_vote))
    assert core.status().leader == A
    return core


def append(
    term: int, prev: tuple[int, int], terms: Sequence[int] = (), *, commit: int = 0
) -> AppendEntries:
    """Leader b's append after `prev`, an (index, term)."""
    return AppendEntries(
        from_=B,
        to=A,
        term=Term(term),
        prev_index=Index(prev[0]),
        prev_term=Term(prev[1]),
        entries=tuple(entries_of(terms, prev[0] + 1)),
        commit=Index(commit),
    )


def ack(peer: NodeId, term: int, index: int) -> AppendReply:
    """A follower's acknowledgement."""
    return AppendReply(from_=peer, to=A, term=Term(term), index=Index(index))
