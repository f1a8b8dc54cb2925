"""Three manager processes and a thousand agents: what a large cluster takes.

    python3 tools/run.py bench scale [--agents 1000] [--replicas 30000] [--only CASE]

agents         until all agents have registered and are ready
deploy         a service of 30,000 replicas, from its proposal until all are reported running
single         services of one replica, one after the other: from the proposal until it runs
vanish         a tenth of the agents vanish: until the first is found down (`detected_s`), from then
               until all their tasks have nodes elsewhere (`placed_s`), and run there (`running_s`)
leader_handed  the leader hands over, and a service is put at once: until its replica runs
leader_killed  the same, the leader being killed; `restarted` counts tasks that were not left alone
managers       resident memory of each manager, now and at the most, and its processor's time

The managers are those of `meshswarm dev`. Agents, sessions and keys are real, with many agents to a
process; only the runtimes are fakes (`agent.runtimes.fake`), which start and stop at once.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.cli.dev import layout
from meshswarm.client import Client
from meshswarm.ids import NodeId, TaskId
from meshswarm.mesh import keys
from meshswarm.model.node import NodeState
from meshswarm.model.service import (
    Comparison,
    Constraint,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.task import TaskState
from meshswarm.settings import load_client_context
from meshswarm.store.commands import PutService
from meshswarm.store.view import Table, View
from tools.bench._agents import Plan, Seed, Where
from tools.bench.idle import cpu_s
from tools.bench.lab import Lab, emit, say
from tools.bench.schedule import percentile

PATIENCE_S = 300.0
"""The longest that one measured step may take before the benchmark gives up."""

LOOK_S = 0.1
"""Between two looks at all tasks: each takes a few hundredths of a second."""

SETTLE_S = 5.0

IN_MEMORY = "/dev/shm"

PROCESSES = 3
"""Of agents that stay; those that vanish have one of their own."""

CASES = ("deploy", "single", "vanish", "leader_handed", "leader_killed")


# --- the cluster ----------------------------------------------------------------------------------


@frozen
class Crowd:
    """Processes of agents."""

    staying: list["subprocess.Popen[str]"]
    vanishing: "subprocess.Popen[str]"
    names: frozenset[str]
    """Of the agents that vanish."""


@contextmanager
def managers(agents: int) -> Iterator[tuple[Lab, Plan]]:
    """Three managers that know the keys of so many workers."""
    with tempfile.TemporaryDirectory(prefix="meshswarm-bench-") as directory:
        lab = Lab(Path(directory))
        files = layout.make(lab.directory, nodes=3, with_docker=False)
        pairs = [keys.generate() for _ in range(agents)]
        seeds = tuple(
            Seed(name=f"a{number:04}", public=pair.public, secret=pair.secret)
            for number, pair in enumerate(pairs)
        )
        rows = "".join(
            f'\n[[peers]]\nname = "{seed.name}"\nrole = "worker"\n'
            f"public_key = {json.dumps(seed.public.decode())}\n"
            for seed in seeds
        )
        for node in files.nodes():
            with node.config.open("a", encoding="utf-8") as file:
                file.write(rows)
        context = load_client_context(lab.context)
        where = tuple(
            Where(name=row.name, public_key=row.public_key, address=row.address)
            for row in context.managers
        )
        try:
            lab.dev("--detach")
            yield lab, Plan(cluster_id=context.cluster.id, managers=where, agents=seeds)
        finally:
            lab.dev("stop")


@contextmanager
def crowd(plan: Plan) -> Iterator[Crowd]:
    """The plan's agents, a tenth of them in a process of their own; what they write goes to memory:
    their disks would be a thousand."""
    count = len(plan.agents)
    few = max(1, count // 10)
    share = -(-(count - few) // PROCESSES)
    with ExitStack() as ends:
        folder = tempfile.TemporaryDirectory(prefix="meshswarm-bench-", dir=IN_MEMORY)
        file = Path(ends.enter_context(folder)) / "plan.cbor"
        file.write_bytes(codec.encode(plan))
        firsts = [few + share * number for number in range(PROCESSES)]
        staying = [ends.enter_context(_agents(file, first, share)) for first in firsts]
        vanishing = ends.enter_context(_agents(file, 0, few))
        for process in (*staying, vanishing):
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"a process of agents ended with {process.wait()}")
        yield Crowd(staying, vanishing, frozenset(seed.name for seed in plan.agents[:few]))


@contextmanager
def _agents(plan: Path, first: int, count: int) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tools.bench._agents", "--plan", str(plan)]
    process = subprocess.Popen(
        [*command, "--first", str(first), "--count", str(count)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Watcher:
    """The newest view of a client that watches."""

    def __init__(self) -> None:
        self.view = View()
        self._news = asyncio.Event()

    async def run(self, client: Client) -> None:
        """Follow until cancelled."""
        async for view in client.watch(Table.TASKS, Table.SERVICES, Table.NODES):
            self.view = view
            self._news.set()

    async def seen(self, holds: Callable[[View], bool], every_s: float = 0.0) -> float:
        """When a view came of which `holds` is true, looking no more often than that."""
        async with asyncio.timeout(PATIENCE_S):
            while not holds(self.view):
                self._news.clear()
                await self._news.wait()
                await asyncio.sleep(every_s)
        return time.perf_counter()


@asynccontextmanager
async def watching(lab: Lab, *, last: str = "") -> AsyncIterator[tuple[Client, Watcher]]:
    """A client that proposes, and another one that watches; the manager `last` is asked last."""
    async with (
        lab.client(last=last) as client,
        lab.client(last=last) as other,
        asyncio.TaskGroup() as group,
    ):
        watcher = Watcher()
        task = group.create_task(watcher.run(other), name="watcher")
        await watcher.seen(lambda view: bool(view.nodes))
        yield client, watcher
        task.cancel()


# --- the cases ------------------------------------------------------------------------------------


def spec(name: str, replicas: int) -> ServiceSpec:
    """Replicas that do nothing, on workers only."""
    workers = Constraint(key="node.role", comparison=Comparison.EQUAL, value="worker")
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=("sleep", "1"), constraints=(workers,))
    return ServiceSpec(name=name, replicas=replicas, task=task)


def run_of(view: View, name: str) -> int:
    """How many of the service's tasks are reported running."""
    service = view.service_named(name)
    ids = view.tasks_by_service.get(service.id, ()) if service is not None else ()
    rows = map(view.tasks.__getitem__, ids)
    return sum(row.status.state is TaskState.RUNNING and row.is_live for row in rows)


