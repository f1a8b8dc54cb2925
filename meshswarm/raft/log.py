"""The log in memory: what follows a snapshot point, and how far it is written and applied.

    offset <= applied <= applying <= committed <= last        offset <= durable <= submitted <= last

(`applied` and `applying` lag below `offset` only while a snapshot from the leader is installed.)
`submitted` was handed out to be written, `durable` is known to be written. A truncation pulls both
back, and cuts what writes still under way will vouch for: the completion of an older write never
makes a rewritten entry durable.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence

from meshswarm.errors import Corrupt
from meshswarm.ids import Index, Term
from meshswarm.raft.types import Entry, EntryKind, Snapshot, SnapshotMeta

ENTRY_OVERHEAD_BYTES = 32
"""What an entry counts beside its data, so that empty ones do not escape the limits."""


class RaftLog:
    """Entries after `offset`, and the cursors over them.

    Raises `Corrupt` if the stored entries have a gap or do not follow the snapshot.
    """

    def __init__(
        self,
        *,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
        committed: Index,
        applied: Index,
    ) -> None:
        self.offset, self.offset_term, entries = _joined(snapshot, entries)
        self.last_index = self.offset
        """The last entry's index; `offset` if there is none."""
        self._entries: list[Entry] = []
        self._offset_bytes = 0
        self._end_bytes = array("Q")  # bytes from the beginning of time through each entry
        self._conf_changes: deque[Index] = deque()  # not yet applied
        self.snapshot: Snapshot | None = None
        """Waits to be handed out."""
        self._writes: deque[tuple[int, Index]] = deque()  # (token, last index it vouches for)
        self.applying = self.applied = applied
        _check_sequence(self.offset, self.offset_term, entries)
        self.append(entries)
        self.durable = self.submitted = self.last_index
        self.committed = Index(max(committed, self.offset, applied))
        if self.committed > self.last_index:
            raise Corrupt(
                f"the log ends at {self.last_index}, but {self.committed} was committed: "
                "entries were lost",
                hint="start the node as recovering, so that it is repaired from its peers",
            )

    # Reading

    @property
    def last_term(self) -> Term:
        """The last entry's term."""
        return self._entries[-1].term if self._entries else self.offset_term

    @property
    def first_index(self) -> Index:
        """The first entry that is kept here, or would be."""
        return Index(self.offset + 1)

    def term(self, index: Index) -> Term:
        """The term of the entry at `index`, in [offset, last_index]."""
        assert self.offset <= index <= self.last_index, (
            f"term of {index} asked, the log holds {self.offset}..{self.last_index}"
        )
        return (
            self._entries[index - self.offset - 1].term
            if index > self.offset
            else (self.offset_term)
        )

    def matches(self, index: Index, term: Term) -> bool:
        """Whether the log holds (`index`, `term`), hence equals the other's up to there."""
        return self.offset <= index <= self.last_index and self.term(index) == term

    def find_conflict_by_term(self, index: Index, term: Term) -> tuple[Index, Term]:
        """The last (index, term) at or before `index` whose term is at most `term`.

        Where both logs may still agree (Raft section 5.3): entries in between have terms that the
        other log cannot have there. Before `offset` terms are forgotten: (index, 0).
        """
        if index < self.offset:
            return index, Term(0)
        position = min(index, self.last_index) - self.offset
        position = bisect_right(self._entries, term, 0, position, key=_term_of)
        found = Index(self.offset + position)
        return found, self.term(found)

    def slice(
        self, first: Index, last: Index, *, max_entries: int, max_bytes: int
    ) -> tuple[Entry, ...]:
        """The entries `first`..`last`, cut to the limits, but at least one if there is any."""
        low = first - self.offset - 1
        high = min(last - self.offset, low + max_entries)
        assert low >= 0, f"entry {first} asked, the log begins at {self.first_index}"
        if high <= low + 1:
            return tuple(self._entries[low:high])
        within = bisect_right(self._end_bytes, self._bytes_through(low) + max_bytes, low, high)
        return tuple(self._entries[low : max(within, low + 1)])

    def size_bytes(self, after: Index, through: Index) -> int:
        """What the entries after one index and through another count against limits."""
        if after >= through:
            return 0
        end, before = self._end_bytes, after - self.offset - 1
        return end[through - self.offset - 1] - (end[before] if before >= 0 else self._offset_bytes)

    def first_within(self, through: Index, max_entries: int, max_bytes: int) -> Index:
        """The least index after which no more follows, up to `through`, than these limits allow."""
        end = through - self.offset
        low = max(0, end - max_entries)
        floor = self._bytes_through(end) - max_bytes
        if self._bytes_through(low) >= floor:
            return Index(self.offset + low)
        return Index(self.offset + 1 + bisect_left(self._end_bytes, floor, low, end))

    @property
    def uncommitted_bytes(self) -> int:
        """What the entries after the commit index count."""
        return self.size_bytes(self.committed, self.last_index)

    def _bytes_through(self, position: int) -> int:
        return self._end_bytes[position - 1] if position else self._offset_bytes

    # Writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow the last one."""
        index = self.last_index
        end = self._bytes_through(len(self._entries))
        for entry in entries:
            index = Index(index + 1)
            assert entry.index == index, f"entry {entry.index} appended, {index} is next"
            end += len(entry.data) + ENTRY_OVERHEAD_BYTES
            self._end_bytes.append(end)
            if entry.kind is EntryKind.CONF_CHANGE and index > self.applied:
                self._conf_changes.append(index)
        self._entries += entries
        self.last_index = index

    def truncate_from(self, index: Index) -> None:
        """Drop the entry at `index` and all after it; they conflict with the leader's."""
        assert index > self.committed, f"truncation from {index}, committed is {self.committed}"
        keep = Index(index - 1)
        del self._entries[keep - self.offset :]
        del self._end_bytes[keep - self.offset :]
        while self._conf_changes and self._conf_changes[-1] > keep:
            self._conf_changes.pop()
        self.last_index = keep
        self._vouch_at_most(keep)

    def install(self, snapshot: Snapshot) -> None:
        """Replace the whole log by the leader's snapshot (Raft section 7)."""
        meta = snapshot.meta
        assert meta.index > self.committed, (
            f"snapshot at {meta.index} installed, committed is {self.committed}"
        )
        self._vouch_at_most(self.committed)
        self._entries.clear()
        del self._end_bytes[:]
        self._conf_changes.clear()
        self.snapshot = snapshot
        self.offset, self.offset_term = meta.index, meta.term
        self.last_index = self.submitted = self.committed = self.applying = meta.index

    def compact(self, index: Index) -> None:
        """Forget the entries up to `index`; what is gone already stays gone."""
        assert index <= self.applied, f"compaction to {index}, applied is {self.applied}"
        if index <= self.offset:
            return
        self.offset_term = self.term(index)
        count = index - self.offset
        self._offset_bytes = self._bytes_through(count)
        del self._entries[:count]
        del self._end_bytes[:count]
        self.offset = index

    def _vouch_at_most(self, index: Index) -> None:
        self.durable = min(self.durable, index)
        self.submitted = min(self.submitted, index)
        self._writes = deque((token, min(last, index)) for token, last in self._writes)

    # Persisting

    def take_unwritten(self) -> tuple[Snapshot | None, tuple[Entry, ...]]:
        """The snapshot and the entries to write now."""
        snapshot, self.snapshot = self.snapshot, None
        if self.submitted == self.last_index:
            return snapshot, ()
        entries = tuple(self._entries[self.submitted - self.offset :])
        self.submitted = self.last_index
        return snapshot, entries

    def write_submitted(self, token: int) -> None:
        """The write with `token` vouches for all that was taken so far."""
        self._writes.append((token, self.submitted))

    def write_completed(self, token: int) -> None:
        """The writes up to `token` are durable."""
        while self._writes and self._writes[0][0] <= token:
            self.durable = max(self.durable, self._writes.popleft()[1])

    # Committing and applying

    def commit_to(self, index: Index) -> bool:
        """Raise the commit index; whether that was news."""
        assert index <= self.last_index, f"commit of {index}, the log ends at {self.last_index}"
        if index <= self.committed:
            return False
        self.committed = index
        return True

    def take_committed(self, *, max_entries: int, max_bytes: int) -> tuple[Entry, ...]:
        """The next committed entries to apply, within the limits."""
        if self.applying == self.committed:
            return ()
        entries = self.slice(
            Index(self.applying + 1), self.committed, max_entries=max_entries, max_bytes=max_bytes
        )
        self.applying = Index(self.applying + len(entries))
        return entries

    def applied_to(self, index: Index) -> list[Entry]:
        """Everything up to `index` is applied; the configuration changes among it."""
        assert index <= self.applying, f"{index} applied, handed out is {self.applying}"
        self.applied = max(self.applied, index)
        changes: list[Entry] = []
        while self._conf_changes and self._conf_changes[0] <= index:
            changes.append(self._entries[self._conf_changes.popleft() - self.offset - 1])
        return changes

    @property
    def unapplied_conf_change(self) -> Index | None:
        """The first configuration change in the log that is not applied, committed or not."""
        return self._conf_changes[0] if self._conf_changes else None

    @property
    def is_installing(self) -> bool:
        """Whether a snapshot from the leader replaced the log and is not applied yet."""
        return self.applied < self.offset


