"""Against Docker Swarm: the same three hosts, engines and image, in turns, within the same minutes.

    python3 tools/run.py bench swarm [--runs 3] [--only CASE ...]      takes root and dockerd

Both run on the engines of one rig, with their own defaults: three managers each. A line per case
has the seconds of both and the ratio of their medians; `goal` is what the ratio is to stay under.

create_N   from the request until N replicas run, as each one's own managers say
remove_N   from the request until no container of them is left in any engine
replace    a replica's process is killed, until another one runs in its place
replace_0  the same, with Swarm told not to wait its five seconds before a restart
host       a host that leads neither of them crashes, until its replicas run elsewhere
leader     the leader is killed (dockerd; our node), until a write is acknowledged again

Swarm is told to prefer images that are there: else each task waits for a registry first.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import docker
import requests
from docker import types

from meshswarm.cli.managers import leader_of
from meshswarm.cli.reach import connect
from meshswarm.client import Client
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import NodeState
from meshswarm.model.service import ServiceSpec, TaskSpec
from meshswarm.store.commands import PutService, RemoveService, UpdateNode
from meshswarm.store.view import View
from tests.support.docker_engine import IMAGE
from tools.bench.lab import all_run, emit, say, seen
from tools.rig.engine import engine_obstacle
from tools.rig.fleet import Fleet, fleet

NAMES = ("a", "b", "c")
SLEEP = ["sleep", "100000"]
SERVICE = "bench"
GRACE_S = 1.0
PATIENCE_S = 240.0
API_VERSION = "1.41"
ANSWER_S = 30
POLL_S = 0.02
SIZES = (1, 10, 50, 100)
ON_A_HOST = 6
"""Replicas while a host is lost."""

GOALS = {"create": 1.0, "remove": 1.0, "replace": 0.2, "host": 0.4, "leader": 0.15}


class Swarm:
    """Docker Swarm on the fleet's engines, all of them managers."""

    label = f"com.docker.swarm.service.name={SERVICE}"

    def __init__(self, hosts: Fleet) -> None:
        self.hosts = hosts
        self.apis = {name: self._api(name) for name in NAMES}
        self._lost = 0
        """Which names of services were tried already while there was no leader."""

    def _api(self, name: str) -> Any:  # half of the SDK has no types
        url = self.hosts.engines[name].url
        return docker.APIClient(url, version=API_VERSION, timeout=ANSWER_S)

    async def form(self) -> None:
        """Have them join each other."""
        first = NAMES[0]
        address = self.hosts.rig.address(first)
        await asyncio.to_thread(self.apis[first].init_swarm, f"{address}:2377")
        token = self.apis[first].inspect_swarm()["JoinTokens"]["Manager"]
        for name in NAMES[1:]:
            own = self.hosts.rig.address(name)
            join = self.apis[name].join_swarm
            await asyncio.to_thread(join, [f"{address}:2377"], token, "0.0.0.0:2377", own)
        await self.is_whole()

    async def is_whole(self) -> None:
        """Return once all nodes are ready and one leads."""
        await until(lambda: len(self._nodes("ready")) == len(NAMES) and self.leader() is not None)

    def leader(self) -> str | None:
        """The host that leads, as any manager says."""
        for node in self._nodes("ready"):
            if node.get("ManagerStatus", {}).get("Leader"):
                return str(node["Description"]["Hostname"])
        return None

    async def create(self, replicas: int, *, wait_s: float | None = None) -> None:
        """A service of so many, until all run; `wait_s` before a restart, None: the default."""
        container = types.ContainerSpec(IMAGE, SLEEP, stop_grace_period=int(GRACE_S * 1e9))
        policy = None if wait_s is None else types.RestartPolicy("any", int(wait_s * 1e9))
        template = types.TaskTemplate(container, restart_policy=policy)
        mode = types.ServiceMode("replicated", replicas)
        api = self._any()
        await asyncio.to_thread(api.create_service, template, name=SERVICE, mode=mode)
        await until(lambda: len(self.running()) == replicas, poll_s(replicas))

    async def remove(self) -> None:
        """No service of it, and no container any more."""
        await asyncio.to_thread(self._any().remove_service, SERVICE)
        await until(lambda: not left(self.hosts, self.label), 0.1)

    def running(self) -> dict[str, tuple[str, int]]:
        """Tasks that run and are meant to: host and process of each."""
        wanted = {"service": SERVICE, "desired-state": "running"}
        names = {n["ID"]: n["Description"]["Hostname"] for n in self._any().nodes()}
        return {
            task["ID"]: (names[task["NodeID"]], task["Status"]["ContainerStatus"]["PID"])
            for task in self._any().tasks(filters=wanted)
            if task["Status"]["State"] == "running"
        }

    async def replaced(self, killed: str, replicas: int) -> None:
        """Return once another task runs in place of the killed one."""
        await until(lambda: killed not in (now := self.running()) and len(now) == replicas)

    async def elsewhere(self, lost: str, replicas: int) -> None:
        """Return once so many run on other hosts than the lost one."""
        await until(lambda: sum(h != lost for h, _ in self.running().values()) == replicas)

    async def write(self, survivors: list[str]) -> None:
        """Return once a survivor accepts a service."""
        while True:
            for name in survivors:
                self._lost += 1
                with suppress(docker.errors.APIError, requests.RequestException):
                    await asyncio.to_thread(self._put_nothing, self.apis[name], self._lost)
                    return
            await asyncio.sleep(POLL_S)

    def forget(self) -> None:
        """Remove what `write` has put."""
        for service in self._any().services():
            self._any().remove_service(service["ID"])

    def _put_nothing(self, api: Any, number: int) -> None:
        template = types.TaskTemplate(types.ContainerSpec(IMAGE, SLEEP))
        mode = types.ServiceMode("replicated", 0)
        api.create_service(template, name=f"none{number}", mode=mode)

    def _any(self) -> Any:
        """A manager whose engine answers."""
        return next(self.apis[name] for name in NAMES if self.hosts.engines[name].answers())

    def _nodes(self, state: str) -> list[dict[str, dict[str, str]]]:
        with suppress(docker.errors.APIError, requests.RequestException):
            return [n for n in self._any().nodes() if n["Status"]["State"] == state]
        return []


