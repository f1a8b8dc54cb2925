"""The files under an open journal, and what they hold as of the last commit.

Used by one thread at a time, whichever has the journal's turn. A commit is one transaction of the
database; the mark follows once that is durable (`journal_mark`). Whatever fails leaves the head as
it was, and raises `OSError` or `sqlite3.Error`.
"""

from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, frozen

from meshswarm.cluster.journal_mark import Head, Mark, MarkFile, sealed_mark
from meshswarm.cluster.journal_recovery import Opened
from meshswarm.cluster.snapshots import Stored, adopt_part
from meshswarm.ids import Index
from meshswarm.raft.types import Entry, HardState

DROPPED_AT_ONCE = 1_000
"""Compacted entries removed in one transaction, so that no commit waits for many."""

ENTRY_BYTES = 64
"""What an entry counts besides its data."""


@frozen(kw_only=True)
class JournalWrite:
    """What one `Ready` wants durable, applied in the order snapshot, entries, hard state."""

    token: int
    entries: tuple[Entry, ...] = ()
    """Consecutive; they replace everything from the first one's index on."""
    hard_state: HardState | None = None
    snapshot: Stored | None = None
    """The leader's, which arrived and was synced as a part: it takes the place of the whole log."""
    damage: str = ""
    """What is missing besides, in words; it stays noted until `Journal.mark_healed`."""

    @property
    def size(self) -> int:
        """Bytes, roughly."""
        return ENTRY_BYTES + sum(len(entry.data) + ENTRY_BYTES for entry in self.entries)


class JournalFiles:
    """Database and mark of one directory, open."""

    def __init__(self, directory: Path, opened: Opened, owner: Mark) -> None:
        self.table = opened.table
        self.head = opened.head
        self.first = opened.table.first_index() or Index(opened.head.last_index + 1)
        """The index of the first entry that is there, or of the next one."""
        self._directory = directory
        self._mark: MarkFile = opened.mark
        self._owner = owner

    def commit(self, writes: Sequence[JournalWrite]) -> Head:
        """Write these as one transaction; the head that follows from it, durable but not yet
        acknowledged."""
        head = self.head
        with self.table.transaction():
            for write in writes:
                head = self._write(write, head)
            assert head.hard_state.commit <= head.last_index, f"{head.hard_state} in {head}"
            self.table.write_head(head)
        return head

    def _write(self, write: JournalWrite, head: Head) -> Head:
        """Carry `write` out in the open transaction; the head that follows from it."""
        if (snapshot := write.snapshot) is not None:
            meta = snapshot.meta
            adopt_part(self._directory, snapshot)
            self.table.truncate_from(Index(0))
            self.first = Index(meta.index + 1)
            head = evolve(
                head, last_index=meta.index, snapshot_index=meta.index, snapshot_term=meta.term
            )
        if entries := write.entries:
            first, last = entries[0].index, entries[-1].index
            assert first <= head.last_index + 1, f"entry {first} after {head.last_index}"
            assert last == first + len(entries) - 1, f"{len(entries)} entries {first}..{last}"
            if first <= head.last_index:
                self.table.truncate_from(first)
            self.table.append(entries)
        return Head(
            counter=self.head.counter + 1,
            incarnation=head.incarnation,
            hard_state=write.hard_state or head.hard_state,
            last_index=entries[-1].index if entries else head.last_index,
            snapshot_index=head.snapshot_index,
            snapshot_term=head.snapshot_term,
            damage=write.damage or head.damage,
        )

    def acknowledge(self, head: Head) -> None:
        """Take a head that is durable as ours, and let the mark say so; may be tried again."""
        self.head = head
        self._mark.write_sealed(head.counter, sealed_mark(self._owner, head))

    def replace_head(self, head: Head) -> Head:
        """Commit another head; it is what `acknowledge` is to be given."""
        head = evolve(head, counter=self.head.counter + 1)
        with self.table.transaction():
            self.table.write_head(head)
        return head

    def drop_some(self, before: Index) -> bool:
        """Remove some of the entries below `before`; whether some of them remain."""
        with self.table.transaction():
            more = self.table.drop_first(before, DROPPED_AT_ONCE)
        self.first = self.table.first_index() or Index(self.head.last_index + 1)
        return more

    def close(self) -> None:
        """Close them."""
        self.table.close()
        self._mark.close()
