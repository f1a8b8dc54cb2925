"""The sending side of one lane: whole messages, in order, never waiting for the peer."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import Type, encode
from meshswarm.mesh.peers import Peer
from meshswarm.mesh.pump import Sent
from meshswarm.mesh.site import Site

Send = Callable[[Sequence[bytes]], Sent]

RETRY_S = 0.01
"""How often a held message is tried again: ZeroMQ does not tell when one ROUTER peer has room."""


class Outlet:
    """Sends through `send`; `on_broken` is told, with the reason, when the peer cannot be reached.

    While it is closed, offers are `Sent.GONE` and posts are dropped: what they concern has ended.
    """

    def __init__(
        self, site: Site, peer: Peer, send: Send, on_broken: Callable[[str], None]
    ) -> None:
        self.is_open = False
        self.send = send
        """A dialer has a new one for each socket."""
        self._site = site
        self._peer = peer
        self._on_broken = on_broken
        self._held: deque[list[bytes]] = deque()
        self._is_clear = asyncio.Event()
        self._is_clear.set()
        self._retry: asyncio.TimerHandle | None = None

    def offer(
        self,
        type_: Type,
        correlation: int = 0,
        name: str = "",
        body: object = None,
        payloads: Sequence[bytes] = (),
    ) -> Sent:
        """Send now or not at all; raises `Invalid` if the message is too large."""
        if not self.is_open:
            return Sent.GONE
        site = self._site
        sequence = next(site.sequences)
        frames = encode(
            type_, site.incarnation, sequence, correlation, name, body, payloads, site.limits
        )
        return Sent.BUSY if self._held else self._pass_on(frames)

    def notify(self, kind: str, body: object, payloads: Sequence[bytes]) -> bool:
        """As `offer`; whether it was sent. If not it is counted, for nobody else may notice."""
        sent = self.offer(Type.NOTIFY, 0, kind, body, payloads)
        if sent is Sent.OK:
            return True
        self._site.faults.count(Fault.LANE_FULL if sent is Sent.BUSY else Fault.LANE_DOWN)
        return False

    def post(
        self,
        type_: Type,
        correlation: int = 0,
        body: object = None,
        payloads: Sequence[bytes] = (),
    ) -> None:
        """Send now, or as soon as the lane has room; what was posted keeps its order.

        If `limits.outbox` messages wait already, the lane counts as broken.
        Raises `Invalid` if the message is too large.
        """
        if not self.is_open:
            return
        site = self._site
        sequence = next(site.sequences)
        frames = encode(
            type_, site.incarnation, sequence, correlation, "", body, payloads, site.limits
        )
        if not self._held and self._pass_on(frames) is not Sent.BUSY:
            return
        if len(self._held) >= site.limits.outbox:
            site.faults.note(Fault.OVERRUN, self._peer.name, "does not take our answers")
            self._on_broken("it does not take our answers")
            return
        self._held.append(frames)
        self._is_clear.clear()
        self._try_later()

    async def room(self) -> None:
        """Wait until nothing is held."""
        await self._is_clear.wait()

    def open(self) -> None:
        """There is a connection: from now on messages are sent."""
        self.is_open = True

    def close(self) -> None:
        """The connection is gone, and with it what was held for it."""
        self.is_open = False
        self._held.clear()
        self._is_clear.set()

    def _pass_on(self, frames: list[bytes]) -> Sent:
        sent = self.send(frames)
        if sent is Sent.OK:
            self._site.messages_out += 1
        elif sent is Sent.GONE:
            self._on_broken("it is no longer connected")
        return sent

    def _try_later(self) -> None:
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._flush)

    def _flush(self) -> None:
        self._retry = None
        while self._held:
            sent = self._pass_on(self._held[0])
            if sent is Sent.BUSY:
                self._try_later()
                return
            if sent is Sent.GONE:
                return
            self._held.popleft()
        self._is_clear.set()
