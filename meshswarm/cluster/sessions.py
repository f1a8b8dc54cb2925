"""Agents' sessions: any manager serves them, and they outlive a change of leader.

A session is one stream: the agent says hello, and is sent its full set of assignments and then
every change. Beats come beside it. A manager that hears no leader and no quorum stops
acknowledging beats, so that its agents look for a better one.

Of a node that has fallen silent the leader asks the other managers at once, instead of waiting for
their next reports: each has it send a beat, if it has a way to it, and tells whom it heard.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from meshswarm import codec
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.heard import Heard, HeardReport
from meshswarm.cluster.hub import Watch
from meshswarm.cluster.proposals import Proposals
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.cluster.vault import Vault
from meshswarm.cluster.vouching import Vouching
from meshswarm.errors import Denied, Invalid, NotFound
from meshswarm.ids import NodeId, Version
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import NODES, Lane, Peer, PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request, in_parts
from meshswarm.model.file import FileKind, FileUse
from meshswarm.store.assignments import AssignmentChange, SessionHello, Told
from meshswarm.store.commands import RegisterNode
from meshswarm.store.files import is_for

log = logging.getLogger("meshswarm.sessions")

OPEN, BEAT, BEAT_ACK, PROBE = "session.open", "session.beat", "session.beat_ack", "session.probe"
HEARD, HEARD_ACK, ASK = "heard", "heard.ack", "heard.ask"
FILE = "session.file"

MAX_ASKED = 100
"""Suspects of which one question asks; the others' turn comes with the next one."""

ASK_AGAIN_S = 0.25
"""Between two questions."""

ANSWER_S = 0.05
"""From the first suspect that answers until the manager that asked is told."""


GATHER_S = 0.1
"""From one change that an agent is told to the next: what comes meanwhile travels together."""


