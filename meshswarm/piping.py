"""A client's end of a pipe to a task: what comes out as a stream, what goes in by calls.

Input is sent a piece at a time and taken once the far end has room for it; so nothing piles up on
the way, however slow the command reads.
"""

from collections.abc import AsyncIterator
from typing import Literal

from attrs import frozen

from meshswarm.errors import Unavailable
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane
from meshswarm.mesh.requests import Chunk
from meshswarm.model.pipe import PIECE_BYTES, WindowSize

INPUT_TIMEOUT_S = 15.0
"""For one piece of input; the far end answers in less, even if the command does not read."""


@frozen
class Output:
    """Some bytes that came out."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class RemotePipe:
    """An open pipe; made by `Client.pipe`."""

    def __init__(self, link: Link, name: str, chunks: AsyncIterator[Chunk]) -> None:
        self._link = link
        self._name = name
        self._chunks = chunks
        self.exit_code: int | None = None
        """Known once `read` gave None."""

    async def read(self) -> Output | None:
        """The next output; None at the end. Raises `Unavailable` if the way there broke."""
        async for chunk in self._chunks:
            match chunk.body, chunk.payloads:
                case "stdout", [data]:
                    return Output("stdout", data)
                case "stderr", [data]:
                    return Output("stderr", data)
                case {"exit": int() as code}, _:
                    self.exit_code = code
                    return None
        raise Unavailable("the pipe ended without an exit code: its node or agent went away")

    async def write(self, data: bytes) -> None:
        """Return when the far end has taken it all."""
        for at in range(0, len(data), PIECE_BYTES):
            while not await self._put(data[at : at + PIECE_BYTES]):
                pass

    async def end_input(self) -> None:
        """There is no more."""
        while not await self._put(b"", is_last=True):
            pass

    async def resize(self, window: WindowSize) -> None:
        """Our terminal has another size now."""
        await self._put(b"", window=window)

    async def _put(
        self, data: bytes, *, is_last: bool = False, window: WindowSize | None = None
    ) -> bool:
        size = None if window is None else [window.rows, window.columns]
        reply = await self._link.call(
            Lane.BULK,
            "pipe.input",
            [self._name, is_last, size],
            (data,),
            timeout_s=INPUT_TIMEOUT_S,
        )
        return reply.body is not False
