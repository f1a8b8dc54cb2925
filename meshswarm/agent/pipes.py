"""Serves pipes to this node's tasks to the managers, for `exec` and `cp`.

A pipe is a stream of what comes out, and calls that bring what goes in. A manager that no longer
reads, or whose connection broke, ends its pipes, and what they ran is killed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from meshswarm import codec
from meshswarm.agent.runtimes.port import Pipe, Runtime
from meshswarm.errors import Conflict, Invalid, NotFound, Unavailable
from meshswarm.ids import TaskId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request
from meshswarm.model.pipe import PIECE_BYTES, PipeWish, WindowSize

log = logging.getLogger(__name__)

METHOD = "task.pipe"
INPUT = "task.pipe.input"

MAX_PIPES = 32
"""Pipes open on this node at once; a further one is refused as busy."""

ROOM_S = 5.0
"""How long input waits for a command that does not read; then whoever sent it is to send again."""


class Pipes:
    """The open ones, by who opened them and the name that they were given."""

    def __init__(self, endpoint: Endpoint, runtime_of: Callable[[TaskId], Runtime | None]) -> None:
        self._runtime_of = runtime_of
        self._open: dict[tuple[str, str], Pipe] = {}
        endpoint.on_stream(METHOD, self._serve, roles={PeerRole.MANAGER})
        endpoint.on_call(INPUT, self._put, roles={PeerRole.MANAGER})

    async def _serve(self, request: Request) -> AsyncIterator[Chunk]:
        """Asked with {"pipe", "task", "wish"}: an empty chunk once it is open, one of each piece
        of output with its stream's name, and {"exit"} with the code at the end.
        """
        match request.body:
            case {"pipe": str() as name, "task": str() as task, "wish": plain}:
                pass
            case _:
                raise Invalid("a request for a pipe has its name, a task and a wish")
        wish: PipeWish = codec.structure(plain, PipeWish, lenient=True)
        key, task_id = (request.peer.id, name), TaskId(task)
        runtime = self._runtime_of(task_id)
        if runtime is None:
            raise NotFound(f"its node holds nothing of task {task_id}; it may have ended")
        if key in self._open:
            raise Conflict(f"a pipe {name} is open already")
        if len(self._open) >= MAX_PIPES:
            raise Unavailable(f"{MAX_PIPES} pipes are open on its node", hint="try again later")
        async with runtime.pipe(task_id, wish) as pipe:
            self._open[key] = pipe
            log.info("pipe opened task=%s kind=%s by=%s", task, wish.kind.value, request.peer.name)
            try:
                yield Chunk()
                while (piece := await pipe.read()) is not None:
                    yield Chunk(piece.stream, (piece.data,))
                yield Chunk({"exit": await pipe.end()})
            finally:
                del self._open[key]

    async def _put(self, request: Request) -> Reply:
        """Asked with [name, is the last, [rows, columns] | None] and a piece; whether it is taken.

        A pipe that has ended takes everything: its end is on the way to whoever asks.
        """
        match request.body, request.payloads:
            case [str() as name, bool() as is_last, size], [bytes() as data] if (
                len(data) <= PIECE_BYTES
            ):
                pass
            case _:
                raise Invalid(f"input is [pipe, is last, size] and at most {PIECE_BYTES} bytes")
        key = (request.peer.id, name)
        if key not in self._open:
            return Reply(True)
        if size is not None:
            await self._open[key].resize(_window(size))
        try:
            async with asyncio.timeout(ROOM_S):
                await self._open[key].room()
        except TimeoutError:
            return Reply(False)
        pipe = self._open.get(key)
        if pipe is not None:
            if data:
                pipe.put(data)
            if is_last:
                pipe.put(b"")
        return Reply(True)


def _window(size: object) -> WindowSize:
    match size:
        case [int() as rows, int() as columns]:
            return WindowSize(rows=max(1, rows), columns=max(1, columns))
        case _:
            raise Invalid("a terminal's size is [rows, columns]")
