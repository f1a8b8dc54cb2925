"""Real managers in one process: real sockets, CURVE, journals on disk and elections; no agents.

`async with managers(tmp_path) as cluster:` gives three of them with short timeouts; each can be
stopped as if its process had been killed, and started again on the same directory.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from meshswarm.cluster.membership import Membership
from meshswarm.cluster.seat import Identity, Seat
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.control.liveness import LivenessPolicy
from meshswarm.errors import MeshswarmError
from meshswarm.ids import ClusterId
from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.model.service import RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.store.commands import PutService

FAST = ClusterSettings(
    heartbeat_ms=20,
    election_timeout_ms=200,
    beat_ms=100,
    liveness=LivenessPolicy(suspect_ms=300, down_ms=600),
    proposal_timeout_s=3.0,
    min_free_bytes=0,
    reserved_log_bytes=0,
)
"""Short enough for tests, long enough for a busy machine."""

PATIENCE_S = 15.0
"""How long a test waits for what must happen; a bound against hanging, not a measure."""


def idle_service(name: str) -> PutService:
    """A command whose only effect is a row."""
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=("sleep", "9"))
    return PutService(spec=ServiceSpec(name=name, replicas=0, task=task))


class Manager:
    """One manager: its keys and directory stay, its process comes and goes."""

    def __init__(self, name: str, directory: Path, cluster: "Managers") -> None:
        self.name = name
        self.keys = keys.generate()
        self.address: str | None = None
        self.seat: Seat | None = None
        self.endpoint: Endpoint | None = None
        self._directory = directory
        self._cluster = cluster
        self._task: asyncio.Task[None] | None = None
        self._starts = 0
        self.failure: Exception | None = None

    @property
    def peer(self) -> Peer:
        return Peer(
            name=self.name,
            role=PeerRole.MANAGER,
            public_key=self.keys.public,
            address=self.address,
        )

    @property
    def role(self) -> str:
        return self.seat.driver.core.status().role.value if self.seat else "stopped"

    @property
    def follows(self) -> bool:
        """Whether it hears a leader."""
        return self.seat is not None and self.seat.driver.core.status().leader is not None

    async def run(self) -> None:
        self._starts += 1
        self.endpoint = endpoint = Endpoint(
            self.keys,
            name=self.name,
            incarnation=self._starts,
            listen=self.address or "127.0.0.1:0",
            peers=self._cluster.peers(),
        )
        async with endpoint.opened():
            self.address = endpoint.address
            await self._cluster.all_listen()
            endpoint.set_peers(self._cluster.peers())
            identity = Identity(cluster_id=ClusterId("test"), node_id=self.keys.id, name=self.name)
            membership = Membership.of(manager.peer for manager in self._cluster.members)
            settings = self._cluster.settings
            try:
                restored = Seat.recover(self._directory, identity, membership, settings)
            except MeshswarmError as failure:
                self.failure = failure
                return
            self.seat = Seat(identity, membership, endpoint, restored, settings, self.keys)
            try:
                await self.seat.run()
            except ExceptionGroup as failure:
                self.failure = failure.exceptions[0]
            finally:
                self.seat = None

    async def stop(self) -> None:
        """End it without a hand-over, as a crash would."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None

    def start(self) -> None:
        self._task = self._cluster.tasks.create_task(self.run(), name=self.name)


class Managers:
    """The managers of one test."""

    def __init__(
        self,
        tmp_path: Path,
        count: int,
        settings: ClusterSettings,
        clients: tuple[Peer, ...],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.settings = settings
        self.tasks = tasks
        self.clients = clients
        self.members = [
            Manager(f"n{number}", tmp_path / f"n{number}", self) for number in range(1, count + 1)
        ]
        self._listening = asyncio.Event()

    def peers(self) -> list[Peer]:
        return [*(member.peer for member in self.members), *self.clients]

    async def all_listen(self) -> None:
        if all(member.address for member in self.members):
            self._listening.set()
        await self._listening.wait()

    @property
    def leader(self) -> Manager | None:
        """The leader that a majority follows, with the control loop's term begun."""
        leaders = [member for member in self.members if member.role == "Leader"]
        return leaders[0] if len(leaders) == 1 else None

    async def leads(self, *, not_: Manager | None = None) -> Manager:
        """The leader, as soon as there is one (other than `not_`)."""
        await until(lambda: self.leader is not None and self.leader is not not_)
        assert self.leader is not None
        return self.leader


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail after `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- tests look from outside; nothing to be told by
            await asyncio.sleep(0.005)


@asynccontextmanager
async def managers(
    tmp_path: Path,
    count: int = 3,
    settings: ClusterSettings = FAST,
    clients: tuple[Peer, ...] = (),
) -> AsyncIterator[Managers]:
    """`count` running managers; all are stopped at the end."""
    async with asyncio.TaskGroup() as tasks:
        cluster = Managers(tmp_path, count, settings, clients, tasks)
        for member in cluster.members:
            member.start()
        try:
            yield cluster
        finally:
            for member in cluster.members:
                if member._task is not None:
                    await member.stop()
