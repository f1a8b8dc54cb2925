"""Sending snapshots to peers that lag behind the log: a file, in chunks, at a limited rate.

What travels is the newest stored file, as it is, read from an open descriptor: nothing is encoded
for the peer, and no more of it is in memory than the chunks under way. The receiver says from where
it wants it, so a lost connection costs what was under way and no more. A file whose transfer broke
off is kept open for the next one to the same peer, as long as the log still reaches it.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from attrs import define

from meshswarm.cluster import wire
from meshswarm.cluster.journal import Journal
from meshswarm.cluster.snapshots import SnapshotName, Stored, check_open_snapshot
from meshswarm.errors import Conflict, Corrupt, MeshswarmError, Unavailable
from meshswarm.ids import NodeId
from meshswarm.mesh.requests import Reply
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot
from meshswarm.raft.types import Snapshot

log = logging.getLogger("meshswarm.raft")

T = TypeVar("T")
Call = Callable[[NodeId, str, object, Sequence[bytes], float], Awaitable[Reply]]
"""A call to another manager on the bulk lane: peer, method, body, payloads, timeout in seconds."""

CHUNK_BYTES = 256 << 10
CHUNKS_UNDER_WAY = 4
"""Sent to one peer without its answer; what a long line holds, and what a stopped one costs."""

ANSWER_S = 10.0
"""How long the peer may take for one answer: a sync of a slow disk, or a share of its check."""

GIVE_UP_S = 30.0
"""Without any progress for so long a transfer ends; the core asks anew once the peer answers."""

MAX_RESTARTS = 3
"""How often the peer may ask for the whole file again, because what arrived was damaged."""

RETRY_S, RETRY_S_MAX = 0.05, 1.0
"""The pause after a failed call, doubled each time."""


class Pace:
    """Lets so many bytes a second through, for all peers together."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Return when `size` bytes may go."""
        now = asyncio.get_running_loop().time()
        due = max(self._free_at, now)
        self._free_at = due + size / self._bytes_per_s
        await asyncio.sleep(due - now)


@define(eq=False)
class Outgoing:
    """A snapshot file that is being sent to one peer."""

    stored: Stored
    descriptor: int

    def read(self, offset: int) -> bytes:
        """The chunk at `offset`."""
        data = os.pread(self.descriptor, CHUNK_BYTES, offset)
        if len(data) != min(CHUNK_BYTES, self.stored.size - offset):
            raise Corrupt(f"{self.stored.name} has become shorter: {len(data)} bytes at {offset}")
        return data

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)


