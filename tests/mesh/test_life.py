"""Peers that die, return, hang or are replaced: whoever waits for them is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from attrs import evolve

from meshswarm.errors import Conflict, OutcomeUnknown, Unavailable
from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.frames import Type
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import EVERYONE, Lane, Peer, PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request
from tests.mesh.meeting import eventually, frames_of, meet, name_of, peer_of, pull, push, stranger

LIMITS = MeshLimits(connect_timeout_s=5.0, redial_s=0.05)
IMPATIENT = evolve(LIMITS, probe_s=0.1, silence_s=0.5, safety_poll_s=0.02)
TIMEOUT_S = 30.0


class Server:
    """A node that can be started several times at one address, each time as a newer process."""

    def __init__(self, peers: list[Peer], limits: MeshLimits = LIMITS) -> None:
        self.pair = keys.generate()
        self.address = "127.0.0.1:0"
        self.open = 0
        self._peers = peers
        self._limits = limits
        self._incarnation = 0

    @property
    def peer(self) -> Peer:
        return peer_of(self.pair, "server", address=self.address)

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Endpoint]:
        self._incarnation += 1
        endpoint = Endpoint(
            self.pair,
            name="server",
            incarnation=self._incarnation,
            listen=self.address,
            peers=self._peers,
            limits=self._limits,
        )
        endpoint.on_call("which", self._which, EVERYONE)
        endpoint.on_call("never", self._never, EVERYONE)
        endpoint.on_stream("idle", self._idle, EVERYONE)
        async with endpoint.opened():
            self.address = str(endpoint.address)
            yield endpoint

    async def _which(self, _: Request) -> Reply:
        return Reply(self._incarnation)

    async def _never(self, _: Request) -> Reply:
        self.open += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1
        raise AssertionError("an event that nobody sets")

    async def _idle(self, _: Request) -> AsyncIterator[Chunk]:
        self.open += 1
        try:
            yield Chunk("open")
            await asyncio.Event().wait()
        finally:
            self.open -= 1


@asynccontextmanager
async def opened(pair: KeyPair, incarnation: int = 1) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(pair, name="asker", incarnation=incarnation, limits=LIMITS)
    async with endpoint.opened():
        yield endpoint


async def test_an_open_call_fails_when_the_peer_dies() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with opened(pair) as asker, AsyncExitStack() as life:
        await life.enter_async_context(server.started())
        link = asker.link(server.peer)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(expect_unknown(link.call(Lane.CONTROL, "never", timeout_s=60)))
            await eventually(lambda: 1 == server.open)
            await life.aclose()
            await eventually(call.done)
        assert 0 == server.open
        assert not link.is_up
        assert not link.notify(Lane.CONTROL, "anything")


async def expect_unknown(call: object) -> None:
    with pytest.raises(OutcomeUnknown, match="connection was lost"):
        await call  # type: ignore[misc]


async def test_an_open_stream_fails_when_the_peer_dies() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with opened(pair) as asker, AsyncExitStack() as life:
        await life.enter_async_context(server.started())
        async with asker.link(server.peer).stream(Lane.BULK, "idle") as chunks:
            assert "open" == (await anext(chunks)).body
            await life.aclose()
            with pytest.raises(Unavailable, match="broke"):
                await anext(chunks)


async def test_a_link_finds_the_peer_again_after_its_restart() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with opened(pair) as asker:
        for incarnation in range(1, 4):
            async with server.started():
                link = asker.link(server.peer)
                reply = await link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
                assert Reply(incarnation) == reply
            await eventually(lambda up=link: not up.is_up)  # type: ignore[misc]


async def test_a_peer_that_returns_is_dialed_as_soon_as_it_dials_us() -> None:
    """After the next pause that would be, and that one never ends here."""
    limits = evolve(LIMITS, reconnect_s=3_600, reconnect_max_s=3_600, stuck_s=3_600)
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    asker = Endpoint(
        pair,
        name="asker",
        incarnation=1,
        listen="127.0.0.1:0",
        peers=[peer_of(server.pair, "server")],
        limits=limits,
    )
    async with asker.opened():
        for incarnation in range(1, 4):
            async with server.started() as again:
                link = asker.link(server.peer)
                again.link(peer_of(pair, "asker", address=asker.address)).open(*Lane)
                reply = await link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
                assert Reply(incarnation) == reply
            await eventually(lambda up=link: not up.is_up)  # type: ignore[misc]


async def test_a_dead_askers_requests_are_cancelled() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")], IMPATIENT)
    async with server.started():
        async with opened(pair) as asker, asyncio.TaskGroup() as tasks:
            link = asker.link(server.peer)
            call = tasks.create_task(link.call(Lane.CONTROL, "never", timeout_s=60))
            stream = link.stream(Lane.BULK, "idle")
            chunks = await stream.__aenter__()
            await anext(chunks)
            await eventually(lambda: 2 == server.open)
            call.cancel()
            await eventually(lambda: 1 == server.open)
            # The asker goes without leaving its stream, as a killed process does.
        await eventually(lambda: 0 == server.open)
        with pytest.raises(Unavailable):
            await anext(chunks)


async def test_nobody_there_is_told_with_the_address() -> None:
    async with Endpoint(
        keys.generate(), name="x", incarnation=1, limits=MeshLimits(connect_timeout_s=0.1)
    ).opened() as endpoint:
        link = endpoint.link(peer_of(keys.generate(), "ghost", address="127.0.0.1:1"))
        with pytest.raises(Unavailable, match="no connection to ghost: nobody answers") as caught:
            await link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
        assert "127.0.0.1:1" == caught.value.where
        assert not link.notify(Lane.CONTROL, "which")
        assert 1 == endpoint.dropped()["lane_down"]
        with pytest.raises(Unavailable, match="no address"):
            endpoint.link(peer_of(keys.generate(), "worker"))


async def test_a_call_made_before_the_peer_starts_waits_for_it() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with server.started():
        pass  # so that the port is known
    async with opened(pair) as asker, asyncio.TaskGroup() as tasks:
        link = asker.link(server.peer)
        call = tasks.create_task(link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S))
        await asyncio.sleep(0)
        async with server.started():
            assert Reply(2) == await call


async def test_a_silent_askers_stream_is_ended() -> None:
    """It answers no PING: its process hangs, although ZeroMQ's thread keeps its connection."""
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")], IMPATIENT)
    async with server.started() as endpoint:
        with stranger(endpoint.address, server.pair.public, pair, name_of(pair)) as raw:
            await push(raw, frames_of(Type.HELLO))
            await push(raw, frames_of(Type.STREAM, sequence=2, name="idle"))
            await eventually(lambda: 1 == server.open)
            await eventually(lambda: 0 == server.open)
            assert endpoint.accepted(pair.id) is None


