"""Raft's promises, watched from outside: Figure 3 of the paper, votes, and what must be durable.

An entry of these books is written once and must never be contradicted.
"""

from collections.abc import Iterable, Sequence

from attrs import define, field

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import confchange
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.quorum import majority_of
from meshswarm.raft.ready import ReadState, Ready
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.status import RaftStatus
from meshswarm.raft.types import ConfChange, ConfState, Entry, EntryKind, HardState, Role
from meshswarm.sim.disk import Disk
from meshswarm.sim.trace import Violation


@define(eq=False)
class Consensus:
    """Election safety, log matching, leader completeness, durability before promises."""

    confs: list[tuple[Index, ConfState]]
    """The members from each index on, as of what was committed anywhere."""
    leader_of: dict[Term, NodeId] = field(factory=dict)
    committed: dict[Index, tuple[Term, bytes]] = field(factory=dict)
    _reached: dict[Term, Index] = field(factory=dict)
    """Up to where something was committed in each term."""
    _voted: dict[tuple[NodeId, Term], NodeId] = field(factory=dict)
    _forgotten: set[tuple[NodeId, Term, NodeId]] = field(factory=set)
    """Votes of disks that were wiped since: they count, and do not bind any more."""
    _entry_at: dict[tuple[Index, Term], tuple[bytes, Term]] = field(factory=dict)
    """What an entry holds, and the term of the one before it."""
    _logs: dict[NodeId, dict[Index, Term]] = field(factory=dict)
    _starts: dict[NodeId, tuple[Index, Term]] = field(factory=dict)
    """The snapshot that each log follows."""
    _commits: dict[NodeId, Index] = field(factory=dict)
    _durable: dict[NodeId, dict[Index, Term]] = field(factory=dict)
    """What each node's disk holds, compacted entries included."""
    _lost: dict[NodeId, dict[Index, Term]] = field(factory=dict)
    """What it held before it was damaged: leaders that were told of it may still count it."""
    _snapshots: dict[NodeId, Index] = field(factory=dict)
    """Up to where a leader's snapshot took the place of each one's log."""
    _acked: dict[tuple[Term, NodeId, NodeId], Index] = field(factory=dict)
    """What a leader was told in its term by each peer."""
    _reigns: set[Term] = field(factory=set)
    """Terms whose leader was looked at when it won."""
    _changes: dict[tuple[Index, Term], ConfChange] = field(factory=dict)
    """Membership changes that were in some log."""
    _hard: dict[NodeId, HardState] = field(factory=dict)
    _moment: int = 0
    """Grows with whatever the next two books note."""
    _followed: dict[tuple[Term, NodeId, NodeId], int] = field(factory=dict)
    """When each peer last said to a leader, in its term, that its reads may be served."""
    _asked: dict[tuple[NodeId, object], tuple[Term, int, int]] = field(factory=dict)
    """In which term, and when, a leader was asked for each read that is not confirmed yet, and how
    much was committed by then."""

    @property
    def conf(self) -> ConfState:
        """The members by what was committed anywhere."""
        return self.confs[-1][1]

    def _has_conf(self, node: NodeId, conf: ConfState, applied: Index) -> None:
        """A node that has applied so much has these members: no others, and none too early."""
        right = next(conf for index, conf in reversed(self.confs) if index <= applied)
        if conf != right:
            raise Violation(f"{node} has {conf} at {applied}, right is {right}")

    def possible_confs(self) -> list[ConfState]:
        """The memberships that may be in force: the committed one, and after one more change."""
        pending = [c for (index, _), c in self._changes.items() if index > len(self.committed)]
        return [self.conf, *(_changed(self.conf, change) for change in pending)]

    # --- messages -----------------------------------------------------------------------------

    def sent(self, message: Message, disk: Disk) -> None:
        """A message leaves its node, whose disk holds this."""
        match message:
            case HeartbeatReply(from_=peer, to=leader, term=term) if message.read_position:
                self._moment += 1
                self._followed[term, leader, peer] = self._moment
            case Heartbeat() | AppendEntries() | InstallSnapshot() | TimeoutNow():
                self._leads(message.from_, message.term)
            case VoteReply(granted=True, pre_vote=False, from_=voter, term=term, to=candidate):
                self._votes(voter, term, candidate, disk)
            case RequestVote(pre_vote=False, from_=candidate, term=term):
                self._votes(candidate, term, candidate, disk)
            case VoteReply(pre_vote=False):
                self._knows_term(message, disk)
            case AppendReply():
                self._knows_term(message, disk)
                if not message.rejected:
                    self._acknowledges(message, disk)
            case _:
                pass

    def _knows_term(self, message: AppendReply | VoteReply, disk: Disk) -> None:
        if disk.hard_state.term < message.term:
            raise Violation(
                f"{message.from_} answers in term {message.term}; durable is {disk.hard_state}"
            )

    def _acknowledges(self, reply: AppendReply, disk: Disk) -> None:
        """What is acknowledged is durable, and what the leader holds there (Raft 5.3).

        Where the disk was slow, the node may be in a later term by now, and other entries may stand
        there. It had these in its log when it voted in that term, so the acknowledgement counts.
        """
        node, index = reply.from_, reply.index
        has_moved_on = disk.hard_state.term > reply.term
        if disk.last_index < index and not has_moved_on:
            raise Violation(
                f"{node} acknowledges entry {index} in term {reply.term}; durable are "
                f"{disk.last_index} and term {disk.hard_state.term}"
            )
        held, wanted = disk.term_at(index), self._logs[reply.to].get(index)
        leads = self.leader_of.get(reply.term) == reply.to and not has_moved_on
        if leads and None not in (held, wanted) and held != wanted:
            raise Violation(f"{node} acknowledges {index}/{held}, the leader holds term {wanted}")
        said = reply.term, reply.to, node
        self._acked[said] = max(index, self._acked.get(said, index))

    def _votes(self, voter: NodeId, term: Term, candidate: NodeId, disk: Disk) -> None:
        """A vote is durable before anyone hears of it, and cast once a term (Raft 5.2)."""
        other = self._voted.setdefault((voter, term), candidate)
        if other != candidate:
            raise Violation(f"{voter} votes for {other} and {candidate} in term {term}")
        saved = disk.hard_state
        if saved.term < term or (saved.term == term and saved.vote != candidate):
            raise Violation(f"{voter} tells its vote in term {term}; durable is {saved}")

    # --- reads --------------------------------------------------------------------------------

    def asked(self, node: NodeId, term: Term, context: object) -> None:
        """A leader is to confirm a read."""
        self._moment += 1
        self._asked[node, context] = term, self._moment, len(self.committed)

    def confirms(self, node: NodeId, voters: Sequence[NodeId], read: ReadState) -> None:
        """A leader has: with it a majority said since that it follows (thesis section 6.4), and the
        read sees what was committed before. It may be in a later term by the time that it tells."""
        term, asked, committed = self._asked.pop((node, read.context))
        if read.index < committed:
            raise Violation(
                f"{node} confirms a read at {read.index}; {committed} were committed before"
            )
        since = [v for v in voters if v == node or self._followed.get((term, node, v), 0) > asked]
        if len(since) < majority_of(len(voters)):
            raise Violation(f"{node} confirms a read in term {term}: of {voters} only {since} did")

    # --- leaders ------------------------------------------------------------------------------

    def _leads(self, node: NodeId, term: Term) -> None:
        """Election Safety: at most one leader a term."""
        other = self.leader_of.setdefault(term, node)
        if other != node:
            raise Violation(f"{other} and {node} lead term {term}")

    def _wins(self, status: RaftStatus) -> None:
        """A majority of its voters voted for a new leader, and it holds whatever was committed."""
        node, term = status.id, status.term
        self._leads(node, term)
        self._reigns.add(term)
        voters = status.conf.voters
        votes = sum(
            self._voted.get((voter, term)) == node or (voter, term, node) in self._forgotten
            for voter in voters
        )
        if votes < majority_of(len(voters)) and voters != (node,):
            raise Violation(f"{node} leads term {term} by {votes} of {len(voters)} votes")
        self._is_complete(node, term)

    def _is_complete(self, node: NodeId, term: Term) -> None:
        """Leader Completeness: a new leader holds whatever was committed in its term or an earlier
        one. (Who was elected before others led later terms may learn so late.)"""
        log, (start, _) = self._logs[node], self._starts[node]
        last = max((index for before, index in self._reached.items() if before <= term), default=0)
        for index in range(last, start, -1):
            wanted = self.committed[Index(index)][0]
            if log.get(Index(index)) != wanted:
                raise Violation(f"{node} leads term {term} without committed {index}/{wanted}")

    def _is_justified(self, status: RaftStatus) -> None:
        """What a leader commits is durable with a majority that told it so, or is the leader's."""
        index, term = status.commit, self._logs[status.id].get(status.commit)
        if term is None:
            return
        voters = status.conf.voters
        durable = [v for v in voters if self._holds(v, index, term)]
        if len(durable) < majority_of(len(voters)):
            raise Violation(
                f"{status.id} commits {index}/{term}, which of {voters} only {durable} hold"
            )

    def believes(self, leader: NodeId, term: Term, peer: NodeId, match: Index) -> None:
        """A leader just heard of a peer, and takes it to hold so much: no more than it was told
        in its term (and what is told is durable, see `_acknowledges`)."""
        told = self._acked.get((term, leader, peer), Index(0))
        if match > told:
            raise Violation(
                f"{leader} believes that {peer} holds {match} in term {term}, and was told {told}"
            )

    def _stops_at_changes(self, status: RaftStatus) -> None:
        """What follows a membership change is committed by the members after it: not before it
        is applied."""
        log = self._logs[status.id]
        for index, term in self._changes:
            if status.applied < index < status.commit and log.get(index) == term:
                raise Violation(
                    f"leader {status.id} commits {status.commit} past the change at {index}, "
                    f"and has applied {status.applied}"
                )

    def _holds(self, node: NodeId, index: Index, term: Term) -> bool:
        held, lost = self._durable.get(node, {}), self._lost.get(node, {})
        return term in (held.get(index), lost.get(index)) or self._snapshots.get(node, 0) >= index

    # --- logs ---------------------------------------------------------------------------------

    def ready(self, status: RaftStatus, ready: Ready) -> None:
        """A core handed out work that concerns its log."""
        node = status.id
        if ready.snapshot is not None:
            meta = ready.snapshot.meta
            if self.committed.get(meta.index, (None,))[0] != meta.term:
                raise Violation(f"{node} installs {meta}, which was never committed")
            self._has_conf(node, meta.conf, meta.index)
            self._logs[node].clear()
            self._starts[node] = (meta.index, meta.term)
        if ready.entries:
            self._append(status, ready.entries)
            if status.role is Role.LEADER and status.term not in self._reigns:
                self._wins(status)
        if ready.snapshot is None:
            self._has_conf(node, status.conf, status.applied)
        known = len(self.committed)
        for entry in ready.committed:
            self._commit(node, status.term, entry)
        self._see_commit(status, known)

    def _append(self, status: RaftStatus, entries: tuple[Entry, ...]) -> None:
        node, log, first = status.id, self._logs[status.id], entries[0].index
        if first in log:
            if status.role is Role.LEADER and entries[0].term == status.term:
                raise Violation(f"leader {node} rewrites its entry {first}")
            for index in [index for index in log if index >= first]:
                del log[index]
        self._enter(node, entries)

    def _enter(self, node: NodeId, entries: Iterable[Entry]) -> None:
        """Log Matching: equal (index, term), equal content and equal past, by induction."""
        log, (start, start_term) = self._logs[node], self._starts[node]
        for entry in entries:
            before = Index(entry.index - 1)
            previous = start_term if before == start else log[before]
            seen = (entry.data, previous)
            told = self._entry_at.setdefault((entry.index, entry.term), seen)
            if told != seen:
                raise Violation(f"{node} holds another {entry.index}/{entry.term} than others")
            log[entry.index] = entry.term
            if entry.kind is EntryKind.CONF_CHANGE:
                self._changes[entry.index, entry.term] = confchange.decode(entry.data)

    def _commit(self, node: NodeId, term: Term, entry: Entry) -> None:
        """State Machine Safety: one command at an index, everywhere, for ever."""
        told = self.committed.get(entry.index)
        if told is None:
            if entry.index != len(self.committed) + 1:
                raise Violation(f"{node} commits {entry.index} after {len(self.committed)}")
            self.committed[entry.index] = (entry.term, entry.data)
            self._reached[term] = entry.index
            if entry.kind is EntryKind.CONF_CHANGE:
                conf = _changed(self.conf, confchange.decode(entry.data))
                self.confs.append((entry.index, conf))
        elif told != (entry.term, entry.data):
            raise Violation(
                f"{node} commits {entry.index} of term {entry.term}, another did of {told[0]}"
            )

    def _see_commit(self, status: RaftStatus, known: int) -> None:
        """The commit index never falls; a leader only raises it to its own term (Raft 5.4.2).

        It stops at a membership change of any term, for that must be applied before what follows;
        and of what others committed (`known`) it may have learned, from those who voted for it.
        """
        node, before = status.id, self._commits.get(status.id, 0)
        if status.commit == before:
            return
        if not before < status.commit <= status.last_index:
            raise Violation(f"{node}: commit index {before} becomes {status.commit}: {status}")
        self._commits[node] = status.commit
        term = self._logs[node].get(status.commit)
        if status.role is not Role.LEADER:
            return
        self._is_justified(status)
        self._stops_at_changes(status)
        is_stop = term is not None and (status.commit, term) in self._changes
        if term != status.term and not is_stop and status.commit > known:
            raise Violation(f"leader {node} of term {status.term} commits an entry of {term}")

    # --- disks --------------------------------------------------------------------------------

    def wrote(self, node: NodeId, ready: Ready) -> None:
        """A write became durable."""
        assert ready.hard_state is not None, f"nothing was written of {ready}"
        self._promises(node, ready.hard_state)
        if ready.snapshot is not None:
            self._snapshots[node] = ready.snapshot.meta.index
        if ready.entries:
            self._keeps_committed(node, ready.entries)
        for entry in ready.entries:
            if entry.kind is EntryKind.CONF_CHANGE:
                self._knows_earlier_change(node, entry.index, ready.hard_state)

    def _keeps_committed(self, node: NodeId, entries: Sequence[Entry]) -> None:
        """A write replaces the end of a log, and no committed entry in it."""
        held, first = self._durable.setdefault(node, {}), entries[0].index
        written = {entry.index: entry.term for entry in entries}
        index = first
        while (term := held.pop(index, None)) is not None:
            if self.committed.get(index, (None,))[0] == term != written.get(index):
                raise Violation(f"{node} drops {index}/{term}, which is committed")
            index = Index(index + 1)
        held.update(written)

    def _promises(self, node: NodeId, hard: HardState) -> None:
        """Durable terms only grow, and a term's vote is cast once."""
        before = self._hard.get(node, HardState())
        revoked = before.vote is not None and before.vote != hard.vote
        if hard.term < before.term or (hard.term == before.term and revoked):
            raise Violation(f"{node} had {before} durable, and now {hard}")
        self._hard[node] = hard

    def _knows_earlier_change(self, node: NodeId, index: Index, hard: HardState) -> None:
        """Whoever holds a membership change durably knows that the one before it is committed.

        Otherwise it might campaign after a crash among voters that are none any more.
        """
        log = self._logs[node]
        earlier = [at for at, term in self._changes if at < index and log.get(at) == term]
        if earlier and hard.commit < max(earlier):
            raise Violation(
                f"{node} holds change {index}, and not that {max(earlier)} is committed: {hard}"
            )

    def lost(self, node: NodeId, *, promises: bool) -> None:
        """A node lost its log; and its `promises`, term and vote, though others heard of them."""
        self._lost[node] = self._lost.get(node, {}) | self._durable.pop(node, {})
        if promises:
            del self._hard[node]
            for voter, term in [vote for vote in self._voted if vote[0] == node]:
                self._forgotten.add((voter, term, self._voted.pop((voter, term))))

    def started(self, node: NodeId, disk: Disk) -> None:
        """A node begins with what its disk holds."""
        self._promises(node, disk.hard_state)
        self._logs[node] = {}
        meta = disk.meta
        if meta is not None:
            self._has_conf(node, meta.conf, meta.index)
            self._snapshots[node] = max(meta.index, self._snapshots.get(node, Index(0)))
        self._commits[node] = max(disk.hard_state.commit, meta.index if meta else Index(0))
        self._starts[node] = (meta.index, meta.term) if meta else (Index(0), Term(0))
        if disk.entries:
            first = disk.entries[0]
            before = Index(first.index - 1)
            self._starts[node] = (before, self._entry_at[first.index, first.term][1])
            self._enter(node, disk.entries)
            # Some may have been written just before it died, and nobody was told.
            self._keeps_committed(node, disk.entries)


def _changed(conf: ConfState, change: ConfChange) -> ConfState:
    """A change that does not fit changes nothing."""
    try:
        return confchange.changed(conf, change)
    except ConfChangeRefused:
        return conf
