"""A client process that loads a cluster and prints what it measured as one JSON object.

    python3 -m tools.bench._load --context FILE --kind write|read [--clients 256] [--batch 1]

So many tasks in one process, each with one request under way at a time (a closed loop), through
the mesh client that everybody uses. A write puts a config of 256 bytes under one of 10,000 names;
a batch is that many of them in one command; a read is a linearizable read of one of them.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from meshswarm.cli.reach import connect
from meshswarm.client import Client
from meshswarm.store.commands import Batch, PutConfig
from meshswarm.store.view import Table

KEYS = 10_000
PAYLOAD_BYTES = 256
WARM_UP_S = 1.0

Request = Callable[[], Awaitable[object]]


def main() -> None:
    """Run one load and print its figures."""
    parser = argparse.ArgumentParser(prog="load")
    parser.add_argument("--context", type=Path, required=True)
    parser.add_argument("--kind", choices=("write", "read"), default="write")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--total", type=int, default=0, help="end after so many, not after a time")
    wanted = parser.parse_args()
    print(json.dumps(asyncio.run(measure(wanted))))


async def measure(wanted: argparse.Namespace) -> dict[str, float]:
    """The figures of one load."""
    async with connect(wanted.context) as client:
        make = reader if wanted.kind == "read" else writer
        loop = Loop(make(client, wanted.batch), wanted.seconds, wanted.total)
        before = resource.getrusage(resource.RUSAGE_SELF)
        async with asyncio.TaskGroup() as tasks:
            for number in range(wanted.clients):
                tasks.create_task(loop.run(), name=f"client {number}")
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return {**loop.figures(wanted.batch), "client_cpu": round(cpu_s / loop.elapsed_s, 2)}


class Loop:
    """Requests one after the other, by as many tasks as call `run`; timed after the warm-up."""

    def __init__(self, request: Request, seconds: float, total: int) -> None:
        self._request = request
        self._total = total
        began = time.perf_counter()
        self._measured_from = began if total else began + WARM_UP_S
        self._ends = float("inf") if total else self._measured_from + seconds
        self._begun = 0
        self._last = began
        self._times: list[float] = []

    async def run(self) -> None:
        """Ask until the time, or the number, is up."""
        clock, times, request = time.perf_counter, self._times, self._request
        while (asked := clock()) < self._ends and not 0 < self._total <= self._begun:
            self._begun += 1
            await request()
            self._last = clock()
            if asked >= self._measured_from:
                times.append(self._last - asked)

    @property
    def elapsed_s(self) -> float:
        """From the first measured request to the last answer."""
        return self._last - self._measured_from

    def figures(self, batch: int) -> dict[str, float]:
        """Operations a second, and the time that one request took."""
        times = sorted(self._times)
        return {
            "ops_s": round(len(times) * batch / self.elapsed_s),
            "p50_ms": round(1_000 * times[len(times) // 2], 3),
            "p99_ms": round(1_000 * times[len(times) * 99 // 100], 3),
        }


def writer(client: Client, batch: int) -> Request:
    """Proposes fresh content for random names; several at once if `batch` is more than 1."""
    rest = os.urandom(PAYLOAD_BYTES - 8)
    numbers, draw = itertools.count(time.time_ns()), random.Random(os.getpid()).randrange

    def put() -> PutConfig:
        return PutConfig(name=f"k{draw(KEYS):08d}", data=next(numbers).to_bytes(8, "big") + rest)

    async def write() -> None:
        await client.propose(put())

    async def write_many() -> None:
        await client.propose(Batch(commands=tuple(put() for _ in range(batch))))

    return write if batch == 1 else write_many


def reader(client: Client, batch: int) -> Request:
    """Reads random names, each a read that holds everything acknowledged before."""
    assert batch == 1, "reads are single"
    draw = random.Random(os.getpid()).randrange

    async def read() -> None:
        await client.row(Table.CONFIGS, f"k{draw(KEYS):08d}")

    return read


if __name__ == "__main__":
    main()
