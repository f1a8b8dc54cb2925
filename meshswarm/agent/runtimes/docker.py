"""The Docker runtime: a task is a container, found again by its labels.

The SDK's blocking calls run in bounded, named threads: `docker` for short calls (their number
bounds how many containers start at once), `docker-pull`, `docker-stream` for logs and commands, and
one for the events. There is one events stream; each event has its container inspected, so that the
board only holds what the engine says of the whole container. A list every 30 s finds what was
missed.
"""

import asyncio
import contextlib
import functools
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from meshswarm.agent.card import Held, HeldState
from meshswarm.agent.runtimes import docker_spec
from meshswarm.agent.runtimes.child import TIMED_OUT
from meshswarm.agent.runtimes.docker_engine import Engine, Frames, Json, end, next_of
from meshswarm.agent.runtimes.port import (
    MAX_LINE,
    Board,
    Executed,
    LogLine,
    RuntimeFailure,
    Stats,
    Stream,
)
from meshswarm.ids import ClusterId, NodeId, TaskId
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import Reason
from meshswarm.model.volume import MountKind
from meshswarm.store.assignments import Assignment

log = logging.getLogger(__name__)

T = TypeVar("T")

RELIST_S = 30.0
RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 5.0
VERSION_TIMEOUT_S = 5.0

MAX_PULLS = 2
MAX_STREAMS = 16
"""Logs followed and commands executed at once; a further one is refused as busy."""

STDERR = 2
"""The number of that stream in the engine's frames."""

MANY_FRAMES = 256
"""Frames of a log read in one go where nobody follows it."""


