"""One lane that we dial: a DEALER, its monitor, and the channel that they carry.

libzmq reconnects after a lost connection, but not after a refusal or a protocol error, and after a
failed handshake it tries again ten times a second. So a failed handshake ends the socket, and a new
one is dialed a little later. Nor does it know that a peer has returned which it pauses to dial: a
new socket does not wait for the end of the pause.
"""

from collections.abc import Sequence

import zmq

from meshswarm.errors import Invalid, Unavailable
from meshswarm.mesh.channel import Channel
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import RoutingId, Type
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.peers import Lane
from meshswarm.mesh.pump import Pump, Sent
from meshswarm.mesh.site import Site, Standing
from meshswarm.mesh.sockets import (
    HANDSHAKE_FAILURES,
    PAUSES,
    Context,
    Happening,
    dialing_socket,
    endpoint_of,
    happening_of,
    monitor_of,
)

_REASONS = {
    Happening.REFUSED: "refused: our key is not in its list",
    Happening.BROKE_OFF: "no handshake: it hangs or stopped, or has another key than we know",
    Happening.BAD_PROTOCOL: "it is no meshswarm node, or has another key than we know",
}


class Pause:
    """Whether libzmq pauses between two attempts though the peer is there."""

    def __init__(self) -> None:
        self._pauses = False
        self._is_there = False

    @property
    def is_vain(self) -> bool:
        """Whether to dial anew instead of waiting."""
        return self._pauses and self._is_there

    def heard(self) -> None:
        """The peer dialed us."""
        self._is_there = True

    def happened(self, happening: Happening) -> None:
        """What the monitor told; whoever was connected may be gone when that ends."""
        self._pauses = happening in PAUSES
        if happening is Happening.SUCCEEDED:
            self._is_there = False


class Dialer:
    """Keeps `channel` connected to `standing.peer`, whose address must be known."""

    def __init__(
        self,
        site: Site,
        context: Context,
        keys: KeyPair,
        standing: Standing,
        lane: Lane,
        nonce: str,
    ) -> None:
        self._site = site
        self._context = context
        self._keys = keys
        self._peer = standing.peer
        self._name = RoutingId(site.id, lane, site.incarnation, nonce).to_bytes()
        self._pumps: tuple[Pump, Pump] | None = None
        self._redial_at = 0.0
        self._pause = Pause()
        self._needs_greeting = False
        self.channel = Channel(site, standing, lane, _send_nothing)
        self._dial()

    def tick(self, now: float) -> None:
        """The slow poll: read what a wake-up may have missed, and dial again where that is due."""
        if self._pumps is None:
            if now >= self._redial_at:
                self._dial()
            return
        for pump in self._pumps:
            pump.drain()
        if self._needs_greeting:
            self._greet()
        elif not self.channel.is_up and now >= self._redial_at:
            self._hang_up()
            self._dial()
        self.channel.tick(now)

    def heard_elsewhere(self) -> None:
        """The peer just dialed us, so it is there: do not wait until libzmq tries again, now or
        after an attempt that is under way and came too early."""
        self._pause.heard()
        self._end_vain_pause()

    def close(self) -> None:
        """End the channel and its sockets."""
        self.channel.close()
        self._hang_up()

    def _end_vain_pause(self) -> None:
        if self._pause.is_vain:
            self._hang_up()
            self._dial()

    def _dial(self) -> None:
        limits, address = self._site.limits, self._peer.address
        if address is None:
            raise Unavailable(f"{self._peer.name} has no address: it only dials out")
        socket = dialing_socket(
            self._context, self._keys, self._peer.public_key, self._name, self.channel.lane, limits
        )
        turn = limits.messages_per_turn
        monitor = Pump(monitor_of(socket), self._on_event, messages_per_turn=turn)
        pump = Pump(
            socket,
            self._on_message,
            messages_per_turn=turn,
            frames_max=limits.payloads_max + 1,
            after_turn=self._site.end_turn,
        )
        self._pumps = (monitor, pump)
        self.channel.outlet.send = pump.send
        self._redial_at = self._site.now() + limits.stuck_s
        try:
            socket.connect(endpoint_of(socket, address))
        except zmq.ZMQError as error:
            self._hang_up()
            raise Invalid(
                f"not an address to dial: {address!r} ({error.strerror})",
                where=f"peer {self._peer.name}",
                hint='an address is "HOST:PORT"',
            ) from error

    def _hang_up(self) -> None:
        self._needs_greeting = False
        self._pause = Pause()
        if self._pumps is not None:
            monitor, pump = self._pumps
            self._pumps = None
            pump.socket.disable_monitor()
            monitor.close()
            pump.close()

    def _on_message(self, _: zmq.Frame, frames: list[bytes]) -> None:
        self.channel.receive(frames)

    def _on_event(self, _: zmq.Frame, frames: list[bytes]) -> None:
        happening = happening_of(frames)
        if happening is None:
            return
        self._redial_at = self._site.now() + self._site.limits.stuck_s
        self._pause.happened(happening)
        if happening in (Happening.DISCONNECTED, Happening.SUCCEEDED):
            self._needs_greeting = False
            if self.channel.is_up:
                self.channel.lost("the connection was lost")
                self._site.lost(self._peer)
        if happening is Happening.SUCCEEDED:
            self._greet()
        elif happening in HANDSHAKE_FAILURES:
            self._hang_up()
            self._redial_at = self._site.now() + self._site.limits.redial_s
            reason = _REASONS[happening]
            self._site.faults.note(Fault.FAILED_HANDSHAKE, self._peer.name, reason)
            if happening is Happening.REFUSED:
                self.channel.key_refused(reason)
            else:
                self.channel.last_error = reason
        else:
            self._end_vain_pause()

    def _greet(self) -> None:
        """Say HELLO before anything else on a new connection."""
        self.channel.outlet.open()
        self._needs_greeting = self.channel.outlet.offer(Type.HELLO) is not Sent.OK
        if self._needs_greeting:
            self.channel.outlet.close()  # libzmq has not attached the connection yet, or it is gone
        else:
            self.channel.connected()


def _send_nothing(_: Sequence[bytes]) -> Sent:
    return Sent.GONE
