"""Measures of this node and its tasks, taken when a manager asks and kept nowhere."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

from meshswarm import codec
from meshswarm.agent.card import HeldState
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.answers import NodeStats, TaskStats
from meshswarm.ids import TaskId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import PeerRole
from meshswarm.mesh.requests import Reply, Request

METHOD = "task.stats"

MAX_TOGETHER = 8
"""Tasks that are measured at once; an engine takes milliseconds for each."""

MEASURE_S = 2.0
"""How long all of it may take; tasks that were not measured by then are left out."""

PROC = Path("/proc")


def serve_stats(endpoint: Endpoint, runtimes: Iterable[Runtime]) -> None:
    """Answer `task.stats` on this endpoint with a `NodeStats`."""

    async def answer(request: Request) -> Reply:
        return Reply(codec.unstructure(await measured(tuple(runtimes))))

    endpoint.on_call(METHOD, answer, roles={PeerRole.MANAGER})


async def measured(runtimes: Iterable[Runtime]) -> NodeStats:
    """What this host, and each task that runs in these runtimes, uses now."""
    found: dict[str, TaskStats] = {}
    places = asyncio.Semaphore(MAX_TOGETHER)

    async def measure(runtime: Runtime, task_id: TaskId) -> None:
        async with places:
            try:
                used = await runtime.stats(task_id)
            except RuntimeFailure:  # it ended meanwhile, or its engine is away: it has no line
                return
        found[task_id] = TaskStats(
            cpu_ns=used.cpu_ns, memory_bytes=used.memory_bytes, pids=used.pids
        )

    at_ns, busy_ns = time.monotonic_ns(), host_busy_ns((PROC / "stat").read_text())
    try:
        async with asyncio.timeout(MEASURE_S), asyncio.TaskGroup() as group:
            for runtime in runtimes:
                for held in runtime.board.all():
                    if held.state is HeldState.RUNNING:
                        group.create_task(measure(runtime, held.task_id), name="measure")
    except TimeoutError:
        pass  # what was measured is told
    total, available = host_memory((PROC / "meminfo").read_text())
    return NodeStats(
        at_ns=at_ns,
        cpus=os.cpu_count() or 1,
        busy_ns=busy_ns,
        memory_bytes=total,
        memory_used_bytes=total - available,
        tasks=found,
    )


def host_busy_ns(text: str) -> int:
    """Processor time that was not idle, of all processors together, from /proc/stat."""
    ticks = [int(field) for field in text.splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def host_memory(text: str) -> tuple[int, int]:
    """All memory, and what is to be had of it, in bytes, from /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in text.splitlines())
    sizes = [int(fields[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable")]
    return sizes[0], sizes[1]