def _term_of(entry: Entry) -> Term:
    return entry.term


def _joined(
    snapshot: SnapshotMeta | None, entries: Sequence[Entry]
) -> tuple[Index, Term, Sequence[Entry]]:
    """The offset, its term and the entries after it, of what was stored.

    Entries from before the snapshot are kept for laggards; the first of them gives the term to
    start from. But if they do not lead up to the snapshot, it was installed in place of them and
    the crash came before they were removed.
    """
    if snapshot is None:
        return Index(0), Term(0), entries
    if not entries or entries[0].index > snapshot.index:
        return snapshot.index, snapshot.term, entries
    position = snapshot.index - entries[0].index
    if position < len(entries) and entries[position].term == snapshot.term:
        return entries[0].index, entries[0].term, entries[1:]
    return snapshot.index, snapshot.term, ()


def _check_sequence(offset: Index, offset_term: Term, entries: Sequence[Entry]) -> None:
    """Raise `Corrupt` unless these stored entries follow the offset without a gap."""
    index, term = offset, offset_term
    for entry in entries:
        if entry.index != index + 1 or entry.term < term:
            raise Corrupt(
                f"the stored log holds ({entry.index}, term {entry.term}) "
                f"after ({index}, term {term})",
                hint="restore this node's data directory, or let it join anew",
            )
        index, term = entry.index, entry.term
