"""What peers dialed to us: one ROUTER, and a channel for each connection that reached it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import zmq
from attrs import field, frozen

from meshswarm.errors import Conflict, Invalid
from meshswarm.ids import NodeId
from meshswarm.mesh.channel import Channel
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import BadFrame, RoutingId, routing_id_of
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, PeerRole, check_address
from meshswarm.mesh.pump import Pump
from meshswarm.mesh.site import Site
from meshswarm.mesh.sockets import (
    HANDSHAKE_FAILURES,
    Context,
    Happening,
    endpoint_of,
    happening_of,
    listening_socket,
    monitor_of,
)


@frozen(eq=False)
class Accepted:
    """The lanes that one process of a node dialed, and the link over them."""

    incarnation: int
    link: Link
    lanes: dict[Lane, Channel] = field(factory=dict)


class Listener:
    """Listens at `address` ("host:port"; port 0 takes a free one, see `address` afterwards).

    `on_entered` is told whose each new connection is, when the first message comes over it.

    :raises Conflict: if the port is taken.
    :raises Invalid: if it is no address of this host.
    """

    def __init__(
        self,
        site: Site,
        context: Context,
        keys: KeyPair,
        address: str,
        on_entered: Callable[[NodeId], None],
    ) -> None:
        check_address(address, "mesh.listen", port_min=0)
        self._site = site
        self._on_entered = on_entered
        self._channels: dict[bytes, Channel] = {}
        self._by_node: dict[NodeId, set[Channel]] = {}
        self._accepted: dict[NodeId, Accepted] = {}
        self.connections = 0
        self.handshakes = 0
        socket = listening_socket(context, keys, site.limits)
        turn = site.limits.messages_per_turn
        self._monitor = Pump(monitor_of(socket), self._on_event, messages_per_turn=turn)
        self._pump = Pump(
            socket,
            self._on_message,
            messages_per_turn=turn,
            frames_max=site.limits.payloads_max + 2,
            after_turn=site.end_turn,
        )
        try:
            socket.bind(endpoint_of(socket, address))
        except zmq.ZMQError as error:
            self.close()
            raise _bind_error(error, address) from error
        self.address = socket.get_string(zmq.LAST_ENDPOINT).removeprefix("tcp://")

    def link(self, node: NodeId) -> Link | None:
        """A link over what the newest process of this node dialed; None if nothing is open."""
        accepted = self._accepted.get(node)
        return accepted.link if accepted else None

    def forget(self, node: NodeId) -> None:
        """End all channels of a node that may no longer take part."""
        for channel in self._channels_of(node):
            channel.close()

    def tick(self, now: float) -> None:
        """The slow poll."""
        for pump in (self._monitor, self._pump):
            pump.drain()
        for channel in list(self._channels.values()):
            channel.tick(now)

    def close(self) -> None:
        """End all channels and stop listening."""
        for channel in list(self._channels.values()):
            channel.close()
        self._pump.socket.disable_monitor()
        self._monitor.close()
        self._pump.close()

    def _on_message(self, first: zmq.Frame, frames: list[bytes]) -> None:
        raw = frames.pop(0)
        user: Any = first.get(b"User-Id")  # whom the door let in: a `NodeId`
        if raw.startswith(b"\0"):
            # libzmq renames a connection so when its dialer's next one replaces it.
            what = "left over from a connection that was replaced, or one without a name"
            self._site.faults.note(Fault.STALE, user, what)
            return
        channel = self._channels.get(raw)
        try:
            if channel is None:
                channel = self._enter(raw, user)
            elif channel.standing.peer.id != user:
                raise BadFrame(f"claims to be {channel.standing.peer.id}")
        except BadFrame as error:
            self._site.faults.note(Fault.SPOOFED, user, error.message)
            return
        if channel is not None:
            channel.receive(frames)

    def _enter(self, raw: bytes, user: NodeId) -> Channel | None:
        claimed = routing_id_of(raw)
        if claimed.node != user:
            raise BadFrame(f"claims to be {claimed.node}")
        peer = self._site.allowed.get(user)
        if peer is None:
            # ZAP asks once per handshake; this connection is older than the peer's removal.
            self._site.faults.note(Fault.REVOKED, user, "was removed, and still sends")
            return None
        self._make_room(user)
        standing = self._site.standing(peer)
        channel = Channel(
            self._site,
            standing,
            claimed.lane,
            partial(self._pump.send, to=raw),
            on_lost=lambda: self._leave(raw, claimed),
            claimed=claimed.incarnation,
        )
        channel.connected()
        self._channels[raw] = channel
        self._by_node.setdefault(user, set()).add(channel)
        if peer.role is not PeerRole.CLIENT:
            self._add_lane(claimed, channel)
        self._on_entered(user)
        return channel

    def _add_lane(self, claimed: RoutingId, channel: Channel) -> None:
        accepted = self._accepted.get(claimed.node)
        if accepted is None or accepted.incarnation < claimed.incarnation:
            lanes: dict[Lane, Channel] = {}
            link = Link(channel.standing, lanes, self._site.limits)
            accepted = self._accepted[claimed.node] = Accepted(claimed.incarnation, link, lanes)
        if accepted.incarnation == claimed.incarnation:
            accepted.lanes[claimed.lane] = channel

    def _leave(self, raw: bytes, claimed: RoutingId) -> None:
        channel = self._channels.pop(raw, None)
        if channel is not None:
            self._by_node[claimed.node].discard(channel)
            if not self._by_node[claimed.node]:
                del self._by_node[claimed.node]
        accepted = self._accepted.get(claimed.node)
        if accepted is None or accepted.lanes.get(claimed.lane) is not channel:
            return
        del accepted.lanes[claimed.lane]
        if not accepted.lanes:
            del self._accepted[claimed.node]

    def _make_room(self, node: NodeId) -> None:
        channels = self._channels_of(node)
        if len(channels) >= self._site.limits.channels_per_peer:
            self._site.faults.note(Fault.BUSY, node, "has too many connections")
            min(channels, key=lambda channel: channel.last_heard).close()

    def _channels_of(self, node: NodeId) -> list[Channel]:
        return list(self._by_node.get(node, ()))

    def _on_event(self, _: zmq.Frame, frames: list[bytes]) -> None:
        happening = happening_of(frames)
        if happening is Happening.ACCEPTED:
            self.connections += 1
        elif happening is Happening.SUCCEEDED:
            self.handshakes += 1
        elif happening in HANDSHAKE_FAILURES:
            what = f"{happening.name.lower()}: foreign bytes, or a wrong key"
            self._site.faults.note(Fault.FAILED_HANDSHAKE, "listener", what)


def _bind_error(error: zmq.ZMQError, address: str) -> Conflict | Invalid:
    if error.errno == zmq.EADDRINUSE:
        return Conflict(
            f"the mesh address {address} is taken by another process",
            hint=f"ss -ltnp 'sport = :{address.rpartition(':')[2]}' names it",
        )
    return Invalid(
        f"cannot listen at {address!r}: {error.strerror}",
        where="mesh.listen",
        hint='"0.0.0.0:4747" listens on every interface',
    )
