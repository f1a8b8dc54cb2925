"""Receiving a snapshot from the leader: into a file aside, checked as a whole, then installed.

Chunks go to disk as they come; what is lost, repeated, out of order or of another snapshot changes
nothing, for each answer says which byte is wanted next. The state in use stays untouched until the
whole file fits its checksum and every row of it could be read. What arrived outlives a restart.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from meshswarm.cluster.journal_mark import sync_data, sync_file
from meshswarm.cluster.snapshots import (
    SYNC_BYTES,
    Stored,
    check_snapshot,
    here_to_stay,
    read_slices,
    remove_parts,
    unhurried,
)
from meshswarm.cluster.wire import SnapshotAnswer, SnapshotChunk, SnapshotState
from meshswarm.codec import Undecodable
from meshswarm.errors import Conflict, Corrupt, Unavailable
from meshswarm.ids import ClusterId
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot
from meshswarm.store.slices import view_of_slices
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.raft")

T = TypeVar("T")
Install = Callable[[InstallSnapshot, Stored | None, View | None], None]
"""Steps the message; the state is None if the core does not want it."""

ANSWER_S = 1.0
"""How long the last chunk's answer waits for the check, which is mostly done by then."""

MAX_WAITING = 32
"""Chunks that wait for the disk; more is refused as busy. The sender keeps far below."""

DECODING_SHARE = 0.5
"""Of one core's time, what reading an arrived snapshot may take."""


