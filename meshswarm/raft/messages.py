"""Raft's messages, named as in the paper (Raft Figure 2, thesis 3.10, 4.2.3, 6.4, 9.6).

All carry the sender's term; `PreVote` requests carry the term the sender *would* campaign in.
They are values: encoding them is the mesh's and cluster's business.
"""

from attrs import frozen

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.types import Entry, Snapshot


@frozen(kw_only=True)
class RequestVote:
    """A candidate asks for a vote; `pre_vote` asks only whether one would be given (thesis 9.6).

    (`commit`, `commit_term`) is the last entry that it knows to be committed.
    """

    from_: NodeId
    to: NodeId
    term: Term
    last_index: Index
    last_term: Term
    pre_vote: bool = False
    leadership_transfer: bool = False
    commit: Index = Index(0)
    commit_term: Term = Term(0)


@frozen(kw_only=True)
class VoteReply:
    """The answer to `RequestVote`; `pre_vote` says to which kind.

    (`commit`, `commit_term`) is the last entry that the voter knows to be committed. Whoever holds
    it learns so of membership changes that have made its own voters others. `forgetful`: the voter
    may have forgotten what it said before, so this counts only if all voters say it (`losses`).
    """

    from_: NodeId
    to: NodeId
    term: Term
    granted: bool
    pre_vote: bool = False
    forgetful: bool = False
    commit: Index = Index(0)
    commit_term: Term = Term(0)


@frozen(kw_only=True, weakref_slot=False)
class AppendEntries:
    """Entries after (`prev_index`, `prev_term`); empty to probe or to tell the commit index.

    Whoever decodes one sees to it that the entries follow `prev_index` without a gap.
    """

    from_: NodeId
    to: NodeId
    term: Term
    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]
    commit: Index


@frozen(kw_only=True, weakref_slot=False)
class AppendReply:
    """What the follower holds durably, or where its log and the leader's may still agree.

    Accepted: `index` is the last index known to match. Rejected: `index` is the refused
    `prev_index`, and (`hint_index`, `hint_term`) is the last entry that could match
    (conflict back-tracking by term, Raft section 5.3). `recovery`: 0, or the number of a loss: the
    follower lost entries that it once acknowledged, so the leader forgets what it knew of its log,
    and does not count it.
    """

    from_: NodeId
    to: NodeId
    term: Term
    index: Index
    rejected: bool = False
    hint_index: Index = Index(0)
    hint_term: Term = Term(0)
    recovery: int = 0


@frozen(kw_only=True)
class Heartbeat:
    """The leader lives; `commit` is min(match, commit); `read_position` confirms reads up to it.

    `vouched`: 0, or the number of a loss of the receiver's (`AppendReply.recovery`) that can do no
    harm any more; it has recovered once it holds the leader's log up to `vouched_at`.
    """

    from_: NodeId
    to: NodeId
    term: Term
    commit: Index
    read_position: int = 0
    vouched: int = 0
    vouched_at: Index = Index(0)


@frozen(kw_only=True)
class HeartbeatReply:
    """The follower still follows; echoes `read_position`, or 0 if its word does not count."""

    from_: NodeId
    to: NodeId
    term: Term
    read_position: int = 0


@frozen(kw_only=True)
class InstallSnapshot:
    """The snapshot for a follower whose next entry was compacted away.

    Whoever steps it has the whole state at hand, if the core wants it (`RaftCore.wants_snapshot`).
    """

    from_: NodeId
    to: NodeId
    term: Term
    snapshot: Snapshot


@frozen(kw_only=True)
class TimeoutNow:
    """Campaign at once: the leader hands over (thesis section 3.10)."""

    from_: NodeId
    to: NodeId
    term: Term


@frozen(kw_only=True)
class Removed:
    """The receiver asked for a vote, but was removed: it stops. `term` is that of the request."""

    from_: NodeId
    to: NodeId
    term: Term


Message = (
    RequestVote
    | VoteReply
    | AppendEntries
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | TimeoutNow
    | Removed
)
