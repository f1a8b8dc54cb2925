"""A cluster in a rig under watch: looked after, its leader known, clients to be set on it.

async with opened(3) as arena:
    load = arena.begin_load()
    ...
    await arena.end_load(load)
    verdict = findings(operations_in(arena.rig.scratch))
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from attrs import field, frozen

from meshswarm.answers import ManagerStatus
from meshswarm.client import Client, connected
from meshswarm.errors import MeshswarmError
from meshswarm.mesh import keys
from meshswarm.raft.types import ConfChangeKind
from meshswarm.settings import load_client_context
from meshswarm.store.slices import encode_view
from meshswarm.store.view import View
from tools.chaos import changeable
from tools.chaos.clients import peers_of
from tools.chaos.cluster import CLIENTS, Cluster, Disk
from tools.chaos.history import Outcome, operation_of, write_of
from tools.rig.rig import Rig, raised

PATIENCE_S = 30.0
"""How long a healed cluster may take to do what it should; a bound against hanging."""

LOOK_S = 0.1
STATUS_EVERY_S = 0.5
LOAD_ENDS_S = 15.0

MANAGED = (sys.executable, "-m", "meshswarm")


class Arena:
    """What a run plays in; made by `opened`."""

    def __init__(self, rig: Rig, cluster: Cluster) -> None:
        self.rig = rig
        self.cluster = cluster
        self.hit: set[str] = set()
        """Managers that have a fault of their own just now."""
        self.doomed: str | None = None
        """The manager whose disk may lose what it holds."""
        self.demotes = False
        """Whether managers are demoted in this run."""
        self.demoted: set[str] = set()
        self.leader: str | None = None
        self.leaders_seen: list[tuple[float, str, int]] = []
        """Since when who led, and in which term."""
        self.statuses: dict[str, ManagerStatus] = {}
        """What each manager last said of itself, as far as it answered the last time."""
        self.rss_bytes: dict[str, list[int]] = {name: [] for name in cluster.names}
        self.pinned: dict[str, Client] = {}
        """A client for each manager, that knows no other."""
        self._client: Client | None = None
        self._tail = Tail(rig)

    @property
    def client(self) -> Client:
        """A client that goes round all managers."""
        assert self._client is not None, "the arena is not open"
        return self._client

    async def run(self) -> None:
        """Restart whatever ended, and ask the managers how they are, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(LOOK_S, self._look_after), name="look after")
            group.create_task(_every(STATUS_EVERY_S, self.look), name="statuses")

    async def connect(self, stack: AsyncExitStack) -> None:
        """Open the driver's own clients."""
        context = load_client_context(self.cluster.context)
        pair, peers = keys.load(context.client.key_file), peers_of(context)
        name = context.client.name
        self._client = await stack.enter_async_context(connected(pair, name=name, managers=peers))
        for peer in peers:
            own = connected(pair, name=name, managers=[peer])
            self.pinned[peer.name] = await stack.enter_async_context(own)

    async def _look_after(self) -> None:
        self.cluster.look_after()

    async def look(self) -> None:
        """Ask every manager for its status."""
        answers = await self.client.statuses()
        self.statuses = {answer.name: answer.status for answer in answers if answer.status}
        leaders = [s for s in self.statuses.values() if s.raft_state == "Leader"]
        newest = max(leaders, key=lambda status: status.term, default=None)
        self.leader = newest.name if newest else None
        seen = (self.leader or "", newest.term if newest else 0)
        if newest and (not self.leaders_seen or self.leaders_seen[-1][1:] != seen):
            self.leaders_seen.append((time.monotonic(), *seen))
        for name, manager in self.cluster.managers.items():
            self.rss_bytes[name].append(manager.rss_bytes())

    async def change(self, kind: ConfChangeKind, name: str) -> bool:
        """Ask the leader for a change of the membership; whether it was there before already."""
        context = load_client_context(self.cluster.context)
        peers = {peer.name: peer for peer in peers_of(context)}
        leader = peers.get(self.leader or "")
        if leader is None:
            return False
        try:
            await changeable.change(context, leader, kind, peers[name].id)
        except MeshswarmError as error:
            return "already" in error.message or "is no voter" in error.message
        return False

    # --- waiting ----------------------------------------------------------------------------------

    async def until(
        self, holds: Callable[[], bool | Awaitable[bool]], what: str, within_s: float = PATIENCE_S
    ) -> float:
        """Wait until it holds; how many seconds that took. Raises `TimeoutError` naming `what`.

        For as long as managers have to wait for a processor, so may they be waited for.
        """
        began, starved_s = time.monotonic(), self.cluster.starved_s
        while True:
            answer = holds()
            if answer if isinstance(answer, bool) else await answer:
                return time.monotonic() - began
            allowed_s = within_s + self.cluster.starved_s - starved_s
            if time.monotonic() - began > allowed_s:
                raise TimeoutError(f"not within {allowed_s:.1f} s: {what}; {self.in_words()}")
            await asyncio.sleep(LOOK_S)

    async def settled(self) -> None:
        """Wait until all managers follow one leader."""
        await self.until(self._is_settled, "all managers follow one leader")

    def _is_settled(self) -> bool:
        statuses = list(self.statuses.values())
        told = {(status.leader, status.term) for status in statuses}
        return len(statuses) == len(self.cluster.names) and len(told) == 1 and bool(self.leader)

    async def writable(self, name: str, within_s: float = PATIENCE_S) -> float:
        """Wait until a write through that manager is acknowledged; the seconds that took."""

        async def written() -> bool:
            try:
                await self.pinned[name].propose(write_of(f"probe-{name}", str(time.monotonic_ns())))
            except MeshswarmError:
                return False
            return True

        what = f"a write through {name} is acknowledged"
        return await self.until(written, what, within_s)

    async def stopped(self) -> None:
        """SIGTERM to all managers, and wait until they have ended."""
        managers = list(self.cluster.managers.values())
        for manager in managers:
            manager.is_held = True
            manager.stop()
        await self.until(lambda: all(one.is_stopped for one in managers), "managers stop")

    async def same_states(self) -> View:
        """Wait until all managers show equal bytes at an equal index; what they show."""
        views: list[View] = []

        async def are_equal() -> bool:
            views.clear()
            for name in self.cluster.names:
                try:
                    views.append(await self.pinned[name].read())
                except MeshswarmError:
                    return False
            equal_index = len({view.index for view in views}) == 1
            if equal_index and len({encode_view(view) for view in views}) > 1:
                raise AssertionError(f"the managers' states differ at index {views[0].index}")
            return equal_index

        await self.until(are_equal, "all managers show the same state")
        return views[0]

    def in_words(self) -> str:
        """How the managers are, in a line."""
        told = []
        for name, manager in self.cluster.managers.items():
            status = self.statuses.get(name)
            silent = "silent" if manager.pid else "down"
            state = f"{status.raft_state} {status.applied_index}" if status else silent
            told.append(f"{name} {state}")
        term = max((status.term for status in self.statuses.values()), default=0)
        return f"leader {self.leader or '-'}, term {term}: {', '.join(told)}"

    # --- load -------------------------------------------------------------------------------------

    def begin_load(
        self, *, processes: int = 2, roaming: int = 3
    ) -> "list[subprocess.Popen[bytes]]":
        """Set processes full of clients on the cluster; they write down what they are told."""
        begun = []
        for number in range(processes):
            program = [sys.executable, "-m", "tools.chaos.clients", "--prefix", f"p{number}"]
            out = self.rig.scratch / f"history-{number}.jsonl"
            files = ["--context", str(self.cluster.context), "--out", str(out)]
            with (self.rig.scratch / f"clients-{number}.log").open("ab") as log:
                command = [*program, *files, "--roaming", str(roaming)]
                begun.append(self.rig.spawn(CLIENTS, command, log))
        return begun

    async def end_load(self, load: "list[subprocess.Popen[bytes]]") -> None:
        """Let the clients finish what they have begun; raises if one of them had failed."""
        for process in load:
            process.terminate()
        for number, process in enumerate(load):
            code = await asyncio.to_thread(process.wait, LOAD_ENDS_S)
            if code != 0:
                words = (self.rig.scratch / f"clients-{number}.log").read_text(errors="replace")
                raise RuntimeError(f"clients ended with code {code}: {words[-2000:]}")

    def new_operations(self) -> tuple[int, int]:
        """How many operations ended since the last call: well, and in all."""
        return self._tail.count()