class Ours:
    """meshswarm on the same engines."""

    label = f"io.meshswarm.service={SERVICE}"

    def __init__(self, hosts: Fleet, client: Client) -> None:
        self.hosts = hosts
        self.client = client

    async def is_whole(self) -> None:
        """Return once all nodes are ready."""
        await self._sees(
            lambda v: [n.state for n in v.nodes.values()] == [NodeState.READY] * len(NAMES)
        )

    async def leader(self) -> str:
        """The host that leads."""
        leading = leader_of(await self.client.statuses())
        assert leading is not None, "asked only while the cluster is whole"
        return leading.name

    async def create(self, replicas: int) -> None:
        """A service of so many, until all run."""
        task = TaskSpec(image=IMAGE, command=tuple(SLEEP), stop_grace_period_s=GRACE_S)
        await self.client.propose(
            PutService(spec=ServiceSpec(name=SERVICE, replicas=replicas, task=task))
        )
        await self._sees(whole)

    async def remove(self) -> None:
        """No service of it, and no container any more."""
        service = (await self.client.read()).service_named(SERVICE)
        assert service is not None
        await self.client.propose(RemoveService(service_id=service.id))
        await until(lambda: not left(self.hosts, self.label), 0.1)

    async def replaced(self, killed: str, replicas: int) -> None:
        """Return once another task runs in place of the killed one."""
        await self._sees(lambda v: killed not in live(v) and len(live(v)) == replicas and whole(v))

    async def elsewhere(self, lost: str, replicas: int) -> None:
        """Return once so many run on other hosts than the lost one."""
        await self._sees(
            lambda v: whole(v) and sum(h != lost for h in live(v).values()) == replicas
        )

    async def write(self, node_id: NodeId) -> None:
        """Return once a write is acknowledged."""
        label = {"written": str(time.time_ns())}
        await self.client.propose(UpdateNode(node_id=node_id, labels=label))

    async def _sees(self, holds: Callable[[View], bool]) -> None:
        await seen(self.client, holds, PATIENCE_S)


Times = dict[str, tuple[list[float], list[float]]]
"""Seconds that a case took, in each run: Swarm's and ours."""


