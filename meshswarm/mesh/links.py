"""Links: what callers hold to talk to a peer, whichever side dialed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from meshswarm.errors import Unavailable
from meshswarm.mesh.channel import Channel
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import Lane, Peer
from meshswarm.mesh.requests import Chunk, Reply
from meshswarm.mesh.site import Standing


class Link:
    """A peer's lanes. Bodies are plain CBOR-able values; a body and its header are at most 1 MiB.

    `dial` opens a lane that is not there yet. Without it (the peer dialed us) a lane that the peer
    did not open falls back to one that it did, control first. Messages keep their order within a
    lane only: what went over another one meanwhile may be overtaken once the peer opens it.
    """

    def __init__(
        self,
        standing: Standing,
        lanes: dict[Lane, Channel],
        limits: MeshLimits,
        dial: Callable[[Lane], Channel] | None = None,
    ) -> None:
        self._standing = standing
        self._lanes = lanes
        self._limits = limits
        self._dial = dial

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""
        return self._standing.peer

    @property
    def is_up(self) -> bool:
        """Whether any lane is connected, as far as we know; only `last_heard` speaks of life."""
        return any(channel.is_up for channel in self._lanes.values())

    @property
    def lanes(self) -> frozenset[Lane]:
        """The lanes that were opened, by whichever side dials."""
        return frozenset(self._lanes)

    @property
    def last_heard(self) -> float | None:
        """The loop's time of the peer's last valid message on any connection, in seconds."""
        return self._standing.last_heard

    @property
    def last_error(self) -> str | None:
        """Why a lane is not connected, if one is not and the reason is known."""
        errors = (channel.last_error for channel in self._lanes.values() if not channel.is_up)
        return next((error for error in errors if error is not None), None)

    def open(self, *lanes: Lane) -> None:
        """Dial these lanes now, so that the peer can use them to call us."""
        for lane in lanes:
            self._channel(lane)

    def notify(
        self, lane: Lane, kind: str, body: object = None, payloads: Sequence[bytes] = ()
    ) -> bool:
        """Send without waiting; False if the peer is busy or not connected, and nothing was sent.

        :raises Invalid: if the message is too large.
        """
        channel = self._lanes.get(lane) or self._channel(lane)
        return channel is not None and channel.outlet.notify(kind, body, payloads)

    async def call(
        self,
        lane: Lane,
        method: str,
        body: object = None,
        payloads: Sequence[bytes] = (),
        *,
        timeout_s: float,
    ) -> Reply:
        """The peer's answer, within `timeout_s` seconds.

        :raises MeshswarmError: the typed error that the peer's handler raised.
        :raises Unavailable: if there is no connection or no room: it was not carried out.
        :raises OutcomeUnknown: if it was sent and no answer came.
        """
        channel = self._lanes.get(lane)
        if channel is None or not channel.outlet.is_open:
            now = asyncio.get_running_loop().time
            deadline = now() + timeout_s
            channel = await self._ready_channel(lane, timeout_s)
            timeout_s = max(0.0, deadline - now())
        return await channel.asking.call(method, body, payloads, timeout_s)

    @asynccontextmanager
    async def stream(
        self, lane: Lane, method: str, body: object = None, payloads: Sequence[bytes] = ()
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The chunks that the peer's handler yields: `async with link.stream(…) as chunks`.

        Leaving the block cancels the handler. A timeout around the next chunk loses none.

        :raises Unavailable: if there is no connection, or (while iterating) it broke.
        :raises MeshswarmError: while iterating: the typed error that the peer's handler raised.
        """
        channel = await self._ready_channel(lane, self._limits.connect_timeout_s)
        async with channel.asking.stream(method, body, payloads) as chunks:
            yield chunks

    def close(self) -> None:
        """End all lanes and what is open on them; who holds this link has to get a new one."""
        self._dial = None
        for channel in list(self._lanes.values()):
            channel.close()
        self._lanes.clear()

    def _channel(self, lane: Lane) -> Channel | None:
        channel = self._lanes.get(lane)
        if channel is None and self._dial is not None:
            channel = self._lanes[lane] = self._dial(lane)
        if channel is None:
            channel = next((self._lanes[other] for other in Lane if other in self._lanes), None)
        return channel

    async def _ready_channel(self, lane: Lane, timeout_s: float) -> Channel:
        channel = self._channel(lane)
        if channel is None:
            raise Unavailable(f"{self.peer.name} is no longer connected")
        await channel.ready(min(timeout_s, self._limits.connect_timeout_s))
        return channel
