"""How long a failure is felt: a node, the leader, a task is killed with SIGKILL on three nodes.

    python3 tools/run.py bench failover [--runs 5] [--only CASE]

node_kill          a node that runs replicas and does not lead is lost with its processes, until
                   all replicas run on the others
leader_kill        the same, of the leader
leader_kill_write  the leader is lost, until a write begun after that is acknowledged
task_kill          a replica's process is killed, until its replacement runs
task_kill_docker   a replica's container is killed (where an engine answers)
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine

from meshswarm.cli.dev import engine
from meshswarm.client import Client
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeState
from meshswarm.model.resources import Resources
from meshswarm.model.service import RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.model.task import Task
from meshswarm.store.commands import PutService, RemoveService, UpdateNode
from meshswarm.store.view import View
from tests.support import docker_engine
from tools.bench.lab import Lab, all_run, cluster, emit, say, seen, spread

SLEEP = ("sh", "-c", "exec sleep 100000")
SERVICE = "bench"


def process_spec(replicas: int) -> ServiceSpec:
    """Replicas that do nothing, as plain processes."""
    return ServiceSpec(
        name=SERVICE,
        replicas=replicas,
        task=TaskSpec(runtime=RuntimeKind.PROCESS, command=SLEEP, stop_grace_period_s=0.5),
    )


def docker_spec() -> ServiceSpec:
    """One container that does nothing."""
    return ServiceSpec(
        name=SERVICE,
        replicas=1,
        task=TaskSpec(
            image=docker_engine.IMAGE,
            command=("sleep", "100000"),
            stop_grace_period_s=0.5,
            limits=Resources(pids=16),
        ),
    )


async def deploy(client: Client, spec: ServiceSpec) -> View:
    """The service from scratch, and the view in which all of it runs."""
    await seen(client, lambda view: all(n.state is NodeState.READY for n in view.nodes.values()))
    old = (await client.read()).service_named(SERVICE)
    if old is not None:
        await client.propose(RemoveService(service_id=old.id))
        await seen(client, lambda view: not view.tasks_of(old.id))
    await client.propose(PutService(spec=spec))
    return await seen(client, lambda view: all_run(view, SERVICE))


def live_on(view: View, node_id: NodeId) -> list[Task]:
    """The node's live tasks."""
    return [task for task in view.tasks_on(node_id) if task.is_live]


async def node_kill(lab: Lab, client: Client, *, lead: bool = False) -> float:
    """Seconds until the replicas of a lost node run elsewhere."""
    view = await deploy(client, process_spec(6))
    leader = lab.leader()
    victims = [n for n in view.sorted_nodes() if (n.name == leader) is lead and live_on(view, n.id)]
    victim = victims[0]
    began = time.perf_counter()
    lab.dev("kill", victim.name)
    await seen(client, lambda v: all_run(v, SERVICE) and not live_on(v, victim.id))
    elapsed = time.perf_counter() - began
    lab.dev("start", victim.name)
    return elapsed


async def leader_kill(lab: Lab, client: Client) -> float:
    """Seconds until the replicas of the lost leader run elsewhere."""
    return await node_kill(lab, client, lead=True)


async def leader_kill_write(lab: Lab, client: Client) -> float:
    """Seconds from the leader's end until a write begun after it is acknowledged."""
    view = await seen(
        client, lambda v: all(node.state is NodeState.READY for node in v.nodes.values())
    )
    leader = lab.leader()
    pid = next(int(str(row["pid"])) for row in lab.nodes() if row["name"] == leader)
    node = view.node_named(leader)
    assert node is not None, leader
    os.kill(pid, signal.SIGKILL)
    began = time.perf_counter()
    await client.propose(UpdateNode(node_id=node.id, labels={"written": str(time.time_ns())}))
    elapsed = time.perf_counter() - began
    lab.dev("start", leader)
    return elapsed


async def task_kill(lab: Lab, client: Client) -> float:
    """Seconds from a process's end until its replacement runs."""
    view = await deploy(client, process_spec(3))
    return await replaced_after(client, view, lambda task: int(task.status.runtime_id))


async def task_kill_docker(lab: Lab, client: Client) -> float:
    """Seconds from a container's end until its replacement runs."""
    view = await deploy(client, docker_spec())
    import docker

    api = docker.APIClient()
    return await replaced_after(
        client,
        view,
        lambda task: int(api.inspect_container(task.status.runtime_id)["State"]["Pid"]),
    )


async def replaced_after(client: Client, view: View, pid_of: Callable[[Task], int]) -> float:
    """Kill the first slot's process and wait until another task runs in that slot."""
    service = view.service_named(SERVICE)
    assert service is not None
    victim = next(task for task in view.tasks_of(service.id) if task.is_live)
    pid = pid_of(victim)
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    await seen(client, lambda v: victim.id not in running(v) and all_run(v, SERVICE))
    return time.perf_counter() - began


def running(view: View) -> set[str]:
    """The ids of the tasks that are live."""
    return {task.id for task in view.tasks.values() if task.is_live}


CASES: dict[str, Callable[[Lab, Client], Coroutine[object, object, float]]] = {
    "node_kill": node_kill,
    "leader_kill": leader_kill,
    "leader_kill_write": leader_kill_write,
    "task_kill": task_kill,
    "task_kill_docker": task_kill_docker,
}


async def measure(lab: Lab, case: str, runs: int) -> list[float]:
    """The case's times, in milliseconds."""
    times: list[float] = []
    for number in range(runs):
        async with lab.client() as client:
            times.append(1_000 * await CASES[case](lab, client))
        say(f"{case} {number + 1}/{runs}: {times[-1]:.0f} ms")
    return times


def main() -> None:
    """Measure each case on a fresh cluster and print its figures."""
    parser = argparse.ArgumentParser(prog="bench failover", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=sorted(CASES))
    wanted = parser.parse_args()
    if engine.answers():
        docker_engine.require()
    for case in [wanted.only] if wanted.only else list(CASES):
        if case == "task_kill_docker" and not engine.answers():
            say(f"{case}: left out, no engine answers")
            continue
        with cluster() as lab:
            emit("failover", case, **spread(asyncio.run(measure(lab, case, wanted.runs)), "ms"))


if __name__ == "__main__":
    main()
