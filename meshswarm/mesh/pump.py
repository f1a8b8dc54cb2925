"""Reading a ZeroMQ socket from the loop.

The descriptor of a ZeroMQ socket only says that something changed, and any send or receive may use
that sign up (zmq_getsockopt(3), ZMQ_FD). So: whenever the descriptor wakes us, read as long as
ZMQ_EVENTS shows a message, and look at it after everything that was sent; what it says is definite,
as libzmq works its pending commands off before. A slow poll by the endpoint is the safety net.
(Reading until EAGAIN instead costs an exception each time, and a turn of the loop after each send.)
`zmq.asyncio` does this with a future for every call, at less than half the throughput.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

import zmq

Frames = list[zmq.Frame]

# Plain numbers: the library's are members of enumerations, whose every use costs a microsecond.
_NOBLOCK, _SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
_EVENTS, _POLLIN, _POLLOUT = int(zmq.EVENTS), int(zmq.POLLIN), int(zmq.POLLOUT)


class Sent(Enum):
    """What became of a message that was to be sent without waiting."""

    OK = "ok"
    BUSY = "busy"
    GONE = "gone"


class Pump:
    """Hands each message of `socket` to `on_message`, which must not raise; owns the socket.

    `after_turn` is called whenever some were handed over, before the loop does anything else.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: Callable[[Frames], None],
        *,
        messages_per_turn: int,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        self.socket = socket
        self._after_turn = after_turn
        self._on_message = on_message
        self._messages_per_turn = messages_per_turn
        self._loop = asyncio.get_running_loop()
        self._descriptor = socket.fileno()
        self._drain_is_due = False
        self._loop.add_reader(self._descriptor, self.drain)
        self._drain_soon()

    def drain(self) -> None:
        """Read what there is, at most one turn's worth; the rest follows in the next turn."""
        self._drain_is_due = False
        if self._hand_over() and self._after_turn is not None:
            self._after_turn()

    def _hand_over(self) -> int:
        """Hand over what there is, at most one turn's worth; how many messages that were."""
        for count in range(self._messages_per_turn):
            if not self._has_message:
                return count
            frames = [self.socket.recv(_NOBLOCK, copy=False)]
            while frames[-1].more:
                frames.append(self.socket.recv(_NOBLOCK, copy=False))
            self._on_message(frames)
        self._drain_soon()
        return self._messages_per_turn

    def send(self, frames: Sequence[bytes]) -> Sent:
        """Send all of `frames` or nothing, without waiting."""
        if self.socket.closed:
            return Sent.GONE
        sent = self._try(frames)
        if sent is Sent.BUSY and self._events & _POLLOUT:
            # libzmq looks at its mailbox only now and then while sending; reading EVENTS makes it
            # look, and may reveal that the peer has made room or is connected.
            sent = self._try(frames)
        if self._has_message:
            self._drain_soon()
        return sent

    def close(self) -> None:
        """Stop reading and close the socket; doing it again changes nothing."""
        if not self.socket.closed:
            self._loop.remove_reader(self._descriptor)
            self.socket.close(linger=0)

    @property
    def _has_message(self) -> bool:
        """Whether a message waits, which the descriptor may not tell any more."""
        return not self.socket.closed and bool(self._events & _POLLIN)

    @property
    def _events(self) -> int:
        return int(self.socket.get(_EVENTS))

    def _try(self, frames: Sequence[bytes]) -> Sent:
        try:
            for frame in frames[:-1]:
                self.socket.send(frame, _NOBLOCK | _SNDMORE)
            self.socket.send(frames[-1], _NOBLOCK)
        except zmq.Again:
            return Sent.BUSY
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return Sent.GONE
        return Sent.OK

    def _drain_soon(self) -> None:
        if not self._drain_is_due:
            self._drain_is_due = True
            self._loop.call_soon(self.drain)
