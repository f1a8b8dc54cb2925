"""A manager's durable log: queued writes become durable in groups, with one sync for each group.

*Invariants:* writes become durable in the order they come in, and are acknowledged in that order,
after their sync; term, vote, commit index and log change together; after an error nothing is
written any more, since a sync that failed once proves nothing when it succeeds later, and the
manager must stop; only a disk without room is waited for (`journal_disk`). Two threads, each in an
executor of its own: the writer works on the files, the other writes snapshots aside. Everything
public is called on the event loop.

A small write for which nothing has to wait is made by the event loop itself (`write_at_once`), as
long as the disk is quick: to wake a thread and to be woken by it took longer than the sync.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen

from meshswarm.cluster.journal_disk import DiskWatch, free_bytes, is_full
from meshswarm.cluster.journal_files import JournalFiles, JournalWrite
from meshswarm.cluster.journal_records import Head
from meshswarm.cluster.journal_recovery import Damage, Opened, Recovered, open_directory
from meshswarm.cluster.journal_segments import Log, log_bytes
from meshswarm.cluster.snapshots import (
    SnapshotName,
    Stored,
    prune_snapshots,
    unhurried,
    write_snapshot,
)
from meshswarm.errors import Corrupt, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId
from meshswarm.raft.types import ConfState, Entry, SnapshotMeta

__all__ = ["Damage", "Journal", "JournalWrite", "Recovered"]

log = logging.getLogger("meshswarm.journal")

T = TypeVar("T")

MAX_QUEUED_BYTES = 256 << 20
"""Waiting to be written; more is refused, which ends the node as a failed disk does: what a `Ready`
wants written cannot be left out. Raft's own limits keep it far below."""

MIN_FREE_BYTES = 256 << 20
"""Free space below which proposals are to be refused, while there is room for what is under way."""

SNAPSHOT_SHARE = 0.5
"""Of one core's time, what writing a snapshot may take."""

AT_ONCE_BYTES = 8 << 10
"""The largest write for which the event loop waits."""


@frozen
class _Queued:
    write: JournalWrite
    done: Callable[[], None]
    size: int


