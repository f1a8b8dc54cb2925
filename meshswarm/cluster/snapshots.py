"""Snapshot files: written aside, checksummed, renamed, and never half there.

A file is `snapshot-INDEX-TERM`: the length of a header, the header behind its CRC, the state. The
header names the cluster, what the state stands for, and the state's BLAKE2b. Reading never
trusts: what is damaged, cut short or another cluster's raises `Corrupt`.
"""

import hashlib
import os
import re
import struct
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.cluster.journal_mark import (
    seal,
    sync_data,
    sync_directory,
    sync_file,
    unseal,
)
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, Index, Term
from meshswarm.raft.types import Snapshot, SnapshotMeta

KEPT = 2
"""Snapshots kept: the newest, and one to fall back on while the log still reaches it."""

SLICE_BYTES = 4 << 20
"""Written between two syncs, so that the journal's own sync never waits for a whole snapshot."""

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
class _Header:
    cluster_id: ClusterId
    meta: SnapshotMeta
    size: int
    digest: bytes


def write_snapshot(directory: Path, cluster_id: ClusterId, snapshot: Snapshot) -> None:
    """Store `snapshot`; durable, under its name, when this returns. Raises `OSError`."""
    meta = snapshot.meta
    path = directory / str(SnapshotName(meta.index, meta.term))
    header = _Header(cluster_id, meta, len(snapshot.data), _digest(snapshot.data))
    sealed = seal(codec.encode(header))
    aside = path.with_name(f"{path.name}.tmp")
    try:
        with aside.open("wb", buffering=0) as file:
            file.write(_LENGTH.pack(len(sealed)) + sealed)
            state = memoryview(snapshot.data)
            for offset in range(0, len(state), SLICE_BYTES):
                _write_all(file.fileno(), state[offset : offset + SLICE_BYTES])
                sync_data(file.fileno())
            sync_file(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)  # half a snapshot only takes the room that was wanting
        raise
    aside.rename(path)
    sync_directory(directory)


def read_snapshot(directory: Path, cluster_id: ClusterId | None, name: SnapshotName) -> Snapshot:
    """The snapshot of that name; raises `Corrupt` if missing, damaged or another cluster's."""
    path = directory / str(name)
    try:
        data = path.read_bytes()
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        header = codec.decode(unseal(data[_LENGTH.size : end]), _Header)
    except (OSError, struct.error, Corrupt, codec.Undecodable) as error:
        raise Corrupt(f"{name} is unreadable: {error}", where=str(path)) from error
    state = data[end:]
    if (header.size, header.digest) != (len(state), _digest(state)):
        raise Corrupt(f"{name} is damaged: its checksum does not fit", where=str(path))
    if (header.meta.index, header.meta.term) != (name.index, name.term):
        found = f"index {header.meta.index} of term {header.meta.term}"
        raise Corrupt(f"{name} holds another snapshot: {found}", where=str(path))
    if cluster_id is not None and header.cluster_id != cluster_id:
        raise Corrupt(f"{name} belongs to cluster {header.cluster_id}", where=str(path))
    return Snapshot(header.meta, state)


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


def remove_unfinished(directory: Path, *, newest: Index) -> None:
    """Remove what a crash left behind: files half written, or written but never adopted."""
    for path in directory.glob("snapshot-*.tmp"):
        path.unlink()
    for name in list_snapshots(directory):
        if name.index > newest:
            (directory / str(name)).unlink()


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
