"""The networks of this node's containers: made with the first that needs one, gone with the last.

Each node has its own, told by labels and by a name that ends with the node's id: nodes may share an
engine. *Invariant:* what lacks our labels is never changed, and only used where it is external.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from meshswarm.agent.runtimes import docker_spec
from meshswarm.agent.runtimes.calls import Calls
from meshswarm.agent.runtimes.docker_engine import Engine
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.ids import ClusterId, NodeId
from meshswarm.model.network import NetworkUse
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment

log = logging.getLogger(__name__)

SWEEP_S = 30.0
"""How often networks that nobody needs are looked for, besides whenever a container goes."""


class Networks:
    """This node's networks in one engine."""

    def __init__(
        self, engine: Engine, changes: Calls, looks: Calls, cluster_id: ClusterId, node_id: NodeId
    ) -> None:
        self._engine, self._changes, self._looks = engine, changes, looks
        self._node_id = node_id
        self._ours = docker_spec.own_labels(cluster_id, node_id)
        self._lock = asyncio.Lock()
        self._promised: Counter[str] = Counter()
        """Networks for which containers are just being made."""
        self._nudge = asyncio.Event()
        self._has_made = False

    async def run(self) -> None:
        """Remove what nobody needs any more, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._nudge.wait()
            except TimeoutError:
                pass
            self._nudge.clear()
            try:
                await self.sweep()
            except RuntimeFailure as failure:  # tried again at the next look
                log.warning("cannot clear networks away: %s", failure.message)

    def look_soon(self) -> None:
        """A container went: its networks may be needed no more."""
        if self._has_made:
            self._nudge.set()

    @asynccontextmanager
    async def promised(self, assignment: Assignment) -> AsyncIterator[None]:
        """Have the task's networks, and keep them while its container is made."""
        uses = assignment.spec.networks
        names = [docker_spec.network_name(use, self._node_id) for use in uses]
        self._promised.update(names)
        try:
            for use, name in zip(uses, names, strict=True):
                async with self._lock:
                    await self._have(use, name)
            yield
        finally:
            self._promised.subtract(names)

    async def join(self, assignment: Assignment, container: str) -> None:
        """Put a container into its further networks; it was made in the first one."""
        for use in assignment.spec.networks[1:]:
            name = docker_spec.network_name(use, self._node_id)
            aliases = docker_spec.aliases_of(assignment, use)
            await self._changes.run(self._engine.connect, name, container, aliases)

    async def sweep(self) -> None:
        """Remove our networks that no container needs."""
        labels = [f"{key}={value}" for key, value in self._ours.items()]
        for network in await self._looks.run(self._engine.networks, labels):
            async with self._lock:
                if self._promised[network["Name"]] > 0:
                    continue
                if await self._looks.run(self._engine.is_needed, network["Name"]):
                    continue
                log.info("docker removes network=%s", network["Name"])
                await self._changes.run(self._engine.drop_network, network["Id"])

    async def _have(self, use: NetworkUse, name: str) -> None:
        if use.external:
            if not await self._looks.run(self._engine.has_network, name):
                message = f"the external network {name!r} does not exist on this node"
                raise RuntimeFailure(
                    Reason.NETWORK_FAILED, f"{message}: `docker network create {name}` makes it"
                )
            return
        labels = self._ours | {docker_spec.NETWORK_LABEL: use.name}
        filters = [f"{key}={value}" for key, value in labels.items()]
        if any(n["Name"] == name for n in await self._looks.run(self._engine.networks, filters)):
            return
        if await self._looks.run(self._engine.has_network, name):
            message = f"a network named {name} is there already, and is not ours"
            raise RuntimeFailure(
                Reason.NETWORK_FAILED, f"{message}: `docker network rm {name}` removes it"
            )
        fields = {
            "driver": "bridge",
            "internal": use.internal,
            "options": dict(use.driver_options),
            "labels": dict(use.labels) | labels,
        }
        log.info("docker makes network=%s", name)
        self._has_made = True
        await self._changes.run(partial(self._engine.make_network, name, fields))
