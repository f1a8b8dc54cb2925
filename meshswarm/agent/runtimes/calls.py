"""Blocking calls in threads: so many at once, and one that hangs does not hold up the others.

A call that lasts longer than `stuck_s` no longer counts: another one may begin in its place, until
`spare` of them hang; then the next ones wait. Its thread ends when the call does. Threads are
daemons: a process that ends does not wait for an answer that nobody will read.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Calls:
    """`width` calls at once, besides at most `spare` that hang; what each does must be repeatable.

    A caller that is cancelled leaves its call running, and the place of the call taken.
    """

    def __init__(self, name: str, width: int, *, spare: int = 0, stuck_s: float = 60.0) -> None:
        self._name = name
        self._stuck_s = stuck_s
        self._spare = spare
        self._free = asyncio.Semaphore(width)
        self._hanging: list[_Place] = []
        """Those that hang, and whose place could not be lent yet."""

    @property
    def spare(self) -> int:
        """How many more calls may hang before others have to wait for them."""
        return self._spare

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` gives, or raises; it waits for its turn, in order."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        place = _Place(self)
        hurry = loop.call_later(self._stuck_s, place.lend)
        done: Future[T] = Future()

        def carry_out() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(work(*arguments))
                except BaseException as error:  # noqa: BLE001 -- the caller's to handle
                    done.set_exception(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for a turn
                loop.call_soon_threadsafe(end)

        def end() -> None:
            hurry.cancel()
            place.leave()

        threading.Thread(target=carry_out, name=self._name, daemon=True).start()
        return await asyncio.wrap_future(done)


class _Place:
    """One call's place among those that may run."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._is_lent = False

    def lend(self) -> None:
        """The call hangs: let another one begin, as soon as not too many hang already."""
        calls = self._calls
        if calls._spare > 0:
            calls._spare -= 1
            self._is_lent = True
            calls._free.release()
        else:
            calls._hanging.append(self)

    def leave(self) -> None:
        """The call is over."""
        calls = self._calls
        if not self._is_lent:
            if self in calls._hanging:
                calls._hanging.remove(self)
            calls._free.release()
            return
        calls._spare += 1
        if calls._hanging:
            calls._hanging.pop(0).lend()
