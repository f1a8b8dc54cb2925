"""Logs of many tasks as one stream, by time, each line after the task that wrote it.

What is followed is printed a moment after it came, so that lines of other nodes that are older can
still go before it.
"""

import asyncio
import heapq
from collections.abc import Iterator, Sequence
from contextlib import aclosing

from attrs import frozen

from meshswarm.cli.options import Format, Options
from meshswarm.cli.rows import instant, node_name
from meshswarm.cli.show import is_terminal, show_json_line
from meshswarm.cli.talk import say
from meshswarm.client import Client
from meshswarm.errors import MeshswarmError, NotFound
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import NodeState
from meshswarm.model.service import Service
from meshswarm.model.task import Task, TaskState
from meshswarm.store.view import Table, View

TASKS_MAX = 48
"""Tasks read at once, below what a node streams to one peer; the newest are chosen."""

LINES_MAX = 200_000
"""Lines held for merging; the rest of a finished log is printed unmerged."""

HOLD_S = 0.3
"""How long a followed line waits for older ones of other tasks."""

FLUSH_S = 0.1
"""How often it is looked whether lines have waited for long enough."""

TABLES = (Table.SERVICES, Table.TASKS, Table.NODES)

COLORS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
"""The terminal's numbers of the colours that tasks are given in turn."""


@frozen(kw_only=True)
class LogRequest:
    """Whose lines, which, and how they are printed."""

    targets: Sequence[str]
    """Services, slots or tasks."""
    follow: bool = False
    tail: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    timestamps: bool = False


@frozen(kw_only=True)
class Line:
    """One line of one task."""

    task: Task
    node: str | None
    stream: str
    at_ms: int | None
    text: str


async def print_logs(client: Client, options: Options, request: LogRequest) -> None:
    """Print the lines; with `follow` until interrupted, new tasks included."""
    view = await client.read(*TABLES)
    if not request.follow:
        _check_slots(view, request.targets)
    reader = _Reader(client, options, request)
    async with asyncio.TaskGroup() as group:
        reader.start(group, view)
        if request.follow:
            group.create_task(reader.flush(), name="print logs")
            async with aclosing(client.watch(*TABLES)) as newer:
                async for view in newer:
                    reader.start(group, view)
    reader.print_merged()


def chosen_tasks(view: View, targets: Sequence[str]) -> list[Task]:
    """The tasks that a user means, oldest first: those of services or slots that ever ran, or
    single ones.
    """
    found: dict[TaskId, Task] = {}
    for target in targets:
        found |= {task.id: task for task in _meant(view, target)}
    return sorted(found.values(), key=lambda task: task.created_at_ms)


def _meant(view: View, target: str) -> list[Task]:
    name, _, slot = target.rpartition(".")
    service = view.service_named(target) or view.service_named(name)
    if service is None:
        try:
            service = view.find_service(target)
        except NotFound as no_service:
            try:
                return [view.find_task(target.rpartition(".")[2])]
            except NotFound:
                message = f"there is no service or task {target!r}"
                raise NotFound(message, hint=no_service.hint) from None
    is_slot = service.spec.name == name
    tasks = _tasks_of_slot(view, service, slot) if is_slot else view.tasks_of(service.id)
    return [task for task in tasks if _may_have_written(task)]


def _tasks_of_slot(view: View, service: Service, slot: str) -> list[Task]:
    return [
        task
        for task in view.tasks_of(service.id)
        if slot in (str(task.slot), node_name(view, task.node_id), task.id)
    ]


def _check_slots(view: View, targets: Sequence[str]) -> None:
    """Raise that there is no such slot; while it is followed it may come and go."""
    for target in targets:
        name, _, slot = target.rpartition(".")
        service = view.service_named(name)
        if view.service_named(target) is not None or service is None:
            continue
        if not _tasks_of_slot(view, service, slot):
            hint = f"meshswarm service ps {name}"
            raise NotFound(f"no task of {name} is kept for {slot}", hint=hint)


def _may_have_written(task: Task) -> bool:
    """Whether it was started at all; some are stopped or refused before."""
    state = task.status.state
    if state in (TaskState.SHUTDOWN, TaskState.REJECTED):
        return task.status.started_at_ms is not None
    return state >= TaskState.STARTING


