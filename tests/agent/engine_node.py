"""A node's agent over a fake engine's socket: the real supervisor, runtime and SDK."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.agent.files import FileStore
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.memory import MemoryFile
from meshswarm.agent.runtimes.docker import DockerRuntime
from meshswarm.agent.supervisor import Supervisor
from meshswarm.ids import ClusterId, TaskId
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import DesiredState, Reason, TaskState, TaskStatus
from meshswarm.store.assignments import Assignment
from tests.agent.cards import NODE, assignment, full
from tests.support.fake_engine import FakeEngine

T1, T2 = TaskId("t1"), TaskId("t2")
NAME = "demo_web.1.t1"
DEADLINE_S = 40.0


def docker_task(**fields: object) -> TaskSpec:
    defaults = {"runtime": RuntimeKind.DOCKER, "image": "image:1", "stop_grace_period_s": 0.2}
    return TaskSpec(**defaults | fields)  # type: ignore[arg-type]  # tests name real fields


def wanted(task_id: str = "t1", image: str = "image:1", **changes: object) -> Assignment:
    made = {"runs": docker_task(image=image), "slot": int(task_id[1:]), **changes}
    return assignment(task_id, **made)  # type: ignore[arg-type]  # tests name real fields


async def no_content(*_: object) -> bytes:
    raise AssertionError("these tasks have no files")


class Counted(DockerRuntime):
    """Counts the lists that it has taken in."""

    listed = 0

    async def refresh(self) -> None:
        await super().refresh()
        self.listed += 1


class Node:
    """One node's agent without its session, over the engine at this socket."""

    def __init__(self, engine: FakeEngine, folder: Path, parallel: int = 2) -> None:
        self.engine = engine
        root = FilesRoot(folder / "files", NODE)
        self.runtime = Counted(
            cluster_id=ClusterId("c"),
            node_id=NODE,
            host=engine.url,
            parallel=parallel,
            log_bytes=1 << 20,
            files=root,
        )
        self.said: dict[TaskId, list[TaskStatus]] = {}
        self._news = asyncio.Event()
        memory = MemoryFile(folder / "state.cbor", ClusterId("c"), NODE)
        runtimes = {RuntimeKind.DOCKER: self.runtime}
        self.supervisor = Supervisor(runtimes, memory, self._say, FileStore(root, no_content))

    @asynccontextmanager
    async def running(self, *assignments: Assignment) -> AsyncIterator["Node"]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.supervisor.run(), name="supervisor")
            try:
                self.supervisor.told(full(*assignments))
                yield self
            finally:
                task.cancel()

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():  # noqa: ASYNC110 -- the engine's side of it tells nobody
                await asyncio.sleep(0.005)

    async def says(
        self, state: TaskState, reason: Reason = Reason.NONE, task_id: TaskId = T1
    ) -> TaskStatus:
        """The status of the task once it is this, sooner or later."""
        found: list[TaskStatus] = []

        def look() -> bool:
            said = self.said.get(task_id, ())
            found[:] = [s for s in said if s.state is state and s.reason is reason]
            return bool(found)

        try:
            await self.until(look)
        except TimeoutError:
            pytest.fail(f"{task_id} never was {state.label} for {reason}: {self.said.get(task_id)}")
        return found[-1]

    def _say(self, task_id: TaskId, status: TaskStatus) -> None:
        self.said.setdefault(task_id, []).append(status)


def desiring(given: Assignment, desired: DesiredState) -> Assignment:
    return evolve(given, task=evolve(given.task, desired=desired))
