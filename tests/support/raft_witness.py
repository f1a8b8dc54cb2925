"""Watches a Raft cluster from outside and asserts what must never happen.

It sees what leaves the cores (messages, Readys, durable states), and keeps its own books; nothing
in it depends on how a core works. The properties are those of Raft Figure 3, and what the paper
says of votes and persistence.
"""

from collections.abc import Sequence

from attrs import Factory, define

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.messages import (
    AppendEntries,
    Heartbeat,
    InstallSnapshot,
    Message,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.ready import Ready
from meshswarm.raft.status import RaftStatus
from meshswarm.raft.types import Entry, HardState, SnapshotMeta


@define
class Witness:
    """The books: one entry of each is written once and must never be contradicted."""

    leader_of: dict[Term, NodeId] = Factory(dict)
    voted: dict[tuple[NodeId, Term], NodeId] = Factory(dict)
    entry_at: dict[tuple[Index, Term], tuple[bytes, Term]] = Factory(dict)
    """What an entry holds, and the term of the one before it."""
    committed: dict[Index, tuple[Term, bytes]] = Factory(dict)
    reached: dict[Term, Index] = Factory(dict)
    """Up to where something was committed in each term."""
    logs: dict[NodeId, dict[Index, Term]] = Factory(dict)
    starts: dict[NodeId, tuple[Index, Term]] = Factory(dict)
    """The snapshot that each log follows."""
    durable: dict[NodeId, HardState] = Factory(dict)
    commits: dict[NodeId, Index] = Factory(dict)

    def saw_message(self, message: Message) -> None:
        """A message left its node."""
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot() | TimeoutNow():
                self._leads(message.from_, message.term)
            case VoteReply(granted=True, pre_vote=False):
                voter = (message.from_, message.term)
                other = self.voted.setdefault(voter, message.to)
                assert other == message.to, f"{voter} voted for {other} and {message.to}"
                saved = self.durable.get(message.from_, HardState())
                assert (saved.term, saved.vote) >= (message.term, message.to), (
                    f"{message} left while {saved} was durable"
                )
            case _:
                pass

    def _leads(self, node: NodeId, term: Term) -> None:
        """Election Safety: at most one leader a term."""
        other = self.leader_of.get(term)
        if other is None:
            self.leader_of[term] = node
            self._is_complete(node, term)
        else:
            assert other == node, f"{other} and {node} lead term {term}"

    def _is_complete(self, node: NodeId, term: Term) -> None:
        """Leader Completeness: a new leader holds whatever was committed in its term or before."""
        log = self.logs.get(node, {})
        start, _ = self.starts.get(node, (0, 0))
        last = max((index for before, index in self.reached.items() if before <= term), default=0)
        for index, (committed_term, _) in self.committed.items():
            assert index <= start or index > last or log.get(index) == committed_term, (
                f"{node} leads term {term} without the committed {index}/{committed_term}"
            )

    def saw_ready(self, node: NodeId, status: RaftStatus, ready: Ready) -> None:
        """A core handed out work."""
        log = self.logs.setdefault(node, {})
        if ready.snapshot is not None:
            meta = ready.snapshot.meta
            self._was_committed(meta.index, meta.term)
            log.clear()
            self.starts[node] = (meta.index, meta.term)
        if ready.entries:
            first = ready.entries[0].index
            if status.leader == node and ready.entries[0].term == status.term:
                # Leader Append-Only: it never overwrites its own entries.
                assert first not in log, f"leader {node} rewrites entry {first}"
            for index in [index for index in log if index >= first]:
                del log[index]
            self._enter(node, ready.entries)
        for entry in ready.committed:
            self._commit(node, status.term, entry)

    def stored(self, node: NodeId, entries: Sequence[Entry]) -> None:
        """A node begins with these entries on its disk."""
        self.logs[node] = {}
        self._enter(node, entries)

    def _enter(self, node: NodeId, entries: Sequence[Entry]) -> None:
        """Log Matching: equal (index, term), equal content and equal past (by induction)."""
        log = self.logs[node]
        for entry in entries:
            before = Index(entry.index - 1)
            start = self.starts.get(node, (Index(0), Term(0)))
            previous = start[1] if before == start[0] else log[before]
            told = self.entry_at.setdefault((entry.index, entry.term), (entry.data, previous))
            assert told == (entry.data, previous), f"{entry} of {node} is elsewhere {told}"
            log[entry.index] = entry.term

    def _commit(self, node: NodeId, term: Term, entry: Entry) -> None:
        """State Machine Safety: one command at an index, everywhere, for ever."""
        if entry.index not in self.committed:
            self.reached[term] = entry.index
        told = self.committed.setdefault(entry.index, (entry.term, entry.data))
        assert told == (entry.term, entry.data), f"{node} applies {entry}, another {told}"

    def _was_committed(self, index: Index, term: Term) -> None:
        told = self.committed.get(index)
        assert told is not None, f"snapshot at {index} of nothing that was committed"
        assert told[0] == term, f"snapshot at {index}/{term}, committed with term {told[0]}"

    def saw_status(self, status: RaftStatus) -> None:
        """A core has settled after some input."""
        assert status.commit <= status.last_index, f"{status}"
        assert status.durable_index <= status.last_index, f"{status}"
        before = self.commits.get(status.id, 0)
        assert status.commit >= before, f"{status.id}: commit fell from {before} in {status}"
        self.commits[status.id] = status.commit

    def wrote(self, node: NodeId, hard_state: HardState) -> None:
        """A write became durable: terms only grow, a term's vote is cast once."""
        before = self.durable.get(node, HardState())
        assert hard_state.term >= before.term, f"{node}: {before} then {hard_state}"
        if hard_state.term == before.term and before.vote is not None:
            assert hard_state.vote == before.vote, f"{node}: {before} then {hard_state}"
        self.durable[node] = hard_state

    def crashed(self, node: NodeId) -> None:
        """Memory is gone; what is not durable may be committed anew."""
        self.commits.pop(node, None)

    def wiped(self, node: NodeId) -> None:
        """A disk was replaced; the votes that were on it bind its node no more. (Two leaders of a
        term are noticed as such.)"""
        self.durable.pop(node, None)
        for vote in [vote for vote in self.voted if vote[0] == node]:
            del self.voted[vote]

    def restarted(
        self,
        node: NodeId,
        hard_state: HardState,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
    ) -> None:
        """A node is back with what was durable."""
        self.durable[node] = hard_state
        self.logs[node] = {entry.index: entry.term for entry in entries}
        if entries:
            first = entries[0]
            before = self.entry_at[first.index, first.term][1]
            self.starts[node] = (Index(first.index - 1), before)
        elif snapshot:
            self.starts[node] = (snapshot.index, snapshot.term)
        else:
            self.starts[node] = (Index(0), Term(0))
