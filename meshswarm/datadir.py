"""A node's data directory: one process at a time has it, and one node of one cluster for ever.

The claim is an `flock`, so it ends with the process however that ends. The incarnation, a number
that grows with every start, is stored here: by it the others tell this process from earlier ones.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import Self

from attrs import frozen

from meshswarm import codec
from meshswarm.errors import Conflict, Corrupt, Unavailable
from meshswarm.ids import ClusterId, NodeId


@frozen(kw_only=True)
class Owner:
    """What the directory says of itself."""

    cluster_id: ClusterId
    node_id: NodeId
    incarnation: int
    """Milliseconds of the last start, or one more than the start before, whichever is larger."""


class DataDir:
    """A claimed data directory; use it as a context manager."""

    def __init__(self, path: Path, lock: int, incarnation: int) -> None:
        self.path = path
        self.incarnation = incarnation
        self._lock = lock

    @staticmethod
    def claim(path: Path, cluster_id: ClusterId, node_id: NodeId) -> "DataDir":
        """Take the directory, making it if need be.

        :raises Conflict: if another process has it, or it belongs to another node or cluster.
        :raises Corrupt: if what it says of itself cannot be read.
        :raises Unavailable: if it cannot be made or written.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"the data directory cannot be used: {error.strerror}",
                where=str(path),
                hint="set [node] data_dir to a directory that this user may write",
            ) from error
        try:
            _lock(lock, path)
            incarnation = _take_over(path / "owner", cluster_id, node_id)
        except OSError as error:
            os.close(lock)
            raise Unavailable(
                f"the data directory cannot be written: {error.strerror}",
                where=str(path),
                hint="free space on that disk, then start the node again",
            ) from error
        except BaseException:
            os.close(lock)
            raise
        return DataDir(path, lock, incarnation)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)


def _lock(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        raise Conflict(
            f"the data directory is in use by process {holder or 'unknown'}",
            where=str(path),
            hint="stop that process first, or give this node a data_dir of its own",
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _take_over(file: Path, cluster_id: ClusterId, node_id: NodeId) -> int:
    """Check whose directory it is, and note the new incarnation durably before it is used."""
    present = _read(file)
    if present is not None and present.cluster_id != cluster_id:
        raise Conflict(
            f"the data directory belongs to cluster {present.cluster_id}, not {cluster_id}",
            where=str(file.parent),
            hint="set [node] data_dir to another directory, or remove this one if it is not needed",
        )
    if present is not None and present.node_id != node_id:
        raise Conflict(
            f"the data directory belongs to node {present.node_id}, not {node_id}",
            where=str(file.parent),
            hint="each node needs a data_dir and a key of its own",
        )
    incarnation = max(time.time_ns() // 1_000_000, present.incarnation + 1 if present else 0)
    owner = Owner(cluster_id=cluster_id, node_id=node_id, incarnation=incarnation)
    aside = file.with_suffix(".new")
    with aside.open("wb") as out:
        out.write(codec.encode(owner))
        out.flush()
        os.fsync(out.fileno())
    aside.rename(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return incarnation


def _read(file: Path) -> Owner | None:
    try:
        return codec.decode(file.read_bytes(), Owner)
    except FileNotFoundError:
        return None
    except codec.Undecodable as error:
        raise Corrupt(
            "the file that says whose data directory this is cannot be read",
            where=str(file),
            hint="if the directory is this node's own, remove the file and start again",
        ) from error