class Sending:
    """Snapshots on their way to peers; one a peer, and a newer one replaces an older."""

    def __init__(
        self,
        core: RaftCore,
        journal: Journal,
        call: Call,
        bytes_per_s: int,
        *,
        pump: Callable[[], None],
        want_fresh: Callable[[], None],
    ) -> None:
        self._core = core
        self._journal = journal
        self._call = call
        self._pump = pump
        self._want_fresh = want_fresh
        self._pace = Pace(bytes_per_s)
        self._reader = ThreadPoolExecutor(1, "snapshots-out")
        self._files: dict[NodeId, Outgoing] = {}
        self._transfers: dict[NodeId, asyncio.Task[None]] = {}

    # --- what the core asks for -----------------------------------------------------------------

    async def supply(self, peer: NodeId) -> None:
        """Give the core the snapshot that `peer` needs; it then hands out the message to send."""
        try:
            file = await self._file_for(peer)
            while not self._reaches_log(file):  # compacted while the file was checked
                file = await self._file_for(peer)
        except (Corrupt, OSError) as error:
            log.error("no snapshot can be sent to %s: %s", peer, error)
            self._want_fresh()
            self._core.snapshot_sent(peer, ok=False)
        else:
            self._core.send_snapshot(peer, Snapshot(file.stored.meta, file.stored.digest))
        self._pump()

    async def _file_for(self, peer: NodeId) -> Outgoing:
        """The file that a transfer to `peer` broke off with, or else the newest one."""
        kept = self._files.get(peer)
        if kept is not None:
            if self._reaches_log(kept):
                return kept
            self._forget(peer)
        file = await self._in_thread(self._open_newest)
        self._forget(peer)
        self._files[peer] = file
        return file

    def _reaches_log(self, file: Outgoing) -> bool:
        return file.stored.meta.index + 1 >= self._core.status().first_index

    def _open_newest(self) -> Outgoing:
        while (name := self._journal.newest_snapshot) is not None:
            try:
                return self._open(name)
            except FileNotFoundError:
                if name == self._journal.newest_snapshot:
                    raise
        raise Corrupt("the log was compacted, but there is no snapshot")

    def _open(self, name: SnapshotName) -> Outgoing:
        path = self._journal.directory / str(name)
        with path.open("rb", buffering=0) as file:
            stored = check_open_snapshot(file, path, None, name)
            return Outgoing(stored, os.dup(file.fileno()))

    def _forget(self, peer: NodeId) -> None:
        file = self._files.pop(peer, None)
        if file is not None:
            self._reader.submit(file.close)  # behind what still reads it

    def forget_outdated(self) -> None:
        """Give back the files that the log no longer reaches, and all when not leading."""
        status = self._core.status()
        for peer, file in list(self._files.items()):
            is_useful = self._reaches_log(file) and status.leader == status.id
            if peer not in self._transfers and not is_useful:
                self._forget(peer)

    def close(self) -> None:
        """Give everything back; the tasks must have ended."""
        for peer in list(self._files):
            self._forget(peer)
        self._reader.shutdown(wait=False)

    # --- transfers ------------------------------------------------------------------------------

    def send(self, message: InstallSnapshot, tasks: asyncio.TaskGroup) -> None:
        """Begin the transfer that `message` announces, in place of any earlier one to that peer."""
        before = self._transfers.get(message.to)
        if before is not None:
            before.cancel()
        task = tasks.create_task(self._transfer(message, tasks), name=f"snapshot to {message.to}")
        self._transfers[message.to] = task
        task.add_done_callback(partial(self._ended, message.to))

    def _ended(self, peer: NodeId, task: "asyncio.Task[None]") -> None:
        if self._transfers.get(peer) is task:
            del self._transfers[peer]

    async def _transfer(self, message: InstallSnapshot, tasks: asyncio.TaskGroup) -> None:
        """Send the whole of it and tell the core how that ended, unless it stopped waiting."""
        peer, meta = message.to, message.snapshot.meta
        file = self._files.get(peer)
        if file is None or file.stored.digest != message.snapshot.data:
            self._core.snapshot_sent(peer, ok=False)  # it was given back meanwhile
            self._pump()
            return
        log.info("sending a snapshot to=%s index=%d bytes=%d", peer, meta.index, file.stored.size)
        is_done = False
        try:
            arrived = is_done = await _Transfer(self, file, message, tasks).run()
        except (MeshswarmError, OSError) as error:
            log.warning("a snapshot did not reach %s: %s", peer, error)
            arrived, is_done = False, isinstance(error, Corrupt | OSError)
            await asyncio.sleep(RETRY_S_MAX)  # the core asks for the next at once
        if self._files.get(peer) is file and is_done:
            self._forget(peer)
        if self._core.awaits_snapshot(peer, meta.index):
            self._core.snapshot_sent(peer, ok=arrived)
            self._pump()

    async def read(self, file: Outgoing, offset: int) -> bytes:
        """A chunk, once the pace allows it."""
        data = await self._in_thread(partial(file.read, offset))
        await self._pace.take(len(data))
        return data

    async def ask(
        self, message: InstallSnapshot, method: str, body: object, payloads: Sequence[bytes]
    ) -> wire.SnapshotAnswer:
        """One call to the receiver of `message`."""
        reply = await self._call(message.to, method, body, payloads, ANSWER_S)
        return wire.SnapshotAnswer.unpacked(reply.body)

    def is_wanted(self, message: InstallSnapshot) -> bool:
        """Whether the core still waits for this transfer."""
        return self._core.awaits_snapshot(message.to, message.snapshot.meta.index)

    def moved(self, message: InstallSnapshot) -> None:
        """The peer has more of it than before."""
        self._core.snapshot_moved(message.to)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)


