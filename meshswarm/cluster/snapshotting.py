"""A manager's snapshots: when one is taken, and the two ends of sending one to a peer that lags."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator

from meshswarm.cluster.hub import Hub
from meshswarm.cluster.journal import Journal
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.cluster.snapshot_receiving import Install, Receiving
from meshswarm.cluster.snapshot_sending import Call, Sending
from meshswarm.cluster.snapshots import Stored
from meshswarm.cluster.wire import SnapshotAnswer, SnapshotChunk
from meshswarm.errors import Unavailable
from meshswarm.ids import ClusterId, Index, NodeId
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot
from meshswarm.store.slices import view_slices
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.raft")

LOG_PER_STATE = 4
"""A snapshot waits until the log since the last one is so many times as large as the state, for
writing it costs in proportion to the state (thesis section 5.1.2) ..."""

LOG_BYTES = 16 << 20
STATE_PER_LOG = 4
"""... but no longer than until the log takes so much, however few entries it has, or a quarter of
the state: both are in memory."""

TRAILING_BYTES = 16 << 20
"""The most that is kept behind a snapshot, however few entries that are."""

RETRY_S = 10.0
"""The pause after the disk had no room for a snapshot."""


class Snapshots:
    """Takes, sends and receives them; what it tells the core, it tells on the loop."""

    def __init__(
        self,
        core: RaftCore,
        hub: Hub,
        journal: Journal,
        settings: ClusterSettings,
        call: Call,
        cluster_id: ClusterId,
        newest: Index,
        *,
        pump: Callable[[], None],
        install: Install,
    ) -> None:
        self._core = core
        self._hub = hub
        self._journal = journal
        self._settings = settings
        self._newest = newest
        self._state_bytes = 0
        self._is_due = asyncio.Event()
        self._pump = pump
        self._tasks: asyncio.TaskGroup | None = None
        self._sending = Sending(
            core,
            journal,
            call,
            settings.snapshot_bytes_per_s,
            pump=pump,
            want_fresh=self._is_due.set,
        )
        self._receiving = Receiving(
            core, journal.directory, cluster_id, install=install, has_room=journal.disk.has_room
        )

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Take a snapshot and compact whenever it is worth it; `tasks` hold the transfers."""
        self._tasks = tasks
        try:
            while True:
                await self._is_due.wait()
                try:
                    await self._take()
                except Unavailable as error:
                    log.warning("no snapshot was taken, the log grows: %s", error)
                    await asyncio.sleep(RETRY_S)
                self._is_due.clear()
        finally:
            self._tasks = None

    def close(self) -> None:
        """Give files and threads back, after the tasks have ended."""
        self._sending.close()
        self._receiving.close()

    # --- taking ---------------------------------------------------------------------------------

    def note_applied(self, index: Index) -> None:
        """The state is at `index` now: is a snapshot due?"""
        size = self._core.bytes_since(self._newest)
        if size >= max(LOG_BYTES, self._state_bytes // STATE_PER_LOG) or (
            index - self._newest >= self._settings.snapshot_entries
            and size >= LOG_PER_STATE * self._state_bytes
        ):
            self._is_due.set()

    async def _take(self) -> None:
        view, meta = self._hub.view, self._core.snapshot_meta()
        assert view.index == meta.index, f"the view is at {view.index}, the core at {meta.index}"
        keep = self._core.entries_within(
            meta.index, self._settings.trailing_entries, TRAILING_BYTES
        )
        await self._journal.save_snapshot(meta, self._counted(view), keep=keep)
        if meta.index > self._newest:
            self._newest = meta.index
            self._core.compact(meta, keep=keep)
        gc.freeze()  # Now and then what was written since: see `here_to_stay`.
        self._sending.forget_outdated()

    def _counted(self, view: View) -> Iterator[bytes]:
        size = 0
        for part in view_slices(view):
            size += len(part)
            yield part
        self._state_bytes = size

    # --- sending --------------------------------------------------------------------------------

    def supply(self, peer: NodeId) -> None:
        """Find the snapshot that the core wants to send to `peer`."""
        self._group.create_task(self._sending.supply(peer), name=f"snapshot for {peer}")

    def send(self, message: InstallSnapshot) -> None:
        """Begin to send a snapshot."""
        self._sending.send(message, self._group)

    def note_role(self) -> None:
        """Whoever does not lead sends nothing."""
        self._sending.forget_outdated()

    # --- receiving ------------------------------------------------------------------------------

    async def offered(self, message: InstallSnapshot, size: int) -> SnapshotAnswer:
        """A leader offers a snapshot. Raises `Unavailable` if it cannot be taken in now."""
        return await self._receiving.offer(message, size, self._group)

    async def take_chunk(self, chunk: SnapshotChunk) -> SnapshotAnswer:
        """A piece came. Raises `Conflict` or `Unavailable` if it cannot be taken in."""
        return await self._receiving.take(chunk, self._group)

    def installed(self, index: Index) -> None:
        """A leader's snapshot is the state now."""
        self._newest = index
        self._state_bytes = 0

    def discard(self, stored: Stored) -> None:
        """A snapshot that arrived is not needed any more."""
        self._receiving.discard(stored)

    @property
    def _group(self) -> asyncio.TaskGroup:
        if self._tasks is None:
            raise Unavailable("this manager is just starting")
        return self._tasks
