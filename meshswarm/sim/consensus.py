"""Raft's promises, watched from outside: Figure 3 of the paper, votes, and what must be durable.

An entry of these books is written once and must never be contradicted.
"""

from collections.abc import Iterable

from attrs import define, field

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import confchange
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.ready import Ready
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.status import RaftStatus
from meshswarm.raft.types import ConfChange, ConfState, Entry, EntryKind, HardState, Role
from meshswarm.sim.disk import Disk
from meshswarm.sim.trace import Violation


@define(eq=False)
class Consensus:
    """Election safety, log matching, leader completeness, durability before promises."""

    conf: ConfState
    """The members, as of what was committed anywhere."""
    leader_of: dict[Term, NodeId] = field(factory=dict)
    committed: dict[Index, tuple[Term, bytes]] = field(factory=dict)
    _voted: dict[tuple[NodeId, Term], NodeId] = field(factory=dict)
    _entry_at: dict[tuple[Index, Term], tuple[bytes, Term]] = field(factory=dict)
    """What an entry holds, and the term of the one before it."""
    _logs: dict[NodeId, dict[Index, Term]] = field(factory=dict)
    _starts: dict[NodeId, tuple[Index, Term]] = field(factory=dict)
    """The snapshot that each log follows."""
    _commits: dict[NodeId, Index] = field(factory=dict)
    _changes: dict[tuple[Index, Term], ConfChange] = field(factory=dict)
    """Membership changes that were in some log."""
    _hard: dict[NodeId, HardState] = field(factory=dict)

    def possible_confs(self) -> list[ConfState]:
        """The memberships that may be in force: the committed one, and after one more change."""
        pending = [c for (index, _), c in self._changes.items() if index > len(self.committed)]
        return [self.conf, *(_changed(self.conf, change) for change in pending)]

    # --- messages -----------------------------------------------------------------------------

    def sent(self, message: Message, disk: Disk) -> None:
        """A message leaves its node, whose disk holds this."""
        match message:
            case Heartbeat() | AppendEntries() | InstallSnapshot() | TimeoutNow():
                self._leads(message.from_, message.term)
            case VoteReply(granted=True, pre_vote=False, from_=voter, term=term, to=candidate):
                self._votes(voter, term, candidate, disk)
            case RequestVote(pre_vote=False, from_=candidate, term=term):
                self._votes(candidate, term, candidate, disk)
            case AppendReply(rejected=False, from_=node, index=index, term=term):
                saved = disk.hard_state.term
                if saved < term or (saved == term and disk.last_index < index):
                    raise Violation(
                        f"{node} acknowledges entry {index} in term {term}; durable are "
                        f"{disk.last_index} and term {saved}"
                    )
            case _:
                pass

    def _votes(self, voter: NodeId, term: Term, candidate: NodeId, disk: Disk) -> None:
        """A vote is durable before anyone hears of it, and cast once a term (Raft 5.2)."""
        other = self._voted.setdefault((voter, term), candidate)
        if other != candidate:
            raise Violation(f"{voter} votes for {other} and {candidate} in term {term}")
        saved = disk.hard_state
        if saved.term < term or (saved.term == term and saved.vote != candidate):
            raise Violation(f"{voter} tells its vote in term {term}; durable is {saved}")

    def _leads(self, node: NodeId, term: Term) -> None:
        """Election Safety: at most one leader a term."""
        other = self.leader_of.get(term)
        if other == node:
            return
        if other is not None:
            raise Violation(f"{other} and {node} lead term {term}")
        self.leader_of[term] = node
        self._is_complete(node, term)

    def _is_complete(self, node: NodeId, term: Term) -> None:
        """Leader Completeness: a new leader holds whatever was committed."""
        log, (start, _) = self._logs[node], self._starts[node]
        for index in range(len(self.committed), start, -1):
            wanted = self.committed[Index(index)][0]
            if log.get(Index(index)) != wanted:
                raise Violation(f"{node} leads term {term} without committed {index}/{wanted}")

    # --- logs ---------------------------------------------------------------------------------

    def ready(self, status: RaftStatus, ready: Ready) -> None:
        """A core handed out work that concerns its log."""
        node = status.id
        if ready.snapshot is not None:
            meta = ready.snapshot.meta
            if self.committed.get(meta.index, (None,))[0] != meta.term:
                raise Violation(f"{node} installs {meta}, which was never committed")
            self._logs[node].clear()
            self._starts[node] = (meta.index, meta.term)
        if ready.entries:
            self._append(status, ready.entries)
        for entry in ready.committed:
            self._commit(node, entry)
        self._see_commit(status)

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

    def _commit(self, node: NodeId, entry: Entry) -> None:
        """State Machine Safety: one command at an index, everywhere, for ever."""
        told = self.committed.get(entry.index)
        if told is None:
            if entry.index != len(self.committed) + 1:
                raise Violation(f"{node} commits {entry.index} after {len(self.committed)}")
            self.committed[entry.index] = (entry.term, entry.data)
            if entry.kind is EntryKind.CONF_CHANGE:
                self.conf = _changed(self.conf, confchange.decode(entry.data))
        elif told != (entry.term, entry.data):
            raise Violation(
                f"{node} commits {entry.index} of term {entry.term}, another did of {told[0]}"
            )

    def _see_commit(self, status: RaftStatus) -> None:
        """The commit index never falls; a leader only raises it to its own term (Raft 5.4.2)."""
        node, before = status.id, self._commits.get(status.id, 0)
        if status.commit == before:
            return
        if not before < status.commit <= status.last_index:
            raise Violation(f"{node}: commit index {before} becomes {status.commit}: {status}")
        self._commits[node] = status.commit
        term = self._logs[node].get(status.commit)
        if status.role is Role.LEADER and term != status.term:
            raise Violation(f"leader {node} of term {status.term} commits an entry of {term}")

    # --- disks --------------------------------------------------------------------------------

    def wrote(self, node: NodeId, hard: HardState) -> None:
        """A write became durable: terms only grow, a term's vote is cast once."""
        before = self._hard.get(node, HardState())
        revoked = before.vote is not None and before.vote != hard.vote
        if hard.term < before.term or (hard.term == before.term and revoked):
            raise Violation(f"{node} had {before} durable, and now {hard}")
        self._hard[node] = hard

    def started(self, node: NodeId, disk: Disk) -> None:
        """A node begins with what its disk holds."""
        self.wrote(node, disk.hard_state)
        self._logs[node] = {}
        meta = disk.snapshot.meta if disk.snapshot else None
        self._commits[node] = max(disk.hard_state.commit, meta.index if meta else Index(0))
        self._starts[node] = (meta.index, meta.term) if meta else (Index(0), Term(0))
        if disk.entries:
            first = disk.entries[0]
            before = Index(first.index - 1)
            self._starts[node] = (before, self._entry_at[first.index, first.term][1])
            self._enter(node, disk.entries)


def _changed(conf: ConfState, change: ConfChange) -> ConfState:
    """A change that does not fit changes nothing."""
    try:
        return confchange.changed(conf, change)
    except ConfChangeRefused:
        return conf