class Incoming:
    """A file that arrives. All of it runs in the receiving thread, but for reading `received`."""

    def __init__(self, directory: Path, stored: Stored) -> None:
        self.stored = stored
        self.path = directory / stored.part
        self.received = 0
        self.is_abandoned = False
        self._descriptor = -1
        self._unsynced = 0

    def open(self) -> None:
        """Go on with what is there of it, and of it alone."""
        remove_parts(self.path.parent, but=self.path.name)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        there = os.fstat(self._descriptor).st_size
        if there > self.stored.size:
            os.ftruncate(self._descriptor, 0)
            there = 0
        self.received = there

    def take(self, offset: int, data: bytes) -> None:
        """Write what goes on from where it ends; anything else is not what is wanted now."""
        if offset != self.received or self.is_abandoned:
            return
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], offset + written)
        self._unsynced += written
        if self._unsynced >= SYNC_BYTES:
            sync_data(self._descriptor)
            self._unsynced = 0
        self.received += written

    def checked(self, cluster_id: ClusterId) -> View:
        """The state, once the whole file is durable and proven sound; raises `Corrupt`."""
        sync_file(self._descriptor)
        found = check_snapshot(self.path, cluster_id, self.stored.name)
        if found != self.stored:
            raise Corrupt(f"{self.stored.name} is another snapshot than was offered")
        slices = read_slices(self.path, self.stored.name)
        try:
            view = view_of_slices(unhurried(self._until_abandoned(slices), DECODING_SHARE))
        except Undecodable as error:
            raise Corrupt(f"{self.stored.name} is no state: {error.message}") from error
        if (view.index, view.term) != (self.stored.meta.index, self.stored.meta.term):
            raise Corrupt(f"{self.stored.name} holds the state at {view.index}, {view.term}")
        return view

    def _until_abandoned(self, slices: Iterator[bytes]) -> Iterator[bytes]:
        for part in here_to_stay(slices):
            if self.is_abandoned:
                raise Corrupt(f"{self.stored.name} was given up for another one")
            yield part

    def close(self, *, remove: bool) -> None:
        """Close the file; with `remove`, forget what arrived."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if remove:
            self.path.unlink(missing_ok=True)


class Receiving:
    """The receiving side of one manager; one snapshot at a time, whoever sends it."""

    def __init__(
        self,
        core: RaftCore,
        directory: Path,
        cluster_id: ClusterId,
        *,
        install: Install,
        has_room: Callable[[int], bool],
    ) -> None:
        self._core = core
        self._directory = directory
        self._cluster_id = cluster_id
        self._install = install
        self._has_room = has_room
        self._thread = ThreadPoolExecutor(1, "snapshots-in")
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._incoming: Incoming | None = None
        self._message: InstallSnapshot | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def offer(
        self, message: InstallSnapshot, size: int, tasks: asyncio.TaskGroup
    ) -> SnapshotAnswer:
        """Say from where the snapshot is wanted, if it is. Raises `Unavailable` without room."""
        async with self._turn:
            if not self._core.wants_snapshot(message):
                self._install(message, None, None)
                return SnapshotAnswer(SnapshotState.TAKEN, size)
            stored = Stored(message.snapshot.meta, size, message.snapshot.data)
            if self._incoming is None or self._incoming.stored != stored:
                await self._begin(stored)
            self._message = message
        return await self._progress(tasks)

    async def take(self, chunk: SnapshotChunk, tasks: asyncio.TaskGroup) -> SnapshotAnswer:
        """Take a piece in, if it is the one that is wanted; what is wanted next.

        Raises `Conflict` if it is of another snapshot, `Unavailable` if the disk is behind or full.
        """
        if self._waiting >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} pieces of a snapshot wait for the disk")
        self._waiting += 1
        try:
            async with self._turn:
                incoming = self._incoming
                if incoming is None or not _is_of(chunk, incoming.stored):
                    raise Conflict(f"snapshot {chunk.index} is not the one that is arriving")
                if chunk.offset + len(chunk.data) <= incoming.stored.size:
                    await self._write(incoming, chunk)
        finally:
            self._waiting -= 1
        return await self._progress(tasks)

    async def _begin(self, stored: Stored) -> None:
        """Turn to another snapshot; what arrived of the one before is dropped."""
        await self._drop()
        if not self._has_room(stored.size):
            raise Unavailable(f"the disk has no room for a snapshot of {stored.size} bytes")
        # Ours before it is open: the call that waits for this may be cancelled, the thread goes on.
        self._incoming = incoming = Incoming(self._directory, stored)
        try:
            await self._in_thread(incoming.open)
        except OSError as error:
            await self._drop()
            raise Unavailable(f"the disk refused a snapshot: {error}") from error
        log.info(
            "receiving a snapshot index=%d bytes=%d from=%d",
            stored.meta.index,
            stored.size,
            incoming.received,
        )

    async def _write(self, incoming: Incoming, chunk: SnapshotChunk) -> None:
        try:
            await self._in_thread(partial(incoming.take, chunk.offset, chunk.data))
        except OSError as error:
            # After a failed write or sync nothing that arrived can be trusted.
            await self._drop()
            raise Unavailable(f"the disk refused a snapshot: {error}") from error

    async def _progress(self, tasks: asyncio.TaskGroup) -> SnapshotAnswer:
        """What is wanted next; with all of it there, see to it that it is checked and installed."""
        incoming = self._incoming
        if incoming is None:
            return SnapshotAnswer(SnapshotState.WANTED, 0)
        size = incoming.stored.size
        if incoming.received < size:
            return SnapshotAnswer(SnapshotState.WANTED, incoming.received)
        if self._finishing is None:
            self._finishing = tasks.create_task(self._finish(incoming), name="snapshot check")
        await asyncio.wait([self._finishing], timeout=ANSWER_S)
        if self._incoming is incoming:
            return SnapshotAnswer(SnapshotState.CHECKING, size)
        message = self._message
        is_taken = message is not None and not self._core.wants_snapshot(message)
        return SnapshotAnswer(
            SnapshotState.TAKEN if is_taken else SnapshotState.WANTED, size if is_taken else 0
        )

    async def _finish(self, incoming: Incoming) -> None:
        """Check what arrived and give it to the core; what is damaged is dropped."""
        try:
            view = await self._in_thread(partial(incoming.checked, self._cluster_id))
        except (Corrupt, OSError) as error:
            log.warning("what arrived of a snapshot is of no use: %s", error)
            if self._incoming is incoming:
                await self._drop()
            return
        finally:
            self._finishing = None
        if self._incoming is incoming:
            self._incoming = None
            await self._in_thread(partial(incoming.close, remove=False))
            assert self._message is not None, "a snapshot arrived that nobody offered"
            self._install(self._message, incoming.stored, view)

    async def _drop(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.is_abandoned = True
            await self._in_thread(partial(incoming.close, remove=True))

    def discard(self, stored: Stored) -> None:
        """Remove a file that the core did not take after all."""
        path = self._directory / stored.part
        self._thread.submit(partial(path.unlink, missing_ok=True))

    def close(self) -> None:
        """Keep what arrived for the next start; the tasks must have ended."""
        if self._incoming is not None:
            self._incoming.is_abandoned = True
            self._thread.submit(partial(self._incoming.close, remove=False))
        self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _is_of(chunk: SnapshotChunk, stored: Stored) -> bool:
    meta = stored.meta
    return (chunk.index, chunk.term, chunk.digest) == (meta.index, meta.term, stored.digest)
