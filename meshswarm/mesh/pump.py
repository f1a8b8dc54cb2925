"""Reading a ZeroMQ socket from the loop.

The descriptor of a ZeroMQ socket only says that something changed, and any send or receive may use
that sign up (zmq_getsockopt(3), ZMQ_FD). So: whenever the descriptor wakes us, read as long as
ZMQ_EVENTS shows a message, and look at it after everything that was sent; what it says is definite,
as libzmq works its pending commands off before. A slow poll by the endpoint is the safety net.
(Reading until EAGAIN instead costs an exception each time, and a turn of the loop after each send.)
`zmq.asyncio` does this with a future for every call, at less than half the throughput.

A look costs as much as reading a frame, so none is taken twice: when the descriptor wakes us the
first message is read without one, as there nearly always is one, and what is sent while messages
are being handed over is covered by the look that comes after them. Where a message came alone the
last time, this one most likely did too: its turn is ended before the look for another.
"""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import zmq

OnMessage = Callable[[zmq.Frame, list[bytes]], None]
"""Takes a message: its first frame, which has the sender's properties, and the bytes of all."""

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

    `after_turn` is called whenever some were handed over, before the loop does anything else. Of a
    message with more than `frames_max` frames those beyond are dropped, but for one, to be seen.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_message: OnMessage,
        *,
        messages_per_turn: int,
        frames_max: int = 16,
        after_turn: Callable[[], None] | None = None,
    ) -> None:
        self.socket = socket
        self._after_turn = after_turn
        self._on_message = on_message
        self._messages_per_turn = messages_per_turn
        self._frames_max = frames_max
        self._loop = asyncio.get_running_loop()
        self._descriptor = socket.fileno()
        # Of the class below `zmq.Socket`: its own method only hands on, for as much again.
        self._send_frame = super(zmq.Socket, socket).send
        self._receive_frame = socket.recv
        self._option: Callable[[int], Any] = socket.get
        self._is_closed = False
        self._is_handing_over = False
        self._has_sent_meanwhile = False
        self._comes_alone = False
        self._drain_is_due = False
        self._loop.add_reader(self._descriptor, self._hand_over)
        self._drain_soon()

    def drain(self) -> None:
        """Read what there is, at most one turn's worth; the rest follows in the next turn."""
        self._drain_is_due = False
        if self._has_message():
            self._hand_over()

    def _hand_over(self) -> None:
        """Hand over what there is, at most one turn's worth."""
        receive, left = self._receive_frame, self._messages_per_turn
        comes_alone, is_turn_due = self._comes_alone, False
        self._is_handing_over = True
        try:
            while left:
                try:
                    first = frame = receive(_NOBLOCK, False)
                except zmq.Again:
                    break  # it was another sign: a connection came or went, or a queue has room
                frames = [first.bytes]
                while frame.more:
                    frame = receive(_NOBLOCK, False)
                    if len(frames) <= self._frames_max:
                        frames.append(frame.bytes)
                left -= 1
                self._on_message(first, frames)
                is_turn_due = not comes_alone
                if comes_alone:
                    comes_alone = False
                    self._end_turn()
                if self._is_closed or not self._option(_EVENTS) & _POLLIN:
                    break
            else:
                self._drain_soon()
            self._comes_alone = left >= self._messages_per_turn - 1
            if is_turn_due:
                self._has_sent_meanwhile = False
                self._end_turn()
                if self._has_sent_meanwhile and self._has_message():
                    self._drain_soon()
        finally:
            self._is_handing_over = False

    def _end_turn(self) -> None:
        if self._after_turn is not None:
            self._after_turn()

    def send(
        self, frames: Sequence[bytes], to: bytes | None = None, *, is_second_try: bool = False
    ) -> Sent:
        """Send all of `frames` or nothing, without waiting; a ROUTER has to say `to` whom."""
        if self._is_closed:
            return Sent.GONE
        send, sent = self._send_frame, Sent.OK
        try:
            if to is not None:
                send(to, _NOBLOCK | _SNDMORE)
            for frame in frames[:-1]:
                send(frame, _NOBLOCK | _SNDMORE)
            send(frames[-1], _NOBLOCK)
        except zmq.Again:
            # libzmq looks at its mailbox only now and then while sending; reading EVENTS makes it
            # look, and may reveal that the peer has made room or is connected.
            if not is_second_try and self._option(_EVENTS) & _POLLOUT:
                return self.send(frames, to, is_second_try=True)
            sent = Sent.BUSY
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            sent = Sent.GONE
        if self._is_handing_over:
            self._has_sent_meanwhile = True
        elif not self._drain_is_due and self._option(_EVENTS) & _POLLIN:
            self._drain_soon()
        return sent

    def close(self) -> None:
        """Stop reading and close the socket; doing it again changes nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._descriptor)
            self.socket.close(linger=0)

    def _has_message(self) -> bool:
        """Whether a message waits, which the descriptor may not tell any more."""
        return not self._is_closed and bool(self._option(_EVENTS) & _POLLIN)

    def _drain_soon(self) -> None:
        if not self._drain_is_due:
            self._drain_is_due = True
            self._loop.call_soon(self.drain)