def is_placed(view: View, name: str) -> bool:
    """Whether a task of the service has a node."""
    service = view.service_named(name)
    ids = view.tasks_by_service.get(service.id, ()) if service is not None else ()
    return any(view.tasks[task_id].node_id is not None for task_id in ids)


def runs(view: View, *, name: str, replicas: int) -> bool:
    """Whether so many of the service's tasks are reported running."""
    return run_of(view, name) == replicas


def live(view: View) -> frozenset[TaskId]:
    """The tasks that are meant to run."""
    return frozenset(task.id for task in view.tasks.values() if task.is_live)


async def deploy(lab: Lab, client: Client, watcher: Watcher, replicas: int) -> None:
    """One large service."""
    began = time.perf_counter()
    await client.propose(PutService(spec=spec("web", replicas)))
    placed = await watcher.seen(lambda view: len(view.tasks) >= replicas, LOOK_S)
    say(f"{replicas} tasks created after {placed - began:.1f} s")
    ran = await watcher.seen(lambda view: run_of(view, "web") == replicas, LOOK_S)
    emit("scale", "deploy", replicas=replicas, elapsed_s=round(ran - began, 1))


async def single(lab: Lab, client: Client, watcher: Watcher, count: int) -> None:
    """Small services, one after the other."""
    times: list[float] = []
    for number in range(count):
        name = f"single-{number:03}"
        began = time.perf_counter()
        await client.propose(PutService(spec=spec(name, 1)))
        ran = await watcher.seen(partial(runs, name=name, replicas=1))
        times.append(1_000 * (ran - began))
    figures = {f"p{share}_ms": round(percentile(times, share), 1) for share in (50, 99)}
    emit("scale", "single", **figures, max_ms=round(max(times), 1), runs=count)


async def vanish(lab: Lab, client: Client, watcher: Watcher, crowd: Crowd) -> None:
    """A tenth of the agents is gone at once."""
    await asyncio.sleep(SETTLE_S)
    view = watcher.view
    ids = [node.id for node in view.nodes.values() if node.name in crowd.names]
    lost = sum(task.is_live for node_id in ids for task in view.tasks_on(node_id))
    total = len(live(view))
    crowd.vanishing.kill()
    began = time.perf_counter()
    detected = await watcher.seen(lambda v: any(v.nodes[i].state is NodeState.DOWN for i in ids))
    placed = await watcher.seen(lambda v: are_elsewhere(v, ids, total), LOOK_S)
    ran = await watcher.seen(lambda v: are_elsewhere(v, ids, total, run=True), LOOK_S)
    emit(
        "scale",
        "vanish",
        agents=len(ids),
        tasks=lost,
        detected_s=round(detected - began, 2),
        placed_s=round(placed - detected, 2),
        running_s=round(ran - detected, 2),
    )


