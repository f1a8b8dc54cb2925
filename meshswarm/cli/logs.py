"""Logs of many tasks as one stream: prefixed by task, merged by time unless followed."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

from attrs import frozen

from meshswarm.cli.options import Format, Options
from meshswarm.cli.rows import instant, node_name
from meshswarm.cli.show import show_json_line
from meshswarm.cli.talk import say
from meshswarm.client import Client
from meshswarm.errors import MeshswarmError, NotFound
from meshswarm.ids import TaskId
from meshswarm.model.task import Task, TaskState
from meshswarm.store.view import Table, View

TASKS_MAX = 48
"""Tasks read at once, below what a node streams to one peer; the newest are chosen."""

LINES_MAX = 200_000
"""Lines held for merging; the rest of a finished log is printed unmerged."""

TABLES = (Table.SERVICES, Table.TASKS, Table.NODES)


@frozen(kw_only=True)
class LogRequest:
    """Whose lines, how many, and how they are printed."""

    target: str
    follow: bool = False
    tail: int | None = None
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
    reader = _Reader(client, options, request)
    async with asyncio.TaskGroup() as group:
        reader.start(group, view)
        if request.follow:
            async with aclosing(client.watch(*TABLES)) as newer:
                async for view in newer:
                    reader.start(group, view)
    reader.print_merged()


def chosen_tasks(view: View, target: str) -> list[Task]:
    """The tasks that a user means, oldest first: those of a service that ever ran, or one task."""
    try:
        service = view.find_service(target)
    except NotFound as no_service:
        try:
            return [view.find_task(target)]
        except NotFound:
            message = f"there is no service or task {target!r}"
            raise NotFound(message, hint=no_service.hint) from None
    started = [t for t in view.tasks_of(service.id) if t.status.state >= TaskState.STARTING]
    return sorted(started, key=lambda task: task.created_at_ms)


class _Reader:
    """One stream for each task, and the lines that wait to be merged."""

    def __init__(self, client: Client, options: Options, request: LogRequest) -> None:
        self._client = client
        self._options = options
        self._request = request
        self._begun: set[TaskId] = set()
        self._running = 0
        self._lines: list[Line] = []

    def start(self, group: asyncio.TaskGroup, view: View) -> None:
        """Begin to read every task that is not read yet."""
        fresh = [t for t in chosen_tasks(view, self._request.target) if t.id not in self._begun]
        room = TASKS_MAX - self._running
        if len(fresh) > room:
            say(f"warning: {len(fresh)} tasks, reading the newest {room}; name one task for others")
        self._begun.update(task.id for task in fresh)
        for task in fresh[-room:] if room else []:
            self._running += 1
            group.create_task(
                self._read(task, node_name(view, task.node_id)), name=f"logs of {task.id}"
            )

    async def _read(self, task: Task, node: str | None) -> None:
        request = self._request
        lines = self._client.task_logs(task.id, follow=request.follow, tail=request.tail)
        try:
            async with aclosing(lines) as chunks:
                async for chunk in chunks:
                    for text in chunk.lines:
                        line = Line(
                            task=task, node=node, stream=chunk.stream, at_ms=chunk.at_ms, text=text
                        )
                        self._take(line)
        except MeshswarmError as error:  # one dead node must not hide what the others wrote
            say(f"warning: no log of {_label(task, node)}: {error.message}")
        finally:
            self._running -= 1

    def _take(self, line: Line) -> None:
        if self._request.follow or len(self._lines) >= LINES_MAX:
            self._print(line)
        else:
            self._lines.append(line)

    def print_merged(self) -> None:
        """Print what was held: by time where it is known, else task by task."""
        for line in merged(self._lines):
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
        at = f"{instant(line.at_ms or 0) or '-'} " if self._request.timestamps else ""
        print(f"{at}{_label(line.task, line.node)} | {line.text}", flush=self._request.follow)


def merged(lines: list[Line]) -> Iterator[Line]:
    """The lines by time; a line without one keeps its place behind its task's line before."""
    last: dict[TaskId, int] = {}
    keyed: list[tuple[int, int, Line]] = []
    for number, line in enumerate(lines):
        at_ms = line.at_ms if line.at_ms is not None else last.get(line.task.id, 0)
        last[line.task.id] = at_ms
        keyed.append((at_ms, number, line))
    return (line for _, _, line in sorted(keyed, key=lambda item: item[:2]))


def _label(task: Task, node: str | None) -> str:
    slot = task.slot or task.id[:5]
    return f"{task.service_name}.{slot}@{node or '-'}"
