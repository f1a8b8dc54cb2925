"""What the state of the cluster costs: memory, disk, a restart, a snapshot for a manager that lags.

    python3 tools/run.py bench raft_state [--only CASE] [--scale 1.0]

memory          1,000,000 writes of 256 bytes to 10,000 names: resident memory of each manager
                and its journal on disk, at the end and at the most
restart_log     a manager is killed after 100,000 writes and started again, until it answers a
                linearizable read; about half of them are in the log behind its snapshot
restart_entries the same with 100,000 entries of one write of 32 bytes each, and no snapshot: for a
                log that long `snapshot_entries` is raised
restart_50mb    the same with a snapshot of 50 MB, 90,000 rows of 560 bytes
snapshot_200mb  a manager that lost its log is sent a snapshot of 200 MB while the others are
                written to: elections, and how long a write takes before and meanwhile

Three manager processes on loopback as on any hosts, and clients in processes of their own.
`--scale` makes everything smaller, to try it out.
"""

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from meshswarm.answers import ManagerStatus
from meshswarm.client import Client, connected
from meshswarm.errors import MeshswarmError
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.settings import load_client_context
from meshswarm.store.commands import Batch, PutConfig
from meshswarm.store.view import Table
from tools.bench.idle import cpu_s, resident_mb
from tools.bench.lab import Lab, cluster, command, emit, say, set_raft

PAYLOAD_BYTES = 256
NAMES = 10_000
LOADERS = 2
IN_FLIGHT = 256
STEP_S = 120.0
"""The longest that a manager may take to come back or to catch up."""


def write(number: int, names: int, size: int) -> PutConfig:
    """The write of that number: the real command that carries a payload of `size` bytes."""
    return PutConfig(name=f"bench-{number % names}", data=random.randbytes(size))


# --- clients ------------------------------------------------------------------------------------


@asynccontextmanager
async def client_of(context: Path, *names: str) -> AsyncIterator[Client]:
    """A client that knows these managers only; none: all of them."""
    read = load_client_context(context)
    managers = [
        Peer(name=row.name, role=PeerRole.MANAGER, public_key=row.public_key, address=row.address)
        for row in read.managers
        if not names or row.name in names
    ]
    pair = keys.load(read.client.key_file)
    async with connected(pair, name="bench", managers=managers, patience_s=STEP_S) as client:
        yield client


async def load(
    context: Path, first: int, count: int, names: int, size: int, batch: int, clients: int
) -> None:
    """Make `count` writes; the body of a loader process. One client has many in flight, which
    travel together; of several each has one, which is an entry of its own."""
    numbers = iter(range(first, first + count, batch))

    async def lane(client: Client) -> None:
        for start in numbers:
            writes = [
                write(n, names, size) for n in range(start, min(start + batch, first + count))
            ]
            await client.propose(writes[0] if batch == 1 else Batch(commands=tuple(writes)))

    in_flight = max(1, IN_FLIGHT // batch) if clients == 1 else 1
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as lanes:
        for _ in range(clients):
            client = await stack.enter_async_context(client_of(context))
            for number in range(in_flight):
                lanes.create_task(lane(client), name=f"lane {number}")


def filled(
    lab: Lab, count: int, names: int, size: int, batch: int = 1, clients: int = 1
) -> Iterator[None]:
    """Let loader processes make `count` writes; yields now and then until they are done."""
    share = -(-count // LOADERS)
    loaders = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.bench.raft_state", "--load", str(lab.context)]
            + [str(n) for n in (first, min(share, count - first), names, size, batch, clients)]
        )
        for first in range(0, count, share)
    ]
    try:
        while any(loader.poll() is None for loader in loaders):
            time.sleep(0.5)
            yield
    finally:
        for loader in loaders:
            if loader.poll() is None:
                loader.kill()
            loader.wait()
    for loader in loaders:
        if loader.returncode:
            raise RuntimeError(f"a loader ended with {loader.returncode}")


def run_through(steps: Iterator[None]) -> None:
    """Only the end of it matters."""
    for _ in steps:
        pass


# --- managers -----------------------------------------------------------------------------------


def raft_directory(lab: Lab, name: str) -> Path:
    """Where the manager keeps log and snapshots."""
    return next((lab.directory / name).rglob("journal.mark")).parent


def bytes_of(directory: Path) -> int:
    """What the files of a directory hold; they come and go."""
    size = 0
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def pids(lab: Lab) -> dict[str, int]:
    """The managers' processes, by name."""
    return {str(row["name"]): int(str(row["pid"])) for row in lab.nodes() if row["running"]}


