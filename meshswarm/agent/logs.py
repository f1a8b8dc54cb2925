"""Serves the output of this node's tasks to the managers, for `service logs`."""

import itertools
from collections.abc import AsyncIterator, Callable

from meshswarm.agent.runtimes.port import Runtime
from meshswarm.errors import Invalid, NotFound
from meshswarm.ids import TaskId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import PeerRole
from meshswarm.mesh.requests import Chunk, Request

METHOD = "task.logs"


def serve_logs(endpoint: Endpoint, runtime_of: Callable[[TaskId], Runtime | None]) -> None:
    """Answer `task.logs` on this endpoint; `runtime_of` finds what holds a task.

    Asked with {"task", "follow", "tail", "since_ms"}; each chunk is {"stream", "lines", "at_ms",
    "times"}: lines of one stream in a row, when the first and when each of them was written (None:
    not known).
    """

    async def answer(request: Request) -> AsyncIterator[Chunk]:
        task_id, follow, tail, since_ms = _wish(request.body)
        runtime = runtime_of(task_id)
        if runtime is None:
            raise NotFound(f"this node holds nothing of task {task_id}")
        async for group in runtime.logs(task_id, follow=follow, tail=tail, since_ms=since_ms):
            for stream, lines in itertools.groupby(group, key=lambda line: line.stream):
                run = list(lines)
                texts = [line.text for line in run]
                times = [line.at_ms for line in run]
                body = {"stream": stream, "lines": texts, "at_ms": times[0], "times": times}
                yield Chunk(body)

    endpoint.on_stream(METHOD, answer, roles={PeerRole.MANAGER})


def _wish(body: object) -> tuple[TaskId, bool, int | None, int]:
    match body:
        case {"task": str() as task, **rest}:
            pass
        case _:
            raise Invalid("a logs request names a task")
    match rest.get("follow", False), rest.get("tail"), rest.get("since_ms") or 0:
        case bool() as follow, (None | int()) as tail, int() as since_ms:
            if tail is not None and tail < 0:
                raise Invalid(f"cannot begin with {tail} lines")
            return TaskId(task), follow, tail, since_ms
        case _:
            raise Invalid("a logs request has follow (bool), tail and since_ms (numbers)")
