"""No message is left lying, whatever used up the sign that it came, and none is handed over twice.

The sockets are of one process and not of the network, so what one sends waits at the other at once;
and nobody polls: what is not woken for is never seen.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

from meshswarm.mesh.pump import Pump, Sent
from tests.mesh.meeting import eventually


class Rig:
    """A pump, what it handed over, and the socket at the other end."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], **options: int) -> None:
        self.peer = context.socket(zmq.PAIR)
        self.peer.rcvhwm = 1
        self.peer.bind("inproc://rig")
        socket = context.socket(zmq.PAIR)
        socket.sndhwm = 1
        socket.connect("inproc://rig")
        self.seen: list[list[bytes]] = []
        self.turns: list[int] = []
        """How many messages were seen when each of them ended."""
        self.then: list[Callable[[], None]] = []
        self.at_turns_end: list[Callable[[], None]] = []
        self.pump = Pump(
            socket,
            self._take,
            after_turn=self._end_turn,
            messages_per_turn=options.get("messages_per_turn", 8),
            frames_max=options.get("frames_max", 3),
        )

    def say(self, *frames: bytes) -> None:
        """Let the other end send a message."""
        self.peer.send_multipart(frames or (b"hello",), zmq.NOBLOCK)

    def say_unnoticed(self) -> None:
        """The same, and its sign is used up, as it may be by anything that is sent."""
        self.say(b"unnoticed")
        assert int(self.pump.socket.get(zmq.EVENTS)) & zmq.POLLIN

    def answer(self) -> None:
        """Send what finds room."""
        assert Sent.OK is self.pump.send([b"answer"])

    def _take(self, first: zmq.Frame, frames: list[bytes]) -> None:
        assert first.bytes == frames[0]
        self.seen.append(frames)
        while self.then:
            self.then.pop()()

    def _end_turn(self) -> None:
        self.turns.append(len(self.seen))
        while self.at_turns_end:
            self.at_turns_end.pop()()


@contextmanager
def rig(**options: int) -> Iterator[Rig]:
    with zmq.Context() as context:
        made = Rig(context, **options)
        try:
            yield made
        finally:
            made.pump.close()
            made.peer.close(linger=0)


async def settled(it: Rig, *, together: int = 1) -> None:
    """So many messages that were woken for: what is due from the beginning is done."""
    for _ in range(together):
        it.say()
    await eventually(lambda: it.seen == together * [[b"hello"]])
    it.seen.clear()
    it.turns.clear()


async def test_a_message_whose_sign_a_send_used_up_is_seen() -> None:
    with rig() as it:
        await settled(it)
        it.say_unnoticed()
        it.answer()
        await eventually(lambda: it.seen == [[b"unnoticed"]])


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("when", ["handing over", "at the turn's end"])
async def test_a_message_whose_sign_a_send_within_a_turn_used_up_is_seen(
    when: str, together: int
) -> None:
    with rig() as it:
        await settled(it, together=together)
        them = it.then if when == "handing over" else it.at_turns_end
        them += [it.answer, it.say_unnoticed]  # the last one comes first
        it.say()
        await eventually(lambda: it.seen == [[b"hello"], [b"unnoticed"]])


async def test_a_send_that_finds_no_room_loses_no_sign_either() -> None:
    with rig() as it:
        await settled(it)
        while it.pump.send([b"answer"]) is Sent.OK:
            pass
        it.say_unnoticed()
        assert Sent.BUSY is it.pump.send([b"one more"])
        await eventually(lambda: it.seen == [[b"unnoticed"]])


async def test_what_came_together_is_one_turn_and_what_exceeds_it_the_next() -> None:
    with rig(messages_per_turn=2) as it:
        await settled(it, together=2)
        for number in range(5):
            it.say(b"%d" % number)
        await eventually(lambda: len(it.seen) == 5)
        assert [[b"%d" % number] for number in range(5)] == it.seen
        assert [2, 4, 5] == it.turns


async def test_after_one_that_came_alone_the_next_ones_turn_is_not_held_up() -> None:
    with rig() as it:
        await settled(it)
        for number in range(3):
            it.say(b"%d" % number)
        await eventually(lambda: it.turns == [1, 3])
        for number in range(3):
            it.say(b"%d" % number)
        await eventually(lambda: it.turns == [1, 3, 6])  # they come together again


async def test_a_sign_of_something_else_is_no_turn() -> None:
    with rig() as it:
        await settled(it)
        while it.pump.send([b"answer"]) is Sent.OK:
            pass
        while it.peer.poll(0):
            it.peer.recv(zmq.NOBLOCK)
        # Now there is room, and the descriptor says that something is new.
        for _ in range(3):
            await asyncio.sleep(0)
        assert ([], []) == (it.turns, it.seen)
        it.answer()
        it.say()
        await eventually(lambda: it.seen == [[b"hello"]])


async def test_of_a_message_with_too_many_frames_one_too_many_is_kept() -> None:
    with rig(frames_max=3) as it:
        await settled(it)
        it.say(b"1", b"2", b"3")
        it.say(b"1", b"2", b"3", b"4", b"5", b"6")
        it.say(b"next")
        await eventually(lambda: len(it.seen) == 3)
        assert [[b"1", b"2", b"3"], [b"1", b"2", b"3", b"4"], [b"next"]] == it.seen


async def test_a_pump_that_is_closed_while_it_hands_over_reads_no_further() -> None:
    with rig() as it:
        await settled(it)
        it.then.append(it.pump.close)
        it.say(b"last")
        it.say(b"never")
        it.pump.drain()
        assert [[b"last"]] == it.seen
        assert Sent.GONE is it.pump.send([b"answer"])
        it.pump.drain()
        assert [[b"last"]] == it.seen
