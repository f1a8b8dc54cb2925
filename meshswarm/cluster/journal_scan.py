"""What the segments of a directory hold, and what is wrong with them; changes nothing.

Commits are numbered without a gap, and a record is only written once the one before is durable. So
what cannot be read at the very end of the log is a commit that was under way, and is cut; but what
good records follow was acknowledged, and is lost. Whether a log that ends too early has lost
something, the mark tells (`journal_mark`).
"""

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from attrs import Factory, define, frozen

from meshswarm.cluster.journal_mark import read_file
from meshswarm.cluster.journal_records import (
    Head,
    Identity,
    Record,
    Segment,
    read_segment,
    record_at,
    records_after,
)
from meshswarm.errors import Corrupt
from meshswarm.raft.types import Entry

MAX_SEGMENT_BYTES = 512 << 20
"""A longer file is no segment. One commit fits: `journal.MAX_QUEUED_BYTES` is half of it."""

MAX_FAULTS = 5
"""Faults told of one log; beyond that they say nothing new."""

_NAME = re.compile(r"log-([1-9]\d{0,17})")


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"log-{number}"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments in the directory, in order."""
    matches = (_NAME.fullmatch(name) for name in os.listdir(directory))
    return sorted(int(match[1]) for match in matches if match is not None)


@define(eq=False)
class Places:
    """Where the entries are: one place for each record, in the order of the log.

    A record's entries count up to the first one of the next record, which replaced the rest.
    """

    firsts: "array[int]" = Factory(lambda: array("Q"))
    numbers: "array[int]" = Factory(lambda: array("Q"))
    """Of the segments."""
    offsets: "array[int]" = Factory(lambda: array("Q"))

    def add(self, first: int, number: int, offset: int) -> None:
        """The entries from `first` on are in this record, whatever was known of them."""
        if self.firsts and self.firsts[-1] >= first:
            self.cut(first)
        self.firsts.append(first)
        self.numbers.append(number)
        self.offsets.append(offset)

    def cut(self, first: int) -> None:
        """There are no entries from `first` on."""
        while self.firsts and self.firsts[-1] >= first:
            for column in (self.firsts, self.numbers, self.offsets):
                del column[-1]

    def drop(self, first: int, end: int) -> None:
        """The entries before `first` count no more, nor do those from `end` on."""
        self.cut(end)
        gone = len(self.firsts) if first >= end else max(0, bisect_right(self.firsts, first) - 1)
        for column in (self.firsts, self.numbers, self.offsets):
            del column[:gone]

    def between(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The records (segment, offset) that hold the entries in [first, end), in order, and the
        index at which each one's entries end."""
        last = len(self.firsts) - 1
        for at in range(max(0, bisect_right(self.firsts, first) - 1), last + 1):
            until = min(end, self.firsts[at + 1]) if at < last else end
            yield self.numbers[at], self.offsets[at], until
            if until == end:
                return


@frozen(kw_only=True)
class Contents:
    """What could be read of a log, and what was wrong with it."""

    identity: Identity | None = None
    head: Head | None = None
    """The newest that is readable; not to be trusted with the log if there are faults."""
    entries: tuple[Entry, ...] = ()
    """Up to the first fault."""
    faults: tuple[str, ...] = ()
    places: Places = Factory(Places)
    segments: tuple[Segment, ...] = ()
    """In order; the log goes on in the last one."""
    last: Record | None = None
    """The last record, in the last segment."""


def examine(directory: Path) -> Contents | None:
    """What the log in the directory holds, None if there is no file of it; changes nothing.

    Whatever is wrong is told as faults. Raises only `Conflict`, for another format, and what keeps
    this user from reading.
    """
    numbers = segment_numbers(directory)
    if not numbers:
        return None
    # What is before a gap was to be removed; a crash may have brought a name back.
    start = max([at for at, (one, two) in enumerate(pairwise(numbers), 1) if two > one + 1] or [0])
    scan = _Scan()
    for number in numbers[start:]:
        scan.take_segment(number, directory / segment_name(number))
    return scan.contents()


