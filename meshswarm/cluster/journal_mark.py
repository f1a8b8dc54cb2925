"""The journal's head, and the mark beside it: a second, cheap witness of what was acknowledged.

A database alone cannot tell a torn tail, which was never acknowledged and is cut, from a lost one,
which was: SQLite drops a damaged WAL frame and all that follow it silently. Therefore the head
(commit counter, term, vote, last index) is also written to a small file, after each commit is
durable and without a sync of its own. The mark never runs ahead of the disk; so a journal behind
its mark has lost what others were promised (the persist record of "Protocol-Aware Recovery for
Consensus-Based Storage", FAST 2018, section 3.3). After a power cut the mark may be old; it then
claims less, never more.
"""

import errno
import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import HardState

SLOT_BYTES = 1024
"""One record with its padding; there are two, written in turn, so that a torn write spoils one."""

_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")


@frozen(kw_only=True)
class Head:
    """What changes with every commit: one value, so that term, vote and log never mix."""

    counter: int = 0
    """Commits since the directory was made; 0 means that nothing was ever acknowledged."""
    incarnation: int = 0
    """How often this journal was opened."""
    hard_state: HardState = HardState()
    last_index: Index = Index(0)
    snapshot_index: Index = Index(0)
    """The snapshot that the log stands on; 0: none."""
    snapshot_term: Term = Term(0)
    damage: str = ""
    """Why this node may not vote; empty when it may. Survives restarts until it is healed."""


@frozen
class Mark:
    """The head as of some durable commit, and whose it is."""

    cluster_id: ClusterId
    node_id: NodeId
    head: Head


def seal(data: bytes) -> bytes:
    """`data` behind its CRC-32."""
    return _CRC.pack(zlib.crc32(data)) + data


def unseal(sealed: bytes) -> bytes:
    """What `seal` was given; raises `Corrupt` when the checksum does not fit."""
    data = sealed[_CRC.size :]
    if len(sealed) < _CRC.size or zlib.crc32(data) != _CRC.unpack_from(sealed)[0]:
        raise Corrupt(f"the checksum of a record of {len(sealed)} bytes does not fit")
    return data


@lru_cache(maxsize=4)
def encoded_head(head: Head) -> bytes:
    """The bytes of a head; each commit asks for them twice, for the database and for the mark."""
    return codec.encode(head)


def sealed_mark(owner: Mark, head: Head) -> bytes:
    """The bytes of the mark that says of `head` that it is the owner's: canonical CBOR, put
    together of what is encoded already."""
    before, after = _around_head(owner.cluster_id, owner.node_id)
    return seal(b"".join((before, encoded_head(head), after)))


@lru_cache(maxsize=4)
def _around_head(cluster_id: ClusterId, node_id: NodeId) -> tuple[bytes, bytes]:
    after = ("node_id", node_id, "cluster_id", cluster_id)
    return codec.map_head(3) + codec.dumps("head"), b"".join(map(codec.dumps, after))


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


class MarkFile:
    """The open mark of a journal; written by the journal's thread only."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @staticmethod
    def create(path: Path, mark: Mark) -> "MarkFile":
        """A new mark in place of any old one; durable when this returns."""
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            file.write(bytes(2 * SLOT_BYTES))
        made = MarkFile(aside)
        made.write(mark, sync=True)
        aside.rename(path)
        sync_directory(path.parent)
        return made

    def write(self, mark: Mark, *, sync: bool = False) -> None:
        """Note `mark`, whose commit must be durable already."""
        self.write_sealed(mark.head.counter, sealed_mark(mark, mark.head))
        if sync:
            sync_data(self._descriptor)

    def write_sealed(self, counter: int, sealed: bytes) -> None:
        """As `write`, of a mark that is encoded already; without a sync of its own."""
        assert len(sealed) <= SLOT_BYTES - _LENGTH.size, f"mark of {len(sealed)} > {SLOT_BYTES}"
        slot = _LENGTH.pack(len(sealed)) + sealed
        offset = counter % 2 * SLOT_BYTES
        written = os.pwrite(self._descriptor, slot.ljust(SLOT_BYTES, b"\0"), offset)
        if written < SLOT_BYTES:  # a file system that copies on write may need room even for this
            raise OSError(errno.ENOSPC, f"wrote {written} of {SLOT_BYTES} bytes of the mark")

    def close(self) -> None:
        """Give the file back."""
        os.close(self._descriptor)


def read_mark(path: Path) -> Mark | None:
    """The newest readable mark, None where there is no file; raises `Corrupt` if all are bad."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    marks = [mark for offset in (0, SLOT_BYTES) if (mark := _read_slot(data[offset:])) is not None]
    if not marks:
        raise Corrupt(f"{path.name} is unreadable", where=str(path))
    return max(marks, key=lambda mark: mark.head.counter)


def _read_slot(slot: bytes) -> Mark | None:
    try:
        (length,) = _LENGTH.unpack_from(slot)
        sealed = slot[_LENGTH.size : _LENGTH.size + length]
        return codec.decode(unseal(sealed), Mark)
    except (struct.error, Corrupt, codec.Undecodable):
        return None
