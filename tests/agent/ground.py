"""Where the contract of runtimes is tried: what a runtime is made of there, and what it runs."""

import asyncio
import io
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from meshswarm.agent.card import Held, HeldState
from meshswarm.agent.files import FileStore
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.runtimes.port import Pipe, Runtime
from meshswarm.ids import TaskId
from meshswarm.model.file import FileKind, FileUse
from meshswarm.model.service import TaskSpec
from meshswarm.store.assignments import Assignment
from tests.agent.cards import NODE, spec

T1 = TaskId("t1")
DEADLINE_S = 15.0


class Ground:
    """Where runtimes stand: whatever outlives one of them."""

    contents: ClassVar[dict[str, bytes]] = {"one": b"first", "two": b"second"}
    """What configs and secrets hold."""

    @cached_property
    def files_root(self) -> FilesRoot:
        """Where the files of tasks lie; `forget_files` removes it."""
        return FilesRoot(self._memory, NODE)

    @cached_property
    def _memory(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="meshswarm-test-", dir="/dev/shm"))

    def forget_files(self) -> None:
        """Remove the files of tasks."""
        shutil.rmtree(self._memory)

    async def place(self, made: Assignment) -> bool:
        """Put the task's files into place, as its agent does before it prepares the task."""

        async def fetch(use: FileUse) -> bytes:
            return self.contents[use.source]

        store = FileStore(self.files_root, fetch)
        changed = await store.place(made)
        store.note(made)
        return changed

    def target(self, name: str) -> str:
        """What a file's target is, to be called `name`."""
        raise NotImplementedError

    def seen_at(self, kind: FileKind, name: str) -> str:
        """Where a task sees the file of that name, for a shell."""
        raise NotImplementedError

    def runtime(self) -> Runtime:
        """A new runtime on this ground."""
        raise NotImplementedError

    def spec(self, shell: str, **changes: object) -> TaskSpec:
        """A spec that runs a line of shell."""
        return spec("/bin/sh", "-c", shell, **changes)

    async def end(self, runtime: Runtime, task_id: TaskId, code: int) -> None:
        """Let a task that runs `until_told` end by itself."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Runtime]:
        """A new runtime that knows what it holds and watches it."""
        runtime = self.runtime()
        await runtime.refresh()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(runtime.run(), name="runtime")
            try:
                yield runtime
            finally:
                watching.cancel()

    async def clean(self) -> None:
        """Leave nothing behind."""
        runtime = self.runtime()
        await runtime.refresh()
        for held in runtime.board.all():
            await runtime.stop(held.task_id, kill=True)
        async with self.running() as runtime:
            for held in runtime.board.all():
                await until(runtime, held.task_id, lambda h: h is None or h.state != 1)
                await runtime.remove(held.task_id)


async def until(
    runtime: Runtime, task_id: TaskId, is_so: Callable[[Held | None], bool]
) -> Held | None:
    """What is held of the task once `is_so`."""
    changed = asyncio.Event()
    runtime.board.listen(lambda _: changed.set())
    async with asyncio.timeout(DEADLINE_S):
        while not is_so(held := runtime.board.look(task_id)):
            changed.clear()
            await changed.wait()
    return held


async def ended(runtime: Runtime, task_id: TaskId = T1) -> Held:
    held = await until(runtime, task_id, lambda h: h is not None and h.state is HeldState.EXITED)
    assert held is not None
    assert held.exit is not None
    return held


async def read_of(pipe: Pipe, least: int | None = None) -> dict[str, bytes]:
    """What comes out of both streams, until the end or until there are `least` bytes."""
    came = {"stdout": b"", "stderr": b""}
    async with asyncio.timeout(DEADLINE_S):
        while least is None or sum(map(len, came.values())) < least:
            piece = await pipe.read()
            if piece is None:
                break
            came[piece.stream] += piece.data
    return came


def archive_of(**files: bytes) -> bytes:
    """A tar archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def files_of(archive: bytes) -> dict[str, bytes]:
    """The files in an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = ((info.name, opened.extractfile(info)) for info in opened)
        return {name: file.read() for name, file in found if file is not None}


SLEEP = "while :; do sleep 0.05; done"
