"""The two ends of a stream: the reader grants credit, the writer spends it, a chunk a piece."""

import asyncio
from collections import deque
from collections.abc import Callable

from meshswarm.errors import MeshswarmError
from meshswarm.mesh.requests import Chunk


class ChunkReader:
    """The chunks of a stream, to be iterated over; `grant` lets the writer send so many more."""

    def __init__(self, window: int, grant: Callable[[int], None]) -> None:
        self._window = window
        self._grant = grant
        self._chunks: deque[Chunk] = deque()
        self._unreported = 0
        self._has_ended = False
        self._error: MeshswarmError | None = None
        self._news = asyncio.Event()

    def push(self, chunk: Chunk) -> bool:
        """Take a chunk that arrived; False if the writer had no credit for it."""
        if len(self._chunks) + self._unreported >= self._window:
            return False
        self._chunks.append(chunk)
        self._news.set()
        return True

    def finish(self, error: MeshswarmError | None = None) -> None:
        """No more chunks will come; those that did are still given, then `error` is raised."""
        self._has_ended = True
        self._error = error
        self._news.set()

    def __aiter__(self) -> "ChunkReader":
        """The reader itself: a stream is read once."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        :raises StopAsyncIteration: after the last.
        :raises MeshswarmError: the peer's typed error, or `Unavailable` if the stream broke.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        chunk = self._chunks.popleft()
        self._report_one()
        return chunk

    def _report_one(self) -> None:
        self._unreported += 1
        if not self._has_ended and 2 * self._unreported >= self._window:
            granted, self._unreported = self._unreported, 0
            self._grant(granted)


class Credit:
    """How many chunks the writer may still send."""

    def __init__(self) -> None:
        self._left = 0
        self._news = asyncio.Event()

    def grant(self, chunks: int) -> None:
        """The reader takes so many more."""
        self._left += chunks
        self._news.set()

    async def spend(self) -> None:
        """Wait until a chunk may be sent, and count it."""
        while self._left == 0:
            self._news.clear()
            await self._news.wait()
        self._left -= 1