class Match:
    """One against the other, in turns."""

    def __init__(self, hosts: Fleet, swarm: Swarm, ours: Ours, times: Times) -> None:
        self.hosts = hosts
        self.swarm = swarm
        self.ours = ours
        self.times = times

    async def size(self, replicas: int, turn: int) -> None:
        """Create so many and remove them."""

        async def one(contender: Swarm | Ours, side: int) -> None:
            await self._time(f"create_{replicas}", side, contender.create(replicas))
            await self._time(f"remove_{replicas}", side, contender.remove())

        sides: list[tuple[Swarm | Ours, int]] = [(self.swarm, 0), (self.ours, 1)]
        for contender, side in sides[:: -1 if turn % 2 else 1]:
            await one(contender, side)

    async def replace(self, wait_s: float | None = None) -> None:
        """Kill the process of one of three replicas of each."""
        case = "replace" if wait_s is None else "replace_0"
        await self.swarm.create(3, wait_s=wait_s)
        victim, (host, pid) = next(iter(self.swarm.running().items()))
        await asyncio.sleep(1)
        self.hosts.engines[host].kill_process(pid)
        await self._time(case, 0, self.swarm.replaced(victim, 3))
        await self.swarm.remove()
        await self.ours.create(3)
        view = await self.ours.client.read()
        victim, host = next(iter(live(view).items()))
        engine = self.hosts.engines[host]
        container = view.tasks[TaskId(victim)].status.runtime_id
        pid = int(engine.docker("inspect", "-f", "{{.State.Pid}}", container))
        await asyncio.sleep(1)
        engine.kill_process(pid)
        await self._time(case, 1, self.ours.replaced(victim, 3))
        await self.ours.remove()

    async def host(self) -> None:
        """Crash a host that runs replicas of both and leads neither."""
        await self.swarm.create(ON_A_HOST)
        await self.ours.create(ON_A_HOST)
        leaders = (self.swarm.leader(), await self.ours.leader())
        victim = next(name for name in NAMES if name not in leaders)
        await asyncio.sleep(2)
        self.hosts.crash(victim)
        async with asyncio.TaskGroup() as group:
            both = (self.swarm.elsewhere, self.ours.elsewhere)
            for side, elsewhere in enumerate(both):
                waiting = self._time("host", side, elsewhere(victim, ON_A_HOST))
                group.create_task(waiting, name=f"host {side}")
        self.hosts.boot(victim)
        await self.is_whole()
        await self.swarm.remove()
        await self.ours.remove()

    async def leader(self) -> None:
        """Kill each one's leader."""
        name = self.swarm.leader()
        assert name is not None
        self.hosts.engines[name].kill()
        survivors = [other for other in NAMES if other != name]
        await self._time("leader", 0, self.swarm.write(survivors))
        self.hosts.engines[name].start()
        await self.is_whole()
        self.swarm.forget()
        node_id = (await self.ours.client.read()).sorted_nodes()[0].id
        name = await self.ours.leader()
        self.hosts.kill_node(name)
        await self._time("leader", 1, self.ours.write(node_id))
        self.hosts.start_node(name)
        await self.is_whole()

    async def is_whole(self) -> None:
        """Return once both have all their nodes and a leader."""
        await self.swarm.is_whole()
        await self.ours.is_whole()

    async def _time(self, case: str, side: int, work: Awaitable[None]) -> None:
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE_S):
            await work
        took_s = time.perf_counter() - began
        self.times.setdefault(case, ([], []))[side].append(took_s)
        say(f"{case} {('Swarm', 'meshswarm')[side]}: {took_s:.2f} s")

    async def run(self, case: str, turn: int) -> None:
        """One run of a case."""
        match case.split("_"):
            case ["size", replicas]:
                await self.size(int(replicas), turn)
            case ["replace"]:
                await self.replace()
            case ["replace", _]:
                await self.replace(0.0)
            case ["host"]:
                await self.host()
            case _:
                await self.leader()


CASES = (*(f"size_{n}" for n in SIZES), "replace", "replace_0", "host", "leader")


def show(case: str, swarm: list[float], ours: list[float]) -> None:
    """Print a case's figures."""
    medians = statistics.median(swarm), statistics.median(ours)
    goal = GOALS.get(case if case in GOALS else case.partition("_")[0])
    emit(
        "swarm",
        case,
        swarm_s=round(medians[0], 3),
        swarm_all=[round(each, 3) for each in swarm],
        meshswarm_s=round(medians[1], 3),
        meshswarm_all=[round(each, 3) for each in ours],
        ratio=round(medians[1] / medians[0], 3),
        **({} if goal is None or case == "replace_0" else {"goal": goal}),
    )


async def until(holds: Callable[[], bool], every_s: float = POLL_S) -> None:
    """Return once it holds, asked in a thread of its own."""
    while not await asyncio.to_thread(holds):  # noqa: ASYNC110 -- an engine tells nobody
        await asyncio.sleep(every_s)


def poll_s(replicas: int) -> float:
    """How often Swarm is asked: what it answers costs it time, the more the more there is."""
    return POLL_S if replicas <= SIZES[1] else 0.2


def left(hosts: Fleet, label: str) -> bool:
    """Whether any engine that answers has a container of this label."""
    answering = [engine for engine in hosts.engines.values() if engine.answers()]
    return any(engine.docker("ps", "-aq", "--filter", f"label={label}") for engine in answering)


def live(view: View) -> dict[str, str]:
    """Our tasks that run and are meant to, and their hosts."""
    service = view.service_named(SERVICE)
    tasks = view.tasks_of(service.id) if service else ()
    return {
        task.id: view.nodes[task.node_id].name
        for task in tasks
        if task.is_live and task.node_id is not None
    }


def whole(view: View) -> bool:
    """Whether all of our service runs."""
    return all_run(view, SERVICE)


async def compare(hosts: Fleet, cases: list[str], runs: int, times: Times) -> None:
    """All cases, each one `runs` times; what they took goes into `times`."""
    async with connect(hosts.context) as client:
        match_ = Match(hosts, Swarm(hosts), Ours(hosts, client), times)
        await match_.swarm.form()
        await match_.is_whole()
        for turn in range(runs):
            for case in cases:
                say(f"run {turn + 1}/{runs}: {case}")
                await match_.run(case, turn)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench swarm", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=CASES, nargs="+", default=CASES)
    wanted = parser.parse_args()
    if reason := engine_obstacle():
        parser.error(reason)
    times: Times = {}
    try:
        with fleet(*NAMES) as hosts:
            asyncio.run(compare(hosts, list(wanted.only), wanted.runs, times))
    finally:
        for case, (swarm, ours) in times.items():
            if swarm and ours:
                show(case, swarm, ours)


if __name__ == "__main__":
    main()
