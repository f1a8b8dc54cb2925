"""Pipes to containers: an exec session, or an archive of the engine's, read and written by threads.

The SDK blocks, so a pipe borrows one of the runtime's threads for what it reads, and has one of its
own for what it writes. Closing the socket from here wakes both.
"""

import asyncio
import contextlib
import functools
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from meshswarm.agent.runtimes import proc
from meshswarm.agent.runtimes.calls import Calls
from meshswarm.agent.runtimes.child import TIMED_OUT
from meshswarm.agent.runtimes.docker_engine import Engine
from meshswarm.agent.runtimes.docker_exec import ExecSocket
from meshswarm.agent.runtimes.port import (
    MAX_EXEC_OUTPUT,
    Executed,
    Piece,
    Pipe,
    RuntimeFailure,
)
from meshswarm.model.pipe import PIECE_BYTES, PipeKind, PipeWish, WindowSize
from meshswarm.model.task import Reason

T = TypeVar("T")

MAX_INPUTS = 4
"""Pieces that are taken before the command, or the engine, has read them."""

CODE_POLL_S = 0.02
CODE_POLLS = 250
"""How often the engine is asked for an exit code once the output has ended, or for the process of a
command that is to be killed; then it is unknown."""

CODE_UNKNOWN = 255


@asynccontextmanager
async def opened(
    engine: Engine, pool: Calls, container: str, wish: PipeWish
) -> AsyncIterator[Pipe]:
    """A pipe to this container; `pool` has the threads that wait for what is read.

    What is left of a command is killed if it can be seen from here: an engine has no word for that,
    so one on another host, or an agent that is not root, leaves it running.
    """
    if wish.kind is not PipeKind.RUN:
        inputs = Inputs()
        try:
            yield ArchivePipe(pool, _archive(engine, container, wish, inputs), inputs)
        finally:
            inputs.put(b"")
        return
    made, connection = await pool.run(engine.open_exec, container, wish)
    command = CommandPipe(engine, pool, made, connection)
    try:
        _begin(functools.partial(connection.write_all, command.inputs.taken))
        yield command
    finally:
        command.inputs.put(b"")
        connection.close()
        await pool.run(_kill, engine, container, made)


async def execute(
    engine: Engine, pool: Calls, container: str, argv: Sequence[str], timeout_s: float
) -> Executed:
    """Run a command to its end, or kill it after so long: one that hangs keeps no thread.

    Raises `RuntimeFailure`, also if the engine has not even begun with it by then.
    """
    wish = PipeWish(kind=PipeKind.RUN, argv=tuple(argv))
    output, has_begun = bytearray(), False
    try:
        async with asyncio.timeout(timeout_s), opened(engine, pool, container, wish) as pipe:
            has_begun = True
            while (piece := await pipe.read()) is not None:
                output += piece.data[: MAX_EXEC_OUTPUT - len(output)]
            return Executed(code=await pipe.end(), output=output.decode(errors="replace"))
    except TimeoutError:
        if not has_begun:
            message = f"the engine began no command within {timeout_s:g} s"
            raise RuntimeFailure(Reason.RUNTIME_UNAVAILABLE, message) from None
        return Executed(code=TIMED_OUT, output=f"took longer than {timeout_s:g} s")


def _begin(work: Callable[[], T]) -> "Future[T]":
    """Let a thread of its own do this, which nobody waits for in the end."""
    done: Future[T] = Future()

    def carry_out() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- whoever asks for the result gets it
            done.set_exception(error)

    threading.Thread(target=carry_out, name="docker-pipe", daemon=True).start()
    return done


def _archive(
    engine: Engine, container: str, wish: PipeWish, inputs: "Inputs"
) -> Callable[[], Iterator[bytes]]:
    """What a thread does for the wish, and gives piece by piece."""
    match wish.kind:
        case PipeKind.STAT:
            return functools.partial(engine.stat, container, wish.path)
        case PipeKind.READ:
            return functools.partial(engine.read_files, container, wish.path, PIECE_BYTES)
        case _:
            return functools.partial(engine.write_files, container, wish.path, inputs.taken)


def _kill(engine: Engine, container: str, made: str) -> None:
    """Kill what the exec session runs, if it is a process of this host and surely that one."""
    with contextlib.suppress(RuntimeFailure, OSError):
        told = engine.look_at_exec(made)
        for _ in range(CODE_POLLS - 1):
            if told["Pid"] or not told["Running"]:
                break
            time.sleep(CODE_POLL_S)  # its output can be here before the engine has noted it
            told = engine.look_at_exec(made)
        if told["Running"] and told["Pid"]:
            mark = proc.mark_of(told["Pid"])
            if mark and container in Path(f"/proc/{mark.pid}/cgroup").read_text():
                proc.kill_session(mark)


class Inputs:
    """A few pieces on their way from the loop to a thread; an empty one is the last."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._untaken = 0
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def room(self) -> None:
        """Wait until a further one may be put."""
        await self._has_room.wait()

    def put(self, data: bytes) -> None:
        """Hand it to the thread."""
        self._count(1)
        self._pieces.put(data)

    def taken(self) -> Iterator[bytes]:
        """In the thread: the pieces up to the last one."""
        while data := self._pieces.get():
            yield data
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for room
                self._loop.call_soon_threadsafe(self._count, -1)

    def _count(self, change: int) -> None:
        self._untaken += change
        if self._untaken < MAX_INPUTS:
            self._has_room.set()
        else:
            self._has_room.clear()


class CommandPipe:
    """A command's two streams, or its terminal."""

    def __init__(self, engine: Engine, pool: Calls, made: str, connection: ExecSocket) -> None:
        self.inputs = Inputs()
        self._engine = engine
        self._pool = pool
        self._made = made
        self._connection = connection

    async def read(self) -> Piece | None:
        """The next output."""
        return await self._pool.run(self._connection.read)

    async def room(self) -> None:
        """Wait until the command has read enough."""
        await self.inputs.room()

    def put(self, data: bytes) -> None:
        """Hand it to the thread that writes."""
        self.inputs.put(data)

    async def resize(self, window: WindowSize) -> None:
        """Tell the engine, which tells the command."""
        await self._pool.run(self._engine.resize_exec, self._made, window)

    async def end(self) -> int:
        """The exit code, which the engine knows a moment after the output's end."""
        for _ in range(CODE_POLLS):
            told = await self._pool.run(self._engine.look_at_exec, self._made)
            if not told["Running"] and told["ExitCode"] is not None:
                return int(told["ExitCode"])
            await asyncio.sleep(CODE_POLL_S)
        return CODE_UNKNOWN


class ArchivePipe:
    """An archive, in one direction."""

    def __init__(self, pool: Calls, start: Callable[[], Iterator[bytes]], inputs: Inputs) -> None:
        self._pool = pool
        self._inputs = inputs
        self._pieces = _begin(start)
        self._code = 0

    async def read(self) -> Piece | None:
        """The next bytes of it; of one that is written only what was wrong with it."""
        if self._code:
            return None
        try:
            data = await self._pool.run(self._next)
        except RuntimeFailure as failure:
            self._code = 1
            return Piece("stderr", failure.message.encode())
        return Piece("stdout", data) if data else None

    def _next(self) -> bytes:
        return next(self._pieces.result(), b"")

    async def room(self) -> None:
        """Wait until the engine has read enough."""
        await self._inputs.room()

    def put(self, data: bytes) -> None:
        """Hand it to the thread that sends it."""
        self._inputs.put(data)

    async def resize(self, window: WindowSize) -> None:
        """An archive has no terminal."""

    async def end(self) -> int:
        """Whether it was done."""
        return self._code
