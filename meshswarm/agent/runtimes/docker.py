"""The Docker runtime: a task is a container, found again by its labels.

The SDK's blocking calls run in bounded, named threads (`calls`): `docker` for what changes a thing
(their number bounds how many containers start at once), `docker-look` and `docker-list` for
questions, `docker-pull`, `docker-stream` for logs and commands, and one for the events. So a call
that hangs, of one container or of one image, is the trouble of its task alone; and while the engine
answers nothing, it is asked for nothing but its list.
There is one events stream; each event has its container inspected, so that the board only holds
what the engine says of the whole container. A list every 10 s finds what was missed, and whether
the engine answers at all.
"""

import asyncio
import contextlib
import functools
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from attrs import Factory, define, evolve

from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.runtimes import docker_pipe, docker_spec
from meshswarm.agent.runtimes.calls import Calls
from meshswarm.agent.runtimes.docker_engine import Engine, Frames, Json
from meshswarm.agent.runtimes.docker_lines import Latest, end, next_of
from meshswarm.agent.runtimes.docker_networks import Networks
from meshswarm.agent.runtimes.port import (
    Board,
    Executed,
    LogLine,
    Pipe,
    RuntimeFailure,
    Stats,
)
from meshswarm.ids import ClusterId, NodeId, TaskId
from meshswarm.model.pipe import PipeWish
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import Reason
from meshswarm.model.volume import MountKind
from meshswarm.store.assignments import Assignment

log = logging.getLogger(__name__)

T = TypeVar("T")

RELIST_S = 10.0
RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 5.0
VERSION_TIMEOUT_S = 5.0

MAX_LOOKS = 4
"""Questions at once; an engine answers them in milliseconds, or not at all."""

MAX_LISTS = 3
"""Lists and questions for the version at once: whatever hangs, the engine is asked how it is."""

MAX_HUNG = 24
"""Calls that may hang, besides those that run, before others have to wait for them."""

HANGS_S = 10.0
"""A call that lasts longer no longer keeps another one from beginning."""

MAX_PULLS = 2
MAX_SLOW_PULLS = 6
PULL_IS_SLOW_S = 60.0
"""After that another pull may begin beside it, until so many are slow."""

MAX_STREAMS = 16
"""Logs followed and commands executed at once; a further one is refused as busy."""

MANY_FRAMES = 256
"""Frames of a log read in one go where nobody follows it."""


OUR_DEEDS = ("create", "start", "destroy")
"""Events of what mostly we did; all others, the end of a container above all, are looked at."""