class DockerRuntime:
    """This node's containers in one engine, which other nodes and other people may use too."""

    kind = RuntimeKind.DOCKER

    def __init__(
        self, *, cluster_id: ClusterId, node_id: NodeId, host: str, parallel: int, log_bytes: int
    ) -> None:
        self.board = Board()
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._log_bytes = log_bytes
        self._filter = docker_spec.own_filter(cluster_id, node_id)
        self._engine = Engine(host, parallel + MAX_PULLS + MAX_STREAMS + 1)
        self._calls = ThreadPoolExecutor(parallel, "docker")
        self._pulls = ThreadPoolExecutor(MAX_PULLS, "docker-pull")
        self._streams = ThreadPoolExecutor(MAX_STREAMS, "docker-stream")
        self._listening = ThreadPoolExecutor(1, "docker-events")
        self._open_streams = 0
        self._pulled_now: set[str] = set()
        self._pulling: weakref.WeakValueDictionary[str, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def run(self) -> None:
        """Follow the engine's events and list now and then, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_events(), name="docker events")
                while True:
                    await asyncio.sleep(RELIST_S)
                    with contextlib.suppress(RuntimeFailure):  # the events' end says so already
                        await self.refresh()
        finally:
            for pool in (self._calls, self._pulls, self._streams, self._listening):
                pool.shutdown(wait=False, cancel_futures=True)
            self._engine.close()

    async def version(self) -> str:
        """The engine's version, if it says so within 5 s."""
        try:
            async with asyncio.timeout(VERSION_TIMEOUT_S):
                return await self._call(self._engine.version)
        except TimeoutError:
            message = f"the Docker engine did not answer within {VERSION_TIMEOUT_S:g} s"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message) from None

    async def refresh(self) -> None:
        """List our containers and look closely at those that are not as the board says."""
        before = {held.task_id: held for held in self.board.all()}
        with self._heard():
            listed = await self._call(self._engine.containers, self._filter)
        present: set[str] = set()
        for container in listed:
            present.add(container["Id"])
            task_id = TaskId(container["Labels"].get(f"{docker_spec.PREFIX}task", ""))
            if not _agrees(container, self.board.look(task_id)):
                held = await self._call(self._engine.held, container["Id"])
                if held is not None:
                    self.board.put(held)
        for held in before.values():
            if held.runtime_id not in present and self.board.look(held.task_id) == held:
                self.board.drop(held.task_id)

    async def prepare(self, assignment: Assignment) -> Held:
        """Have the image, pulled if it is missing, and a container made of it."""
        task, spec = assignment.task, assignment.spec
        if not spec.image:
            raise RuntimeFailure(Reason.IMAGE_NOT_FOUND, "it names no image")
        try:
            await self._have_image(task.id, spec.image)
        finally:
            self.board.note_pull(task.id, "")
        await self._check_volumes(spec)
        config = docker_spec.config_of(
            assignment,
            docker_spec.labels_of(assignment, self._cluster_id, self._node_id),
            log_driver=self._engine.log_driver,
            log_bytes=self._log_bytes,
        )
        made = await self._call(self._engine.create, task.name, config)
        held = await self._call(self._engine.held, made or task.name)
        if held is None or held.task_id != task.id:
            message = f"a container named {task.name} is there already, and is not ours"
            raise RuntimeFailure(Reason.CREATE_FAILED, message)
        return self.board.put(held)

    async def start(self, task_id: TaskId) -> Held:
        """Start the container."""
        container = self._container(task_id)
        await self._call(self._engine.start, container)
        held = await self._call(self._engine.held, container)
        if held is None:
            raise RuntimeFailure(Reason.START_FAILED, "its container is gone")
        return self.board.put(held)

    async def stop(self, task_id: TaskId, *, kill: bool) -> None:
        """Send the container's stop signal, or SIGKILL."""
        held = self.board.look(task_id)
        if held is not None and held.state is HeldState.RUNNING:
            await self._call(functools.partial(self._engine.kill, held.runtime_id, kill=kill))

    async def remove(self, task_id: TaskId) -> None:
        """Remove the container and its anonymous volumes."""
        held = self.board.look(task_id)
        if held is not None:
            await self._call(self._engine.remove, held.runtime_id)
            self.board.drop(task_id)

    async def execute(self, task_id: TaskId, argv: Sequence[str], timeout_s: float) -> Executed:
        """Run a command in the container; the engine cannot kill one that takes too long."""
        container = self._container(task_id)
        with self._stream_slot():
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._in(self._streams, self._engine.execute, container, argv)
            except TimeoutError:
                return Executed(code=TIMED_OUT, output=f"took longer than {timeout_s:g} s")

    async def stats(self, task_id: TaskId) -> Stats:
        """What the container uses."""
        return await self._call(self._engine.stats, self._container(task_id))

    async def logs(
        self, task_id: TaskId, *, follow: bool, tail: int | None, since_ms: int
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """What the container wrote, as the engine's log driver kept it."""
        container = self._container(task_id)
        latest = Latest(since_ms if tail is None else time.time_ns() // 1_000_000)
        with self._stream_slot():
            wish = functools.partial(self._engine.logs, container, follow=follow, tail=tail)
            async for lines in self._output(wish, since_ms, latest, 1 if follow else MANY_FRAMES):
                yield lines
            if follow:  # the engine drops what a container writes just before its end
                wish = functools.partial(self._engine.logs, container, follow=False, tail=None)
                async for lines in self._output(wish, latest.at_ms, latest, MANY_FRAMES):
                    yield lines

    async def _output(
        self, wish: Callable[..., Frames], since_ms: int, latest: "Latest", count: int
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """What the container wrote that `latest` has not seen, `count` frames at a time."""
        stream = await self._in(self._streams, functools.partial(wish, since_ms=since_ms))
        try:
            while frames := await self._in(self._streams, next_of, stream, count):
                if lines := tuple(line for frame in frames for line in latest.lines(*frame)):
                    yield lines
        finally:
            end(stream)

    # --- events -----------------------------------------------------------------------------------

    async def _follow_events(self) -> None:
        """Keep one events stream open; after each gap, list."""
        delay_s, complained = RECONNECT_FIRST_S, False
        while True:
            try:
                with self._heard():
                    stream = await self._call(self._engine.events, self._filter)
                try:
                    await self.refresh()
                    delay_s, complained = RECONNECT_FIRST_S, False
                    loop = asyncio.get_running_loop()
                    await self._in(self._listening, self._hear, stream, loop)
                finally:
                    end(stream)
            except RuntimeFailure as failure:
                if not complained:
                    log.warning("docker events interrupted: %s", failure.message)
                complained = True
            await asyncio.sleep(delay_s)
            delay_s = min(RECONNECT_MAX_S, delay_s * 2)

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Let the board know whether the engine answers."""
        try:
            yield
        except RuntimeFailure as failure:
            self.board.note_silence(failure.message)
            raise
        self.board.note_silence("")

    def _hear(self, stream: Iterator[Json], loop: asyncio.AbstractEventLoop) -> None:
        """In the events' thread: look at every container that something happened to."""
        while events := next_of(stream, 1):
            container = events[0]["Actor"]["ID"]
            task_id = events[0]["Actor"]["Attributes"].get(f"{docker_spec.PREFIX}task", "")
            held = self._engine.held(container)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._note, TaskId(task_id), container, held)

    def _note(self, task_id: TaskId, container: str, held: Held | None) -> None:
        if held is not None:
            self.board.put(held)
            return
        known = self.board.look(task_id)
        if known is not None and known.runtime_id == container:
            self.board.drop(task_id)

    # --- preparing --------------------------------------------------------------------------------

    async def _have_image(self, task_id: TaskId, image: str) -> None:
        """Pull the image unless it is there; tasks that want the same one wait for each other."""
        lock = self._pulling.setdefault(image, asyncio.Lock())
        if image in self._pulled_now:
            self.board.note_pull(task_id, image)
        async with lock:
            if await self._call(self._engine.has_image, image):
                return
            given_up = threading.Event()
            self.board.note_pull(task_id, image)
            self._pulled_now.add(image)
            try:
                log.info("docker pulls image=%s", image)
                await self._in(self._pulls, self._engine.pull, image, given_up.is_set)
            finally:
                given_up.set()
                self._pulled_now.discard(image)
            if not await self._call(self._engine.has_image, image):
                message = f"the registry sent {image}, but the engine does not have it"
                raise RuntimeFailure(Reason.PULL_FAILED, message)

    async def _check_volumes(self, spec: TaskSpec) -> None:
        for mount in spec.mounts:
            if mount.kind is not MountKind.VOLUME or not mount.external or not mount.source:
                continue
            if not await self._call(self._engine.has_volume, mount.source):
                message = f"the external volume {mount.source!r} does not exist on this node"
                raise RuntimeFailure(Reason.MOUNT_FAILED, message)

    # --- threads ----------------------------------------------------------------------------------

    def _container(self, task_id: TaskId) -> str:
        held = self.board.look(task_id)
        if held is None:
            raise RuntimeFailure(Reason.START_FAILED, f"task {task_id} has no container here")
        return held.runtime_id

    async def _call(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self._in(self._calls, work, *arguments)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    @contextlib.contextmanager
    def _stream_slot(self) -> Iterator[None]:
        if self._open_streams >= MAX_STREAMS:
            message = f"{MAX_STREAMS} logs or commands are open on this node already"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message)
        self._open_streams += 1
        try:
            yield
        finally:
            self._open_streams -= 1


def _agrees(container: dict[str, Any], held: Held | None) -> bool:
    """Whether a listed container is as the board says, as far as a list tells."""
    if held is None or held.runtime_id != container["Id"]:
        return False
    running = container["State"] in ("running", "paused", "restarting")
    if (held.state is HeldState.RUNNING) != running:
        return False
    word = container["Status"].rpartition("(")[2].rstrip(")").removeprefix("health: ")
    return not running or word not in ("healthy", "unhealthy") or word == held.health.value


class Latest:
    """How far a reader of a container's output has come; `at_ms` if it saw nothing yet."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self._stamps = {"stdout": "", "stderr": ""}

    def lines(self, number: int, content: bytes) -> Iterator[LogLine]:
        """The lines of one frame, each after its timestamp, without those that were read before.

        The engine's timestamps have a fixed width, so they sort as texts.
        """
        stream: Stream = "stderr" if number == STDERR else "stdout"
        for raw in content.decode(errors="replace").removesuffix("\n").split("\n"):
            stamp, _, text = raw.partition(" ")
            at_ms = docker_spec.instant_ms(stamp)
            if at_ms is None or stamp <= self._stamps[stream]:
                continue
            self._stamps[stream] = stamp
            self.at_ms = at_ms
            for at in range(0, max(1, len(text)), MAX_LINE):
                yield LogLine(stream=stream, text=text[at : at + MAX_LINE], at_ms=at_ms)