def started_s(pid: int) -> float:
    """When the process began, in seconds since the host did."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


async def statuses(lab: Lab) -> list[ManagerStatus]:
    """What the managers that answer say of themselves."""
    async with client_of(lab.context) as client:
        return [answer.status for answer in await client.statuses() if answer.status is not None]


def leaders_status(lab: Lab) -> ManagerStatus:
    """What the leader says of itself."""
    lab.leader()
    return next(one for one in asyncio.run(statuses(lab)) if one.raft_state == "Leader")


def snapshots_mb(directory: Path) -> float:
    """The size of the newest snapshot."""
    sizes = [path.stat().st_size for path in directory.glob("snapshot-*") if path.suffix == ""]
    return max(sizes, default=0) / 1e6


# --- the cases ----------------------------------------------------------------------------------


def memory(scale: float) -> None:
    """Many writes to some names."""
    count = round(1_000_000 * scale)
    with cluster() as lab:
        processes = pids(lab)
        directories = {name: raft_directory(lab, name) for name in processes}
        idle = {name: resident_mb(pid) for name, pid in processes.items()}
        rss_most, journal_most = 0.0, 0
        began = time.perf_counter()
        for _ in filled(lab, count, NAMES, PAYLOAD_BYTES):
            rss_most = max(rss_most, *(resident_mb(pid) for pid in processes.values()))
            journal_most = max(journal_most, *(bytes_of(d) for d in directories.values()))
        elapsed = time.perf_counter() - began
        time.sleep(5)
        for name, pid in processes.items():
            emit(
                "raft",
                "memory",
                node=name,
                writes=count,
                names=NAMES,
                ops_s=round(count / elapsed),
                rss_idle_mb=round(idle[name], 1),
                rss_mb=round(resident_mb(pid), 1),
                rss_most_mb=round(rss_most, 1),
                journal_mb=round(bytes_of(directories[name]) / 1e6, 1),
                journal_most_mb=round(journal_most / 1e6, 1),
            )


def restart_log(scale: float) -> None:
    """A start with a log as long as they get."""
    count = round(100_000 * scale)
    with cluster() as lab:
        run_through(filled(lab, count, NAMES, PAYLOAD_BYTES))
        restart(lab, "restart_log", writes=count)


def restart_entries(scale: float) -> None:
    """A start with a log longer than they get by themselves, and nothing else."""
    count = round(100_000 * scale)
    with cluster() as lab:
        set_raft(lab, {"snapshot_entries": 2 * count + 100})
        run_through(filled(lab, count, NAMES, 32, clients=24))
        restart(lab, "restart_entries", writes=count)


def restart_50mb(scale: float) -> None:
    """A start with a large snapshot of small rows."""
    names, size = round(90_000 * scale), 560
    with cluster() as lab:
        run_through(filled(lab, names, names, size, batch=100))
        follower = next(name for name in sorted(pids(lab)) if name != lab.leader())
        directory = raft_directory(lab, follower)
        deadline = time.monotonic() + STEP_S
        while snapshots_mb(directory) < 50 * scale and time.monotonic() < deadline:
            run_through(filled(lab, names // 10, names, size, batch=100))
        restart(lab, "restart_50mb", names=names)


def restart(lab: Lab, case: str, **figures: object) -> None:
    """Kill a follower and start it again, three times."""
    leader = lab.leader()
    name = next(name for name in sorted(pids(lab)) if name != leader)
    directory = raft_directory(lab, name)
    times, cpu = [], []
    for _ in range(3):
        lab.dev("kill", name)
        starting = subprocess.Popen(
            command("dev", "start", name, "--data-dir", str(lab.directory)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        times.append(asyncio.run(serves(lab, name)))
        cpu.append(cpu_s(pids(lab)[name]))
        starting.wait(STEP_S)
        say(f"{case}: {times[-1]:.2f} s")
    status = next(one for one in asyncio.run(statuses(lab)) if one.name == name)
    emit(
        "raft",
        "restart",
        of=case,
        **figures,
        entries_after_snapshot=status.applied_index - status.metrics.snapshot_index,
        snapshot_mb=round(snapshots_mb(directory), 1),
        serving_s=round(sorted(times)[1], 2),
        serving_most_s=round(max(times), 2),
        serving_cpu_s=round(sorted(cpu)[1], 2),
        rss_mb=round(resident_mb(pids(lab)[name]), 1),
    )


async def serves(lab: Lab, name: str) -> float:
    """Seconds from the start of the manager's process to its first linearizable answer, to a client
    that begins when it listens: one that was there before pauses for up to half a second."""
    deadline = time.monotonic() + STEP_S
    await listens(lab.context, name, deadline)
    async with client_of(lab.context, name) as client:
        while time.monotonic() < deadline:
            with suppress(MeshswarmError, KeyError):
                await client.read(Table.STACKS)
                answered_s = time.clock_gettime(time.CLOCK_BOOTTIME)
                return answered_s - started_s(pids(lab)[name])  # asking for pids takes a while
    raise TimeoutError(f"{name} does not serve")


async def listens(context: Path, name: str, deadline: float) -> None:
    """Wait until the manager takes connections."""
    (address,) = (row.address for row in load_client_context(context).managers if row.name == name)
    host, _, port = address.rpartition(":")
    while time.monotonic() < deadline:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return
        await asyncio.sleep(0.005)
    raise TimeoutError(f"nobody listens at {address}")


def snapshot_200mb(scale: float) -> None:
    """A large snapshot under way, and writes beside it."""
    size = 4096
    names = round(200e6 * scale / size)
    with cluster() as lab:
        run_through(filled(lab, names, names, size, batch=10))
        leader = lab.leader()
        name = next(name for name in sorted(pids(lab)) if name != leader)
        lab.dev("kill", name)
        shutil.rmtree(raft_directory(lab, name))
        # So that the log no longer reaches its beginning, if it still does.
        run_through(filled(lab, round(30_000 * scale) + 100, names, size, batch=10))
        asyncio.run(under_load(lab, name))


async def under_load(lab: Lab, name: str) -> None:
    """The latency of writes before and while the manager is sent its snapshot."""
    before: list[float] = []
    during: list[float] = []
    pid = pids(lab)[lab.leader()]
    async with client_of(lab.context) as client:
        term = max(status.term for status in await statuses(lab))
        say("before")
        await timed_writes(client, before, 10.0, lambda: False)
        lab.dev("start", name)
        began = time.perf_counter()
        caught_up = asyncio.Event()
        rss = 0.0

        async def watch() -> None:
            nonlocal rss
            while not caught_up.is_set():
                rss = max(rss, resident_mb(pid))
                by_name = {status.name: status for status in await statuses(lab)}
                if name in by_name and by_name[name].applied_index > 1_000:
                    caught_up.set()
                await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(), name="watch")
            say("during")
            await timed_writes(client, during, STEP_S, caught_up.is_set)
        elapsed = time.perf_counter() - began
        after = max(status.term for status in await statuses(lab))
    assert caught_up.is_set(), f"{name} did not catch up within {STEP_S} s"
    tell_of_unrest(lab)
    emit(
        "raft",
        "snapshot_200mb",
        snapshot_mb=round(snapshots_mb(raft_directory(lab, name)), 1),
        transfer_s=round(elapsed, 1),
        elections=after - term,
        write_p50_before_ms=percentile(before, 50),
        write_p99_before_ms=percentile(before, 99),
        write_p50_during_ms=percentile(during, 50),
        write_p99_during_ms=percentile(during, 99),
        write_max_during_ms=percentile(during, 100),
        leader_rss_mb=round(rss, 1),
    )


def tell_of_unrest(lab: Lab) -> None:
    """What the managers logged of elections, stalls and snapshots, for whoever looks into it."""
    told = ("role changed", "stuck", "snapshot", "lead")
    for log in sorted(lab.directory.glob("*/node.log")):
        for line in log.read_text(encoding="utf-8").splitlines():
            if any(word in line for word in told):
                say(f"{log.parent.name}: {line}")


async def timed_writes(
    client: Client, times: list[float], seconds: float, is_over: Callable[[], bool]
) -> None:
    """Steady writes from 16 lanes, each after a pause; their times in milliseconds."""
    deadline = time.monotonic() + seconds

    async def lane() -> None:
        while time.monotonic() < deadline and not is_over():
            began = time.perf_counter()
            await client.propose(write(random.randrange(100), 100, PAYLOAD_BYTES))
            times.append(1_000 * (time.perf_counter() - began))
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as lanes:
        for number in range(16):
            lanes.create_task(lane(), name=f"lane {number}")


def percentile(values: list[float], percent: int) -> float:
    """The nearest rank, in the unit of the values."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 1)


CASES: dict[str, Callable[[float], None]] = {
    "memory": memory,
    "restart_log": restart_log,
    "restart_entries": restart_entries,
    "restart_50mb": restart_50mb,
    "snapshot_200mb": snapshot_200mb,
}


def main() -> None:
    """Run each case on a fresh cluster and print its figures."""
    if sys.argv[1:2] == ["--load"]:
        context, *numbers = sys.argv[2:]
        first, count, names, size, batch, clients = map(int, numbers)
        asyncio.run(load(Path(context), first, count, names, size, batch, clients))
        return
    parser = argparse.ArgumentParser(prog="bench raft_state", description=__doc__)
    parser.add_argument("--only", choices=sorted(CASES))
    parser.add_argument("--scale", type=float, default=1.0)
    wanted = parser.parse_args()
    for case in [wanted.only] if wanted.only else list(CASES):
        CASES[case](wanted.scale)


if __name__ == "__main__":
    main()
