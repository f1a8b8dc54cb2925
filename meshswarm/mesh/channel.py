"""A channel: one ordered lane to one peer, over whatever carries its frames.

Arriving messages are admitted (readable, from the process that they claim, not fenced, not stale)
and given to the half that they concern. Carriers (`dialer`, `listener`, the loopback) say when
there is a connection and when it is lost.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from meshswarm.codec import Undecodable
from meshswarm.errors import KeyRefused, MeshswarmError, Unavailable
from meshswarm.mesh.asking import Asking
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import BadFrame, Message, Type, decode
from meshswarm.mesh.outlet import Outlet, Send
from meshswarm.mesh.peers import Lane
from meshswarm.mesh.serving import Serving
from meshswarm.mesh.site import Site, Standing

logger = logging.getLogger(__name__)


class Channel:
    """The conversation on one lane.

    `send` passes frames on; `on_lost` (if any) is told when the connection is over. `claimed` is
    the incarnation that the connection bears in its name, if it bears one.
    """

    def __init__(
        self,
        site: Site,
        standing: Standing,
        lane: Lane,
        send: Send,
        *,
        on_lost: Callable[[], None] | None = None,
        claimed: int | None = None,
    ) -> None:
        self.standing = standing
        self.lane = lane
        self.last_heard = site.now()
        self.last_error: str | None = None
        self.outlet = Outlet(site, standing.peer, send, self.lost)
        self.asking = Asking(site, standing.peer, self.outlet)
        self._serving = Serving(site, standing, self.outlet)
        self._site = site
        self._on_lost = on_lost
        self._claimed = claimed
        self._newest: tuple[int, int] | None = None
        """Incarnation and sequence of the last message that was admitted."""
        self._last_probe = self.last_heard
        self._waiting: set[asyncio.Future[None]] = set()
        self._takers: dict[Type, Callable[[Message], None]] = {
            Type.HELLO: self._take_hello,
            Type.PING: self._take_ping,
            Type.PONG: self._take_pong,
            Type.FENCED: self._take_fenced,
            Type.NOTIFY: self._take_notify,
            **self._serving.takers,
            **self.asking.takers,
        }
        assert len(self._takers) == len(Type), f"{len(self._takers)} of {len(Type)} types"

    @property
    def is_up(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self.outlet.is_open

    def connected(self) -> None:
        """There is a connection; whoever waits for it may go on."""
        self.outlet.open()
        self.last_error = None
        self.last_heard = self._site.now()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def refused(self, reason: str) -> None:
        """No connection, and waiting will not help."""
        self.last_error = reason
        self._fail_waiting(Unavailable)

    def key_refused(self, reason: str) -> None:
        """No connection: the peer does not know our key."""
        self.last_error = reason
        self._fail_waiting(KeyRefused)

    def lost(self, reason: str) -> None:
        """The connection is over, and everything that was open on it."""
        self.last_error = reason
        self.outlet.close()
        self._serving.end()
        self.asking.end(reason)
        if self._on_lost is not None:
            self._on_lost()

    def close(self) -> None:
        """End it for good: this endpoint closes, or the peer was removed."""
        reason = "the connection was closed on this side"
        self.refused(reason)
        self.lost(reason)

    async def ready(self, timeout_s: float) -> None:
        """Wait for a connection; raises `Unavailable` if there is none in time."""
        if self.is_up:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise self._unreachable() from None
        finally:
            self._waiting.discard(future)

    def tick(self, now: float) -> None:
        """Probe a silent peer, and give up on one that was silent for too long."""
        limits, silent_s = self._site.limits, now - self.last_heard
        if not self.is_up or silent_s < limits.probe_s:
            return
        if silent_s > limits.silence_s:
            self.last_heard = now
            self.lost(f"nothing was heard for {silent_s:.0f} s")
        elif now - self._last_probe >= limits.probe_s:
            self._last_probe = now
            self.outlet.offer(Type.PING)

    def receive(self, frames: Sequence[bytes]) -> None:
        """Take a message from the peer; never raises."""
        site = self._site
        if site.is_closing:
            return
        site.messages_in += 1
        try:
            message = decode(frames, site.limits)
            if self._admits(message):
                self._takers[message.type](message)
        except (BadFrame, Undecodable) as error:
            self._site.faults.note(Fault.BAD_FRAME, self.standing.peer.name, error.message)
        except Exception:  # no message may end the loop, whatever bug it meets
            name = self.standing.peer.name
            logger.exception("mesh message failed peer=%s lane=%s", name, self.lane.name)
            self._site.faults.note(Fault.HANDLER_FAILED, name, "see the traceback")

    def _admits(self, message: Message) -> bool:
        standing, number = self.standing, message[1:3]
        incarnation, _ = number
        newest = self._newest
        if newest is None or newest[0] != incarnation or standing.incarnation != incarnation:
            # It is not of the process whose message was admitted last.
            if not self._admits_process(message):
                return False
            standing.incarnation = max(standing.incarnation, incarnation)
        if newest is not None and number <= newest:
            what = "a message older than one seen before"
            self._site.faults.note(Fault.STALE, standing.peer.name, what)
            return False
        self._newest = number
        self.last_heard = standing.last_heard = self._site.now()
        return True

    def _admits_process(self, message: Message) -> bool:
        standing, faults = self.standing, self._site.faults
        name, incarnation = standing.peer.name, message.incarnation
        if self._claimed not in (None, incarnation):
            faults.note(Fault.SPOOFED, name, "claims another incarnation than its connection")
            return False
        if standing.is_fenced(incarnation):
            faults.note(Fault.FENCED, name, "a message of a process that was replaced")
            if message.type is not Type.FENCED:
                self.outlet.offer(Type.FENCED, body=standing.incarnation)
            return False
        if self._claimed is not None and self._newest is None and message.type is not Type.HELLO:
            # We gave this connection up, and the peer goes on: what it left open here is over.
            self.outlet.post(Type.HELLO)
            if not self.is_up:
                faults.note(Fault.STALE, name, "left over from a connection that is closed")
                return False
        return True

    def _take_hello(self, _: Message) -> None:
        self._serving.end()
        self.asking.end("it connected anew")
        self.outlet.offer(Type.PONG)

    def _take_ping(self, _: Message) -> None:
        self.outlet.offer(Type.PONG)

    def _take_pong(self, _: Message) -> None:
        """It has done its work: something was heard."""

    def _take_fenced(self, message: Message) -> None:
        if isinstance(message.body, int):
            self._site.fenced(message.body, self.standing.peer)

    def _take_notify(self, message: Message) -> None:
        peer = self.standing.peer
        try:
            handler = self._site.notifies.find(message.name, peer)
        except MeshswarmError as error:
            self._site.faults.note(Fault.NOT_ALLOWED, peer.name, error.message)
            return
        handler(peer, message.body, message.payloads)

    def _fail_waiting(self, kind: type[Unavailable]) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(self._unreachable(kind))

    def _unreachable(self, kind: type[Unavailable] = Unavailable) -> Unavailable:
        peer = self.standing.peer
        return kind(
            f"no connection to {peer.name}: {self.last_error or 'nobody answers'}",
            where=peer.address,
            hint=f"is its node running? `meshswarm node start` on {peer.name}",
        )
