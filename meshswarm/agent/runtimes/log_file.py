"""Output that a process writes straight to a file: kept small from the front, read and followed.

The task itself holds the file open (append-only), so that nobody needs to outlive the agent to
carry its output. The front is given back to the file system by punching a hole: offsets stay, no
line is lost or copied. The size that `ls` shows only grows; `du` tells what is used.
"""

import ctypes
import errno
import os
from pathlib import Path

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
BLOCK = 4096

READ_BYTES = 64 * 1024
"""Read at a time."""


def trim(path: Path, keep_bytes: int) -> None:
    """Give back the front of the file once it uses twice `keep_bytes`.

    Where the file system has no holes, the whole content is dropped.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if status.st_blocks * 512 <= 2 * keep_bytes:
        return
    length = (status.st_size - keep_bytes) // BLOCK * BLOCK
    descriptor = os.open(path, os.O_RDWR)
    try:
        _punch(descriptor, length)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _punch(descriptor: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    offset, size = ctypes.c_int64(0), ctypes.c_int64(length)
    if libc.fallocate64(descriptor, mode, offset, size) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class LogReader:
    """Reads whole lines of one file, from its last `tail` lines (None: all that is kept) on."""

    def __init__(self, path: Path, tail: int | None, max_line: int) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._max_line = max_line
        self._rest = b""
        self._offset = self._first() if tail is None else self._tail_offset(tail)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._descriptor)

    def lines(self, *, last: bool) -> list[tuple[int, str]]:
        """The next lines, each after the offset of its end; `last` includes an unfinished one."""
        if self._offset > os.fstat(self._descriptor).st_size:
            self._offset, self._rest = 0, b""  # it was dropped, see `trim`
        self._offset = max(self._offset, self._first())
        end = self._offset - len(self._rest)
        data = os.pread(self._descriptor, READ_BYTES, self._offset)
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        found: list[tuple[int, str]] = []
        for line in whole:
            end += len(line) + 1
            found += ((end, piece.decode(errors="replace")) for piece in self._pieces(line))
        while len(self._rest) > self._max_line or (self._rest and last and len(data) < READ_BYTES):
            piece, self._rest = self._rest[: self._max_line], self._rest[self._max_line :]
            end += len(piece)
            found.append((end, piece.decode(errors="replace")))
        return found

    def _pieces(self, line: bytes) -> list[bytes]:
        size = self._max_line
        return [line[at : at + size] for at in range(0, len(line), size)] or [b""]

    def _first(self) -> int:
        """Where the kept content begins: at 0, or at the first whole line after the hole."""
        try:
            data = os.lseek(self._descriptor, 0, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data at all
                raise
            return os.fstat(self._descriptor).st_size
        if data == 0:
            return 0
        newline = os.pread(self._descriptor, self._max_line, data).find(b"\n")
        return data + newline + 1

    def _tail_offset(self, count: int) -> int:
        """Where the last `count` lines begin."""
        first, end = self._first(), os.fstat(self._descriptor).st_size
        if count == 0:
            return end
        position, found = end, 0
        while position > first:
            start = max(first, position - READ_BYTES)
            block = os.pread(self._descriptor, position - start, start)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if start + at + 1 == end:
                    continue  # the end of the last line, not of the one before
                found += 1
                if found == count:
                    return start + at + 1
            position = start
        return first