@define(eq=False)
class _Scan:
    """The log as far as it has been read."""

    faults: list[str] = Factory(list)
    identity: Identity | None = None
    last: Record | None = None
    entries: list[Entry] = Factory(list)
    first_index: int = 1
    places: Places = Factory(Places)
    segments: list[Segment] = Factory(list)
    newest: Head = Factory(lambda: Head(counter=-1))

    def take_segment(self, number: int, path: Path) -> None:
        """Go on with the next segment, of that number."""
        try:
            data = read_file(path, MAX_SEGMENT_BYTES)
            segment = read_segment(data, path.name)
            if segment.number != number:
                raise Corrupt(f"{path.name} is segment {segment.number}")
            if self.identity not in (None, segment.identity):
                raise Corrupt(f"{path.name} belongs to another journal")
        except FileNotFoundError:
            self.faults.append(f"{path.name} is missing")
            return
        except Corrupt as error:
            self.faults.append(error.message)
            return
        self.identity = segment.identity
        self.segments.append(segment)
        at = segment.start if self.faults else self._replay(segment, data)
        # Nothing may come behind the last good record, here or in the next segment.
        after = self.last.counter if self.last is not None else -1
        for record in records_after(data, at, segment):
            if record.counter > after and not self.faults:
                self.faults.append(
                    f"{path.name} is damaged at byte {at}: commit {record.counter} is there, but "
                    f"not commit {after + 1}"
                )
            self._note_head(record)

    def _replay(self, segment: Segment, data: bytes) -> int:
        """Take the records that follow one another; where they end."""
        at, last = segment.start, self.last
        while record := record_at(data, at, segment):
            if last is not None and record.counter != last.counter + 1:
                break
            try:
                self._take(record, segment)
            except Corrupt as error:
                self.faults.append(f"commit {record.counter} makes no sense: {error.message}")
                break
            at, last = record.end, record
        if last is not None and last is not self.last:
            self.last = last
            self._note_head(last)
        elif not self.faults:
            self.faults.append(f"log-{segment.number} holds no commit that follows the one before")
        return at

    def _take(self, record: Record, segment: Segment) -> None:
        entries = self.entries
        if record.count:
            new, first = record.entries(), record.entries_first
            if entries and first <= entries[-1].index:
                del entries[max(0, first - entries[0].index) :]
            if entries and first != entries[-1].index + 1:
                entries.clear()
            entries += new
            self.places.add(first, segment.number, record.at)
        if record.first_index != self.first_index:
            self.first_index = record.first_index
            if entries:
                del entries[: max(0, self.first_index - entries[0].index)]

    def _note_head(self, record: Record) -> None:
        try:
            head = record.head()
        except Corrupt as error:
            self.faults.append(f"commit {record.counter} makes no sense: {error.message}")
        else:
            if head.counter > self.newest.counter:
                self.newest = head

    def contents(self) -> Contents:
        """All that was found."""
        head = self.newest if self.newest.counter >= 0 else None
        if head is not None and not self.faults:
            end = head.last_index + 1
            del self.entries[len(self.entries) - max(0, self._last_index - head.last_index) :]
            self.places.drop(head.first_index, end)
            self.faults += _misfits(head, self.entries)
        return Contents(
            identity=self.identity,
            head=head,
            entries=tuple(self.entries),
            faults=tuple(fault[:200] for fault in self.faults[:MAX_FAULTS]),
            places=self.places,
            segments=tuple(self.segments),
            last=self.last,
        )

    @property
    def _last_index(self) -> int:
        return self.entries[-1].index if self.entries else 0


def _misfits(head: Head, entries: Sequence[Entry]) -> Iterator[str]:
    """Where records that are sound one by one do not make the log that the newest describes."""
    first, last, base = head.first_index, head.last_index, head.snapshot_index
    found = (entries[0].index, entries[-1].index) if entries else (last + 1, last)
    if found != (first, last):
        yield f"entries {first} to {last} belong to the log, {found[0]} to {found[1]} are there"
    for before, entry in pairwise(entries):
        if entry.term < before.term:
            yield f"entry {entry.index} is of term {entry.term}, the one before of {before.term}"
    if not 1 <= first <= base + 1:
        yield f"the log begins at {first}, but the snapshot ends at {base}"
    if last < base:
        yield f"the last entry is {last}, before the snapshot at {base}"
    if head.hard_state.commit > last:
        yield f"the last entry is {last}, but {head.hard_state.commit} was committed"
    if entries and entries[-1].term > head.hard_state.term:
        yield f"the last entry's term {entries[-1].term} is beyond {head.hard_state.term}"
