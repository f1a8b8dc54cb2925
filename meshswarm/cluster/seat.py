"""A manager's seat: recovers the journal, builds the parts of this room, and runs them together."""

import asyncio
import logging
import random
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.cluster import wire
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.heard import Heard
from meshswarm.cluster.history import History
from meshswarm.cluster.hub import Hub
from meshswarm.cluster.journal import Journal, Recovered
from meshswarm.cluster.leadership import Leadership
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.proposals import Proposals
from meshswarm.cluster.service import Service
from meshswarm.cluster.sessions import Sessions
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.cluster.status import manager_status
from meshswarm.errors import Unavailable
from meshswarm.ids import ClusterId, Index, NodeId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.mesh.requests import Reply, Request
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot, Message
from meshswarm.store.view import View, decode_view

log = logging.getLogger("meshswarm.cluster")

SNAPSHOT_S = 60.0
"""How long a snapshot may be on its way to a peer before it counts as lost."""


@frozen(kw_only=True)
class Identity:
    """Who this manager is."""

    cluster_id: ClusterId
    node_id: NodeId
    name: str


class Seat:
    """One manager's part in the cluster; `run` it beside the endpoint."""

    def __init__(
        self,
        identity: Identity,
        membership: Membership,
        endpoint: Endpoint,
        journal: Journal,
        recovered: Recovered,
        settings: ClusterSettings,
    ) -> None:
        self._identity = identity
        self._membership = membership
        self._endpoint = endpoint
        self._journal = journal
        self._settings = settings
        self._heard = Heard(identity.node_id, asyncio.get_running_loop().time())
        _tell(recovered)
        core = _core(identity, recovered, settings)
        meta = recovered.snapshot.meta if recovered.snapshot else None
        self.driver = Driver(
            core,
            journal,
            Hub(_view(recovered)),
            settings,
            self._send,
            self._send_whole,
            meta,
            self._heard.has_room,
        )
        self.proposals = Proposals(
            self.driver, endpoint, membership.manager, settings, identity.name
        )
        self.sessions = Sessions(
            self.driver, self.proposals, endpoint, self._heard, membership.managers, settings
        )
        self._leadership = Leadership(self.driver, self.proposals, self._heard, settings)
        self._service = Service(
            self.driver,
            self.proposals,
            self.sessions,
            self._heard,
            History(self.driver, journal),
            endpoint,
            membership.manager,
            self.status,
        )
        for peer in membership.managers:
            if peer.id != identity.node_id:
                # A lane that is first used when it is needed would lose what it is needed for.
                endpoint.link(peer).open(*Lane)
        endpoint.on_notify(wire.KIND, self._on_raft, roles={PeerRole.MANAGER})
        endpoint.on_call(wire.SNAPSHOT, self._on_snapshot, roles={PeerRole.MANAGER})

    @staticmethod
    def recover(
        directory: Path, identity: Identity, membership: Membership, settings: ClusterSettings
    ) -> tuple[Journal, Recovered]:
        """Open the journal; raises `Conflict` or `Corrupt` as `Journal.open` does."""
        return Journal.open(
            directory,
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            initial_conf=membership.initial_conf,
            min_free_bytes=settings.min_free_bytes,
        )

    async def run(self) -> None:
        """Run all parts until cancelled; one that fails ends them all. Closes the journal."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.driver.run(), name="raft")
                parts.create_task(self.sessions.run(), name="sessions")
                parts.create_task(self._leadership.run(), name="leadership")
        finally:
            await self._journal.close()

    def status(self) -> dict[str, object]:
        """What this manager says of itself: see `manager_status`."""
        return manager_status(
            self._identity.name,
            self._settings,
            self.driver,
            self.sessions,
            self._journal,
            self._endpoint,
            self._membership,
        )

    def journal_stats(self) -> dict[str, object]:
        """What the journal says of itself: see `Journal.stats`."""
        return self._journal.stats()

    async def leave_leadership(self, timeout_s: float) -> None:
        """Before stopping: hand leadership over if this node has it; give up after the timeout."""
        status = self.driver.core.status()
        if status.leader != status.id or len(status.conf.voters) == 1:
            return
        try:
            async with asyncio.timeout(timeout_s):
                leader, term = await self.proposals.hand_over_here(None)
            log.info("handed leadership over leader=%s term=%d", leader, term)
        except (TimeoutError, Unavailable) as error:
            log.warning("leaving without a hand-over: %r", error)

    # --- the mesh -----------------------------------------------------------------------------

    def _send(self, message: Message) -> bool:
        peer = self._membership.manager(message.to)
        if peer is None:
            return False
        body, payloads = wire.pack(message)
        try:
            link = self._endpoint.link(peer)
            return link.notify(wire.lane_of(message), wire.KIND, body, payloads)
        except Unavailable:
            return False  # The endpoint is closing.

    async def _send_whole(self, message: InstallSnapshot) -> None:
        """Send a snapshot; returns when the peer has it, raises `Unavailable` if it may not."""
        peer = self._membership.manager(message.to)
        if peer is None:
            raise Unavailable(f"{message.to} is no manager")
        body, payloads = wire.pack(message)
        await self._endpoint.link(peer).call(
            wire.lane_of(message), wire.SNAPSHOT, body, payloads, timeout_s=SNAPSHOT_S
        )

    async def _on_snapshot(self, request: Request) -> Reply:
        self._on_raft(request.peer, request.body, request.payloads)
        return Reply()

    def _on_raft(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        """A peer's Raft message; one that claims another sender never reaches the core."""
        message = wire.unpack(body, payloads)
        if message.from_ != peer.id or message.to != self._identity.node_id:
            raise codec.Undecodable(f"{peer.name} sent a message from {message.from_}")
        self._heard.note(peer.id, asyncio.get_running_loop().time())
        self.driver.step(message)


def _tell(recovered: Recovered) -> None:
    """Say in the log what was found and what was lost."""
    for note in recovered.notes:
        log.warning("journal: %s", note)
    if recovered.damage is not None:
        log.error("journal: %s (%s)", recovered.damage.what, recovered.damage.where)


def _core(identity: Identity, recovered: Recovered, settings: ClusterSettings) -> RaftCore:
    config = RaftConfig(
        node_id=identity.node_id,
        election_ticks=settings.election_ticks,
        heartbeat_ticks=settings.heartbeat_ticks,
        max_append_bytes=settings.max_append_bytes,
        max_inflight=settings.max_inflight,
        max_uncommitted_bytes=settings.max_uncommitted_bytes,
    )
    snapshot = recovered.snapshot.meta if recovered.snapshot else None
    return RaftCore(
        config,
        random.SystemRandom(),
        hard_state=recovered.hard_state,
        conf=recovered.conf,
        snapshot=snapshot,
        entries=recovered.entries,
        applied=snapshot.index if snapshot else Index(0),
        recovering=recovered.damage is not None,
        blank=snapshot is None and not recovered.entries,
    )


def _view(recovered: Recovered) -> View:
    return decode_view(recovered.snapshot.data) if recovered.snapshot else View()
