"""The agent: all of the room behind one door."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

from meshswarm.agent.card import Card, Probed
from meshswarm.agent.contact import ContactFile, boot_ms
from meshswarm.agent.files import FileStore
from meshswarm.agent.files_root import FilesRoot, home_of
from meshswarm.agent.host import describe
from meshswarm.agent.lease import Lease
from meshswarm.agent.logs import serve_logs
from meshswarm.agent.memory import MemoryFile
from meshswarm.agent.pipes import Pipes
from meshswarm.agent.prober import Prober
from meshswarm.agent.reporter import Reporter
from meshswarm.agent.runtimes.port import Runtime
from meshswarm.agent.runtimes.process import ProcessRuntime, root_of
from meshswarm.agent.session import Session
from meshswarm.agent.settings import AgentIdentity, AgentSettings
from meshswarm.agent.stats import serve_stats
from meshswarm.agent.supervisor import Supervisor
from meshswarm.ids import TaskId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Peer
from meshswarm.model.node import NodeDescription
from meshswarm.model.service import RuntimeKind
from meshswarm.store.assignments import AssignmentChange

log = logging.getLogger(__name__)

NOTE_CONTACT_S = 1.0
"""Between two notes: an older one makes an agent that restarts alone end its tasks sooner."""


class Agent:
    """A node's hands. Make it before the endpoint is opened: it registers its handlers.

    `managers` are all of the cluster, this node included if it is one; `data_dir` is the agent's
    own. `runtimes` replaces what the settings would make, for tests.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: AgentSettings,
        identity: AgentIdentity,
        managers: Sequence[Peer],
        data_dir: Path,
        runtimes: Sequence[Runtime] | None = None,
    ) -> None:
        root = FilesRoot(home_of(settings.files_dir), identity.node_id)
        made = make_runtimes(settings, identity, data_dir, root) if runtimes is None else runtimes
        self._runtimes = {runtime.kind: runtime for runtime in made}
        self._devices = settings.devices
        self._ways = [peer.address for peer in managers if peer.address is not None]
        memory = MemoryFile(data_dir / "state.cbor", identity.cluster_id, identity.node_id)
        self._contact = ContactFile(data_dir / "contact")
        earlier_ms = self._contact.load()
        self._lease = Lease(boot_ms() if earlier_ms is None else earlier_ms)
        self._session = Session(
            endpoint, identity, settings, managers, self._describe, self._told, self._lease
        )
        self._reporter = Reporter(identity.node_id, self._session.propose)
        self._prober = Prober(self._runtimes, self._probed)
        self._supervisor = Supervisor(
            self._runtimes,
            memory,
            self._reporter.say,
            FileStore(root, self._session.fetch),
            alone_ms=lambda: self._lease.alone_ms(boot_ms()),
            on_card=self._prober.look,
        )
        serve_logs(endpoint, self._runtime_of)
        serve_stats(endpoint, self._runtimes.values())
        self._pipes = Pipes(endpoint, self._runtime_of)

    @property
    def cards(self) -> Mapping[TaskId, Card]:
        """What is known of each task of this node."""
        return self._supervisor.cards

    @property
    def manager(self) -> Peer | None:
        """The manager that serves this node; None between sessions."""
        return self._session.manager

    async def run(self) -> None:
        """Work until cancelled, which leaves all containers and processes running.

        :raises Conflict: if the cluster refuses this node for good.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._supervisor.run(), name="agent supervisor")
            group.create_task(self._reporter.run(), name="agent reporter")
            group.create_task(self._session.run(), name="agent session")
            group.create_task(self._note_contact(), name="agent contact")
            group.create_task(self._prober.run(), name="agent prober")

    async def _note_contact(self) -> None:
        """Note the last contact for the next process, as long as something here depends on it."""
        while True:
            if any(c.assignment and c.assignment.spec.stop_after_s for c in self.cards.values()):
                try:
                    self._contact.save(self._lease.contact_ms)
                except OSError as error:
                    log.warning("cannot note when a manager last knew of this node: %s", error)
            await asyncio.sleep(NOTE_CONTACT_S)

    def _told(self, change: AssignmentChange) -> None:
        self._supervisor.told(change)

    def _probed(self, task_id: TaskId, said: Probed) -> None:
        self._supervisor.probed(task_id, said)

    async def _describe(self) -> NodeDescription:
        return await describe(self._runtimes.values(), self._devices, self._ways)

    def _runtime_of(self, task_id: TaskId) -> Runtime | None:
        for runtime in self._runtimes.values():
            if runtime.board.look(task_id) is not None:
                return runtime
        return None


def make_runtimes(
    settings: AgentSettings, identity: AgentIdentity, data_dir: Path, files: FilesRoot
) -> tuple[Runtime, ...]:
    """The runtimes that the settings name; Docker's library is only loaded if one of them."""
    made: list[Runtime] = []
    for kind in settings.runtimes:
        match kind:
            case RuntimeKind.PROCESS:
                made.append(
                    ProcessRuntime(
                        root_of(data_dir),
                        cluster_id=identity.cluster_id,
                        node_id=identity.node_id,
                        node_name=identity.name,
                        log_bytes=settings.log_bytes_max,
                        files=files,
                    )
                )
            case RuntimeKind.DOCKER:
                from meshswarm.agent.runtimes.docker import DockerRuntime

                made.append(
                    DockerRuntime(
                        cluster_id=identity.cluster_id,
                        node_id=identity.node_id,
                        host=settings.docker_host,
                        parallel=settings.max_parallel_starts,
                        log_bytes=settings.log_bytes_max,
                        files=files,
                    )
                )
            case _:
                assert_never(kind)
    return tuple(made)
