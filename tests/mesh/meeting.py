"""Two endpoints that know each other, over real sockets on the loopback interface, or one alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import Enum

import zmq
from attrs import evolve, frozen

from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.frames import RoutingId, Type, encode
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import DEFAULT_LIMITS, MeshLimits
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, Peer, PeerRole

DEADLINE_S = 10.0


class Way(Enum):
    """How a link came about; all must behave alike."""

    DIALED = "dialed"
    ACCEPTED = "accepted"
    LOOPBACK = "loopback"


@frozen(eq=False)
class Meeting:
    """`link` leads from `asker` to `server`; they are one and the same on the loopback."""

    asker: Endpoint
    server: Endpoint
    link: Link


async def eventually(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition()` holds; fails after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - what is awaited happens in other threads
            await asyncio.sleep(0.002)


def peer_of(
    pair: KeyPair, name: str, role: PeerRole = PeerRole.MANAGER, address: str | None = None
) -> Peer:
    return Peer(name=name, role=role, public_key=pair.public, address=address)


async def accepted_in_full(asker: Endpoint, server: Endpoint) -> Link:
    """The link over what `server` dialed to `asker`, once every lane is there."""

    def is_full() -> bool:
        link = asker.accepted(server.id)
        return link is not None and link.lanes == frozenset(Lane)

    await eventually(is_full)
    link = asker.accepted(server.id)
    assert link is not None
    return link


@asynccontextmanager
async def meet(
    way: Way = Way.DIALED,
    *,
    role: PeerRole = PeerRole.MANAGER,
    limits: MeshLimits = DEFAULT_LIMITS,
) -> AsyncIterator[Meeting]:
    """An asker with `role` and the server that it talks to."""
    asker_keys, server_keys = keys.generate(), keys.generate()
    asker_peer, server_peer = peer_of(asker_keys, "asker", role), peer_of(server_keys, "server")
    if way is Way.LOOPBACK:
        alone = Endpoint(asker_keys, name="asker", incarnation=1, limits=limits)
        async with alone.opened():
            yield Meeting(alone, alone, alone.link(asker_peer))
        return
    asker_listens = way is Way.ACCEPTED
    asker = Endpoint(
        asker_keys,
        name="asker",
        incarnation=1,
        listen="127.0.0.1:0" if asker_listens else None,
        peers=[server_peer],
        limits=limits,
    )
    server = Endpoint(
        server_keys,
        name="server",
        incarnation=1,
        listen=None if asker_listens else "127.0.0.1:0",
        peers=[asker_peer],
        limits=limits,
    )
    async with asker.opened(), server.opened():
        if asker_listens:
            server.link(evolve(asker_peer, address=asker.address)).open(*Lane)
            link = await accepted_in_full(asker, server)
        else:
            link = asker.link(evolve(server_peer, address=server.address))
        yield Meeting(asker, server, link)


@contextmanager
def stranger(
    address: str | None,
    server_key: bytes | None,
    pair: KeyPair | None = None,
    routing_id: bytes = b"stranger",
) -> Iterator[zmq.Socket[bytes]]:
    """A plain DEALER connected to `address`, with CURVE if there is a server key."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.setsockopt(zmq.IMMEDIATE, 1)
        if routing_id:
            socket.setsockopt(zmq.ROUTING_ID, routing_id)
        if server_key is not None:
            pair = pair or keys.generate()
            socket.curve_serverkey = server_key
            socket.curve_publickey = pair.public
            socket.curve_secretkey = pair.secret
        socket.connect(f"tcp://{address}")
        yield socket


async def push(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """Send as soon as there is a connection."""

    def is_sent() -> bool:
        try:
            socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    await eventually(is_sent)


async def pull(socket: zmq.Socket[bytes]) -> list[bytes]:
    """The next message."""
    await eventually(lambda: socket.poll(0))
    return socket.recv_multipart(zmq.NOBLOCK)


def name_of(pair: KeyPair, incarnation: int = 1, lane: Lane = Lane.CONTROL) -> bytes:
    """The routing id that an honest dialer with this key would bear."""
    return RoutingId(pair.id, lane, incarnation, "nonce").to_bytes()


def frames_of(
    type_: Type, *, incarnation: int = 1, sequence: int = 1, name: str = "", body: object = None
) -> list[bytes]:
    return encode(type_, incarnation, sequence, 1, name, body, (), DEFAULT_LIMITS)
