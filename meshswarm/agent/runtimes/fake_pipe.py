"""The fake runtime's pipes: memory at the other end."""

import asyncio
from collections import deque

from meshswarm.agent.runtimes.port import Piece
from meshswarm.model.pipe import PipeKind, PipeWish, WindowSize


class FakePipe:
    """A pipe with memory at its other end."""

    def __init__(self, wish: PipeWish, files: dict[str, bytes]) -> None:
        self.wish = wish
        self.windows: list[WindowSize] = []
        """The sizes that it was told."""
        self._files = files
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        match wish.kind:
            case PipeKind.STAT:
                self._give(b"file" if wish.path in files else b"", b"")
            case PipeKind.READ:
                self._give(files.get(wish.path, b""), b"")
            case PipeKind.WRITE:
                files[wish.path] = b""
            case PipeKind.RUN if not wish.has_input:
                self._give(b"")

    async def read(self) -> Piece | None:
        """What was put, or lies there."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        data = self._waiting.popleft()
        return Piece("stdout", data) if data else None

    async def room(self) -> None:
        """There always is."""

    def put(self, data: bytes) -> None:
        """Keep it, or give it back."""
        if self.wish.kind is PipeKind.WRITE:
            self._files[self.wish.path] += data
        if self.wish.kind is PipeKind.RUN or not data:
            self._give(data)

    async def resize(self, window: WindowSize) -> None:
        """Note it."""
        self.windows.append(window)

    async def end(self) -> int:
        """Whatever was wanted worked, unless there was nothing to read."""
        return int(self.wish.kind is PipeKind.READ and self.wish.path not in self._files)

    def _give(self, *pieces: bytes) -> None:
        """Let these be read; an empty one is the end."""
        self._waiting.extend(pieces)
        self._news.set()
