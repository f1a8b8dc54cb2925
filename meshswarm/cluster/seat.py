"""A manager's seat: recovers the journal, builds the parts of this room, and runs them together."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.cluster import wire
from meshswarm.cluster.awake import AwakeClock
from meshswarm.cluster.diverged_note import refuse_diverged
from meshswarm.cluster.divergence import Divergence
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.heard import Heard
from meshswarm.cluster.history import History
from meshswarm.cluster.hub import Hub
from meshswarm.cluster.journal import Journal, Recovered
from meshswarm.cluster.leadership import Leadership
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.proposals import Proposals
from meshswarm.cluster.relay import Relay
from meshswarm.cluster.service import Service
from meshswarm.cluster.sessions import Sessions
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.cluster.shallow_sleep import ShallowSleep
from meshswarm.cluster.snapshots import here_to_stay, read_slices
from meshswarm.cluster.status import manager_status
from meshswarm.cluster.vault import Vault
from meshswarm.errors import Unavailable
from meshswarm.ids import ClusterId, Index, NodeId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.mesh.requests import Reply, Request
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import Message
from meshswarm.store.slices import view_of_slices
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.cluster")


@frozen(kw_only=True)
class Identity:
    """Who this manager is."""

    cluster_id: ClusterId
    node_id: NodeId
    name: str


@frozen
class Restored:
    """What a manager starts from; its journal is open, for `Seat.run` to close."""

    journal: Journal
    recovered: Recovered
    view: View


class Seat:
    """One manager's part in the cluster; `run` it beside the endpoint."""

    def __init__(
        self,
        identity: Identity,
        membership: Membership,
        endpoint: Endpoint,
        restored: Restored,
        settings: ClusterSettings,
        keys: KeyPair,
    ) -> None:
        journal, recovered = restored.journal, restored.recovered
        self._identity = identity
        self._membership = membership
        self._endpoint = endpoint
        self._journal = journal
        self._settings = settings
        self._awake = AwakeClock(time.monotonic)
        self._heard = Heard(identity.node_id, self._awake.now())
        _tell(recovered)
        core = _core(identity, recovered, settings)
        self.driver = Driver(
            core,
            journal,
            Hub(restored.view),
            settings,
            self._send,
            self._call_bulk,
            identity.cluster_id,
            recovered.snapshot,
            self._heard.has_room,
        )
        self.proposals = Proposals(
            self.driver, endpoint, membership.manager, settings, identity.name
        )
        self.vault = Vault(
            keys,
            membership.managers,
            lambda: self.driver.hub.view,
            self.proposals.read,
            self.proposals.propose,
            lambda: self.driver.core.leader == identity.node_id,
        )
        self.sessions = Sessions(
            self.driver,
            self.proposals,
            endpoint,
            self._heard,
            self._awake.now,
            membership.managers,
            settings,
            self.vault,
        )
        self.divergence = Divergence(
            self.driver, endpoint, lambda: membership.managers, journal.directory
        )
        self._leadership = Leadership(
            self.driver, self.proposals, self._heard, self._awake.now, settings, self.sessions.ask
        )
        self._service = Service(
            self.driver,
            self.proposals,
            History(self.driver, journal),
            endpoint,
            membership.manager,
            self.status,
            self.vault,
        )
        self._shallow_sleep = ShallowSleep(lambda: core.commit + self.driver.metrics.reads)
        self._relay = Relay(self.driver, self.sessions, self._heard, endpoint, membership.manager)
        self._join(endpoint)

    def _join(self, endpoint: Endpoint) -> None:
        """Dial the other managers and take in what they say."""
        for peer in self._membership.managers:
            if peer.id != self._identity.node_id:
                # A lane that is first used when it is needed would lose what it is needed for.
                endpoint.link(peer).open(*Lane)
        endpoint.on_notify(wire.KIND, self._on_raft, roles={PeerRole.MANAGER})
        endpoint.on_turn_end(self.driver.end_turn)
        endpoint.on_lost(self._on_lost)
        endpoint.on_call(wire.SNAPSHOT, self._on_offer, roles={PeerRole.MANAGER})
        endpoint.on_call(wire.SNAPSHOT_CHUNK, self._on_chunk, roles={PeerRole.MANAGER})

    @staticmethod
    def recover(
        directory: Path, identity: Identity, membership: Membership, settings: ClusterSettings
    ) -> Restored:
        """Open the journal and read the state in it; blocks for as long as that takes.

        Before the endpoint is opened: a peer whose connection hangs meanwhile would wait longer.
        Raises `Conflict` or `Corrupt` as `Journal.open` does, and `Corrupt` where this manager
        stopped because its state was not that of the others.
        """
        refuse_diverged(directory)
        journal, recovered = Journal.open(
            directory,
            cluster_id=identity.cluster_id,
            node_id=identity.node_id,
            initial_conf=membership.initial_conf,
            min_free_bytes=settings.min_free_bytes,
            reserved_bytes=settings.reserved_log_bytes,
        )
        return Restored(journal, recovered, _view(directory, recovered))

    async def run(self) -> None:
        """Run all parts until cancelled; one that fails ends them all. Closes the journal."""
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self.driver.run(), name="raft")
                parts.create_task(self._awake.run(), name="awake")
                parts.create_task(self.sessions.run(), name="sessions")
                parts.create_task(self.divergence.run(), name="divergence")
                parts.create_task(self._leadership.run(), name="leadership")
                parts.create_task(self.vault.run(), name="vault")
                if self._settings.shallow_sleep:
                    parts.create_task(self._shallow_sleep.run(), name="shallow sleep")
        finally:
            await self._journal.close()

    def status(self) -> dict[str, object]:
        """What this manager says of itself: see `manager_status`."""
        return manager_status(
            self._identity.name,
            self._settings,
            self.driver,
            self.sessions,
            self.divergence,
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

    async def _call_bulk(
        self,
        to: NodeId,
        method: str,
        body: object,
        payloads: Sequence[bytes],
        timeout_s: float,
    ) -> Reply:
        """Call another manager where it delays no heartbeat; raises `MeshswarmError`."""
        peer = self._membership.manager(to)
        if peer is None:
            raise Unavailable(f"{to} is no manager")
        link = self._endpoint.link(peer)
        return await link.call(Lane.BULK, method, body, payloads, timeout_s=timeout_s)

    async def _on_offer(self, request: Request) -> Reply:
        message, size = wire.unpack_offer(request.body, request.payloads)
        self._check_ends(request.peer, message)
        answer = await self.driver.snapshots.offered(message, size)
        return Reply(answer.packed())

    async def _on_chunk(self, request: Request) -> Reply:
        chunk = wire.unpack_chunk(request.body, request.payloads)
        return Reply((await self.driver.snapshots.take_chunk(chunk)).packed())

    def _on_raft(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        """A peer's Raft message; one that claims another sender never reaches the core."""
        message = wire.unpack(body, payloads)
        self._check_ends(peer, message)
        self.driver.step(message)

    def _on_lost(self, peer: Peer) -> None:
        """A connection to another manager broke: both leader and node may be gone, or neither."""
        self.driver.lost_contact(peer.id)
        self._heard.doubt(peer.id, self._awake.now())

    def _check_ends(self, peer: Peer, message: Message) -> None:
        if message.from_ != peer.id or message.to != self._identity.node_id:
            raise codec.Undecodable(f"{peer.name} sent a message from {message.from_}")
        self._heard.note(peer.id, self._awake.now())


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
        thrifty=True,
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


def _view(directory: Path, recovered: Recovered) -> View:
    if recovered.snapshot is None:
        return View()
    name = recovered.snapshot.name
    return view_of_slices(here_to_stay(read_slices(directory / str(name), name)))
