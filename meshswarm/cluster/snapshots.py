"""Snapshot files: written aside, checksummed as a whole, renamed, and never half there.

A file is `snapshot-INDEX-TERM`: a magic, then frames (length, deflated bytes), an empty frame, and
the BLAKE2b of all before. The first frame is the header: whose it is and what it stands for; the
others are the state in slices, so that neither writer nor reader holds the whole of it. A file
travels to another manager as it is, into `snapshot-INDEX-TERM.DIGEST.part` there. Reading never
trusts: what is damaged, cut short or another cluster's raises `Corrupt`.
"""

import gc
import hashlib
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from meshswarm import codec
from meshswarm.cluster.journal_mark import sync_data, sync_directory, sync_file
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, Index, Term
from meshswarm.raft.types import SnapshotMeta

KEPT = 2
"""Snapshots kept: the newest, and one to fall back on while the log still reaches it."""

SYNC_BYTES = 4 << 20
"""Written between two syncs, so that the journal's own sync never waits for a whole snapshot."""

MAX_FRAME_BYTES = 64 << 20
"""A frame, deflated or not; more is damage. One row fits: it came in one entry of the log."""

WORTH_IT, STORED_AT_ONCE = 0.9, 15
"""After a frame that deflating made no shorter than this part of it, so many are stored as they
are: deflating what cannot be (sealed secrets, archives) was most of what a snapshot cost."""

SLICES_BETWEEN_FREEZES = 16
"""About 1 MiB of state, a few thousand rows: they take the collector some milliseconds."""

DIGEST_BYTES = 32
READ_BYTES = 1 << 20

_MAGIC = b"meshsnp3"
_NAME = re.compile(r"snapshot-(\d{1,19})-(\d{1,19})")
_LENGTH = struct.Struct(">I")


@frozen
class SnapshotName:
    """A snapshot file, as its name describes it."""

    index: Index
    term: Term

    def __str__(self) -> str:
        """The file's name."""
        return f"snapshot-{self.index}-{self.term}"


@frozen
class Stored:
    """A complete snapshot file: what it stands for, its length, the checksum at its end."""

    meta: SnapshotMeta
    size: int
    digest: bytes

    @property
    def name(self) -> SnapshotName:
        """Its name once it is in use."""
        return SnapshotName(self.meta.index, self.meta.term)

    @property
    def part(self) -> str:
        """Its name while it arrives; what a crash left of it is gone on with."""
        return f"{self.name}.{self.digest.hex()}.part"


@frozen
class _Header:
    cluster_id: ClusterId
    meta: SnapshotMeta


# --- writing ------------------------------------------------------------------------------------


def write_snapshot(
    directory: Path, cluster_id: ClusterId, meta: SnapshotMeta, slices: Iterable[bytes]
) -> Stored:
    """Store a state; durable, under its name, when this returns. Raises `OSError`."""
    path = directory / str(SnapshotName(meta.index, meta.term))
    aside = path.with_name(f"{path.name}.tmp")
    digest, size, unsynced = hashlib.blake2b(digest_size=DIGEST_BYTES), 0, 0
    try:
        with aside.open("wb", buffering=0) as file:
            for piece in _pieces(codec.encode(_Header(cluster_id, meta)), slices):
                digest.update(piece)
                _write_all(file.fileno(), memoryview(piece))
                size += len(piece)
                unsynced += len(piece)
                if unsynced >= SYNC_BYTES:
                    sync_data(file.fileno())
                    unsynced = 0
            _write_all(file.fileno(), memoryview(digest.digest()))
            sync_file(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)  # half a snapshot only takes the room that was wanting
        raise
    aside.rename(path)
    sync_directory(directory)
    return Stored(meta, size + DIGEST_BYTES, digest.digest())


def _pieces(header: bytes, slices: Iterable[bytes]) -> Iterator[bytes]:
    yield _MAGIC + _frame(header)
    stored_next = 0
    for part in slices:
        frame = _frame(part, level=0 if stored_next else 1)
        if stored_next:
            stored_next -= 1
        elif len(frame) > WORTH_IT * len(part):
            stored_next = STORED_AT_ONCE
        yield frame
    yield _LENGTH.pack(0)


def _frame(part: bytes, level: int = 1) -> bytes:
    deflated = zlib.compress(part, level)
    assert len(part) <= MAX_FRAME_BYTES, f"a slice of {len(part)} > {MAX_FRAME_BYTES} bytes"
    return _LENGTH.pack(len(deflated)) + deflated


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def adopt_part(directory: Path, stored: Stored) -> None:
    """Give a file that arrived whole, and is synced, its name; durable when this returns.

    Doing it again changes nothing: the write that it is part of is repeated when the disk was full.
    """
    try:
        (directory / stored.part).rename(directory / str(stored.name))
    except FileNotFoundError:
        if not (directory / str(stored.name)).exists():
            raise
    sync_directory(directory)


# --- reading ------------------------------------------------------------------------------------


