"""When the lines of a plain process were written: marks that its agent sets beside the output.

A process writes straight to a file, so nobody sees each line come. The agent looks at the file
every half second and, if it grew, notes how far and when it was last written to. A line is as old
as the first mark behind it: right to the millisecond for whoever writes less than twice a second,
else up to half a second late, and later only if the agent was away.
"""

import os
import struct
from bisect import bisect_left
from pathlib import Path

INTERVAL_S = 0.5
"""Between two looks at a file."""

MARK = struct.Struct(">QQ")
"""Bytes that were there, and the instant of the last of them in ms."""

MAX_BYTES = 64 * 1024
"""Of marks; beyond, the older half is dropped, and what it told of is as old as the oldest kept."""


def mark(log: Path, marks: Path, known_size: int) -> int:
    """Set a mark if the log is not as long as it was; gives its length. Raises OSError."""
    try:
        status = log.stat()
    except FileNotFoundError:
        return known_size
    if status.st_size == known_size:
        return known_size
    flags = os.O_WRONLY | os.O_CREAT
    flags |= os.O_TRUNC if status.st_size < known_size else os.O_APPEND  # the log began anew
    descriptor = os.open(marks, flags, 0o600)
    try:
        os.write(descriptor, MARK.pack(status.st_size, status.st_mtime_ns // 1_000_000))
        is_full = os.fstat(descriptor).st_size > MAX_BYTES
    finally:
        os.close(descriptor)
    if is_full:
        kept = marks.read_bytes()[-(MAX_BYTES // 2) :]
        aside = marks.with_suffix(".new")
        aside.write_bytes(kept)
        aside.replace(marks)
    return status.st_size


class Times:
    """The marks of one log, as they are now."""

    def __init__(self, log: Path, marks: Path) -> None:
        try:
            data = marks.read_bytes()
        except FileNotFoundError:
            data = b""
        whole = data[: len(data) // MARK.size * MARK.size]
        pairs = sorted(MARK.iter_unpack(whole))
        self._sizes = [size for size, _ in pairs]
        self._instants = [at_ms for _, at_ms in pairs]
        self._last_ms = log.stat().st_mtime_ns // 1_000_000

    def at(self, end: int) -> int:
        """When the line that ends at this offset was there, in ms."""
        number = bisect_left(self._sizes, end)
        return self._instants[number] if number < len(self._instants) else self._last_ms