class Settling:
    """Lines that wait a moment for older ones; what is ready comes by time."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._waiting: list[tuple[int, int, float, Line]] = []
        self._taken = 0
        self._latest: dict[TaskId, int] = {}

    def take(self, line: Line, now_s: float) -> None:
        """Let this line wait; one without a time is as old as its task's line before."""
        at_ms = line.at_ms if line.at_ms is not None else self._latest.get(line.task.id, 0)
        self._latest[line.task.id] = at_ms
        self._taken += 1
        heapq.heappush(self._waiting, (at_ms, self._taken, now_s, line))

    def ready(self, now_s: float) -> Iterator[Line]:
        """Those that have waited for long enough, and what is older; all, if there are too many."""
        while self._waiting and (
            self._waiting[0][2] <= now_s - self._hold_s or len(self._waiting) > LINES_MAX
        ):
            yield heapq.heappop(self._waiting)[3]

    def rest(self) -> Iterator[Line]:
        """All that still waits."""
        while self._waiting:
            yield heapq.heappop(self._waiting)[3]


class _Reader:
    """One stream for each task, and the lines that wait to be merged."""

    def __init__(self, client: Client, options: Options, request: LogRequest) -> None:
        self._client = client
        self._options = options
        self._request = request
        self._begun: set[TaskId] = set()
        self._running = 0
        self._lines = Settling(HOLD_S if request.follow else float("inf"))
        self._now_s = asyncio.get_running_loop().time
        self._colors: dict[TaskId, int] = {}
        self._width = 0
        self._is_colored = is_terminal(options)

    def start(self, group: asyncio.TaskGroup, view: View) -> None:
        """Begin to read every task that is not read yet."""
        fresh = [t for t in chosen_tasks(view, self._request.targets) if t.id not in self._begun]
        room = TASKS_MAX - self._running
        if len(fresh) > room:
            say(f"warning: {len(fresh)} tasks, reading the newest {room}; name one task for others")
        self._begun.update(task.id for task in fresh)
        for task in fresh[-room:] if room else []:
            name, node = node_name(view, task.node_id), view.nodes.get(task.node_id or NodeId(""))
            if node is not None and node.state is NodeState.DOWN:
                say(f"warning: no log of {_label(task, name)}: its node is down")
                continue
            self._running += 1
            doubt = node.message if node is not None and node.state is NodeState.SUSPECT else ""
            group.create_task(self._read(task, name, doubt), name=f"logs of {task.id}")

    async def _read(self, task: Task, node: str | None, doubt: str) -> None:
        """Take the task's lines; `doubt` says why its node may not answer."""
        request = self._request
        lines = self._client.task_logs(
            task.id, follow=request.follow, tail=request.tail, since_ms=request.since_ms
        )
        try:
            async with aclosing(lines) as chunks:
                async for chunk in chunks:
                    times = chunk.times or (chunk.at_ms,) * len(chunk.lines)
                    for at_ms, text in zip(times, chunk.lines, strict=True):
                        self._take(
                            Line(task=task, node=node, stream=chunk.stream, at_ms=at_ms, text=text)
                        )
        except MeshswarmError as error:  # one dead node must not hide what the others wrote
            why = f"its node does not answer: {doubt}" if doubt else error.message
            say(f"warning: no log of {_label(task, node)}: {why}")
        finally:
            self._running -= 1

    def _take(self, line: Line) -> None:
        request, at_ms = self._request, line.at_ms
        if at_ms is not None and request.until_ms is not None and at_ms > request.until_ms:
            return
        if at_ms is not None and request.since_ms is not None and at_ms < request.since_ms:
            return
        now_s = self._now_s()
        self._lines.take(line, now_s)
        self._print_all(self._lines.ready(now_s))

    async def flush(self) -> None:
        """Print what has waited for long enough, for ever."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                self._print_all(self._lines.ready(self._now_s()))
        finally:
            self.print_merged()

    def print_merged(self) -> None:
        """Print what was held."""
        self._print_all(self._lines.rest())

    def _print_all(self, lines: Iterator[Line]) -> None:
        for line in lines:
            self._print(line)

    def _print(self, line: Line) -> None:
        if self._options.format is Format.JSON:
            show_json_line(
                {
                    "task": line.task.id,
                    "service": line.task.service_name,
                    "slot": line.task.slot,
                    "node": line.node,
                    "stream": line.stream,
                    "at": instant(line.at_ms or 0),
                    "line": line.text,
                }
            )
            return
        at = f"{instant(line.at_ms or 0) or '-':24} " if self._request.timestamps else ""
        label = _label(line.task, line.node)
        if self._is_colored:
            self._width = max(self._width, len(label))
            color = COLORS[self._colors.setdefault(line.task.id, len(self._colors)) % len(COLORS)]
            label = f"\x1b[{color}m{label.ljust(self._width)}\x1b[0m"
            at = f"\x1b[2m{at}\x1b[0m" if at else ""
        print(f"{at}{label} | {line.text}", flush=self._request.follow)


def _label(task: Task, node: str | None) -> str:
    slot = task.slot or node or task.id[:5]
    return f"{task.service_name}.{slot}@{node or '-'}"
