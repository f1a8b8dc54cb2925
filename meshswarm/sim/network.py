"""Connections between processes: messages that may be lost, late or repeated; calls; streams.

What is sent is addressed to a process as it runs now: a restarted one does not get it. Cuts are
one-way. Nobody is told of a cut; a process that dies breaks its connections.
"""

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from attrs import define, field, frozen

from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.sim.clock import Bell, Clock, Life, Promise, Script, Work
from meshswarm.sim.trace import Trace

P = TypeVar("P")
T = TypeVar("T")

RESEND_MS = 200
"""TCP sends anew what was lost; so calls and streams are late rather than lost ..."""

GIVE_UP_MS = 3_000
"""... until the connection is given up."""


@frozen(kw_only=True)
class Weather:
    """How the network treats what it carries. Shares are of messages, in [0, 1]."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_ms: tuple[int, int] = (1, 3)
    gusts: float = 0.0
    """The share that is delayed by up to `gust_ms` more, and so overtaken."""
    gust_ms: int = 300


@define(eq=False)
class Door(Generic[P]):
    """Where a process can be reached; nobody is behind it while the process is down."""

    id: str
    life: Life | None = None
    process: P | None = None

    def open(self, life: Life, process: P) -> None:
        """The process runs."""
        self.life, self.process = life, process

    def close(self) -> None:
        """It does not run any more."""
        self.life = self.process = None


@define
class Network:
    """Everything in flight."""

    clock: Clock
    rng: random.Random
    trace: Trace
    weather: Weather = Weather()
    cuts: set[tuple[str, str]] = field(factory=set)
    """(from, to): what goes this way is lost."""
    clogs: dict[tuple[str, str], int] = field(factory=dict)
    """(from, to): what goes this way is held up until this instant, and then comes all at once."""

    def is_cut(self, from_: str, to: str) -> bool:
        """Whether nothing gets from the one to the other."""
        return (from_, to) in self.cuts

    def tell(self, from_: str, door: Door[P], what: str, work: Callable[[P], None]) -> bool:
        """Send a message that may be lost, late or repeated; False if surely nobody gets it."""
        life, process = door.life, door.process
        if life is None or process is None:
            return self.is_cut(from_, door.id) or self.is_cut(door.id, from_)
        rng, weather = self.rng, self.weather
        if weather.loss and rng.random() < weather.loss:
            return True
        comes_twice = weather.duplication > 0 and rng.random() < weather.duplication
        arrive = partial(self._arrive, from_, door.id, what, life, partial(work, process))
        self.clock.after(self.path_delay_ms(from_, door.id), arrive)
        if comes_twice:
            self.clock.after(self.path_delay_ms(from_, door.id), arrive)
        return True

    def _arrive(self, from_: str, to: str, what: str, life: Life, work: Work) -> None:
        if (from_, to) not in self.cuts:
            self.trace.passes(from_, to, what)
            life.run(work)

    def ask(
        self,
        asker: Life,
        from_: str,
        door: Door[P],
        what: str,
        question: Callable[[P], Script[T]],
        limit_ms: int,
    ) -> Promise[T]:
        """Call a process: its answer, its typed error, or `Unavailable` if it was never reached.

        `OutcomeUnknown` if it may have been, and no answer came.
        """
        answer: Promise[T] = Promise(asker)
        life, process = door.life, door.process
        if life is None or process is None:
            hidden = self.is_cut(from_, door.id)
            wait_ms = min(limit_ms, GIVE_UP_MS) if hidden else self.delay_ms()
            asker.after(wait_ms, partial(answer.fail, Unavailable(f"no connection to {door.id}")))
            return answer

        async def serve() -> None:
            try:
                settle = partial(answer.keep, await question(process))
            except MeshswarmError as error:
                settle = partial(answer.fail, error)
            life.mourners.pop(broken, None)
            self.carry(door.id, from_, f"{what} reply", asker, settle)

        unknown = OutcomeUnknown(f"{door.id} did not answer `{what}`")
        broken = partial(self._break, door.id, from_, asker, partial(answer.fail, unknown))
        life.mourners[broken] = None
        answer.then(partial(life.mourners.pop, broken, None))
        self.carry(from_, door.id, what, life, lambda: life.spawn(serve()))
        asker.after(limit_ms, partial(answer.fail, unknown))
        return answer

    def carry(self, from_: str, to: str, what: str, life: Life, work: Work) -> None:
        """Bring one message over a connection: late rather than lost, until it is given up."""
        late = RESEND_MS if self.rng.random() < self.weather.loss else 0
        attempt = partial(self._try, from_, to, what, life, work, 0)
        self.clock.after(self.path_delay_ms(from_, to) + late, attempt)

    def _try(self, from_: str, to: str, what: str, life: Life, work: Work, waited: int) -> None:
        if not self.is_cut(from_, to):
            self.trace.passes(from_, to, what)
            life.run(work)
        elif waited < GIVE_UP_MS:
            again = partial(self._try, from_, to, what, life, work, waited + RESEND_MS)
            self.clock.after(RESEND_MS, again)

    def path_delay_ms(self, from_: str, to: str) -> int:
        """How long the next message takes on this path, which may be clogged."""
        delay_ms = self.delay_ms()
        if not self.clogs:
            return delay_ms
        return delay_ms + max(0, self.clogs.get((from_, to), 0) - self.clock.now_ms)

    def forget_clogs(self) -> None:
        """Let go of those that are over."""
        now_ms = self.clock.now_ms
        for path in [path for path, until_ms in self.clogs.items() if until_ms <= now_ms]:
            del self.clogs[path]

    def _break(self, from_: str, to: str, life: Life, work: Work) -> None:
        """A process died: its peer learns that, soon or when its own timeout passes."""
        delay_ms = GIVE_UP_MS if self.is_cut(from_, to) else self.delay_ms()
        life.after(delay_ms, work)

    def delay_ms(self) -> int:
        """How long the next message takes."""
        rng, weather = self.rng, self.weather
        low, high = weather.delay_ms
        delay = low + int(rng.random() * (high - low + 1))  # randrange takes four times as long
        if weather.gusts and rng.random() < weather.gusts:
            delay += int(rng.random() * weather.gust_ms)
        return delay


class Stream(Generic[T]):
    """Chunks from one process to another, in order, until one of them ends it or it breaks."""

    def __init__(
        self, network: Network, writer: tuple[str, Life], reader: tuple[str, Life], what: str
    ) -> None:
        self.is_over = False
        self._network = network
        self._writer_id, self._writer = writer
        self._reader_id, self._reader = reader
        self._what = what
        self._flying: deque[T] = deque()
        self._arrived: deque[T] = deque()
        self._waited_ms = 0
        self._error: MeshswarmError | None = None
        self._news = Bell(self._reader)
        self._enders: list[Work] = []
        for dying, (id_, other) in ((self._writer, reader), (self._reader, writer)):
            self_id = self._writer_id if dying is self._writer else self._reader_id
            dying.mourners[partial(network._break, self_id, id_, other, self._lost)] = None

    def on_end(self, work: Work) -> None:
        """Let the writer do this when the stream is over, or now if it is."""
        if self.is_over:
            self._writer.run(work)
        else:
            self._enders.append(work)

    def push(self, chunk: T) -> None:
        """Send a chunk."""
        self._flying.append(chunk)
        if len(self._flying) == 1:
            self._fly()

    def fail(self, error: MeshswarmError) -> None:
        """End it from the writer's side; the reader learns why, if it can be reached."""
        self._close()
        self._network.carry(
            self._writer_id, self._reader_id, "error", self._reader, partial(self._finish, error)
        )

    def leave(self) -> None:
        """End it from the reader's side; the writer learns it, if it can be reached."""
        if self._reader.is_over:
            return  # the dead say nothing
        self._network.carry(self._reader_id, self._writer_id, "cancel", self._writer, self._close)

    async def next(self, limit_ms: int) -> T | None:
        """The next chunk, or None after the limit; raises the error that ended the stream."""
        if not self._arrived and self._error is None:
            await self._news.wait(limit_ms)
        self._news.clear()
        if self._arrived:
            return self._arrived.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _fly(self) -> None:
        delay_ms = self._network.path_delay_ms(self._writer_id, self._reader_id)
        self._network.clock.after(delay_ms, self._deliver)

    def _deliver(self) -> None:
        """Bring the oldest chunk over; a lost one holds up those behind it."""
        if self._error is not None:
            return
        network = self._network
        if not network.is_cut(self._writer_id, self._reader_id):
            self._waited_ms = 0
            network.trace.passes(self._writer_id, self._reader_id, self._what)
            self._reader.run(partial(self._take, self._flying.popleft()))
            if self._flying:
                self._fly()
        elif self._waited_ms >= GIVE_UP_MS:
            self._lost()
        else:
            self._waited_ms += RESEND_MS
            network.clock.after(RESEND_MS, self._deliver)

    def _take(self, chunk: T) -> None:
        self._arrived.append(chunk)
        self._news.ring()

    def _lost(self) -> None:
        self._close()
        self._finish(Unavailable(f"the stream from {self._writer_id} broke"))

    def _finish(self, error: MeshswarmError) -> None:
        if self._error is None:
            self._error = error
            self._reader.run(self._news.ring)

    def _close(self) -> None:
        if not self.is_over:
            self.is_over = True
            for work in self._enders:
                self._writer.run(work)
