"""What waits travels together: one call for everything that gathered while the last was under way.

So the number of messages does not grow with the load, and who finds nobody waiting leaves at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Generic, TypeVar

from meshswarm.errors import MeshswarmError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Send = Callable[[list[Item]], Awaitable[Sequence[Answer]]]
"""Takes what gathered, in order; gives an answer for each. An error is the answer of them all."""

Start = Callable[[Coroutine[object, object, None], str], object]
"""Runs the coroutine as a task of that name, in somebody's TaskGroup."""

WINDOW = 2
"""Calls under way at once: while the answers to one come back, the next is on its way."""


class Gathering(Generic[Item, Answer]):
    """Gathers items for `send`, at most `most_items` or about `most_bytes` of them at once.

    `size_of` tells an item's bytes. Nothing limits how many wait but the number of those who do.
    """

    def __init__(
        self,
        send: Send[Item, Answer],
        start: Start,
        *,
        name: str,
        size_of: Callable[[Item], int],
        most_items: int,
        most_bytes: int,
    ) -> None:
        self._send = send
        self._start = start
        self._name = name
        self._size_of = size_of
        self._most_items, self._most_bytes = most_items, most_bytes
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._under_way = 0
        self._is_due = False

    async def put(self, item: Item) -> Answer:
        """The answer for `item`; whoever stops waiting for it stops nothing that others want."""
        if not self._waiting and not self._under_way:
            # Nobody else waits: no detour by a task of its own.
            self._under_way = 1
            try:
                (answer,) = await self._send([item])
            finally:
                self._under_way -= 1
                if self._waiting:
                    self._send_more()
            return answer
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._send_soon()
        return await future

    def _send_soon(self) -> None:
        """Begin a call once everybody has put an item who does so in this turn of the loop: those
        who were answered together ask again together."""
        if not self._is_due and self._under_way < WINDOW:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send_what_came)

    def _send_what_came(self) -> None:
        self._is_due = False
        self._send_more()

    def _send_more(self) -> None:
        """Begin a call for what waits, if one more may be under way."""
        if not self._waiting or self._under_way >= WINDOW:
            return
        work = self._run()
        try:
            self._start(work, self._name)
        except RuntimeError:  # The group is ending, and with it all that would wait.
            work.close()
            for _, future in self._waiting:
                future.cancel()
        else:
            self._under_way += 1

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._send_some()
        finally:
            self._under_way -= 1

    async def _send_some(self) -> None:
        items, futures = self._take()
        try:
            answers = await self._send(items)
        except MeshswarmError as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        assert len(answers) == len(items), f"{len(answers)} answers for {len(items)} items"
        for future, answer in zip(futures, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _take(self) -> tuple[list[Item], list[asyncio.Future[Answer]]]:
        """What waits, up to the limits, without what nobody waits for any more."""
        items: list[Item] = []
        futures: list[asyncio.Future[Answer]] = []
        size = 0
        while self._waiting and len(items) < self._most_items:
            item, future = self._waiting[0]
            size += self._size_of(item)
            if items and size > self._most_bytes:
                break
            self._waiting.popleft()
            if not future.done():
                items.append(item)
                futures.append(future)
        return items, futures
