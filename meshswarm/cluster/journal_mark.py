"""The mark beside a journal: a second, cheap witness of what was acknowledged.

A log alone cannot tell a torn tail, which was never acknowledged and is cut, from a lost one, which
was: both just end. Therefore the head (commit counter, term, vote, last index) is also written to a
small file, after each commit is durable and without a sync of its own. The mark never runs ahead of
the disk; so a journal behind its mark has lost what others were promised (the persist record of
"Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, section 3.3). After a power cut
the mark may be old; it then claims less, never more.
"""

import errno
import os
import stat
import struct
import zlib
from pathlib import Path

from attrs import frozen

from meshswarm.cluster.journal_records import Head, head_bytes, read_head
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, NodeId

SLOT_BYTES = 4096
"""Room of one mark; there are two, written in turn, so that a torn write spoils one."""

_SLOT = struct.Struct(">IHBB")
"""CRC-32 of what follows, bytes in all, bytes of the cluster's id, bytes of the node's."""
_CRC_BYTES = 4


@frozen
class Mark:
    """The head as of some durable commit, and whose it is."""

    cluster_id: ClusterId
    node_id: NodeId
    head: Head


class SyncFailed(OSError):
    """The kernel could not make a file durable; what was written to it may be lost, unnoticed."""


def sync_file(descriptor: int) -> None:
    """Make what was written to the file durable; raises `SyncFailed`."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def sync_data(descriptor: int) -> None:
    """As `sync_file`, without what is said of the file beside its length."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


def sync_directory(directory: Path) -> None:
    """Make the directory's names durable; without it a crash may undo a create or rename."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file; raises `Corrupt` if it is too large, unreadable, or no file.

    Raises `FileNotFoundError` where nothing has the name, and `PermissionError`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # never for a pipe
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise Corrupt(f"{path.name} is no file", where=str(path))
            if about.st_size > max_bytes:
                raise Corrupt(f"{path.name} is too large: {about.st_size} bytes", where=str(path))
            return os.pread(descriptor, about.st_size, 0)
        finally:
            os.close(descriptor)
    except PermissionError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            raise
        what = "no file" if path.is_symlink() else f"unreadable: {error.strerror}"
        raise Corrupt(f"{path.name} is {what}", where=str(path)) from error


class MarkFile:
    """The open mark of a journal; written by whoever writes its log."""

    def __init__(self, path: Path, cluster_id: ClusterId, node_id: NodeId) -> None:
        self._ids = (cluster_id.encode(), node_id.encode())
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @staticmethod
    def create(path: Path, mark: Mark) -> "MarkFile":
        """A new mark in place of any old one; durable when this returns."""
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            file.write(bytes(2 * SLOT_BYTES))
        made = MarkFile(aside, mark.cluster_id, mark.node_id)
        made.write(mark.head.counter, head_bytes(mark.head), sync=True)
        aside.rename(path)
        sync_directory(path.parent)
        return made

    def write(self, counter: int, said: bytes, *, sync: bool = False) -> None:
        """Note the head with these bytes, of the commit of that number, which must be durable
        already; without a sync unless one is asked for."""
        cluster_id, node_id = self._ids
        size = _SLOT.size + len(cluster_id) + len(node_id) + len(said)
        assert size <= SLOT_BYTES, f"a mark of {size} > {SLOT_BYTES} bytes"
        slot = b"".join(
            (_SLOT.pack(0, size, len(cluster_id), len(node_id)), cluster_id, node_id, said)
        )[_CRC_BYTES:]
        slot = zlib.crc32(slot).to_bytes(_CRC_BYTES, "big") + slot
        written = os.pwrite(self._descriptor, slot, counter % 2 * SLOT_BYTES)
        if written < size:  # a file system that copies on write may need room even for this
            raise OSError(errno.ENOSPC, f"wrote {written} of {size} bytes of the mark")
        if sync:
            sync_data(self._descriptor)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)


def read_mark(path: Path) -> Mark | None:
    """The newest readable mark, None where there is no file; raises `Corrupt` if all are bad."""
    try:
        data = read_file(path, 2 * SLOT_BYTES)
    except FileNotFoundError:
        return None
    marks = [
        mark
        for at in (0, SLOT_BYTES)
        if (mark := _read_slot(data[at : at + SLOT_BYTES])) is not None
    ]
    if not marks:
        raise Corrupt(f"{path.name} is unreadable", where=str(path))
    return max(marks, key=lambda mark: mark.head.counter)


def _read_slot(slot: bytes) -> Mark | None:
    try:
        crc, size, cluster_bytes, node_bytes = _SLOT.unpack_from(slot)
        if size > len(slot) or zlib.crc32(slot[_CRC_BYTES:size]) != crc:
            return None
        node_at = _SLOT.size + cluster_bytes
        head_at = node_at + node_bytes
        head, end = read_head(slot, head_at)
        cluster_id, node_id = slot[_SLOT.size : node_at].decode(), slot[node_at:head_at].decode()
    except (struct.error, UnicodeDecodeError, Corrupt):
        return None
    return Mark(ClusterId(cluster_id), NodeId(node_id), head) if end == size else None
