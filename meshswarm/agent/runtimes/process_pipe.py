"""Pipes to plain processes: `beside` at the other end, over pipes or a terminal of its own.

Nothing here has a task or a thread: descriptors do not block, and the loop says when to try again.
Input that the command does not read waits in memory up to `INPUT_BYTES`; output waits in the
kernel until somebody reads it, and then so does the command.
"""

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshswarm.agent.runtimes import proc
from meshswarm.agent.runtimes.child import watch_end
from meshswarm.agent.runtimes.port import Piece, RuntimeFailure, Stream
from meshswarm.agent.runtimes.process_spec import Launch
from meshswarm.model.pipe import PIECE_BYTES, PipeKind, PipeWish, WindowSize
from meshswarm.model.task import Reason

PROGRAM = str(Path(__file__).with_name("beside.py"))

INPUT_BYTES = 256 * 1024
"""Input that is taken before the command has read it."""

END_OF_INPUT = b"\x04"
"""What a terminal takes for it."""


@asynccontextmanager
async def opened(launch: Launch, wish: PipeWish) -> AsyncIterator["ProcessPipe"]:
    """A pipe whose other end is started so; its whole session is killed when the block is left."""
    with contextlib.ExitStack() as ours:
        try:
            pipe = _started(launch, wish, ours)
        except OSError as error:
            message = f"cannot start a process: {error.strerror}"
            raise RuntimeFailure(Reason.START_FAILED, message) from error
        try:
            yield pipe
        finally:
            pipe.close()


def _started(launch: Launch, wish: PipeWish, ours: contextlib.ExitStack) -> "ProcessPipe":
    """Start `beside`; `ours` closes this side's descriptors in the end."""
    has_input = wish.has_input or wish.kind is PipeKind.WRITE
    with contextlib.ExitStack() as theirs:
        request = _open(theirs, os.memfd_create("pipe"))
        words = {
            "kind": wish.kind.value,
            "path": wish.path,
            "has_terminal": wish.window is not None,
            "launch": launch.as_json(),
        }
        os.write(request, json.dumps(words).encode())
        os.lseek(request, 0, os.SEEK_SET)
        if wish.window is not None:
            master, slave = pty.openpty()
            _open(ours, master), _open(theirs, slave)
            termios.tcsetwinsize(master, (wish.window.rows, wish.window.columns))
            ends = (slave, slave, slave)
            writer = os.dup(master)
            outputs: dict[Stream, int] = {"stdout": master}
        else:
            stdin, writer = os.pipe2(os.O_CLOEXEC)
            stdout_reader, stdout = os.pipe2(os.O_CLOEXEC)
            stderr_reader, stderr = os.pipe2(os.O_CLOEXEC)
            ends = (_open(theirs, stdin), _open(theirs, stdout), _open(theirs, stderr))
            outputs = {
                "stdout": _open(ours, stdout_reader),
                "stderr": _open(ours, stderr_reader),
            }
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", PROGRAM, str(request)],
            stdin=ends[0],
            stdout=ends[1],
            stderr=ends[2],
            pass_fds=(request,),
            cwd="/",
            env={},
            start_new_session=True,
        )
    pipe = ProcessPipe(process, outputs, writer)
    if not has_input and wish.window is None:
        pipe.put(b"")
    return pipe


def _open(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


class ProcessPipe:
    """This side of the pipe."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", outputs: dict[Stream, int], writer: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._mark = proc.mark_of(process.pid)
        self._outputs = outputs
        self._writer: int | None = writer
        self._waiting: deque[bytes] = deque()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._news = asyncio.Event()
        for descriptor in (*outputs.values(), writer):
            os.set_blocking(descriptor, False)
        self._ended = watch_end(process)
        self._ended.add_done_callback(lambda _: self._news.set())

    async def read(self) -> Piece | None:
        """The next output, of either stream in turn; none is waited for once the command ended."""
        while True:
            is_over = self._ended.done()
            for stream, descriptor in list(self._outputs.items()):
                data = _read(descriptor)
                if data:
                    self._outputs[stream] = self._outputs.pop(stream)  # the other one is next
                    return Piece(stream, data)
                if data is not None:
                    del self._outputs[stream]
            if is_over or (not self._outputs and self._ended.done()):
                return None
            await self._wait()

    async def _wait(self) -> None:
        """Until there is something to read, or the command has ended."""
        self._news.clear()
        if self._ended.done():
            return
        watched = list(self._outputs.values())
        for descriptor in watched:
            self._loop.add_reader(descriptor, self._news.set)
        try:
            await self._news.wait()
        finally:
            for descriptor in watched:
                self._loop.remove_reader(descriptor)

    async def room(self) -> None:
        """Wait until what was put is not more than `INPUT_BYTES`."""
        await self._has_room.wait()

    def put(self, data: bytes) -> None:
        """Write it as soon as the command reads."""
        if self._writer is None:
            return
        self._waiting.append(data)
        self._write()

    async def resize(self, window: WindowSize) -> None:
        """The kernel tells the command, by SIGWINCH."""
        descriptor = self._outputs.get("stdout")
        if descriptor is not None and os.isatty(descriptor):
            termios.tcsetwinsize(descriptor, (window.rows, window.columns))

    async def end(self) -> int:
        """Wait for the end."""
        await asyncio.shield(self._ended)
        code = self._process.returncode
        return code if code >= 0 else 128 - code

    def close(self) -> None:
        """Kill what still runs, and let go of the input."""
        self._stop_writing()
        if self._mark is not None:
            proc.kill_session(self._mark)

    def _write(self) -> None:
        """Write what waits, as far as it goes."""
        while self._waiting and self._writer is not None:
            data = self._waiting.popleft()
            if not data and not os.isatty(self._writer):
                self._stop_writing()
                return
            try:
                written = os.write(self._writer, data or END_OF_INPUT)
            except BlockingIOError:
                written = 0
            except OSError:  # nobody reads any more
                self._stop_writing()
                return
            if written < len(data or END_OF_INPUT):
                self._waiting.appendleft(data[written:])
                break
        if self._waiting and self._writer is not None:
            self._loop.add_writer(self._writer, self._write)
        elif self._writer is not None:
            self._loop.remove_writer(self._writer)
        is_full = sum(map(len, self._waiting)) >= INPUT_BYTES
        self._has_room.clear() if is_full else self._has_room.set()

    def _stop_writing(self) -> None:
        self._waiting.clear()
        self._has_room.set()
        if self._writer is not None:
            self._loop.remove_writer(self._writer)
            os.close(self._writer)
            self._writer = None


def _read(descriptor: int) -> bytes | None:
    """What is there; None: nothing yet; empty: nothing any more."""
    try:
        return os.read(descriptor, PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:  # of a terminal whose last user has gone
        return b""
