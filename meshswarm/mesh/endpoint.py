"""The endpoint: a node's or client's one door to the mesh."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager

import zmq

from meshswarm.errors import Conflict, Unavailable
from meshswarm.ids import NodeId
from meshswarm.mesh.channel import Channel
from meshswarm.mesh.dialer import Dialer
from meshswarm.mesh.door import Door
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import DEFAULT_LIMITS, MeshLimits
from meshswarm.mesh.links import Link
from meshswarm.mesh.listener import Listener
from meshswarm.mesh.peers import NODES, Lane, Peer, PeerRole
from meshswarm.mesh.pump import Sent
from meshswarm.mesh.requests import CallHandler, NotifyHandler, PromptHandler, StreamHandler
from meshswarm.mesh.site import Site
from meshswarm.mesh.sockets import Context


class Endpoint:
    """Talks to peers and answers them; everything happens on the loop that `opened` is entered on.

    `listen` is "host:port" (port 0: any), None for who only dials out. `peers` is the allow list of
    those who may dial us. `incarnation` (64 bits) must grow with each start of one identity, even
    if its data directory was copied or restored: of two live processes the larger one wins.
    `context` is for a process with many endpoints: one of ZeroMQ's that outlives them all.
    """

    def __init__(
        self,
        keys: KeyPair,
        *,
        name: str,
        incarnation: int,
        listen: str | None = None,
        peers: Iterable[Peer] = (),
        limits: MeshLimits = DEFAULT_LIMITS,
        context: Context | None = None,
    ) -> None:
        self._keys = keys
        self._listen = listen
        self._nonce = secrets.token_hex(8)
        self._site = Site(node=keys.id, name=name, incarnation=incarnation, limits=limits)
        self._site.allow(peers)
        self._context: Context | None = None
        self._shared = context
        self._door: Door | None = None
        self._listener: Listener | None = None
        self._links: dict[NodeId, Link] = {}
        self._addresses: dict[NodeId, str | None] = {}
        self._dialers: dict[NodeId, list[Dialer]] = {}

    @property
    def id(self) -> NodeId:
        """Our own id."""
        return self._site.id

    @property
    def address(self) -> str | None:
        """Where we listen, "host:port" with the real port; None if we do not."""
        return self._listener.address if self._listener else None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Endpoint"]:
        """Listens and runs handlers as long as the block lasts; entered once.

        An error of the block leaves it as it is, not wrapped in a group.

        :raises Conflict: if the port is taken.
        :raises Invalid: if `listen` is no address of this host.
        """
        assert self._context is None, "an endpoint is opened once"
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            self._site.open(tasks)
            keeper = tasks.create_task(self._keep_house(), name="mesh housekeeping")
            try:
                self._open_sockets()
                yield self
            except Exception as error:  # noqa: BLE001 - raised again below, outside the group
                failure = error
            finally:
                keeper.cancel()
                self._close()
        if failure is not None:
            raise failure

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside the handlers; it is waited for, not cancelled, when the block ends."""
        return self._site.start(work, name)

    def link(self, peer: Peer) -> Link:
        """The link to `peer`, dialed when it is first used; to ourselves it needs no socket.

        Always the same one, until the peer is removed or has another address.

        :raises Unavailable: if the peer has no address (see `accepted`).
        """
        known = self._links.get(peer.id)
        if known is not None and self._addresses[peer.id] == peer.address:
            return known
        if peer.id != self.id and peer.address is None:
            raise Unavailable(f"{peer.name} has no address: it only dials out")
        self._hang_up(peer.id)
        standing = self._site.standing(peer)
        standing.peer = peer
        dial = self._loop_back if peer.id == self.id else self._dial
        link = Link(standing, {}, self._site.limits, lambda lane: dial(peer, lane))
        self._links[peer.id] = link
        self._addresses[peer.id] = peer.address
        return link

    def accepted(self, node: NodeId) -> Link | None:
        """A link over what a manager or worker dialed to us; None if it dialed nothing.

        Ask anew each time: the link is for one process of the node, and ends with its connections.
        """
        if node == self.id:
            return self._links.get(node)  # the loopback is its own other end
        return self._listener.link(node) if self._listener else None

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Replace the allow list; who is no longer in it is cut off at once, on both sides.

        Links to peers whose address changed end too: `link` gives new ones.

        :raises Invalid: if two peers share a key or a name.
        """
        for node in self._site.allow(peers):
            self._hang_up(node)
            if self._listener is not None:
                self._listener.forget(node)
        for peer in self._site.allowed.values():
            if peer.address is not None and peer.address != self._addresses.get(
                peer.id, peer.address
            ):
                self._hang_up(peer.id)

    def on_notify(
        self, kind: str, handler: NotifyHandler, roles: Collection[PeerRole] = NODES
    ) -> None:
        """Let `handler` take notifications; it must not block. `Undecodable` counts as a bad frame;
        whatever else it raises is only logged, as a bug."""
        self._site.notifies.add(kind, handler, roles)

    def on_call(
        self,
        method: str,
        handler: CallHandler,
        roles: Collection[PeerRole],
        *,
        prompt: PromptHandler | None = None,
    ) -> None:
        """Let `handler` answer calls; cancelled when the caller gives up or is gone.

        `prompt` is asked first, and spares the call a task and some turns of the loop.
        """
        self._site.calls.add(method, handler, roles)
        if prompt is not None:
            self._site.prompt[method] = prompt

    def on_stream(self, method: str, handler: StreamHandler, roles: Collection[PeerRole]) -> None:
        """Let `handler`, an async generator function, feed streams; cancelled like a call's."""
        self._site.streams.add(method, handler, roles)

    def on_lost(self, handler: Callable[[Peer], None]) -> None:
        """Call `handler`, which must not raise, when a connection that we dialed breaks."""
        self._site.on_lost = handler

    def on_turn_end(self, handler: Callable[[], None]) -> None:
        """Call `handler`, which must not raise, after each batch of messages from a peer.

        What the batch set off can so be done at once, and once, instead of in the next turn of
        the loop.
        """
        self._site.on_turn_end = handler

    def on_fenced(self, handler: Callable[[Conflict], None]) -> None:
        """Let `handler` know, once, that a newer process with our identity runs: we should exit."""
        self._site.on_fenced = handler

    def counters(self) -> Mapping[str, int]:
        """What passed and what was dropped, since the start, by name."""
        counters = {"messages_in": self._site.messages_in, "messages_out": self._site.messages_out}
        if self._listener is not None:
            counters["connections_accepted"] = self._listener.connections
            counters["handshakes_completed"] = self._listener.handshakes
        return counters | {f.value: count for f, count in self._site.faults.counts.items()}

    def dropped(self) -> Mapping[str, int]:
        """What was dropped since the start, by cause; every cause is there, mostly with 0."""
        return {fault.value: self._site.faults.counts[fault] for fault in Fault}

    def _open_sockets(self) -> None:
        self._context = self._shared or zmq.Context(io_threads=1)
        if self._listen is None:
            return
        limits = self._site.limits
        self._door = Door(
            self._context,
            self._site.id_of_key,
            self._site.faults,
            messages_per_turn=limits.messages_per_turn,
        )
        self._listener = Listener(
            self._site, self._context, self._keys, self._listen, self._on_entered
        )

    def _close(self) -> None:
        self._site.is_closing = True
        for node in list(self._links):
            self._hang_up(node)
        if self._listener is not None:
            self._listener.close()
        if self._door is not None:
            self._door.pump.close()
        if self._context is not None and self._shared is None:
            self._context.destroy(linger=0)

    def _dial(self, peer: Peer, lane: Lane) -> Channel:
        assert self._context is not None, "the endpoint is not open"
        if self._site.is_closing:
            raise Unavailable(f"{self._site.name} is stopping")
        standing = self._site.standing(peer)
        dialer = Dialer(self._site, self._context, self._keys, standing, lane, self._nonce)
        self._dialers.setdefault(peer.id, []).append(dialer)
        return dialer.channel

    def _on_entered(self, node: NodeId) -> None:
        for dialer in self._dialers.get(node, ()):
            dialer.heard_elsewhere()

    def _loop_back(self, peer: Peer, lane: Lane) -> Channel:
        loop = asyncio.get_running_loop()
        waiting = 0

        def deliver(frames: list[bytes]) -> None:
            nonlocal waiting
            waiting -= 1
            channel.receive(frames)
            self._site.end_turn()

        def send(frames: Iterable[bytes]) -> Sent:
            nonlocal waiting
            if waiting >= self._site.limits.listener_queue:
                return Sent.BUSY
            waiting += 1
            loop.call_soon(deliver, list(frames))
            return Sent.OK

        channel = Channel(self._site, self._site.standing(peer), lane, send)
        channel.connected()
        return channel

    def _hang_up(self, node: NodeId) -> None:
        link = self._links.pop(node, None)
        self._addresses.pop(node, None)
        for dialer in self._dialers.pop(node, []):
            dialer.close()
        if link is not None:
            link.close()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(self._site.limits.safety_poll_s)
            now = self._site.now()
            if self._door is not None:
                self._door.pump.drain()
            if self._listener is not None:
                self._listener.tick(now)
            for dialers in list(self._dialers.values()):
                for dialer in dialers:
                    dialer.tick(now)