@frozen
class Tail:
    """Counts what is appended to the histories."""

    rig: Rig
    offsets: dict[str, int] = field(factory=dict)

    def count(self) -> tuple[int, int]:
        """Operations that ended well, and all, since the last call."""
        well = ended = 0
        for file in self.rig.scratch.glob("history-*.jsonl"):
            with file.open("rb") as lines:
                lines.seek(self.offsets.get(file.name, 0))
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    ended += 1
                    well += operation_of(line.decode()).outcome is Outcome.OK
                    self.offsets[file.name] = self.offsets.get(file.name, 0) + len(line)
        return well, ended


@asynccontextmanager
async def opened(
    managers: int,
    *,
    environment: Mapping[str, str] | None = None,
    disk: Disk = Disk.SHARED,
    command: Sequence[str] = MANAGED,
) -> AsyncIterator[Arena]:
    """A cluster of so many managers that has a leader; all of it is gone afterwards."""
    names = [f"m{number}" for number in range(1, managers + 1)]
    with raised(*names, CLIENTS) as rig, rig.entered(CLIENTS):
        cluster = Cluster(rig, environment=environment or {}, disk=disk, command=command)
        arena = Arena(rig, cluster)
        async with AsyncExitStack() as stack:
            await arena.connect(stack)
            cluster.start()
            group = await stack.enter_async_context(asyncio.TaskGroup())
            watch = group.create_task(arena.run(), name="watch")
            stack.callback(watch.cancel)
            await arena.settled()
            yield arena


async def _every(pause_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await work()
        await asyncio.sleep(pause_s)
