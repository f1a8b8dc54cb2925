"""A channel over a scripted carrier: what if it is full, breaks, or the peer misbehaves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from meshswarm.errors import Conflict, OutcomeUnknown, Unavailable
from meshswarm.mesh import keys
from meshswarm.mesh.channel import Channel
from meshswarm.mesh.frames import Message, Type, decode, encode
from meshswarm.mesh.limits import DEFAULT_LIMITS, MeshLimits
from meshswarm.mesh.peers import EVERYONE, Lane, PeerRole
from meshswarm.mesh.pump import Sent
from meshswarm.mesh.requests import Chunk, Reply, Request
from meshswarm.mesh.site import Site, Standing
from tests.mesh.meeting import eventually, peer_of


class Rig:
    """A channel whose carrier says `state`, and keeps what it took."""

    def __init__(self, site: Site, role: PeerRole, claimed: int | None) -> None:
        self.site = site
        self.state = Sent.OK
        self.sent: list[Message] = []
        self.lost = 0
        self.standing = Standing(peer_of(keys.generate(), "peer", role))
        self.channel = Channel(
            site, self.standing, Lane.CONTROL, self._send, on_lost=self._lose, claimed=claimed
        )
        self.channel.connected()
        self._sequence = 0

    def says(self, type_: Type, correlation: int = 1, incarnation: int = 5, **rest: object) -> None:
        """Let the peer send a message."""
        self._sequence += 1
        name, body = str(rest.get("name", "")), rest.get("body")
        message = Message(type_, incarnation, self._sequence, correlation, name, body)
        self.channel.receive(encode(*message, DEFAULT_LIMITS))

    def types(self) -> list[Type]:
        return [message.type for message in self.sent]

    def faults(self) -> dict[str, int]:
        return {fault.value: count for fault, count in self.site.faults.counts.items()}

    def _send(self, frames: Sequence[bytes]) -> Sent:
        if self.state is Sent.OK:
            self.sent.append(decode(frames, DEFAULT_LIMITS))
        return self.state

    def _lose(self) -> None:
        self.lost += 1


@asynccontextmanager
async def rig(
    limits: MeshLimits = DEFAULT_LIMITS,
    role: PeerRole = PeerRole.MANAGER,
    claimed: int | None = None,
) -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as tasks:
        site = Site(node=keys.generate().id, name="here", incarnation=3, limits=limits)
        site.open(tasks)
        made = Rig(site, role, claimed)
        yield made
        made.channel.close()


async def hello(_: Request) -> Reply:
    return Reply("hello")


async def test_answers_wait_for_room_and_keep_their_order() -> None:
    async with rig() as it:
        it.site.calls.add("hello", hello, EVERYONE)
        it.state = Sent.BUSY
        for correlation in range(1, 6):
            it.says(Type.CALL, correlation, name="hello")
        it.says(Type.CALL, 6, name="unknown")
        await eventually(lambda: it.site.messages_in == 6)
        assert Sent.BUSY is it.channel.outlet.offer(Type.NOTIFY, name="overtakes nobody")
        it.state = Sent.OK
        await eventually(lambda: 6 == len(it.sent))
        assert sorted(m.sequence for m in it.sent) == [m.sequence for m in it.sent]
        assert {1, 2, 3, 4, 5, 6} == {m.correlation for m in it.sent}


async def test_a_peer_that_takes_no_answers_is_given_up() -> None:
    async with rig(MeshLimits(outbox=3)) as it:
        it.state = Sent.BUSY
        for correlation in range(1, 5):
            it.says(Type.CALL, correlation, name="unknown")
        assert (1, 1) == (it.lost, it.faults()["overrun"])
        assert not it.channel.is_up


async def test_a_busy_or_gone_peer_is_unavailable() -> None:
    async with rig() as it:
        it.state = Sent.BUSY
        with pytest.raises(Unavailable, match="is busy"):
            await it.channel.asking.call("x", None, (), 1.0)
        it.state = Sent.GONE
        with pytest.raises(Unavailable, match="is not connected") as caught:
            await it.channel.asking.call("x", None, (), 1.0)
        assert not isinstance(caught.value, OutcomeUnknown)
        assert 1 == it.lost


async def test_a_notification_that_is_not_sent_is_counted_by_cause() -> None:
    async with rig() as it:
        assert it.channel.outlet.notify("word", None, ())
        assert {} == it.faults()
        it.state = Sent.BUSY
        assert not it.channel.outlet.notify("word", None, ())
        it.state = Sent.GONE
        for _ in range(2):  # the second finds the lane closed
            assert not it.channel.outlet.notify("word", None, ())
        assert {"lane_full": 1, "lane_down": 2} == it.faults()


async def test_each_call_ends_in_its_own_time() -> None:
    """Whatever order they begin and end in, and whoever is answered or gives up meanwhile."""
    ended: set[str] = set()

    async def ask(name: str, timeout_s: float) -> None:
        with pytest.raises(OutcomeUnknown, match=f"peer did not answer `{name}` within"):
            await it.channel.asking.call(name, None, (), timeout_s)
        ended.add(name)

    async with rig() as it, asyncio.TaskGroup() as tasks:
        call = it.channel.asking.call
        answered = tasks.create_task(call("answered", None, (), 60.0), name="answered")
        gives_up = tasks.create_task(call("gives up", None, (), 0.03), name="gives up")
        for name, timeout_s in (("second", 0.04), ("third", 0.05), ("first", 0.01), ("none", 0.0)):
            tasks.create_task(ask(name, timeout_s), name=name)
        await eventually(lambda: 6 == it.types().count(Type.CALL))
        gives_up.cancel()
        await eventually(lambda: {"none", "first", "second", "third"} == ended)
        assert not answered.done()
        it.says(Type.REPLY, it.sent[0].correlation)
        await answered
        assert 5 == it.types().count(Type.CANCEL)
        await ask("later", 0.01)
    assert {} == it.faults()


async def test_a_peer_beyond_its_credit_has_its_stream_ended() -> None:
    async with rig(MeshLimits(stream_window=2)) as it:
        async with it.channel.asking.stream("x", None, ()) as chunks:
            for number in range(3):
                it.says(Type.CHUNK, it.sent[0].correlation, body=number)
            assert [0, 1] == [(await anext(chunks)).body, (await anext(chunks)).body]
            with pytest.raises(Unavailable, match="more chunks than"):
                await anext(chunks)
        assert 1 == it.faults()["overrun"]
        assert [Type.STREAM, Type.CREDIT, Type.CANCEL] == it.types()


async def test_answers_that_nobody_awaits_are_counted() -> None:
    async with rig() as it:
        it.says(Type.REPLY, 77)
        it.says(Type.ERROR, 78, body=["failed", "x", None, None, []])
        it.says(Type.CHUNK, 79)
        it.says(Type.END, 80)
        assert {"late": 2} == it.faults()


@pytest.mark.parametrize("body", [None, "x", [], {"a": 1}, ["failed"], [1, 2, 3, 4, 5]])
async def test_an_unreadable_error_is_still_an_error(body: object) -> None:
    async with rig() as it, it.channel.asking.stream("x", None, ()) as chunks:
        it.says(Type.ERROR, it.sent[0].correlation, body=body)
        with pytest.raises(Exception, match="unreadable error"):
            await anext(chunks)


@pytest.mark.parametrize("body", [None, 0, -1, "9", 1 << 63, 1.5])
async def test_nonsense_credit_means_nothing(body: object) -> None:
    async def one(_: Request) -> AsyncIterator[Chunk]:
        yield Chunk("one")

    async with rig() as it:
        it.site.streams.add("one", one, EVERYONE)
        it.says(Type.STREAM, name="one")
        it.says(Type.CREDIT, body=body)
        it.says(Type.CREDIT, 99, body=1)
        it.says(Type.CANCEL, 99)
        it.says(Type.CREDIT, body=1)
        await eventually(lambda: [Type.CHUNK, Type.END] == it.types())
        assert {} == it.faults()


async def test_one_correlation_is_not_used_twice_at_once() -> None:
    async with rig() as it:
        it.site.calls.add("hello", hello, EVERYONE)
        it.says(Type.CALL, 1, name="hello")
        it.says(Type.CALL, 1, name="hello")
        await eventually(lambda: 2 == len(it.sent))
        assert [Type.ERROR, Type.REPLY] == it.types()


async def test_a_cancel_before_the_handlers_first_step_frees_its_place() -> None:
    async with rig(MeshLimits(calls_served=1)) as it:
        it.site.calls.add("hello", hello, EVERYONE)
        it.says(Type.CALL, 1, name="hello")
        it.says(Type.CANCEL, 1)
        await eventually(lambda: 0 == it.standing.calls_served)
        it.says(Type.CALL, 2, name="hello")
        await eventually(lambda: [Type.REPLY] == it.types())


async def test_s75_a_newer_process_fences_the_older() -> None:
    async with rig() as it:
        it.says(Type.PING, incarnation=5)
        it.says(Type.PING, incarnation=6)
        heard = it.standing.last_heard = -1.0
        it.says(Type.PING, incarnation=5)
        it.says(Type.FENCED, incarnation=5, body=9)
        assert heard == it.standing.last_heard
        assert [Type.PONG, Type.PONG, Type.FENCED] == it.types()
        assert (6, {"fenced": 2}) == (it.sent[-1].body, it.faults())


async def test_s74_what_an_older_process_left_on_its_way_reaches_no_handler() -> None:
    """Neither Raft nor any timer hears of it: it never was, for all above the mesh."""
    heard: list[object] = []
    async with rig() as it:
        it.site.notifies.add("raft", lambda _, body, __: heard.append(body), EVERYONE)
        for incarnation, body in ((5, "first"), (6, "newer"), (5, "queued for a minute")):
            it.says(Type.NOTIFY, 0, incarnation, name="raft", body=body)
        assert ["first", "newer"] == heard
        assert {"fenced": 1} == it.faults()


@pytest.mark.parametrize(
    ("role", "body", "expected"),
    [
        (PeerRole.MANAGER, 4, 1),
        (PeerRole.MANAGER, 3, 0),
        (PeerRole.MANAGER, "4", 0),
        (PeerRole.WORKER, 4, 0),
        (PeerRole.CLIENT, 4, 0),
    ],
)
async def test_only_a_manager_can_tell_us_that_we_are_fenced(
    role: PeerRole, body: object, expected: int
) -> None:
    told: list[Conflict] = []
    async with rig(role=role) as it:
        it.site.on_fenced = told.append
        it.says(Type.FENCED, body=body)
        it.says(Type.FENCED, body=body)
        assert expected == len(told)


async def test_a_connection_that_goes_on_without_a_greeting_is_told_to_start_afresh() -> None:
    async with rig(claimed=5) as it:
        it.says(Type.PING)
        it.says(Type.PING)
        assert [Type.HELLO, Type.PONG, Type.PONG] == it.types()


async def test_what_is_left_over_from_a_closed_connection_is_dropped() -> None:
    async with rig(claimed=5) as it:
        it.site.calls.add("hello", hello, EVERYONE)
        it.state = Sent.GONE
        it.says(Type.CALL, name="hello")
        assert (0, {"stale": 1}) == (it.standing.calls_served, it.faults())


async def test_a_silent_peer_is_probed_and_then_given_up() -> None:
    limits = MeshLimits(probe_s=5.0, silence_s=20.0)
    async with rig(limits) as it:
        start = it.channel.last_heard
        async with it.channel.asking.stream("x", None, ()) as chunks:
            for second in range(1, 21):
                it.channel.tick(start + second)
            assert 4 == it.types().count(Type.PING)
            it.channel.tick(start + 20.5)
            with pytest.raises(Unavailable, match="nothing was heard for 20 s"):
                await anext(chunks)
        assert 1 == it.lost