class Sessions:
    """The sessions that this manager serves, and what the managers tell each other of them."""

    def __init__(
        self,
        driver: Driver,
        proposals: Proposals,
        endpoint: Endpoint,
        heard: Heard,
        awake_s: Callable[[], float],
        managers: tuple[Peer, ...],
        settings: ClusterSettings,
        vault: Vault,
    ) -> None:
        self._driver = driver
        self._proposals = proposals
        self._endpoint = endpoint
        self._heard = heard
        self._awake_s = awake_s
        self._others = tuple(peer for peer in managers if peer.id != driver.core.id)
        self._settings = settings
        self._vault = vault
        self._serving: dict[NodeId, int] = {}
        self._serving_peers: dict[NodeId, Peer] = {}
        self._vouching = Vouching(driver.core.id)
        self._asked: dict[NodeId, Peer] = {}
        """Suspects, and who wants to know at once when they are heard."""
        self._askers: dict[NodeId, Peer] = {}
        """Managers that are told in a moment."""
        self._asked_at = -ASK_AGAIN_S
        endpoint.on_stream(OPEN, self._serve, roles=NODES)
        endpoint.on_call(FILE, self._give, roles=NODES)
        endpoint.on_notify(BEAT, self._on_beat)
        endpoint.on_notify(HEARD, self._on_heard, roles={PeerRole.MANAGER})
        endpoint.on_notify(HEARD_ACK, self._on_heard_ack, roles={PeerRole.MANAGER})
        endpoint.on_notify(ASK, self._on_ask, roles={PeerRole.MANAGER})

    @property
    def serving(self) -> frozenset[NodeId]:
        """The nodes whose sessions are open here."""
        return frozenset(self._serving)

    def link_to(self, node_id: NodeId) -> Link | None:
        """The way back to a node whose session is open here; this manager's own needs no socket."""
        peer = self._serving_peers.get(node_id)
        if peer is not None and node_id == self._endpoint.id:
            return self._endpoint.link(peer)
        return self._endpoint.accepted(node_id) if peer is not None else None

    async def run(self) -> None:
        """Tell the other managers what is heard here, once a beat."""
        while True:
            self._heard.forget(self._driver.hub.view.nodes.keys() | self._serving.keys())
            self._tell(self._others)
            await asyncio.sleep(self._settings.beat_ms / 1_000)

    def ask(self, suspects: Sequence[NodeId]) -> None:
        """Have the other managers look after these nodes and tell whom they hear; not too often."""
        now = self._awake_s()
        if not suspects or now < self._asked_at + ASK_AGAIN_S:
            return
        self._asked_at = now
        asked = list(suspects[:MAX_ASKED])
        self._probe(asked)
        for peer in self._others:
            self._endpoint.link(peer).notify(Lane.CONTROL, ASK, asked)

    def _tell(self, peers: Iterable[Peer]) -> None:
        """Tell these managers whom this one heard."""
        now = self._awake_s()
        sequence = self._vouching.reporting(_loop_ms())
        has_room = self._driver.has_room
        report = codec.unstructure(
            self._heard.report(self._serving, now, has_room=has_room, sequence=sequence)
        )
        for peer in peers:
            self._endpoint.link(peer).notify(Lane.CONTROL, HEARD, report)

    def _tell_soon(self, asker: Peer) -> None:
        """Tell this manager, and in one go of all suspects that answer until then."""
        if not self._askers:
            asyncio.get_running_loop().call_later(ANSWER_S, self._tell_askers)
        self._askers[asker.id] = asker

    def _tell_askers(self) -> None:
        askers, self._askers = self._askers, {}
        self._tell(askers.values())

    def _probe(self, suspects: Iterable[NodeId]) -> None:
        """Have those whose session is open here send a beat now."""
        for node_id in suspects:
            link = self.link_to(node_id)
            if link is not None:
                link.notify(Lane.CONTROL, PROBE)

    # --- what comes in ------------------------------------------------------------------------

    def _on_beat(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        match body:
            case [int() as incarnation, int() as sequence]:
                pass
            case _:
                raise codec.Undecodable(f"not a beat: {body!r:.100}")
        if self._serving.get(peer.id) != incarnation:
            return
        now, core = self._awake_s(), self._driver.core
        self._heard.note(peer.id, now)
        self._vouching.heard(peer.id, sequence, _loop_ms())
        if (asker := self._asked.pop(peer.id, None)) is not None:
            self._tell_soon(asker)
        link = self.link_to(peer.id)
        if link is not None and not core.is_disconnected:
            vouched = self._vouching.vouched(peer.id, core.leader)
            link.notify(Lane.CONTROL, BEAT_ACK, [sequence, vouched])

    def _on_heard(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        report = codec.structure(body, HeardReport, lenient=True)
        now, core = self._awake_s(), self._driver.core
        self._heard.note(peer.id, now)
        self._heard.merge(peer.id, report, now)
        if core.leader == core.id:
            self._endpoint.link(peer).notify(Lane.CONTROL, HEARD_ACK, [report.sequence])

    def _on_heard_ack(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        match body:
            case [int() as sequence]:
                self._vouching.confirmed(peer.id, sequence)
            case _:
                raise codec.Undecodable(f"not the number of a report: {body!r:.100}")

    def _on_ask(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        """Another manager wants to know of suspects: what was heard so far, and what they say."""
        if not isinstance(body, list) or not all(isinstance(one, str) for one in body):
            raise codec.Undecodable(f"not a list of nodes: {body!r:.100}")
        suspects = [NodeId(one) for one in body[:MAX_ASKED] if one in self._serving]
        self._asked = dict.fromkeys(suspects, peer)
        self._probe(suspects)
        self._tell([peer])

    # --- one session --------------------------------------------------------------------------

    async def _serve(self, request: Request) -> AsyncIterator[Chunk]:
        """One agent's session, until either side ends it."""
        hello: SessionHello = codec.structure(request.body, SessionHello, lenient=True)
        registration, peer = hello.registration, request.peer
        if registration.node_id != peer.id:
            raise Denied(f"{peer.name} opens a session for node {registration.node_id}")
        await self._register(registration)
        incarnation = registration.incarnation
        self._serving[peer.id] = incarnation
        self._serving_peers[peer.id] = peer
        self._heard.note(peer.id, self._awake_s())
        log.info("session opened node=%s incarnation=%d", peer.name, incarnation)
        try:
            # A manager that lags would tell the agent to stop what it was just given.
            await self._proposals.read()
            with self._driver.hub.watching_node(peer.id) as watch:
                async for change in _changes(peer.id, watch):
                    yield Chunk(None, in_parts(codec.encode(change)))
        finally:
            if self._serving.get(peer.id) == incarnation:
                del self._serving[peer.id], self._serving_peers[peer.id]
                self._vouching.forget(peer.id)
                self._heard.doubt(peer.id, self._awake_s())
            log.info("session closed node=%s incarnation=%d", peer.name, incarnation)

    async def _give(self, request: Request) -> Reply:
        """The content of a config or secret, to a node that has a task which uses it."""
        match request.body:
            case [("config" | "secret") as kind, str() as name, int() as version]:
                pass
            case _:
                raise Invalid("a file is asked for by its kind, name and version")
        use = FileUse(kind=FileKind(kind), source=name, target="", version=Version(version))
        view = self._driver.hub.view
        if not is_for(view, request.peer.id, use):
            raise Denied(f"no task of {request.peer.name} uses {kind} {name}")
        content = view.content(use)
        if content is None:
            raise NotFound(f"{kind} {name} was removed")
        return Reply(None, (self._vault.opened(content),))

    async def _register(self, registration: RegisterNode) -> None:
        """Write the node's row, unless it says all this already; raises the refusal."""
        node = self._driver.hub.view.nodes.get(registration.node_id)
        if (
            node is None
            or node.incarnation != registration.incarnation
            or node.name != registration.name
            or node.address != registration.address
            or node.description != registration.description
        ):
            await self._proposals.propose(registration)


async def _changes(node_id: NodeId, watch: Watch) -> AsyncIterator[AssignmentChange]:
    """All that is the node's, then what changes of it."""
    told = Told(node_id)
    view, _ = watch.take()
    yield told.all(view)
    while True:
        await watch.wait()
        change = told.next(*watch.take())
        if change is not None:
            yield change
            await asyncio.sleep(GATHER_S)


def _loop_ms() -> int:
    """Which came first, a beat or a report: by a clock that never stands still."""
    return int(1_000 * asyncio.get_running_loop().time())