class DockerRuntime:
    """This node's containers in one engine, which other nodes and other people may use too."""

    kind = RuntimeKind.DOCKER

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        node_id: NodeId,
        host: str,
        parallel: int,
        log_bytes: int,
        files: FilesRoot,
    ) -> None:
        self.board = Board()
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._log_bytes = log_bytes
        self._files = files
        self._filter = docker_spec.own_filter(cluster_id, node_id)
        self._engine = Engine(host, parallel + MAX_LOOKS + MAX_PULLS + MAX_STREAMS + 1)
        self._changes = Calls("docker", parallel, spare=MAX_HUNG, stuck_s=HANGS_S)
        self._looks = Calls("docker-look", MAX_LOOKS)
        self._lists = Calls("docker-list", MAX_LISTS)
        self._pulls = Calls("docker-pull", MAX_PULLS, spare=MAX_SLOW_PULLS, stuck_s=PULL_IS_SLOW_S)
        self._streams = Calls("docker-stream", MAX_STREAMS)
        self._listening = Calls("docker-events", 1)
        self._networks = Networks(self._engine, self._changes, self._looks, cluster_id, node_id)
        self._open_streams = 0
        self._looking: dict[str, _Look] = {}
        """Containers being inspected."""
        self._stopped: set[str] = set()
        """Containers that were sent a signal to end: how they end is told by the event alone."""
        self._under_way: set[TaskId] = set()
        """Tasks that something is being done to, which will be put on the board when it is done."""
        self._pulled_now: set[str] = set()
        self._pulling: weakref.WeakValueDictionary[str, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def run(self) -> None:
        """Follow the engine's events and list now and then, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_events(group), name="docker events")
                group.create_task(self._networks.run(), name="docker networks")
                while True:
                    await asyncio.sleep(RELIST_S)
                    with contextlib.suppress(RuntimeFailure):  # the board says so
                        await self.refresh()
        finally:
            self._engine.close()

    async def version(self) -> str:
        """The engine's version, if it says so within 5 s."""
        try:
            async with asyncio.timeout(VERSION_TIMEOUT_S):
                return await self._lists.run(self._engine.version)
        except TimeoutError:
            message = f"the Docker engine did not answer within {VERSION_TIMEOUT_S:g} s"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message) from None

    async def refresh(self) -> None:
        """List our containers and look closely at those that are not as the board says.

        Of one that cannot be inspected, the list itself is believed.
        """
        before = {held.task_id: held for held in self.board.all()}
        with self._heard():
            listed = await self._lists.run(self._engine.containers, self._filter)
        async with asyncio.TaskGroup() as group:
            for container in listed:
                task_id = _task_of(container["Labels"])
                agrees = _agrees(container, self.board.look(task_id))
                if not agrees and task_id not in self._under_way:
                    looking = self._look_at_listed(task_id, container)
                    group.create_task(looking, name=f"look at {task_id}")
        present = {container["Id"] for container in listed}
        for held in before.values():
            if held.runtime_id not in present and self.board.look(held.task_id) == held:
                self.board.drop(held.task_id)

    async def _look_at_listed(self, task_id: TaskId, container: Json) -> None:
        if await self._look_at(task_id, container["Id"]):
            return
        held = docker_spec.held_of_listed(container)
        known = self.board.look(task_id)
        if known is not None and held is not None and known.runtime_id == held.runtime_id:
            held = evolve(known, state=held.state, exit=held.exit)
        if held is not None:
            self.board.put(held)

    async def prepare(self, assignment: Assignment) -> Held:
        """Have the image, pulled if it is missing, and a container made of it."""
        task, spec = assignment.task, assignment.spec
        if not spec.image:
            raise RuntimeFailure(Reason.IMAGE_NOT_FOUND, "it names no image")
        await self._check_volumes(spec)
        config = docker_spec.config_of(
            assignment,
            docker_spec.labels_of(assignment, self._cluster_id, self._node_id),
            log_driver=await self._change(self._engine.default_log_driver),
            log_bytes=self._log_bytes,
            files=self._files.files(self.kind, task.id),
            node_id=self._node_id,
        )
        with self._doing(task.id):
            async with self._networks.promised(assignment):
                held = await self._with_image(assignment, config)
                if held.state is HeldState.CREATED:
                    await self._networks.join(assignment, held.runtime_id)
                    if links := docker_spec.links_of(spec):
                        await self._change(self._engine.link, held.runtime_id, links)
            return self.board.put(held)

    async def _with_image(self, assignment: Assignment, config: Json) -> Held:
        """What is held of the task once it has a container, its image pulled if need be."""
        try:
            return await self._created(assignment, config)
        except RuntimeFailure as failure:
            if failure.reason is not Reason.IMAGE_NOT_FOUND:
                raise
        await self._get_image(assignment)
        return await self._created(assignment, config)

    async def _created(self, assignment: Assignment, config: Json) -> Held:
        """What is held of the task once it has a container, an older one of its own included."""
        task = assignment.task
        platform = assignment.spec.platform
        made = await self._change(self._engine.create, task.name, config, platform)
        if made is not None:
            return docker_spec.created(assignment, made)
        found = await self._looks.run(self._engine.inspect, task.name)
        if found is None:
            message = f"the engine has no container {task.name}, but does not give its name free"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message)
        held = docker_spec.held_of(found)
        labels = docker_spec.labels_of(assignment, self._cluster_id, self._node_id)
        if held is None or not docker_spec.is_same(found, labels):
            message = (
                f"a container named {task.name} is there already, and is not ours: "
                f"`docker rm {found['Id'][:12]}` removes it"
            )
            raise RuntimeFailure(Reason.CREATE_FAILED, message)
        return held

    async def start(self, task_id: TaskId) -> Held:
        """Start the container."""
        container = self._container(task_id)
        with self._doing(task_id):
            held = await self._change(self._engine.started, container)
            if held is None:
                raise RuntimeFailure(Reason.START_FAILED, "its container is gone")
            return self.board.put(held)

    async def stop(self, task_id: TaskId, *, kill: bool) -> None:
        """Send the container's stop signal, or SIGKILL."""
        held = self.board.look(task_id)
        if held is not None and held.state is HeldState.RUNNING:
            self._stopped.add(held.runtime_id)
            signal = "SIGKILL" if kill else held.stop_signal
            await self._change(self._engine.signal, held.runtime_id, signal)

    async def signal(self, task_id: TaskId, name: str) -> None:
        """Send the container's first process a signal."""
        held = self.board.look(task_id)
        if held is not None and held.state is HeldState.RUNNING:
            await self._change(self._engine.signal, held.runtime_id, name)

    async def remove(self, task_id: TaskId) -> None:
        """Remove the container and its anonymous volumes."""
        held = self.board.look(task_id)
        if held is not None:
            with self._doing(task_id):
                await self._change(self._engine.remove, held.runtime_id)
                self._stopped.discard(held.runtime_id)
                self.board.drop(task_id)
            self._networks.look_soon()

    async def execute(self, task_id: TaskId, argv: Sequence[str], timeout_s: float) -> Executed:
        """Run a command in the container; what takes too long is killed, if it is of this host."""
        container = self._container(task_id)
        with self._stream_slot():
            return await docker_pipe.execute(
                self._engine, self._streams, container, argv, timeout_s
            )

    @contextlib.asynccontextmanager
    async def pipe(self, task_id: TaskId, wish: PipeWish) -> AsyncIterator[Pipe]:
        """An exec session, or the engine's archive of a path."""
        container = self._container(task_id)
        with self._stream_slot():
            async with docker_pipe.opened(self._engine, self._streams, container, wish) as pipe:
                yield pipe

    async def stats(self, task_id: TaskId) -> Stats:
        """What the container uses."""
        return await self._looks.run(self._engine.stats, self._container(task_id))

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
        stream = await self._streams.run(functools.partial(wish, since_ms=since_ms))
        try:
            while frames := await self._streams.run(next_of, stream, count):
                if lines := tuple(line for frame in frames for line in latest.lines(*frame)):
                    yield lines
        finally:
            end(stream)

    # --- events -----------------------------------------------------------------------------------

    async def _follow_events(self, group: asyncio.TaskGroup) -> None:
        """Keep one events stream open; after each gap, list."""
        delay_s, complained = RECONNECT_FIRST_S, False
        while True:
            try:
                with self._heard():
                    stream = await self._listening.run(self._engine.events, self._filter)
                try:
                    await self.refresh()
                    delay_s, complained = RECONNECT_FIRST_S, False
                    while events := await self._listening.run(next_of, stream, 1):
                        self._heed(events[0], group)
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

    def _heed(self, event: Json, group: asyncio.TaskGroup) -> None:
        """Look at what something happened to, unless we did it and know."""
        container, action = event["Actor"]["ID"], event["Action"]
        task_id = _task_of(event["Actor"]["Attributes"])
        if look := self._looking.get(container):
            look.is_stale = True
        elif action == "die" and container in self._stopped:
            self._note_end(task_id, container, event["Actor"]["Attributes"])
        elif action not in OUR_DEEDS or not self._knows(action, task_id, container):
            group.create_task(self._look_at(task_id, container), name=f"look at {task_id}")

    def _note_end(self, task_id: TaskId, container: str, attributes: Mapping[str, str]) -> None:
        """A container ended that was sent a signal: the exit code is all that matters."""
        self._stopped.discard(container)
        held = self.board.look(task_id)
        if held is not None and held.runtime_id == container:
            end = Exit(code=int(attributes["exitCode"]))
            self.board.put(evolve(held, state=HeldState.EXITED, exit=end))

    def _knows(self, action: str, task_id: TaskId, container: str) -> bool:
        """Whether the board says already what the event tells, or will as soon as we are done."""
        held = self.board.look(task_id)
        if task_id in self._under_way:
            return True
        if held is None or held.runtime_id != container:
            return action == "destroy"
        return action == "create" or (action == "start" and held.state is HeldState.RUNNING)

    async def _look_at(self, task_id: TaskId, container: str) -> bool:
        """Inspect a container, until nothing happens to it meanwhile; whether the engine told."""
        if look := self._looking.get(container):
            look.is_stale = True
            await look.over.wait()
            return look.is_told
        look = self._looking[container] = _Look()
        try:
            while look.is_stale:
                look.is_stale = False
                self._note(task_id, container, await self._looks.run(self._engine.held, container))
            look.is_told = True
        except RuntimeFailure as failure:
            log.warning("cannot look at container=%s: %s", container[:12], failure.message)
        finally:
            del self._looking[container]
            look.over.set()
        return look.is_told

    def _note(self, task_id: TaskId, container: str, held: Held | None) -> None:
        if held is not None:
            self.board.put(held)
            return
        known = self.board.look(task_id)
        if known is not None and known.runtime_id == container:
            self.board.drop(task_id)

    # --- preparing --------------------------------------------------------------------------------

    async def _get_image(self, assignment: Assignment) -> None:
        """Pull an image that is missing; tasks that want the same one wait for each other."""
        task_id, platform = assignment.task.id, assignment.spec.platform
        image = str(assignment.spec.image)
        lock = self._pulling.setdefault(image, asyncio.Lock())
        if image in self._pulled_now:
            self.board.note_pull(task_id, image)
        given_up = threading.Event()
        try:
            async with lock:
                if await self._change(self._engine.has_image, image, platform):
                    return
                self.board.note_pull(task_id, image)
                self._pulled_now.add(image)
                log.info("docker pulls image=%s", image)
                await self._pulls.run(self._engine.pull, image, platform, given_up.is_set)
                if not await self._change(self._engine.has_image, image, platform):
                    what = docker_spec.image_for(image, platform)
                    message = f"the registry sent {image}, but the engine does not have {what}"
                    raise RuntimeFailure(Reason.PULL_FAILED, message)
        finally:
            given_up.set()
            self._pulled_now.discard(image)
            self.board.note_pull(task_id, "")

    async def _check_volumes(self, spec: TaskSpec) -> None:
        for mount in spec.mounts:
            if mount.kind is not MountKind.VOLUME or not mount.external or not mount.source:
                continue
            if not await self._change(self._engine.has_volume, mount.source):
                message = f"the external volume {mount.source!r} does not exist on this node"
                raise RuntimeFailure(Reason.MOUNT_FAILED, message)

    # --- threads ----------------------------------------------------------------------------------

    def _container(self, task_id: TaskId) -> str:
        held = self.board.look(task_id)
        if held is None:
            raise RuntimeFailure(Reason.START_FAILED, f"task {task_id} has no container here")
        return held.runtime_id

    async def _change(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something to a container, unless the engine does not answer anyhow."""
        if self.board.silence:
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, self.board.silence)
        return await self._changes.run(work, *arguments)

    @contextlib.contextmanager
    def _doing(self, task_id: TaskId) -> Iterator[None]:
        """While something is done to a task, its events are not news."""
        self._under_way.add(task_id)
        try:
            yield
        finally:
            self._under_way.discard(task_id)

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


@define
class _Look:
    """An inspection under way."""

    is_stale: bool = True
    """Whether something happened to the container since the engine was asked."""
    is_told: bool = False
    over: asyncio.Event = Factory(asyncio.Event)


def _task_of(labels: Mapping[str, str]) -> TaskId:
    return TaskId(labels.get(f"{docker_spec.PREFIX}task", ""))


def _agrees(container: dict[str, Any], held: Held | None) -> bool:
    """Whether a listed container is as the board says, as far as a list tells."""
    if held is None or held.runtime_id != container["Id"]:
        return False
    running = container["State"] in ("running", "paused", "restarting")
    if (held.state is HeldState.RUNNING) != running:
        return False
    word = container["Status"].rpartition("(")[2].rstrip(")").removeprefix("health: ")
    return not running or word not in ("healthy", "unhealthy") or word == held.health.value
