"""The port that every runtime serves, and the board on which it keeps what it holds.

A runtime does what it is told and puts what it sees on its board; whoever drives it is told by a
callback that a task changed, then looks. Every verb may be repeated: preparing what is prepared,
starting what runs, stopping what ended and removing what is gone do nothing.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

from attrs import evolve, frozen

from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.errors import MeshswarmError
from meshswarm.ids import TaskId
from meshswarm.model.pipe import PipeWish, WindowSize
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment

MAX_EXEC_OUTPUT = 64 * 1024
"""Bytes of output that `execute` returns; the rest is dropped."""

MAX_LINE = 16 * 1024
"""Bytes of one log line; a longer one is cut into several."""


Stream = Literal["stdout", "stderr"]
STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


class RuntimeFailure(MeshswarmError):
    """A runtime could not do what it was told; `reason` says why in one word."""

    code = "runtime"

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@frozen(kw_only=True)
class LogLine:
    """One line that a task wrote, without its line end."""

    stream: Stream
    text: str
    at_ms: int | None
    """When it was written, as far as the runtime knows; None if it does not."""


@frozen(kw_only=True)
class Executed:
    """How a command run beside a task ended."""

    code: int
    output: str
    """Both streams together, at most `MAX_EXEC_OUTPUT` bytes."""


@frozen(kw_only=True)
class Stats:
    """What a task uses at this moment."""

    cpu_ns: int
    """Processor time since it began."""
    memory_bytes: int
    pids: int


@frozen
class Piece:
    """Some bytes that came out of a pipe, at most `PIECE_BYTES`."""

    stream: Stream
    data: bytes


class Pipe(Protocol):
    """An open pipe; whoever opened it reads until None, then asks for the end."""

    async def read(self) -> Piece | None:
        """The next output; None once there is no more."""
        ...

    async def room(self) -> None:
        """Wait until more input may be put."""
        ...

    def put(self, data: bytes) -> None:
        """Pass input on; empty: there is no more. What nobody reads any longer is dropped."""
        ...

    async def resize(self, window: WindowSize) -> None:
        """Tell the terminal its new size; without one it means nothing."""
        ...

    async def end(self) -> int:
        """The exit code of the command; of anything else 0 if it was done, and not without words
        on stderr if it was not."""
        ...


class Board:
    """What a runtime holds, by task; news that arrive late never undo newer ones."""

    def __init__(self) -> None:
        self.silence = ""
        """Why nothing newer can be known, in words; empty while the runtime answers."""
        self._held: dict[TaskId, Held] = {}
        self._pulled: dict[TaskId, str] = {}
        self._listeners: list[Callable[[TaskId], None]] = []
        self._silence_listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[TaskId], None]) -> None:
        """Call `listener` with the task after every change; it must not block."""
        self._listeners.append(listener)

    def look(self, task_id: TaskId) -> Held | None:
        """What is held of the task."""
        return self._held.get(task_id)

    def all(self) -> tuple[Held, ...]:
        """Everything that is held, in the order of task ids."""
        return tuple(held for _, held in sorted(self._held.items()))

    def put(self, held: Held) -> Held:
        """Note what was seen and return what stands: older news of the same thing are dropped."""
        known = self._held.get(held.task_id)
        if known is not None and known.runtime_id == held.runtime_id:
            if held.progress < known.progress:
                return known
            if known.state is HeldState.RUNNING and held.state is HeldState.EXITED:
                held = evolve(held, health=known.health, health_message=known.health_message)
        if held != known:
            self._held[held.task_id] = held
            self._tell(held.task_id)
        return held

    def drop(self, task_id: TaskId) -> None:
        """Note that nothing is held any more."""
        if self._held.pop(task_id, None) is not None:
            self._tell(task_id)

    def pulled(self, task_id: TaskId) -> str:
        """The image that is being pulled for the task; empty if none is."""
        return self._pulled.get(task_id, "")

    def note_pull(self, task_id: TaskId, image: str) -> None:
        """Note that this image is being pulled for the task, or (empty) that none is any more."""
        if image == self.pulled(task_id):
            return
        if image:
            self._pulled[task_id] = image
        else:
            del self._pulled[task_id]
        self._tell(task_id)

    def listen_silence(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `silence` begins or ends; it must not block."""
        self._silence_listeners.append(listener)

    def note_silence(self, why: str) -> None:
        """Note that the runtime does not answer, or (empty) that it does."""
        if bool(why) != bool(self.silence):
            self.silence = why
            for listener in self._silence_listeners:
                listener()

    def _tell(self, task_id: TaskId) -> None:
        for listener in self._listeners:
            listener(task_id)


class Runtime(Protocol):
    """What can run tasks. Every verb raises `RuntimeFailure`, and nothing else of its own."""

    @property
    def kind(self) -> RuntimeKind:
        """Which runtime this is."""
        ...

    @property
    def board(self) -> Board:
        """What it holds of this node's tasks, kept up to date while `run` runs."""
        ...

    async def run(self) -> None:
        """Watch what is held until cancelled; leaves everything running when it ends."""
        ...

    async def refresh(self) -> None:
        """Bring the board up to date with what is really there."""
        ...

    async def version(self) -> str:
        """The version of what answers; raises RUNTIME_UNAVAILABLE if nothing does."""
        ...

    async def prepare(self, assignment: Assignment) -> Held:
        """Make the task ready to start: image, container or directory, volumes.

        Its configs and secrets lie in its directory of files already (`agent.files`).
        """
        ...

    async def start(self, task_id: TaskId) -> Held:
        """Start what was prepared."""
        ...

    async def stop(self, task_id: TaskId, *, kill: bool) -> None:
        """Send the task's stop signal, or SIGKILL; does not wait for its end."""
        ...

    async def signal(self, task_id: TaskId, name: str) -> None:
        """Send a running task this signal (SIGHUP); nothing happens if it does not run."""
        ...

    async def remove(self, task_id: TaskId) -> None:
        """Clear away what is held of an ended or never started task, its logs too."""
        ...

    async def execute(self, task_id: TaskId, argv: Sequence[str], timeout_s: float) -> Executed:
        """Run a command beside the task; after `timeout_s` it is killed, with code 124."""
        ...

    def pipe(self, task_id: TaskId, wish: PipeWish) -> AbstractAsyncContextManager[Pipe]:
        """A pipe to the running task; what still runs of it when the block is left is killed."""
        ...

    async def stats(self, task_id: TaskId) -> Stats:
        """What the running task uses."""
        ...

    def logs(
        self, task_id: TaskId, *, follow: bool, tail: int | None, since_ms: int
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """What the task wrote, oldest first, in small groups; `follow` goes on until it ended.

        `tail` is the number of last lines of each stream to begin with, None all that is kept.
        Lines written before `since_ms` are left out where their time is known.
        """
        ...


def killed_by(number: int) -> Exit:
    """The end of something by a signal, as engines put it."""
    return Exit(code=128 + number)