class _Transfer:
    """One file to one peer, from wherever the peer wants it to its end."""

    def __init__(
        self,
        sending: Sending,
        file: Outgoing,
        message: InstallSnapshot,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._sending = sending
        self._file = file
        self._message = message
        self._tasks = tasks
        self._reached = -1
        self._restarts = 0

    async def run(self) -> bool:
        """Whether the peer has it; False if nobody waits for it any more.

        Raises `MeshswarmError` when the peer cannot be reached for long, or refuses it for good.
        """
        now = asyncio.get_running_loop().time
        moved_at, pause = now(), RETRY_S
        while self._sending.is_wanted(self._message):
            reached = self._reached
            try:
                if await self._offer_and_send():
                    return True
            except (Unavailable, Conflict) as error:
                if now() - moved_at >= GIVE_UP_S:
                    raise
                log.debug("the snapshot to %s halts: %s", self._message.to, error)
            if self._reached != reached:
                moved_at, pause = now(), RETRY_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_S_MAX)
        return False

    async def _offer_and_send(self) -> bool:
        """Ask from where the peer wants it, and send from there; whether it has all of it."""
        body, payloads = wire.pack_offer(self._message, self._file.stored.size)
        answer = await self._sending.ask(self._message, wire.SNAPSHOT, body, payloads)
        self._note(answer)
        while answer.state is wire.SnapshotState.WANTED and answer.offset < self._file.stored.size:
            answer = await self._send_from(answer.offset)
        return answer.state is wire.SnapshotState.TAKEN

    async def _send_from(self, offset: int) -> wire.SnapshotAnswer:
        """Stream chunks until the end, or until the peer wants them from elsewhere."""
        size = self._file.stored.size
        under_way: deque[tuple[int, asyncio.Task[wire.SnapshotAnswer | MeshswarmError]]] = deque()
        try:
            while True:
                while offset < size and len(under_way) < CHUNKS_UNDER_WAY:
                    data = await self._sending.read(self._file, offset)
                    task = self._tasks.create_task(self._chunk(offset, data), name="snapshot chunk")
                    offset += len(data)
                    under_way.append((offset, task))
                expected, task = under_way.popleft()
                answer = await task
                if isinstance(answer, MeshswarmError):
                    raise answer
                self._note(answer)
                is_amiss = answer.state is wire.SnapshotState.WANTED and answer.offset < expected
                if is_amiss or (not under_way and offset >= size):
                    return answer
        finally:
            for _, task in under_way:
                task.cancel()

    async def _chunk(self, offset: int, data: bytes) -> wire.SnapshotAnswer | MeshswarmError:
        """One chunk's answer; an error is a value here, for it must not end the node's tasks."""
        meta, digest = self._file.stored.meta, self._file.stored.digest
        body, payloads = wire.pack_chunk(
            wire.SnapshotChunk(meta.index, meta.term, digest, offset, data)
        )
        try:
            return await self._sending.ask(self._message, wire.SNAPSHOT_CHUNK, body, payloads)
        except MeshswarmError as error:
            return error

    def _note(self, answer: wire.SnapshotAnswer) -> None:
        """Tell the core that it gets on; raises `Unavailable` if it keeps beginning anew."""
        if answer.state is not wire.SnapshotState.WANTED or answer.offset > self._reached:
            self._sending.moved(self._message)
        elif answer.offset == 0 and self._reached > 0:
            self._restarts += 1
            if self._restarts >= MAX_RESTARTS:
                raise Corrupt(f"{self._file.stored.name} arrived damaged {self._restarts} times")
        self._reached = answer.offset
