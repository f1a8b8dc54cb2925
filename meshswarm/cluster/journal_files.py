"""The files under an open journal, and what they hold as of the last commit.

Used by one thread at a time, whichever has the journal's turn. A commit is one record of the log;
the mark follows once that is durable (`journal_mark`). A commit that fails leaves the head as it
was, and raises `OSError`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve, frozen

from meshswarm.cluster.journal_records import Head, head_bytes
from meshswarm.cluster.journal_recovery import Opened
from meshswarm.cluster.snapshots import Stored, adopt_part
from meshswarm.ids import Index
from meshswarm.raft.types import Entry, HardState, SnapshotMeta

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
        entries = self.entries
        return ENTRY_BYTES * (1 + len(entries)) + sum([len(entry.data) for entry in entries])


class JournalFiles:
    """Log and mark of one directory, open."""

    def __init__(self, directory: Path, opened: Opened) -> None:
        self.log = opened.log
        self.head = opened.head
        self._directory = directory
        self._mark = opened.mark
        self._said = b""
        """The bytes of the last head that was committed here."""

    def commit(
        self, writes: Sequence[JournalWrite], meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Write these as one record, durable when this returns; `meanwhile` as in `Log.append`."""
        head = self.head
        entries: list[Entry] = []
        for write in writes:
            head = self._after(write, head, entries)
        assert head.hard_state.commit <= head.last_index, f"{head.hard_state} in {head}"
        self._append(head, entries, meanwhile)

    def _append(
        self, head: Head, entries: Sequence[Entry], meanwhile: Callable[[], None] | None = None
    ) -> None:
        said = head_bytes(head)
        self.log.append(head, said, entries, meanwhile)
        self.head, self._said = head, said

    def _after(self, write: JournalWrite, head: Head, entries: list[Entry]) -> Head:
        """The head that follows from `write`; its entries join those before it in the group."""
        if (snapshot := write.snapshot) is not None:
            meta = snapshot.meta
            adopt_part(self._directory, snapshot)
            entries.clear()
            head = evolve(
                head,
                first_index=Index(meta.index + 1),
                last_index=meta.index,
                snapshot_index=meta.index,
                snapshot_term=meta.term,
            )
        last_index = head.last_index
        if new := write.entries:
            first, last = new[0].index, new[-1].index
            assert first <= last_index + 1, f"entry {first} after {last_index}"
            assert last == first + len(new) - 1, f"{len(new)} entries {first}..{last}"
            if entries:
                del entries[max(0, first - entries[0].index) :]
            entries += new
            last_index = last
        return Head(
            counter=self.head.counter + 1,
            incarnation=head.incarnation,
            hard_state=write.hard_state or head.hard_state,
            first_index=head.first_index,
            last_index=last_index,
            snapshot_index=head.snapshot_index,
            snapshot_term=head.snapshot_term,
            damage=write.damage or head.damage,
        )

    def mark(self) -> None:
        """Let the mark tell of the last commit; may be tried again."""
        self._mark.write(self.head.counter, self._said)

    def replace_head(self, head: Head) -> None:
        """Commit another head."""
        self._append(evolve(head, counter=self.head.counter + 1), ())

    def stand_on(self, meta: SnapshotMeta, keep: int) -> Head:
        """The head of a log that stands on this snapshot and begins `keep` entries before its end;
        the one there is, if the leader's newer one came first."""
        head = self.head
        assert meta.index <= head.last_index, f"{meta} beyond {head.last_index}"
        if meta.index < head.snapshot_index:
            return head
        return evolve(
            head,
            first_index=Index(max(head.first_index, meta.index - keep + 1)),
            snapshot_index=meta.index,
            snapshot_term=meta.term,
        )

    def close(self) -> None:
        """Close them."""
        self.log.close()
        self._mark.close()
