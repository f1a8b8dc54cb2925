"""Time that jumps from one event to the next, and the processes that live in it.

A process's code is coroutines that await a `Promise`; whatever a process began ends with its
`Life`, and stands still while that is paused. Events at one instant happen in the order in which
they were asked for.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Work = Callable[[], None]
Script = Coroutine[Any, Any, T]
"""What an `async def` of this room returns; it awaits nothing but promises."""


class Died(BaseException):
    """Raised where a process is made to die in the middle of what it does (`Life.fuse`)."""


class Clock:
    """Simulated milliseconds since the world began, and what is due when."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._due: list[tuple[int, int, Life | None, Work]] = []
        self._at_once: deque[tuple[Life | None, Work]] = deque()
        self._count = 0

    def after(self, delay_ms: int, work: Work, life: "Life | None" = None) -> None:
        """Do `work` in so many milliseconds, as part of a life; 0 is after all that is due now."""
        if delay_ms:
            self._count += 1
            heappush(self._due, (self.now_ms + delay_ms, self._count, life, work))
        else:
            self._at_once.append((life, work))

    def run_until(self, until_ms: int) -> None:
        """Let everything happen that is due up to and including this instant."""
        due, at_once = self._due, self._at_once
        while True:
            # What was asked for before this instant comes before what is asked for in it.
            if due and due[0][0] == self.now_ms:
                _, _, life, work = heappop(due)
            elif at_once:
                life, work = at_once.popleft()
            elif due and due[0][0] <= until_ms:
                self.now_ms, _, life, work = heappop(due)
            else:
                break
            if life is None:
                work()
            else:
                life.run(work)
        self.now_ms = until_ms


class Life:
    """One run of one process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.is_over = False
        self.mourners: dict[Work, None] = {}
        """Who is to be told when the process dies; its peers, as their connections break."""
        self.fuse: tuple[int, Work] | None = None
        """After so many I/O calls the process dies in the midst of what it does: whom to tell."""
        self._held: list[Work] | None = None
        self._scripts: dict[Script[None], None] = {}
        self._since_ms = clock.now_ms
        self._paused_ms = 0
        self.resumed_ms = clock.now_ms
        """When it last went on, or began."""

    @property
    def is_paused(self) -> bool:
        """Whether it is stopped, as by SIGSTOP."""
        return self._held is not None

    @property
    def lived_ms(self) -> int:
        """For how long it has run, without its pauses."""
        return self.clock.now_ms - self._since_ms - self._paused_ms

    @property
    def paused_ms(self) -> int:
        """For how long it stood still, in all its pauses that are over."""
        assert self._held is None, "asked of a process that stands still"
        return self._paused_ms

    def run(self, work: Work) -> None:
        """Let the process do this now, or when it goes on, or never."""
        if self.is_over:
            return
        if self._held is not None:
            self._held.append(work)
            return
        try:
            work()
        except Died:
            assert self.fuse is not None, "another process died in the midst of this one's work"
            self.fuse[1]()

    def begin_io(self) -> None:
        """The process asks its host for something that others will see: here it may die."""
        if self.fuse is not None:
            left, whom = self.fuse
            self.fuse = left - 1, whom
            if left <= 0:
                raise Died

    def after(self, delay_ms: int, work: Work) -> None:
        """Let the process do this in so many milliseconds, if it still lives."""
        self.clock.after(delay_ms, work, self)

    def spawn(self, script: Script[None]) -> None:
        """Let the process carry out a coroutine; an error that escapes it ends the world."""
        if self.is_over:
            script.close()
        else:
            self._scripts[script] = None
            self._go_on(script)

    def _go_on(self, script: Script[None]) -> None:
        try:
            promise: Promise[Any] = script.send(None)
        except StopIteration:
            del self._scripts[script]
        else:
            promise.then(partial(self._go_on, script))

    def sleep(self, delay_ms: int) -> "Promise[None]":
        """A promise kept in so many milliseconds."""
        promise: Promise[None] = Promise(self)
        self.after(delay_ms, partial(promise.keep, None))
        return promise

    def pause(self) -> None:
        """Stop the process where it is."""
        if self._held is None:
            self._held = []
            self._paused_ms -= self.clock.now_ms

    def resume(self) -> None:
        """Let it go on: all that it missed happens at once, in order."""
        if self._held is not None:
            self._paused_ms += self.clock.now_ms
            self.resumed_ms = self.clock.now_ms
        held, self._held = self._held, None
        for work in held or ():
            self.after(0, work)

    def end(self, *, silently: bool = False) -> None:
        """Kill it; `silently` if not even its connections break (the host lost its power)."""
        self.is_over = True
        if not silently:
            for mourner in self.mourners:
                mourner()
        self.mourners.clear()
        # Not left to the garbage collector, whose hour depends on everything else.
        for script in self._scripts:
            script.close()
        self._scripts.clear()


class Promise(Generic[T]):
    """A value that one process waits for; the first outcome stands."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._outcome: tuple[T] | Exception | None = None
        self._waiters: list[Work] = []

    @property
    def is_settled(self) -> bool:
        """Whether it was kept or broken."""
        return self._outcome is not None

    def keep(self, value: T) -> None:
        """Give the value."""
        self._settle((value,))

    def fail(self, error: Exception) -> None:
        """Let whoever waits meet this error."""
        self._settle(error)

    def then(self, waiter: Work) -> None:
        """Do this once it is settled."""
        self._waiters.append(waiter)

    def _settle(self, outcome: tuple[T] | Exception) -> None:
        if self._outcome is None:
            self._outcome = outcome
            for waiter in self._waiters:
                self._life.after(0, waiter)

    def __await__(self) -> Generator["Promise[T]", None, T]:
        """The value, when there is one; raises what it was failed with."""
        if self._outcome is None:
            yield self
        outcome = self._outcome
        assert outcome is not None, "woken before the promise was settled"
        if isinstance(outcome, Exception):
            raise outcome
        return outcome[0]


class Bell:
    """Wakes one coroutine; a ring that nobody waits for is kept."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._rung = False
        self._waiting: Promise[None] | None = None

    def ring(self) -> None:
        """Wake whoever waits, or will."""
        self._rung = True
        if self._waiting is not None:
            self._waiting.keep(None)

    def clear(self) -> None:
        """Forget an earlier ring."""
        self._rung = False

    async def wait(self, limit_ms: int | None = None) -> bool:
        """Return when it rings, or after the limit; whether it rang."""
        if not self._rung:
            self._waiting = Promise(self._life)
            if limit_ms is not None:
                self._life.after(limit_ms, partial(self._waiting.keep, None))
            await self._waiting
            self._waiting = None
        rung, self._rung = self._rung, False
        return rung


def at_once(script: Script[T]) -> T:
    """What a coroutine returns that awaits nothing, such as a verb of the fake runtime."""
    try:
        script.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError(f"{script} waits for something")
