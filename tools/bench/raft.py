"""Consensus under load: three managers on loopback, CURVE and fsync on, clients beside them.

    python3 tools/run.py bench raft [--peer etcd] [--peer pysyncobj] [--runs 3] [--only CASE]

sequential, inflight_256, inflight_1000   writes of a 256-byte config, so many under way at once
inflight_256_of_8                         the same from 8 client processes, 32 in each; the others
                                          are one process, whose requests travel together
batch_100                                 100 such writes in one command, 32 commands under way
read_sequential, reads_256                linearizable reads of one config
failover_default, failover_fast           SIGKILL of the leader until the next acknowledged write,
                                          at the defaults and at heartbeat 20 / election 150 ms
memory, restart, snapshot_200mb           what the state costs: see tools/bench/raft_state.py

A peer gets the same load in the same run, in turn with ours, and `ratio` is ours to its.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from attrs import frozen

from tools.bench import raft_state
from tools.bench.failover import leader_kill_write
from tools.bench.lab import Lab, cluster, emit, say, set_raft
from tools.bench.peers.etcd import etcd
from tools.bench.peers.pysyncobj import pysyncobj

SECONDS = 4.0
FAILOVERS = 9
FAST = {"heartbeat_ms": 20, "election_timeout_ms": 150}


@frozen
class Load:
    """One case: `clients` requests under way of `batch` operations each, in every process."""

    kind: str
    clients: int
    batch: int = 1
    processes: int = 1


LOADS = {
    "sequential": Load("write", 1),
    "inflight_256": Load("write", 256),
    "inflight_1000": Load("write", 1_000),
    "inflight_256_of_8": Load("write", 32, processes=8),
    "batch_100": Load("write", 32, 100),
    "read_sequential": Load("read", 1),
    "reads_256": Load("read", 256),
}
FAILOVER_CASES = ("failover_default", "failover_fast")
STATE_CASES = {
    "memory": (raft_state.memory,),
    "restart": (
        raft_state.restart_log,
        raft_state.restart_entries,
        raft_state.restart_50mb,
    ),
    "snapshot_200mb": (raft_state.snapshot_200mb,),
}
CASES = [*LOADS, *FAILOVER_CASES, *STATE_CASES]

Runner = Callable[[Load], dict[str, float] | None]
"""Runs a load; None if the system cannot do that."""


def ours(lab: Lab) -> Runner:
    """Runs a load on meshswarm."""

    def run(load: Load) -> dict[str, float]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tools.bench._load", "--context", str(lab.context)),
                *("--kind", load.kind, "--clients", str(load.clients)),
                *("--batch", str(load.batch), "--seconds", str(SECONDS)),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    return run


@contextmanager
def etcd_runner() -> Iterator[Runner]:
    """Runs a load on etcd."""
    kinds = {"write": "put", "read": "get"}
    with etcd() as members:
        yield lambda load: members.load(kinds[load.kind], load.clients, load.batch, SECONDS)


@contextmanager
def pysyncobj_runner() -> Iterator[Runner]:
    """Runs a load on PySyncObj, which has neither transactions nor linearizable reads."""
    with pysyncobj() as nodes:

        def run(load: Load) -> dict[str, float] | None:
            if load.kind != "write" or load.batch > 1:
                return None
            return nodes.load(load.clients, SECONDS)

        yield run


PEERS = {"etcd": etcd_runner, "pysyncobj": pysyncobj_runner}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Each figure's median over the runs."""
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def together(run: Runner, load: Load) -> dict[str, float] | None:
    """What all client processes did: the sum of their operations, the median of each time."""
    with ThreadPoolExecutor(load.processes) as threads:
        all_ = list(threads.map(run, [load] * load.processes))
    found = [figures for figures in all_ if figures is not None]
    if not found:
        return None
    return medians(found) | {"ops_s": round(sum(figures["ops_s"] for figures in found))}


def measure_loads(cases: list[str], runs: int, peers: list[str]) -> None:
    """All systems in turn, case by case, run by run."""
    with cluster("--nodes", "3") as lab, ExitStack() as stack:
        lab.leader()
        systems = {"meshswarm": ours(lab)}
        systems |= {name: stack.enter_context(PEERS[name]()) for name in peers}
        for case in cases:
            found: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
            for number in range(runs):
                for name, run in systems.items():
                    figures = together(run, LOADS[case])
                    say(f"{case} {number + 1}/{runs} {name}: {figures or 'cannot do that'}")
                    found[name] += [figures] if figures else []
            report(case, {name: medians(all_) for name, all_ in found.items() if all_}, runs)


def report(case: str, found: dict[str, dict[str, float]], runs: int) -> None:
    """One line a system; a peer's also gives the ratio of ours to its."""
    mine = found["meshswarm"]
    for name, figures in found.items():
        ratios = {}
        if name != "meshswarm":
            ratios = {
                f"ratio_{figure}": round(mine[figure] / value, 2)
                for figure, value in figures.items()
            }
        emit("raft", case, system=name, runs=runs, **figures, **ratios)


def measure_failover(case: str, runs: int, peers: list[str]) -> None:
    """SIGKILL of the leader until a write is acknowledged, of each system in turn."""
    found: dict[str, list[float]] = {name: [] for name in ("meshswarm", *peers)}
    with cluster("--nodes", "3") as lab, ExitStack() as stack:
        arguments: tuple[str, ...] = ()
        if case == "failover_fast":
            set_raft(lab, FAST)
            arguments = ("--heartbeat-interval", "20", "--election-timeout", "150")
        members = stack.enter_context(etcd(*arguments)) if "etcd" in peers else None
        for number in range(runs):
            found["meshswarm"].append(1_000 * asyncio.run(killed(lab)))
            if members is not None:
                found["etcd"].append(members.failover_ms())
            say(f"{case} {number + 1}/{runs}: {[times[-1:] for times in found.values()]}")
            time.sleep(1)  # let whoever came back catch up
    report(case, {name: spread_ms(times) for name, times in found.items() if times}, runs)


async def killed(lab: Lab) -> float:
    """Seconds from the leader's end until a write is acknowledged."""
    async with lab.client() as client:
        return await leader_kill_write(lab, client)


def spread_ms(times: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "p50_ms": round(statistics.median(times), 1),
        "min_ms": round(min(times), 1),
        "max_ms": round(max(times), 1),
    }


def main() -> None:
    """Measure the cases and print their figures."""
    parser = argparse.ArgumentParser(
        prog="bench raft", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", action="append", choices=sorted(PEERS), default=[])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", action="append", choices=CASES)
    wanted = parser.parse_args()
    chosen = wanted.only or CASES
    loads = [case for case in LOADS if case in chosen]
    if loads:
        measure_loads(loads, wanted.runs, wanted.peer)
    for case in FAILOVER_CASES:
        if case in chosen:
            measure_failover(case, max(wanted.runs, FAILOVERS), wanted.peer)
    for case, parts in STATE_CASES.items():
        for measure in parts if case in chosen else ():
            measure(1.0)


if __name__ == "__main__":
    main()
