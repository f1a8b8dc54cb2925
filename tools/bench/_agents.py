"""A process of many agents: real sessions over the mesh, and runtimes that only pretend.

    python3 -m tools.bench._agents --plan FILE --first 0 --count 250

Each agent has a key, a name and an endpoint of its own, as on a host of its own; it says `ready`
on stdout when all of them have a session. It ends with the process that started it.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import zmq
from attrs import evolve, frozen

from meshswarm import codec
from meshswarm.agent.agent import Agent
from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.agent.settings import AgentIdentity, AgentSettings
from meshswarm.cli.dev.processes import die_with_parent
from meshswarm.ids import ClusterId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import DEFAULT_LIMITS
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.model.node import NodeRole
from meshswarm.model.service import RuntimeKind

STEP = 25
"""Agents that open their sessions at once."""

MAX_SOCKETS = 20_000

GC_THRESHOLD = (50_000, 20, 1_000)
"""What three hundred agents hold is looked at for garbage three hundred times more rarely than what
one does: it would stop all of them for a second."""

LIMITS = evolve(DEFAULT_LIMITS, safety_poll_s=2.0)
"""Hundreds of agents in a process share one thread of ZeroMQ's and poll rarely: what a host would
do for one agent is not to be paid a thousand times by the host that measures."""


@frozen(kw_only=True)
class Seed:
    """What one agent is made of."""

    name: str
    public: bytes
    secret: bytes


@frozen(kw_only=True)
class Where:
    """A manager to speak to."""

    name: str
    public_key: bytes
    address: str


@frozen(kw_only=True)
class Plan:
    """All agents of a cluster, and its managers."""

    cluster_id: ClusterId
    managers: tuple[Where, ...]
    agents: tuple[Seed, ...]


def main() -> None:
    """Run some agents of the plan."""
    parser = argparse.ArgumentParser(prog="agents")
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    wanted = parser.parse_args()
    die_with_parent(os.getppid())
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    plan = codec.decode(wanted.plan.read_bytes(), Plan)
    seeds = plan.agents[wanted.first : wanted.first + wanted.count]
    asyncio.run(run(plan, seeds, wanted.plan.parent))


async def run(plan: Plan, seeds: tuple[Seed, ...], directory: Path) -> None:
    """All these agents, until the process is killed."""
    async with AsyncExitStack() as stack:
        context = zmq.Context(io_threads=1)
        context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        made = [
            await stack.enter_async_context(_opened(plan, seed, directory, context))
            for seed in seeds
        ]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for first in range(0, len(made), STEP):
            some = made[first : first + STEP]
            for one in some:
                group.create_task(one.agent.run(), name=f"agent {one.name}")
            await _all_served(some)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        print(json.dumps({"ready": len(made)}), flush=True)
        await asyncio.Event().wait()


async def _all_served(some: Sequence["_Made"]) -> None:
    """Return once each of these has a session."""
    for one in some:
        while one.agent.manager is None:  # noqa: ASYNC110 - an agent tells nobody
            await asyncio.sleep(0.02)


@frozen(kw_only=True)
class _Made:
    name: str
    agent: Agent


@asynccontextmanager
async def _opened(
    plan: Plan, seed: Seed, directory: Path, context: "zmq.Context[zmq.Socket[bytes]]"
) -> AsyncIterator[_Made]:
    """One agent on an endpoint of its own, which is open as long as the block lasts."""
    keys = KeyPair(seed.public, seed.secret)
    incarnation = _wall_ms()
    managers = [
        Peer(name=m.name, role=PeerRole.MANAGER, public_key=m.public_key, address=m.address)
        for m in plan.managers
    ]
    endpoint = Endpoint(
        keys, name=seed.name, incarnation=incarnation, limits=LIMITS, context=context
    )
    identity = AgentIdentity(
        node_id=keys.id,
        name=seed.name,
        role=NodeRole.WORKER,
        cluster_id=plan.cluster_id,
        incarnation=incarnation,
    )
    agent = Agent(
        endpoint,
        AgentSettings(runtimes=(RuntimeKind.PROCESS,)),
        identity,
        managers,
        directory / "agents" / seed.name,
        runtimes=[FakeRuntime(_wall_ms)],
    )
    async with endpoint.opened():
        yield _Made(name=seed.name, agent=agent)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
