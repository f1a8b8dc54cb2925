"""What one node knows: a single mutable value, owned by `RaftCore`.

Only the functions of this room change it. Here are the fields, what they mean to others, and the
one transition that every rule may call for: becoming a follower.
"""

from collections.abc import Sequence

from attrs import define, field

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.config import RaftConfig, Rng
from meshswarm.raft.log import RaftLog
from meshswarm.raft.outbox import Outbox
from meshswarm.raft.progress import Progress
from meshswarm.raft.reads import Reads
from meshswarm.raft.ready import ReadState
from meshswarm.raft.types import ConfState, Entry, EntryKind, HardState, Role


@define
class Campaign:
    """An election under way; `pre_vote` while it only asks whether it could win."""

    pre_vote: bool
    votes: dict[NodeId, bool] = field(factory=dict)
    forgetful: set[NodeId] = field(factory=set)
    """Those of them that may have forgotten what they said before (`losses`)."""


@define
class Reign:
    """What a leader knows beyond what every node knows; it ends with the term or before.

    `peers` are all other members in sorted order. `transferee` gets the leadership handed over;
    `transfer_elapsed` counts the ticks since that began. Of a thrifty leader (`thrift`): `quick`
    are the voters whose answers committed the last entry that all were asked for, `slow` all other
    peers; who is `spared` what came last, up to `looked_at`, gets it with what follows. Reads are
    confirmed without the `unasked`.
    """

    reads: Reads
    peers: dict[NodeId, Progress] = field(factory=dict)
    heartbeat_elapsed: int = 0
    transferee: NodeId | None = None
    transfer_elapsed: int = 0
    quick: tuple[Progress, ...] = ()
    slow: frozenset[NodeId] = frozenset()
    spared: frozenset[NodeId] = frozenset()
    looked_at: Index = Index(0)
    unasked: frozenset[NodeId] = frozenset()

    @property
    def recovering(self) -> frozenset[NodeId]:
        """The peers that told of a loss, and have not recovered yet."""
        return frozenset(peer for peer, progress in self.peers.items() if progress.recovery)


class RaftState:
    """One node's state; `role` is FOLLOWER, CANDIDATE or LEADER, never a mere report.

    `campaign` is there exactly for candidates, `reign` exactly for leaders. `silent_ticks` counts
    since a leader was last heard or a quorum reached. `recovery` numbers the loss under repair, 0
    if there is none. Once a leader has vouched, there is a `vouched_at`; when the log is known to
    agree so far, it is what must be durable (`recovered_at`) for the recovery to end. `repaired_to`
    is how far the last heartbeat found the log.
    `removed`: another member knows that this node was removed. Until then a removed leader must
    stay and answer, for it may be the only one that knows.
    A node that is not `is_fit` does not campaign. `elections` counts the terms that it ran in.
    """

    def __init__(
        self,
        config: RaftConfig,
        rng: Rng,
        *,
        hard_state: HardState,
        conf: ConfState,
        log: RaftLog,
        recovering: bool,
        blank: bool,
    ) -> None:
        self.config = config
        self.id = config.node_id
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.conf = conf
        self.log = log
        self.outbox = Outbox()
        self.send = self.outbox.send
        """Puts a message on its way."""

        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.campaign: Campaign | None = None
        self.reign: Reign | None = None

        self.election_elapsed = 0
        self.silent_ticks = 0
        self.recovery = 0
        self.vouched_at: Index | None = None
        self.blank = blank
        self.is_fit = True
        self.elections = 0
        self.recovered_at: Index | None = None
        self.repaired_to: Index | None = None
        self.removed = False

        self.read_states: list[ReadState] = []
        self.rejected_reads: list[object] = []
        self.snapshot_requests: list[NodeId] = []

        self._rng = rng
        self._silence_ticks = config.election_ticks_max
        self.election_timeout = 0
        self.reset_election_timer()
        if recovering:
            self.begin_recovery()

    @property
    def recovering(self) -> bool:
        """Whether something was lost here that is not repaired yet."""
        return self.recovery != 0

    def begin_recovery(self) -> None:
        """Something was lost here. By chance, its number is another one each time."""
        self.recovery = self._rng.randrange(1, 1 << 31)

    @property
    def is_forgetful(self) -> bool:
        """Whether this node may have said, and forgotten, what its word now contradicts."""
        return self.blank or self.recovery != 0

    @property
    def is_voter(self) -> bool:
        """Whether this node counts in elections and commits."""
        return self.id in self.conf.voters

    @property
    def is_disconnected(self) -> bool:
        """Whether neither a leader nor a quorum was heard for one maximal election timeout."""
        return self.reign is None and self.silent_ticks >= self._silence_ticks

    @property
    def reported_role(self) -> Role:
        """The role as others are told it."""
        if self.reign is not None:
            return self.role
        if self.silent_ticks >= self._silence_ticks:
            return Role.DISCONNECTED
        return self.role if self.id in self.conf.voters else Role.LEARNER

    def reset_election_timer(self) -> None:
        """Start a new election timeout of random length (Raft section 5.2)."""
        ticks = self.config.election_ticks
        self.election_elapsed = 0
        self.election_timeout = self._rng.randrange(ticks, 2 * ticks)

    def become_follower(self, term: Term, leader: NodeId | None) -> None:
        """Follow `leader`, if one is known, in `term`.

        The vote is forgotten only with its term: a candidate that meets the winner of its own term
        has voted in it. The election timer starts anew only for who was no follower; a candidate
        that this node refuses must not put off its own election.
        """
        assert term >= self.term, f"term falls to {term}, it is {self.term}"
        if term > self.term:
            self.term = term
            self.vote = None
        if self.reign is not None:
            self.rejected_reads += self.reign.reads.abandon()
            self.snapshot_requests.clear()
        if self.role is not Role.FOLLOWER:
            self.reset_election_timer()
        self.role = Role.FOLLOWER
        self.leader = leader
        self.campaign = None
        self.reign = None

    def append(self, datas: Sequence[bytes], kind: EntryKind) -> Index:
        """Append these as entries of this term, on the leader; the first one's index."""
        first = Index(self.log.last_index + 1)
        term = self.term
        self.log.append(
            [Entry(Index(index), term, data, kind) for index, data in enumerate(datas, first)]
        )
        return first
