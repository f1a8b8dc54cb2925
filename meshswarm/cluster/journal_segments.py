"""The open log: segment files, written one behind the other, each commit one write and one sync.

A commit that lengthens a file waits for the file system's own journal, and for what others have in
it. So segments are made long beforehand, of real bytes, and overwritten; what compaction has no
more use for waits as a spare to become the next segment. A file gets a segment's name only once its
head and its first record are durable: a segment without them is damage, not a crash.

    log-N        segments, without a gap from the first one needed
    spare-N      to be overwritten; what is in them means nothing

Used by one thread at a time, but for `tidy`. After an error of the disk nothing has changed but
bytes behind the last record; after a `SyncFailed` it is not to be used again.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from meshswarm.cluster.journal_mark import sync_data, sync_directory, sync_file
from meshswarm.cluster.journal_records import (
    LEAST_BYTES,
    SALT_BYTES,
    Head,
    Identity,
    Segment,
    head_bytes,
    read_segment,
    record_at,
    record_bytes,
    record_size,
    segment_bytes,
)
from meshswarm.cluster.journal_scan import (
    MAX_SEGMENT_BYTES,
    Contents,
    segment_name,
    segment_numbers,
)
from meshswarm.errors import Corrupt
from meshswarm.ids import Index
from meshswarm.raft.types import Entry

SEGMENT_BYTES = 8 << 20
"""After which the next segment begins; a larger commit has one of its own."""

MAX_SPARES = 4
"""Spare segments kept, about what goes at once with a snapshot; more are removed."""

ZEROS_AT_ONCE = 1 << 20
"""Written at a time where a file is made longer."""

ROUGHLY = 1 << 10
"""What a record takes beside its entries, at most but for a long note of damage."""


class Log:
    """The open log of a directory; made by `create`, gone on with by `Log(...)`."""

    def __init__(self, directory: Path, contents: Contents) -> None:
        """Go on with a log that has no faults, behind its last record."""
        assert contents.head is not None, f"a log with the faults {contents.faults}"
        assert contents.last is not None, f"a log with the faults {contents.faults}"
        self._directory = directory
        self._places = contents.places
        self._segments = {segment.number: segment for segment in contents.segments}
        self._segment = contents.segments[-1]
        self._offset = contents.last.end
        self._first_index = contents.head.first_index
        self._end = contents.head.last_index + 1
        self._descriptor = _opened(directory / segment_name(self._segment.number))
        # What a failed sync left only in the kernel's cache is written anew by this, or refused;
        # and the name of a segment, which a process that was killed could not sync any more.
        _write_all(self._descriptor, (contents.last.raw,), contents.last.at)
        sync_data(self._descriptor)
        sync_directory(directory)
        self._reserves = self._wants_spare = False
        self._spares = deque(path for path in sorted(directory.glob("spare-*")) if path.is_file())
        self._needed = deque(segment_numbers(directory))
        self._old: deque[int] = deque()
        """Segments that are needed no more, the first ones first."""
        self._forget_old_segments()
        self.sync_ms = 0.0
        """How long the last commit took to be written and synced."""
        self._write, self._sync = _write_all, sync_data

    @staticmethod
    def create(directory: Path, identity: Identity, head: Head) -> None:
        """A new log, where there is none, whose first commit says `head`; durable."""
        segment, start = _new_segment(1, identity)
        aside = directory / "spare-1"
        descriptor = _opened(aside)
        try:
            _write_all(descriptor, (start, *record_bytes(segment, head_bytes(head), ())), 0)
            sync_file(descriptor)
        finally:
            os.close(descriptor)
        aside.rename(directory / segment_name(1))
        sync_directory(directory)

    # --- writing --------------------------------------------------------------------------------

    def append(
        self,
        head: Head,
        said: bytes,
        entries: Sequence[Entry],
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """One commit: this head, whose bytes are `said`, and these entries in place of all from the
        first one's index on.

        Durable when this returns. `meanwhile` is called while the disk is at it, unless this begins
        a segment.
        """
        record = record_bytes(self._segment, said, entries)
        size = len(record[0]) + len(record[1])
        started_s = time.perf_counter()
        if self._offset + size <= SEGMENT_BYTES:
            self._write(self._descriptor, record, self._offset)
            if meanwhile is not None:
                _begin_to_sync(self._descriptor, self._offset, size)
                called_s = time.perf_counter()
                meanwhile()
                started_s += time.perf_counter() - called_s
            self._sync(self._descriptor)
        else:
            self._begin_segment(said, entries)
        self.sync_ms = 1_000 * (time.perf_counter() - started_s)
        if entries:
            self._places.add(entries[0].index, self._segment.number, self._offset)
        self._offset += size
        self._end = head.last_index + 1
        if head.first_index != self._first_index:
            self._first_index = head.first_index
            self._places.drop(head.first_index, self._end)
            self._forget_old_segments()

    def _begin_segment(self, said: bytes, entries: Sequence[Entry]) -> None:
        """Write the commit into a new segment, and go on there."""
        number = self._segment.number + 1
        segment, start = _new_segment(number, self._segment.identity)
        record = record_bytes(segment, said, entries)
        assert len(record[1]) <= MAX_SEGMENT_BYTES // 2, f"a commit of {len(record[1])} bytes"
        taken = self._spares[0] if self._spares else None
        spare = taken or self._directory / f"spare-{number}"
        descriptor = _opened(spare)
        try:
            self._write(descriptor, (start, *record), 0)
            self._sync(descriptor)
            spare.rename(self._directory / segment_name(number))
            sync_directory(self._directory)
        except BaseException:
            os.close(descriptor)
            raise
        if taken is not None:  # not what `tidy` may have added meanwhile
            self._spares.popleft()
        self._wants_spare = self._reserves and not self._spares
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._segment = self._segments[number] = segment
        self._needed.append(number)
        self._offset = segment.start

    def fits(self, size: int) -> bool:
        """Whether a commit of entries of about this size needs no new segment."""
        return self._offset + size + ROUGHLY <= SEGMENT_BYTES

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)

    # --- reading --------------------------------------------------------------------------------

    def read(self, first: Index, end: Index, max_bytes: int) -> list[Entry]:
        """The entries in [first, end), at least one if there is any, cut at `max_bytes` of data.

        Raises `Corrupt` at a record whose checksum does not fit.
        """
        entries: list[Entry] = []
        first, size = Index(max(first, self._first_index)), 0
        for number, offset, until in self._places.between(first, min(end, self._end)):
            for entry in self._read_record(number, offset):
                if first <= entry.index < until:
                    size += len(entry.data)
                    if entries and size > max_bytes:
                        return entries
                    entries.append(entry)
        return entries

    def _read_record(self, number: int, offset: int) -> list[Entry]:
        path = self._directory / segment_name(number)
        with path.open("rb", buffering=0) as file:
            start = os.pread(file.fileno(), LEAST_BYTES, offset)
            size = min(record_size(start), MAX_SEGMENT_BYTES)
            rest = max(0, size - len(start))
            data = start + os.pread(file.fileno(), rest, offset + len(start))
        record = record_at(data, 0, self._segments[number])
        if record is None:
            raise Corrupt(f"{path.name} is damaged at byte {offset}", where=str(path))
        return record.entries()

    # --- room -----------------------------------------------------------------------------------

    def reserve(self, size: int) -> None:
        """Make about `size` bytes of segments beforehand, and another one when they are used up;
        and do what is left to be done for `tidy`.

        Raises `OSError` where there is no room for them.
        """
        self._reserves = self._wants_spare = size > 0
        self.tidy()
        if self._reserves:
            _lengthen(self._descriptor)
            while (1 + len(self._spares)) * SEGMENT_BYTES < size:
                self._add_spare()

    @property
    def is_untidy(self) -> bool:
        """Whether there is something to do for `tidy`."""
        return bool(self._old) or self._wants_spare

    def tidy(self) -> None:
        """Make spares of old segments, or remove them; and a new spare if one is wanted.

        To be called on one thread at a time, not necessarily on the one that writes. Raises
        `OSError` where there is no room; a spare is wanted again with the next segment.
        """
        while self._old:
            number = self._old.popleft()
            path = self._directory / segment_name(number)
            if self._is_worth_keeping(path):
                spare = self._directory / f"spare-{number}"
                path.rename(spare)
                # The name first: a crash must not leave new content under the old one.
                sync_directory(self._directory)
                self._spares.append(spare)
            else:
                path.unlink()
            self._segments.pop(number, None)
        while len(self._spares) > MAX_SPARES:
            self._spares.pop().unlink()
        wanted, self._wants_spare = self._wants_spare, False
        if wanted and not self._spares:
            self._add_spare()

    def _is_worth_keeping(self, path: Path) -> bool:
        fits = SEGMENT_BYTES // 2 <= path.stat().st_size <= 2 * SEGMENT_BYTES
        return self._reserves and fits and len(self._spares) < MAX_SPARES

    def _add_spare(self) -> None:
        paths = (self._directory / f"spare-new-{number}" for number in count(1))
        path = next(path for path in paths if not path.exists())
        descriptor = _opened(path)
        try:
            _lengthen(descriptor)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._spares.append(path)

    def _forget_old_segments(self) -> None:
        """Give up those before the first one that holds an entry of the log, or the last record."""
        numbers = self._places.numbers
        needed = numbers[0] if numbers else self._segment.number
        while self._needed[0] < needed:
            self._old.append(self._needed.popleft())


def log_bytes(directory: Path) -> int:
    """What the files of the log take in a directory, spares too; they come and go meanwhile."""
    size = 0
    for path in directory.iterdir():
        if path.name.startswith(("log-", "spare-")):
            with suppress(FileNotFoundError):
                size += path.lstat().st_size
    return size


def _new_segment(number: int, identity: Identity) -> tuple[Segment, bytes]:
    start = segment_bytes(number, identity, os.urandom(SALT_BYTES))
    return read_segment(start, segment_name(number)), start


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write_all(descriptor: int, parts: Sequence[bytes], offset: int) -> None:
    written, size = os.pwritev(descriptor, parts, offset), sum(map(len, parts))
    while written < size:  # the next attempt tells why
        written += os.pwrite(descriptor, b"".join(parts)[written:], offset + written)


def _begin_to_sync(descriptor: int, offset: int, size: int) -> None:
    """Have the kernel hand these bytes to the disk, without waiting for it.

    (Linux does so before it would forget what it caches of them; a page that others share stays.)
    """
    try:
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)
    except OSError:
        return  # a file system may take no advice; whether it takes the bytes, the sync will tell


def _lengthen(descriptor: int) -> None:
    """Make the file as long as a segment, of real bytes, durably; or leave it as it is."""
    size = os.fstat(descriptor).st_size
    try:
        for offset in range(size, SEGMENT_BYTES, ZEROS_AT_ONCE):
            _write_zeros(descriptor, offset, min(ZEROS_AT_ONCE, SEGMENT_BYTES - offset))
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    if size < SEGMENT_BYTES:
        sync_file(descriptor)


def _write_zeros(descriptor: int, offset: int, size: int) -> None:
    _write_all(descriptor, (bytes(size),), offset)