class Journal:
    """An open journal; made by `open`, ended by `close`."""

    def __init__(
        self,
        directory: Path,
        opened: Opened,
        cluster_id: ClusterId,
        free_bytes: Callable[[Path], int],
        min_free_bytes: int,
    ) -> None:
        self._directory = directory
        self._lock_descriptor = opened.lock
        self._cluster_id = cluster_id
        self.disk = DiskWatch(directory, min_free_bytes, free_bytes)
        self._failure: BaseException | None = None
        self._saving = self._tidying = False
        self._closed = False
        self._unacknowledged = 0
        self._writer = ThreadPoolExecutor(1, "journal")
        self._archivist = ThreadPoolExecutor(1, "journal-snapshots")
        self._turn = threading.Lock()
        # Of whoever has the turn.
        self._files = JournalFiles(directory, opened)
        self._log = self._files.log
        # Shared under the lock.
        self._shared = threading.Lock()
        self._queue: list[_Queued] = []
        self._queued_bytes = 0
        self._is_draining = False
        self._commits = 0

    @staticmethod
    def open(
        directory: Path,
        *,
        cluster_id: ClusterId,
        node_id: NodeId,
        initial_conf: ConfState,
        min_free_bytes: int = MIN_FREE_BYTES,
        free_bytes: Callable[[Path], int] = free_bytes,
        reserved_bytes: int = 0,
    ) -> tuple["Journal", Recovered]:
        """This node's journal, and what it held; the directory is made if there is none.

        Blocks while it reads and checks everything. `initial_conf` counts for a new directory only.
        `reserved_bytes` of the disk are taken for commits beforehand, if it has them.
        Raises `Conflict` if the directory is in use, another node's, or of another format;
        `Corrupt` if the disk refuses. Damaged records raise nothing: see `Recovered.damage`.
        """
        try:
            opened, recovered = open_directory(directory, cluster_id, node_id, initial_conf)
            _reserve(opened.log, reserved_bytes)
        except OSError as error:
            raise _translated(error, directory) from error
        journal = Journal(directory, opened, cluster_id, free_bytes, min_free_bytes)
        return journal, recovered

    # --- writing --------------------------------------------------------------------------------

    def submit(self, write: JournalWrite, done: Callable[[], None]) -> None:
        """Queue `write`; `done` is called on this event loop once it is durable.

        Raises the failure that stopped the journal, or `Unavailable` if the queue is full; nothing
        is queued then.
        """
        self.raise_if_failed()
        assert not self._closed, f"write {write.token} to a closed journal"
        size = write.size
        with self._shared:
            if self._queued_bytes + size > MAX_QUEUED_BYTES:
                raise Unavailable(
                    f"the disk is behind: {self._queued_bytes} bytes wait for it, "
                    f"the limit is {MAX_QUEUED_BYTES}",
                    where=str(self._directory),
                )
            self._unacknowledged += 1
            self._queue.append(_Queued(write, done, size))
            self._queued_bytes += size
            if self._is_draining:
                return
            self._is_draining = True
        self._drain_soon(asyncio.get_running_loop())

    def _drain_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writer.submit(self._drain, loop).add_done_callback(self._note_end)

    def write_at_once(
        self,
        write: JournalWrite,
        done: Callable[[], None],
        meanwhile: Callable[[], None] | None = None,
    ) -> bool:
        """Make `write` durable and call `done` before this returns, if that will be soon: it is
        small, nothing else waits or is being done, and the disk was quick of late.

        `meanwhile` is called while the disk is at it. False: nothing was done, but `meanwhile` may
        have been called.

        A disk that stalls now stalls the event loop. The node is silent then, as with any stuck
        loop: others elect, and this one gives leadership away afterwards (`abdication`). For long
        the loop waits for such a disk no more. Raises the failure that stopped the journal.
        """
        self.raise_if_failed()
        assert not self._closed, f"write {write.token} to a closed journal"
        size = write.size
        small = write.snapshot is None and size <= AT_ONCE_BYTES
        if not small or not self.disk.pace.is_quick or self._unacknowledged:
            return False
        if not self._turn.acquire(blocking=False):
            return False
        try:
            with self.disk.working:
                return self._log.fits(size) and self._written(write, done, meanwhile)
        finally:
            self._turn.release()

    def _written(
        self,
        write: JournalWrite,
        done: Callable[[], None],
        meanwhile: Callable[[], None] | None,
    ) -> bool:
        """Whether it is; False if there is no room, for which only the writer may wait."""
        try:
            self._files.commit([write], meanwhile)
        except OSError as error:
            if is_full(error):
                return False
            raise self._fail(error) from error
        done()  # first: the mark may be behind, and others wait for what this tells them
        self._note_commit()
        self._mark_at_once()
        return True

    def _mark_at_once(self) -> None:
        try:
            self._files.mark()
        except OSError as error:
            if not is_full(error):
                raise self._fail(error) from error
            self._writer.submit(self._mark_later).add_done_callback(self._note_end)

    def _mark_later(self) -> None:
        with self._turn, self.disk.working:
            self._mark()

    def _note_commit(self) -> None:
        self.disk.committed(self._log.sync_ms)
        self._commits += 1

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._failure is not None:
            return
        with self._turn, self.disk.working:
            self._write_group(loop)
        with self._shared:
            self._is_draining = bool(self._queue)
        if self._is_draining:
            self._drain_soon(loop)  # behind whatever else waits for this thread

    def _write_group(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write all that waits as one group; what comes meanwhile is the next group."""
        with self._shared:
            group, self._queue, self._queued_bytes = self._queue, [], 0
        if group:
            writes = [queued.write for queued in group]
            self.disk.until_it_fits(partial(self._files.commit, writes))
            self._mark()
            self._note_commit()
            loop.call_soon_threadsafe(self._tell, group)
            self._tidy_up(group)

    def _tell(self, group: list[_Queued]) -> None:
        """On the event loop: the group is durable."""
        self._unacknowledged -= len(group)
        for queued in group:
            queued.done()

    def _tidy_up(self, group: list[_Queued]) -> None:
        """What can wait until the group is acknowledged: old snapshots, segments of the log."""
        # Not here: to remove a large file takes a while, and commits wait for this thread.
        if any(queued.write.snapshot for queued in group):
            self._archivist.submit(self._prune_snapshots).add_done_callback(self._note_end)
        if self._log.is_untidy and not self._tidying:
            self._tidying = True
            self._archivist.submit(self._tidy_log).add_done_callback(self._note_end)

    def _tidy_log(self) -> None:
        """Make room, and spare segments; where the disk has none, commits lengthen files."""
        try:
            self._log.tidy()
        except OSError as error:
            if not is_full(error):
                raise
        finally:
            self._tidying = False

    def _mark(self) -> None:
        self.disk.until_it_fits(self._files.mark)

    async def mark_damaged(self, what: str) -> None:
        """Note durably that entries are missing: the node does not vote after a restart either."""
        await self._in_writer(partial(self._write_damage, what))

    async def mark_healed(self) -> None:
        """Note durably that nothing is missing any more: the node may vote after a restart too."""
        await self._in_writer(partial(self._write_damage, ""))

    def _write_damage(self, what: str) -> None:
        self._write_head(evolve(self._files.head, damage=what))

    def _write_head(self, head: Head) -> None:
        self.disk.until_it_fits(partial(self._files.replace_head, head))
        self._mark()

    # --- snapshots ------------------------------------------------------------------------------

    async def save_snapshot(
        self, meta: SnapshotMeta, slices: Iterable[bytes], *, keep: int
    ) -> Stored:
        """Store this node's own state, then drop the entries more than `keep` behind it.

        `slices` is run through in a thread of its own, slowly. Returns when all of it is done;
        commits go on meanwhile. Raises `Unavailable` while another is being saved or if there is
        no room for it, or the failure that stopped the journal.
        """
        self.raise_if_failed()
        if self._saving:
            raise Unavailable("another snapshot is being saved")
        self._saving = True
        try:
            slowly = unhurried(self._until_closed(slices), SNAPSHOT_SHARE)
            stored = await self._in(self._archivist, partial(self._write_aside, meta, slowly))
            await self._in_writer(partial(self._adopt, meta, keep))
            await self._in(self._archivist, self._prune_snapshots)
            await self._in(self._archivist, self._tidy_log)
        finally:
            self._saving = False
        return stored

    def _until_closed(self, slices: Iterable[bytes]) -> Iterator[bytes]:
        """The slices; an unfinished snapshot must not hold up the end of the node."""
        for part in slices:
            if self._closed:
                raise Unavailable("the journal was closed while a snapshot was written")
            yield part

    @property
    def newest_snapshot(self) -> SnapshotName | None:
        """The snapshot that the log stands on."""
        head = self._files.head
        return (
            SnapshotName(head.snapshot_index, head.snapshot_term) if head.snapshot_index else None
        )

    @property
    def directory(self) -> Path:
        """Where it lies; snapshots arrive there."""
        return self._directory

    def _write_aside(self, meta: SnapshotMeta, slices: Iterable[bytes]) -> Stored:
        try:
            return write_snapshot(self._directory, self._cluster_id, meta, slices)
        except OSError as error:
            if is_full(error):
                raise Unavailable("the disk has no room for a snapshot") from error
            raise

    def _adopt(self, meta: SnapshotMeta, keep: int) -> None:
        """Let the log stand on that snapshot and begin `keep` before its end, unless the leader's
        newer one came first."""
        if (head := self._files.stand_on(meta, keep)) != self._files.head:
            self._write_head(head)

    def _prune_snapshots(self) -> None:
        head = self._files.head
        prune_snapshots(self._directory, newest=head.snapshot_index, log_first=head.first_index)

    # --- reading --------------------------------------------------------------------------------

    async def read(self, first: Index, end: Index, max_bytes: int) -> list[Entry]:
        """The stored entries in [first, end), at least one if there is any, cut at `max_bytes`.

        Those that were compacted away are left out. Raises `Corrupt` at a damaged one.
        """
        self.raise_if_failed()
        return await self._in_writer(partial(self._log.read, first, end, max_bytes))

    def stats(self) -> dict[str, object]:
        """Counts and times for `status`: `*_ms` over the last 1,000 commits, None before any."""
        with self._shared:
            queued = self._queued_bytes
        sync_ms = self.disk.sync_ms.quantiles()
        return {
            "commits": self._commits,
            "fsync_p50_ms": sync_ms.p50,
            "fsync_p99_ms": sync_ms.p99,
            "queued_bytes": queued,
            "bytes": log_bytes(self._directory),
            "first_index": self._files.head.first_index,
            "last_index": self._files.head.last_index,
            "snapshot_index": self._files.head.snapshot_index,
            "incarnation": self._files.head.incarnation,
            "free_bytes": self.disk.free_bytes,
            "low_space": self.disk.low_space,
            "is_full": self.disk.is_full,
            "damage": self._files.head.damage or None,
            "last_error": str(self._failure) if self._failure else None,
        }

    # --- failing and closing --------------------------------------------------------------------

    def raise_if_failed(self) -> None:
        """Raise the error that stopped the journal, if one did; the manager must then stop."""
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Write what is queued, close the files, free the directory; calling it twice is fine."""
        if self._closed:
            return
        self._closed = True
        self.disk.give_up()
        await self._in(self._archivist, int)  # waits for a snapshot that is being written
        loop = asyncio.get_running_loop()
        try:
            await self._in(self._writer, partial(self._shut, loop))
            await self._in(self._archivist, int)  # what the writer left to it
        finally:
            self._writer.shutdown(wait=False)
            self._archivist.shutdown(wait=False)
            os.close(self._lock_descriptor)

    def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._failure is None:
            try:
                self._write_group(loop)
            except OSError as error:
                if not is_full(error):
                    raise
                log.warning("the disk is full: what was not acknowledged is not kept")
        self._files.close()

    async def _in_writer(self, job: Callable[[], T]) -> T:
        def unless_failed() -> T:
            # Checked in the thread: the failure may be that of the job just before.
            with self._turn, self.disk.working:
                self.raise_if_failed()
                return job()

        return await self._in(self._writer, unless_failed)

    async def _in(self, executor: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, job)
        except OSError as error:
            raise self._fail(error) from error

    def _note_end(self, drained: "Future[None]") -> None:
        if (error := drained.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> BaseException:
        """The first error counts; nothing is written after it."""
        if self._failure is None:
            self._failure = _translated(error, self._directory)
        return self._failure


def _reserve(segments: Log, size: int) -> None:
    try:
        segments.reserve(size)
    except OSError as error:
        if not is_full(error):
            raise
        log.warning("the disk has no room for %d bytes that commits would be quicker with", size)


def _translated(error: BaseException, directory: Path) -> BaseException:
    """The system's error as ours; a mistake of our own stays what it is."""
    if not isinstance(error, OSError):
        return error
    return Corrupt(
        f"the disk refused the journal: {error}",
        where=str(directory),
        hint="free space there, then start the node again"
        if is_full(error)
        else "see the kernel's log for errors of this disk (`dmesg`), then start the node again",
    )
