"""The options of our sockets, each with its reason, and what their monitors tell."""

from collections.abc import Sequence
from enum import Enum

import zmq
from zmq.utils.monitor import parse_monitor_message

from meshswarm.mesh.door import DOMAIN
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import Lane

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]


def listening_socket(context: Context, keys: KeyPair, limits: MeshLimits) -> Socket:
    """A ROUTER that lets in whom the door admits; not yet bound."""
    socket = context.socket(zmq.ROUTER)
    socket.curve_server = True
    socket.curve_secretkey = keys.secret
    socket.zap_domain = DOMAIN
    # Without this libzmq lets everybody in who knows our public key, if the door is missing.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    # An unknown or full peer is an error at once, instead of a message dropped in silence.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    # A reconnecting dialer replaces its old, perhaps half-open, connection; see `RoutingId.nonce`.
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    socket.setsockopt(zmq.SNDHWM, limits.listener_queue)
    socket.setsockopt(zmq.RCVHWM, limits.listener_queue)
    _common(socket, limits)
    return socket


def dialing_socket(
    context: Context, keys: KeyPair, server_key: bytes, name: bytes, lane: Lane, limits: MeshLimits
) -> Socket:
    """A DEALER that bears `name` and talks only to the owner of `server_key`; not yet connected."""
    socket = context.socket(zmq.DEALER)
    socket.curve_serverkey = server_key
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
    socket.setsockopt(zmq.ROUTING_ID, name)
    # No queue while there is no connection: nothing stale is delivered after a reconnect.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, round(limits.reconnect_s * 1000))
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, round(limits.reconnect_max_s * 1000))
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 3000)
    queue = {
        Lane.CONTROL: limits.control_queue,
        Lane.DATA: limits.data_queue,
        Lane.BULK: limits.bulk_queue,
    }[lane]
    socket.setsockopt(zmq.SNDHWM, queue)
    socket.setsockopt(zmq.RCVHWM, queue)
    _common(socket, limits)
    return socket


def endpoint_of(socket: Socket, address: str) -> str:
    """`address` ("host:port", IPv6 hosts in brackets) as ZeroMQ writes it."""
    if address.startswith("["):
        socket.setsockopt(zmq.IPV6, 1)
    return f"tcp://{address}"


def _common(socket: Socket, limits: MeshLimits) -> None:
    socket.setsockopt(zmq.LINGER, 0)  # the default waits for ever at exit
    socket.setsockopt(zmq.MAXMSGSIZE, max(limits.payload_bytes_max, limits.header_bytes_max))
    socket.setsockopt(zmq.HANDSHAKE_IVL, round(limits.handshake_timeout_s * 1000))
    # Connections that died without a word are closed by TCP. ZMTP's own heartbeats must stay off:
    # where the other side is lost while ours is full, libzmq 4.3 fails an assertion and aborts the
    # process (its issues 3937, 4364 and 4767).
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, max(1, round(limits.transport_timeout_s) - 1))
    socket.setsockopt(zmq.TCP_MAXRT, round(limits.transport_timeout_s * 1000))


class Happening(Enum):
    """What a monitor reports of a connection, as far as it matters here."""

    ACCEPTED = zmq.EVENT_ACCEPTED
    DIALING = zmq.EVENT_CONNECT_DELAYED
    PAUSED = zmq.EVENT_CONNECT_RETRIED
    REACHED = zmq.EVENT_CONNECTED
    SUCCEEDED = zmq.EVENT_HANDSHAKE_SUCCEEDED
    BROKE_OFF = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    BAD_PROTOCOL = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH
    DISCONNECTED = zmq.EVENT_DISCONNECTED


HANDSHAKE_FAILURES = {Happening.BROKE_OFF, Happening.BAD_PROTOCOL, Happening.REFUSED}

PAUSES = {Happening.DISCONNECTED, Happening.PAUSED}
"""After these libzmq waits before it dials, and says `DIALING`."""

_EVENTS = sum(happening.value for happening in Happening)


def monitor_of(socket: Socket) -> Socket:
    """A socket that tells what happens to the connections of `socket`, in order."""
    return socket.get_monitor_socket(_EVENTS)


def happening_of(frames: Sequence[bytes]) -> Happening | None:
    """What a monitor's message says; None for what was not asked for (the monitor's end)."""
    event = parse_monitor_message(list(frames))["event"]
    return Happening(event) if event & _EVENTS else None