async def test_an_asker_that_hung_learns_that_its_stream_was_ended() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with server.started() as endpoint, opened(pair) as asker:
        async with asker.link(server.peer).stream(Lane.BULK, "idle") as chunks:
            await anext(chunks)
            endpoint.set_peers([])  # gives the connection up, as silence would
            endpoint.set_peers([peer_of(pair, "asker")])
            asker.link(server.peer).notify(Lane.BULK, "awake")
            with pytest.raises(Unavailable, match="connected anew"):
                await anext(chunks)
        assert 0 == server.open


async def test_s50_a_peer_that_moves_is_dialed_at_its_new_address() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with opened(pair) as asker:
        async with server.started():
            old = asker.link(server.peer)
            assert old is asker.link(server.peer)
            await old.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
        server.address = "127.0.0.1:0"
        async with server.started():
            asker.set_peers([server.peer])
            with pytest.raises(Unavailable):
                await old.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
            new = asker.link(server.peer)
            assert Reply(2) == await new.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)


async def test_s74_a_reconnected_lane_starts_afresh() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with server.started() as endpoint:
        with stranger(endpoint.address, server.pair.public, pair, name_of(pair)) as raw:
            await push(raw, frames_of(Type.HELLO))
            await push(raw, frames_of(Type.CALL, sequence=2, name="never"))
            await eventually(lambda: 1 == server.open)
            await push(raw, frames_of(Type.HELLO, sequence=3))
            await eventually(lambda: 0 == server.open)


async def test_s75_an_older_process_of_a_node_is_fenced_and_told() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    told: list[Conflict] = []
    async with server.started() as endpoint, opened(pair, 1) as older:
        older.on_fenced(told.append)
        link = older.link(server.peer)
        await link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
        async with opened(pair, 2) as newer:
            await newer.link(server.peer).call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
            with pytest.raises(OutcomeUnknown):
                await link.call(Lane.CONTROL, "which", timeout_s=0.3)
            await eventually(lambda: told)
            assert 1 <= endpoint.counters()["fenced"]
            assert "second node with the identity" in told[0].message
            accepted = endpoint.accepted(pair.id)
            assert accepted is not None
            newer.on_call("me", server._which, EVERYONE)
            await accepted.call(Lane.CONTROL, "me", timeout_s=TIMEOUT_S)


async def test_processes_of_one_client_do_not_fence_each_other() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "client", PeerRole.CLIENT)])
    async with server.started(), opened(pair, 7) as first, opened(pair, 3) as second:
        for endpoint in (first, second, first, second):
            await endpoint.link(server.peer).call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)


async def test_s74_a_stale_message_is_dropped() -> None:
    pair = keys.generate()
    server = Server([peer_of(pair, "asker")])
    async with server.started() as endpoint:
        with stranger(endpoint.address, server.pair.public, pair, name_of(pair)) as raw:
            await push(raw, frames_of(Type.PING, sequence=5))
            await push(raw, frames_of(Type.PING, sequence=5))
            await push(raw, frames_of(Type.PING, sequence=4))
            await eventually(lambda: 2 == endpoint.counters().get("stale"))
            await pull(raw)


async def test_a_peer_with_too_many_connections_loses_the_longest_silent() -> None:
    pair = keys.generate()
    limits = evolve(LIMITS, channels_per_peer=3)
    server = Server([peer_of(pair, "client", PeerRole.CLIENT)], limits)
    async with server.started() as endpoint, AsyncExitStack() as processes:
        for incarnation in range(1, 6):
            process = await processes.enter_async_context(opened(pair, incarnation))
            link = process.link(server.peer)
            await link.call(Lane.CONTROL, "which", timeout_s=TIMEOUT_S)
        assert 2 == endpoint.counters()["busy"]


async def test_closing_ends_what_is_open() -> None:
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as life:
        meeting = await life.enter_async_context(meet())
        started = asyncio.Event()

        async def never(_: Request) -> Reply:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError("an event that nobody sets")

        meeting.server.on_call("never", never, EVERYONE)

        async def ask() -> None:
            with pytest.raises(OutcomeUnknown, match=r"closed on this side|connection was lost"):
                await meeting.link.call(Lane.CONTROL, "never", timeout_s=60)

        tasks.create_task(ask(), name="ask")
        await started.wait()
        await life.aclose()
        with pytest.raises(Unavailable):
            await meeting.link.call(Lane.CONTROL, "never", timeout_s=1)
