"""A dev cluster seen through its client: waiting until it is up, measuring what a loss costs."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from attrs import field, frozen

from meshswarm.answers import ManagerStatus
from meshswarm.cli.dev import processes
from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.dev.processes import Pulse
from meshswarm.cli.managers import leader_of
from meshswarm.client import Client
from meshswarm.errors import MeshswarmError, Unavailable, WaitTimedOut
from meshswarm.ids import NodeId, ServiceId, Term
from meshswarm.model.node import NodeState
from meshswarm.store.view import Table, View

START_S = 30.0
"""How long the nodes may take to come up and choose a leader."""

COST_S = 60.0
"""How long the consequences of a loss are watched."""

POLL_S = 0.03
"""Between two questions for the leader."""

Slot = tuple[ServiceId, int]


@frozen(kw_only=True)
class Cost:
    """What the loss of a leader cost, in seconds since the kill."""

    lost: str
    leader: str
    term: Term
    leader_s: float
    replicas: int = field(default=0)
    replaced_s: float | None = None
    """None if nothing ran there that had to be replaced."""


async def wait_until_up(client: Client, layout: Layout, tell: Callable[[str], None]) -> None:
    """Return once a manager leads and every node of the layout is ready.

    :raises MeshswarmError: if a node's process ends before, with its last words.
    :raises WaitTimedOut: if that takes too long.
    """
    try:
        async with asyncio.timeout(START_S):
            leader = await _leader(client, layout)
            tell(f"{leader.name} leads in term {leader.term}")
            await _all_ready(client, layout, tell)
    except TimeoutError:
        raise WaitTimedOut(
            f"the nodes were not up after {START_S:g} s",
            details=[
                f"{node.name}: {line}" for node in layout.nodes() for line in node.last_words(2)
            ],
            hint=f"the whole logs: {layout.root}/*/node.log",
        ) from None


async def _leader(client: Client, layout: Layout) -> ManagerStatus:
    while True:
        for node in layout.nodes():
            if processes.pulse(processes.noted(node.mark)) is Pulse.ENDED:
                raise MeshswarmError(
                    f"{node.name} ended as it started",
                    where=str(node.log),
                    details=node.last_words(),
                )
        leader = leader_of(await client.statuses())
        if leader is not None:
            return leader
        await asyncio.sleep(POLL_S)


async def _all_ready(client: Client, layout: Layout, tell: Callable[[str], None]) -> None:
    wanted = {node.name for node in layout.nodes()}
    told: set[str] = set()
    async with aclosing(client.watch(Table.NODES)) as views:
        async for view in views:
            ready = {n.name for n in view.nodes.values() if n.state is NodeState.READY}
            for name in sorted(ready & wanted - told):
                tell(f"{name} is ready")
            told |= ready
            if wanted <= ready:
                return


async def cost_of_losing_leader(client: Client, aim: Callable[[str], Callable[[], None]]) -> Cost:
    """End the leader by what `aim` gives for its name; measure until all is well without it.

    :raises Unavailable: if nobody leads to begin with, or too few are left for another leader.
    :raises WaitTimedOut: if the cluster does not recover in time.
    """
    answers = await client.statuses()
    old = leader_of(answers)
    if old is None:
        raise Unavailable("there is no leader to kill", hint="meshswarm cluster status")
    lost = slots_on(await client.read(Table.TASKS), old.id)
    clock = asyncio.get_running_loop().time
    strike = aim(old.name)
    began = clock()
    strike()
    left = sum(answer.status is not None for answer in answers) - 1
    if left <= len(answers) // 2:
        raise Unavailable(
            f"{old.name} is lost, and with it the majority: {left} of {len(answers)} are left",
            hint=f"meshswarm dev start {old.name}",
        )
    try:
        async with asyncio.timeout(COST_S):
            new = await _next_leader(client, old)
            leader_s = clock() - began
            if lost:
                await _replaced(client, lost, old.id)
            replaced_s = clock() - began if lost else None
    except TimeoutError:
        raise WaitTimedOut(
            f"the cluster had not recovered from the loss of {old.name} after {COST_S:g} s",
            hint="meshswarm cluster status",
        ) from None
    return Cost(
        lost=old.name,
        leader=new.name,
        term=new.term,
        leader_s=leader_s,
        replicas=len(lost),
        replaced_s=replaced_s,
    )


async def _next_leader(client: Client, old: ManagerStatus) -> ManagerStatus:
    while True:
        leader = leader_of(await client.statuses(without=old.name))
        if leader is not None and leader.term > old.term:
            return leader
        await asyncio.sleep(POLL_S)


async def _replaced(client: Client, lost: frozenset[Slot], node_id: NodeId) -> None:
    async with aclosing(client.watch(Table.TASKS)) as views:
        async for view in views:
            if lost <= slots_running(view, without=node_id):
                return


def slots_on(view: View, node_id: NodeId) -> frozenset[Slot]:
    """The numbered slots that this node's live tasks hold; a global task has no other place."""
    return frozenset((t.service_id, t.slot) for t in view.tasks_on(node_id) if t.is_live and t.slot)


def slots_running(view: View, *, without: NodeId) -> frozenset[Slot]:
    """The slots that run and are healthy on other nodes."""
    tasks = (task for task in view.tasks.values() if task.node_id != without)
    return frozenset((task.service_id, task.slot) for task in tasks if task.is_healthy)
