"""An agent's supervisor and prober over plain processes: all of it real but the managers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from meshswarm.agent.card import Probed
from meshswarm.agent.files import FileStore
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.memory import MemoryFile
from meshswarm.agent.prober import Prober
from meshswarm.agent.runtimes.process import ProcessRuntime, kill_all, root_of
from meshswarm.agent.supervisor import Supervisor
from meshswarm.ids import ClusterId, TaskId
from meshswarm.model.file import FileUse
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Health, TaskState, TaskStatus
from tests.agent.cards import NODE

DEADLINE_S = 15.0


class Rig:
    """An agent's supervisor and prober over plain processes."""

    def __init__(self, path: Path) -> None:
        self.said: list[TaskStatus] = []
        self.alone_ms = 0
        """How long no manager has known of the node."""
        files = FilesRoot(path / "files", NODE)
        self.runtime = ProcessRuntime(
            root_of(path),
            cluster_id=ClusterId("cluster"),
            node_id=NODE,
            node_name="alpha",
            log_bytes=64 * 1024,
            files=files,
        )
        runtimes = {RuntimeKind.PROCESS: self.runtime}
        self.prober = Prober(runtimes, self._probed)
        memory = MemoryFile(path / "state.cbor", ClusterId("cluster"), NODE)
        self.supervisor = Supervisor(
            runtimes,
            memory,
            lambda _, status: self.said.append(status),
            FileStore(files, self._fetch),
            alone_ms=lambda: self.alone_ms,
            on_card=self.prober.look,
        )

    async def _fetch(self, use: FileUse) -> bytes:
        raise AssertionError(f"no task here has files, and {use} is wanted")

    def _probed(self, task_id: TaskId, said: Probed) -> None:
        self.supervisor.probed(task_id, said)

    @property
    def health(self) -> list[Health]:
        """What was said of the running task's health, without repetitions."""
        found = [one.health for one in self.said if one.state is TaskState.RUNNING]
        return [one for i, one in enumerate(found) if i == 0 or one is not found[i - 1]]

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():  # noqa: ASYNC110 -- processes and sockets
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Rig]:
    try:
        async with asyncio.TaskGroup() as group:
            rig = Rig(path)
            tasks = [
                group.create_task(rig.supervisor.run(), name="supervisor"),
                group.create_task(rig.prober.run(), name="prober"),
            ]
            try:
                yield rig
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        kill_all(path)
