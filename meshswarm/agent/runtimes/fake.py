"""A runtime without anything behind it: for tests, with faults to order and a clock to set.

What it holds ends only when told (`end`), or when stopped: the stop signal ends it with 143 unless
the task is `stubborn`, SIGKILL with 137.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from attrs import evolve

from meshswarm.agent import probes
from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.agent.runtimes.port import (
    Board,
    Executed,
    LogLine,
    Pipe,
    RuntimeFailure,
    Stats,
    killed_by,
)
from meshswarm.ids import TaskId
from meshswarm.model.pipe import PipeWish
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Health, Reason
from meshswarm.store.assignments import Assignment

if TYPE_CHECKING:
    from meshswarm.agent.runtimes.fake_pipe import FakePipe

SIGKILL, SIGTERM = 9, 15


class FakeRuntime:
    """Holds tasks in memory; give the same one to the next agent to see it adopt them."""

    def __init__(self, now_ms: Callable[[], int], kind: RuntimeKind = RuntimeKind.PROCESS) -> None:
        self.kind = kind
        self.board = Board()
        self.stubborn: set[TaskId] = set()
        """Tasks that ignore their stop signal."""
        self.calls: list[tuple[str, TaskId]] = []
        """Every verb that was carried out or failed, in order."""
        self.written: dict[TaskId, list[LogLine]] = defaultdict(list)
        self.files: dict[TaskId, dict[str, bytes]] = defaultdict(dict)
        """Archives that were written, by path."""
        self.pipes: list[FakePipe] = []
        """Every one that was opened."""
        self._now_ms = now_ms
        self._faults: dict[str, list[RuntimeFailure]] = defaultdict(list)
        self._checked: set[TaskId] = set()

    def fail(self, verb: str, reason: Reason, message: str = "injected", times: int = 1) -> None:
        """Let the next `times` calls of a verb fail."""
        self._faults[verb] += [RuntimeFailure(reason, message) for _ in range(times)]

    def refuses(self, verb: str) -> bool:
        """Whether the next call of a verb will fail."""
        return bool(self._faults[verb])

    def end(self, task_id: TaskId, how: Exit) -> None:
        """Let a running task end by itself."""
        held = self._required(task_id)
        self.board.put(evolve(held, state=HeldState.EXITED, exit=how))

    def feel(self, task_id: TaskId, health: Health, message: str = "") -> None:
        """Let the health check of a running task say this."""
        self.board.put(evolve(self._required(task_id), health=health, health_message=message))

    def lose(self, task_id: TaskId) -> None:
        """Let somebody else remove what is held."""
        self.board.drop(task_id)

    async def run(self) -> None:
        """Nothing to watch."""

    async def refresh(self) -> None:
        """Nothing to look at."""
        self._raise("refresh", TaskId(""))

    async def version(self) -> str:
        """Always the same."""
        self._raise("version", TaskId(""))
        return "fake"

    async def prepare(self, assignment: Assignment) -> Held:
        """Hold it as created."""
        task, spec = assignment.task, assignment.spec
        self._raise("prepare", task.id)
        if probes.check_of(spec) or spec.probes:
            self._checked.add(task.id)
        return self.board.look(task.id) or self.board.put(
            Held(
                task_id=task.id,
                service_id=task.service_id,
                slot=task.slot,
                fencing=task.fencing,
                runtime=self.kind,
                runtime_id=f"fake-{task.id}",
                address="127.0.0.1",
                grace_s=spec.stop_grace_period_s,
                stop_after_s=spec.stop_after_s,
            )
        )

    async def start(self, task_id: TaskId) -> Held:
        """Hold it as running."""
        self._raise("start", task_id)
        held = self._required(task_id)
        if held.state is not HeldState.CREATED:
            return held
        health = Health.STARTING if task_id in self._checked else Health.NONE
        return self.board.put(
            evolve(held, state=HeldState.RUNNING, started_at_ms=self._now_ms(), health=health)
        )

    async def stop(self, task_id: TaskId, *, kill: bool) -> None:
        """End it, unless it is stubborn and not killed."""
        self._raise("kill" if kill else "stop", task_id)
        held = self.board.look(task_id)
        if held and held.state is HeldState.RUNNING and (kill or task_id not in self.stubborn):
            self.end(task_id, killed_by(SIGKILL if kill else SIGTERM))

    async def signal(self, task_id: TaskId, name: str) -> None:
        """Note it among the calls, by its name."""
        self._raise(name, task_id)

    async def remove(self, task_id: TaskId) -> None:
        """Hold it no more."""
        self._raise("remove", task_id)
        held = self.board.look(task_id)
        if held is not None and held.state is HeldState.RUNNING:
            raise RuntimeFailure(Reason.STOP_FAILED, f"task {task_id} still runs")
        self.board.drop(task_id)
        self.written.pop(task_id, None)

    async def execute(self, task_id: TaskId, argv: Sequence[str], timeout_s: float) -> Executed:
        """Say what was to be executed."""
        self._raise("execute", task_id)
        self._required(task_id)
        return Executed(code=0, output=" ".join(argv))

    @asynccontextmanager
    async def pipe(self, task_id: TaskId, wish: PipeWish) -> AsyncIterator[Pipe]:
        """Every command is `cat`; files are what was written to their path, as it was written."""
        from meshswarm.agent.runtimes.fake_pipe import FakePipe  # waits, as no simulation may

        self._raise("pipe", task_id)
        self._required(task_id)
        pipe = FakePipe(wish, self.files[task_id])
        self.pipes.append(pipe)
        yield pipe

    async def stats(self, task_id: TaskId) -> Stats:
        """One idle process."""
        self._raise("stats", task_id)
        self._required(task_id)
        return Stats(cpu_ns=0, memory_bytes=0, pids=1)

    async def logs(
        self, task_id: TaskId, *, follow: bool, tail: int | None, since_ms: int
    ) -> AsyncIterator[tuple[LogLine, ...]]:
        """What was put into `written`; does not follow."""
        lines = [line for line in self.written[task_id] if (line.at_ms or since_ms) >= since_ms]
        kept = tuple(lines if tail is None else lines[len(lines) - min(tail, len(lines)) :])
        if kept:
            yield kept

    def _required(self, task_id: TaskId) -> Held:
        held = self.board.look(task_id)
        if held is None:
            raise RuntimeFailure(Reason.START_FAILED, f"nothing is held of task {task_id}")
        return held

    def _raise(self, verb: str, task_id: TaskId) -> None:
        self.calls.append((verb, task_id))
        if self._faults[verb]:
            raise self._faults[verb].pop(0)