def check_snapshot(path: Path, cluster_id: ClusterId | None, name: SnapshotName) -> Stored:
    """What the file at `path` holds, all of which fits its checksum.

    Raises `Corrupt` if it is missing, damaged, not `name`, or another cluster's.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return check_open_snapshot(file, path, cluster_id, name)
    except OSError as error:
        raise Corrupt(f"{name} is unreadable: {error}", where=str(path)) from error


def check_open_snapshot(
    file: BinaryIO, path: Path, cluster_id: ClusterId | None, name: SnapshotName
) -> Stored:
    """As `check_snapshot`, of a file that is open; may also raise `OSError`."""
    size, digest = _checked(file, name, path)
    file.seek(0)
    try:
        header = codec.decode(next(_frames(file, name, path)), _Header)
    except (StopIteration, codec.Undecodable) as error:
        raise Corrupt(f"{name} is unreadable: {error}", where=str(path)) from error
    meta = header.meta
    if (meta.index, meta.term) != (name.index, name.term):
        found = f"index {meta.index} of term {meta.term}"
        raise Corrupt(f"{name} holds another snapshot: {found}", where=str(path))
    if cluster_id is not None and header.cluster_id != cluster_id:
        raise Corrupt(f"{name} belongs to cluster {header.cluster_id}", where=str(path))
    return Stored(meta, size, digest)


def read_slices(path: Path, name: SnapshotName) -> Iterator[bytes]:
    """The slices of a file that was checked; raises `Corrupt` if it has changed since."""
    try:
        with path.open("rb", buffering=READ_BYTES) as file:
            frames = _frames(file, name, path)
            next(frames, None)  # the header
            yield from frames
    except OSError as error:
        raise Corrupt(f"{name} is unreadable: {error}", where=str(path)) from error


def _checked(file: BinaryIO, name: SnapshotName, path: Path) -> tuple[int, bytes]:
    """The file's size, and its checksum, which fits."""
    size = os.fstat(file.fileno()).st_size
    digest, left = hashlib.blake2b(digest_size=DIGEST_BYTES), size - DIGEST_BYTES
    while left > 0 and (data := file.read(min(left, READ_BYTES))):
        digest.update(data)
        left -= len(data)
    stored = file.read()
    if left or stored != digest.digest():
        raise Corrupt(f"{name} is damaged: its checksum does not fit", where=str(path))
    return size, stored


def _frames(file: BinaryIO, name: SnapshotName, path: Path) -> Iterator[bytes]:
    """The frames, inflated; raises `Corrupt` where they are none."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise Corrupt(f"{name} is not a snapshot of this version", where=str(path))
    while True:
        head = file.read(_LENGTH.size)
        length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_FRAME_BYTES + 1
        if length == 0:
            return
        deflated = file.read(length) if length <= MAX_FRAME_BYTES else b""
        inflater = zlib.decompressobj()
        try:
            part = inflater.decompress(deflated, MAX_FRAME_BYTES)
        except zlib.error as error:
            raise Corrupt(f"{name} holds a bad frame: {error}", where=str(path)) from error
        if len(deflated) != length or not inflater.eof:
            raise Corrupt(f"{name} holds a frame that is cut short or too long", where=str(path))
        yield part


# --- the directory ------------------------------------------------------------------------------


def list_snapshots(directory: Path) -> tuple[SnapshotName, ...]:
    """The snapshot files of a directory, newest first; nothing is said of their contents."""
    matches = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    names = (SnapshotName(Index(int(m[1])), Term(int(m[2]))) for m in matches if m is not None)
    return tuple(sorted(names, key=lambda name: (name.index, name.term), reverse=True))


def prune_snapshots(directory: Path, *, newest: Index, log_first: Index) -> None:
    """Remove the snapshots before `newest`, but the last one that the log still reaches."""
    older = [name for name in list_snapshots(directory) if name.index < newest]
    fallbacks = [name for name in older if name.index + 1 >= log_first][: KEPT - 1]
    for name in older:
        if name not in fallbacks:
            (directory / str(name)).unlink(missing_ok=True)


def remove_parts(directory: Path, *, but: str = "") -> None:
    """Remove what arrived of snapshots, except of the one whose part is named `but`."""
    for path in directory.glob("snapshot-*.part"):
        if path.name != but:
            path.unlink(missing_ok=True)


def remove_unfinished(directory: Path, *, newest: Index) -> None:
    """Remove what a crash left behind: files half written, or written but never adopted.

    What arrived of a snapshot stays: it is gone on with if it is still wanted.
    """
    for path in directory.glob("snapshot-*.tmp"):
        path.unlink()
    for name in list_snapshots(directory):
        if name.index > newest:
            (directory / str(name)).unlink()


def unhurried(slices: Iterable[bytes], share: float) -> Iterator[bytes]:
    """The slices at a pace that leaves the other threads of this process the rest of its time.

    Python runs one thread at a time and changes over every 5 ms, so a thread that never waits would
    add that much to each turn of the event loop.
    """
    began = time.perf_counter()
    for part in slices:
        yield part
        worked = time.perf_counter() - began
        time.sleep(worked * (1 / share - 1))
        began = time.perf_counter()


def here_to_stay(slices: Iterable[bytes]) -> Iterator[bytes]:
    """The slices, for a reader that keeps what it makes of them.

    The garbage collector looks at all that may be garbage, again and again while there is more of
    it, and stops every thread for that: 0.6 s at 200,000 rows, and more than half of the time of
    reading them. Rows hold no cycles and go when nobody needs them; so it is told to leave alone
    what there is. What garbage is among it then stays, a few kilobytes.
    """
    for number, part in enumerate(slices):
        if number % SLICES_BETWEEN_FREEZES == 0:
            gc.freeze()
        yield part
    gc.freeze()