def are_elsewhere(view: View, left: list[NodeId], total: int, *, run: bool = False) -> bool:
    """Whether all tasks have nodes, none of those that were left, and `run` there."""
    if any(task.is_live for node_id in left for task in view.tasks_on(node_id)):
        return False
    placed = [task for task in view.tasks.values() if task.is_live and task.node_id is not None]
    is_all = len(placed) >= total
    return is_all and (not run or all(t.status.state is TaskState.RUNNING for t in placed))


async def leader_handed(lab: Lab, client: Client, watcher: Watcher) -> None:
    """The leader hands over."""
    await _led_anew(client, watcher, "leader_handed", lambda: client.elect())


async def leader_killed(lab: Lab) -> None:
    """The leader is lost. Who watches is served by another manager: else it would want a copy of
    30,000 tasks anew, which is not what is measured."""
    leader = lab.leader()
    row = next(row for row in lab.nodes() if row["name"] == leader)

    async def kill() -> None:
        os.kill(int(str(row["pid"])), signal.SIGKILL)

    async with watching(lab, last=leader) as (client, watcher):
        await _led_anew(client, watcher, "leader_killed", kill)


async def _led_anew(
    client: Client,
    watcher: Watcher,
    case: str,
    change: Callable[[], Coroutine[object, object, object]],
) -> None:
    await asyncio.sleep(SETTLE_S)
    before = live(watcher.view)
    began = time.perf_counter()
    await change()
    name = case.replace("_", "-")
    await client.propose(PutService(spec=spec(name, 1)))
    acknowledged = time.perf_counter()
    placed = await watcher.seen(lambda view: is_placed(view, name))
    ran = await watcher.seen(lambda view: run_of(view, name) == 1)
    await asyncio.sleep(2 * SETTLE_S)
    after = live(watcher.view)
    restarted = len(before - after) + len(after - before) - 1
    emit(
        "scale",
        case,
        acknowledged_s=round(acknowledged - began, 2),
        placed_s=round(placed - began, 2),
        flows_s=round(ran - began, 2),
        restarted=restarted,
    )


def tell_managers(lab: Lab) -> None:
    """What the managers have cost."""
    for row in lab.nodes():
        if row["pid"] is None:
            continue
        pid = int(str(row["pid"]))
        now_mb, most_mb = (memory_mb(pid, name) for name in ("VmRSS", "VmHWM"))
        emit(
            "scale",
            "managers",
            node=row["name"],
            leader=row["leader"],
            rss_mb=now_mb,
            most_mb=most_mb,
            cpu_s=round(cpu_s(pid), 1),
        )


def memory_mb(pid: int, name: str) -> int:
    """A line of /proc/PID/status, in MB."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


# --- running --------------------------------------------------------------------------------------


async def measure(lab: Lab, people: Crowd, wanted: argparse.Namespace, began: float) -> None:
    """All cases, one after the other, on one cluster."""
    only = set(wanted.only or CASES)
    async with watching(lab) as (client, watcher):
        ready = await watcher.seen(
            lambda view: (
                len(view.nodes) >= wanted.agents + 3
                and all(node.state is NodeState.READY for node in view.nodes.values())
            ),
            LOOK_S,
        )
        emit("scale", "agents", agents=wanted.agents, elapsed_s=round(ready - began, 1))
        await deploy(lab, client, watcher, wanted.replicas)
        if "single" in only:
            await single(lab, client, watcher, wanted.singles)
        tell_managers(lab)
        if "vanish" in only:
            await vanish(lab, client, watcher, people)
        if "leader_handed" in only:
            await leader_handed(lab, client, watcher)
        if "leader_killed" in only:
            await leader_killed(lab)
        tell_managers(lab)


def main() -> None:
    """Measure each case and print its figures."""
    parser = argparse.ArgumentParser(prog="bench scale", description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--replicas", type=int, default=30_000)
    parser.add_argument("--singles", type=int, default=100)
    parser.add_argument("--only", action="append", choices=CASES)
    wanted = parser.parse_args()
    with managers(wanted.agents) as (lab, plan):
        lab.leader()
        began = time.perf_counter()
        with crowd(plan) as people:
            asyncio.run(measure(lab, people, wanted, began))


if __name__ == "__main__":
    main()
