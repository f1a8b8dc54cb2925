"""Who may not come in, does not; what cannot be read is dropped and counted; the loop lives on."""

import asyncio
import socket as tcp
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from attrs import frozen

from meshswarm.errors import Conflict, Invalid, Unavailable
from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.frames import Type
from meshswarm.mesh.keys import KeyPair
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import NODES, Lane, PeerRole
from meshswarm.mesh.requests import Reply, Request
from tests.mesh.meeting import eventually, frames_of, name_of, peer_of, pull, push, stranger

LIMITS = MeshLimits(
    handshake_timeout_s=0.5, connect_timeout_s=5.0, redial_s=0.05, header_bytes_max=4096
)
TIMEOUT_S = 8.0


@frozen(eq=False)
class House:
    """A listening endpoint, its key, and the key of the only friend that it lets in."""

    endpoint: Endpoint
    pair: KeyPair
    friend: KeyPair

    def count(self, name: str) -> int:
        return self.endpoint.counters().get(name, 0)

    async def answers_its_friend(self) -> bool:
        """Whether a call by the friend, as a process of its own, is still answered."""
        async with Endpoint(self.friend, name="friend", incarnation=9).opened() as endpoint:
            link = endpoint.link(peer_of(self.pair, "house", address=self.endpoint.address))
            return Reply(7) == await link.call(Lane.CONTROL, "seven", timeout_s=TIMEOUT_S)


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    async def seven(_: Request) -> Reply:
        return Reply(7)

    pair, friend = keys.generate(), keys.generate()
    endpoint = Endpoint(
        pair,
        name="house",
        incarnation=1,
        listen="127.0.0.1:0",
        peers=[peer_of(friend, "friend")],
        limits=LIMITS,
    )
    endpoint.on_call("seven", seven, NODES)
    async with endpoint.opened():
        yield House(endpoint, pair, friend)


async def test_an_unknown_key_is_refused_at_once_and_told_why() -> None:
    async with house() as home:
        guest = Endpoint(keys.generate(), name="guest", incarnation=1, limits=LIMITS)
        async with guest.opened():
            link = guest.link(peer_of(home.pair, "house", address=home.endpoint.address))
            with pytest.raises(Unavailable, match="refused: our key is not in its list"):
                await link.call(Lane.CONTROL, "seven", timeout_s=TIMEOUT_S)
            assert "refused: our key is not in its list" == link.last_error
            assert not link.is_up
            assert 1 <= guest.counters()["failed_handshake"]
        assert 1 <= home.count("refused_key")
        assert 0 == home.count("messages_in")
        assert await home.answers_its_friend()


async def test_who_is_admitted_later_gets_in_by_dialing_on() -> None:
    async with house() as home:
        pair = keys.generate()
        async with Endpoint(pair, name="guest", incarnation=1, limits=LIMITS).opened() as guest:
            link = guest.link(peer_of(home.pair, "house", address=home.endpoint.address))
            with pytest.raises(Unavailable, match="refused"):
                await link.call(Lane.CONTROL, "seven", timeout_s=TIMEOUT_S)
            home.endpoint.set_peers([peer_of(pair, "guest")])
            await eventually(lambda: link.is_up)
            assert Reply(7) == await link.call(Lane.CONTROL, "seven", timeout_s=TIMEOUT_S)


async def test_who_is_removed_is_not_heard_any_more() -> None:
    async with house() as home:
        with stranger(
            home.endpoint.address, home.pair.public, home.friend, name_of(home.friend)
        ) as friend:
            await push(friend, frames_of(Type.HELLO))
            await pull(friend)
            home.endpoint.set_peers([])
            await push(friend, frames_of(Type.CALL, sequence=2, name="seven"))
            await eventually(lambda: home.count("revoked"))
            assert home.endpoint.accepted(home.friend.id) is None


async def test_a_server_with_another_key_is_not_believed() -> None:
    async with house() as home:
        async with Endpoint(
            home.friend, name="friend", incarnation=1, limits=MeshLimits(connect_timeout_s=0.5)
        ).opened() as friend:
            impostor = peer_of(keys.generate(), "impostor", address=home.endpoint.address)
            link = friend.link(impostor)
            with pytest.raises(Unavailable, match="another key than we know") as caught:
                await link.call(Lane.CONTROL, "seven", timeout_s=TIMEOUT_S)
            assert home.endpoint.address == caught.value.where
        await eventually(lambda: home.count("failed_handshake"))
        assert await home.answers_its_friend()


async def test_s76_a_valid_key_cannot_speak_for_another() -> None:
    async with house() as home:
        thief = keys.generate()
        peers = [peer_of(home.friend, "friend"), peer_of(thief, "thief", PeerRole.WORKER)]
        home.endpoint.set_peers(peers)
        with stranger(home.endpoint.address, home.pair.public, thief, name_of(home.friend)) as raw:
            await push(raw, frames_of(Type.CALL, name="seven"))
            await eventually(lambda: 1 == home.count("spoofed"))
            assert home.endpoint.accepted(home.friend.id) is None
            assert await home.answers_its_friend()


async def test_a_connection_cannot_be_taken_over_under_its_name() -> None:
    async with house() as home:
        thief, name = keys.generate(), name_of(home.friend)
        home.endpoint.set_peers([peer_of(home.friend, "friend"), peer_of(thief, "thief")])
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as friend:
            await push(friend, frames_of(Type.HELLO))
            await pull(friend)
            with stranger(home.endpoint.address, home.pair.public, thief, name) as raw:
                await push(raw, frames_of(Type.CALL, sequence=2, name="seven"))
                await eventually(lambda: 1 == home.count("spoofed"))


@pytest.mark.parametrize("name", [b"stranger", b"\xff\xff", b"a.b.c.d", b"a.c.-1.n.x"])
async def test_a_connection_without_a_nodes_name_is_not_heard(name: bytes) -> None:
    async with house() as home:
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as raw:
            await push(raw, frames_of(Type.CALL, name="seven"))
            await eventually(lambda: 1 == home.count("spoofed"))


async def test_a_connection_without_any_name_is_not_heard() -> None:
    async with house() as home:
        with stranger(home.endpoint.address, home.pair.public, home.friend, b"") as raw:
            await push(raw, frames_of(Type.CALL, name="seven"))
            await eventually(lambda: 1 == home.count("stale"))


async def test_another_incarnation_than_the_connection_bears_is_not_heard() -> None:
    async with house() as home:
        name = name_of(home.friend, incarnation=1)
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as raw:
            await push(raw, frames_of(Type.HELLO, incarnation=5))
            await eventually(lambda: 1 == home.count("spoofed"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + b"\x00" * 48,
        bytes(range(256)) * 64,
        b"",
    ],
    ids=["http", "tls", "zmtp greeting", "noise", "nothing"],
)
async def test_foreign_bytes_on_the_port_harm_nobody(garbage: bytes) -> None:
    async with house() as home:
        host, _, port = str(home.endpoint.address).rpartition(":")
        with closing(tcp.create_connection((host, int(port)))) as connection:
            connection.sendall(garbage)
            await eventually(lambda: home.count("connections_accepted"))
            assert await home.answers_its_friend()
        assert 1 == home.count("handshakes_completed")


async def test_a_peer_without_encryption_is_not_let_in() -> None:
    async with house() as home:
        with stranger(home.endpoint.address, None, routing_id=name_of(home.friend)):
            await eventually(lambda: home.count("failed_handshake"))
        assert 0 == home.count("handshakes_completed")
        assert await home.answers_its_friend()


@pytest.mark.parametrize(
    "frames",
    [
        [b"\x00"],
        [b"", b"", b""],
        [b"\xff" * 100],
        [b"x" * 5000],
        [b"\x81" * 200],
        [b"x"] * 1000,
    ],
    ids=["short", "empty", "breaks", "large", "deep", "many"],
)
async def test_s78_a_member_that_sends_garbage_is_counted_and_heard_again(
    frames: list[bytes],
) -> None:
    async with house() as home:
        name = name_of(home.friend)
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as raw:
            await push(raw, frames)
            await eventually(lambda: 1 == home.count("bad_frame"))
            await push(raw, frames_of(Type.PING))
            await pull(raw)


async def test_s78_a_frame_beyond_the_limit_ends_the_connection_only() -> None:
    async with house() as home:
        name = name_of(home.friend)
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as raw:
            await push(raw, [b"x" * (LIMITS.payload_bytes_max + 1000)])
            assert await home.answers_its_friend()
        assert 0 == home.count("bad_frame")


async def test_faults_are_logged_once_per_source_and_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with house() as home:
        name = name_of(home.friend)
        with stranger(home.endpoint.address, home.pair.public, home.friend, name) as raw:
            for _ in range(20):
                await push(raw, [b"garbage"])
            await eventually(lambda: 20 == home.count("bad_frame"))
    assert 1 == sum("fault=bad_frame" in record.getMessage() for record in caplog.records)


async def test_a_taken_port_and_a_foreign_address_are_told() -> None:
    async with house() as home:
        second = Endpoint(keys.generate(), name="x", incarnation=1, listen=home.endpoint.address)
        with pytest.raises(Conflict, match="is taken"):
            async with second.opened():
                raise AssertionError("two may not have one port")
    for listen in ("192.0.2.1:0", "no such host:1", "nonsense", "127.0.0.1:99999", ":1", ""):
        with pytest.raises(Invalid, match=r"cannot listen|not an address"):
            async with Endpoint(keys.generate(), name="x", incarnation=1, listen=listen).opened():
                await asyncio.sleep(0)


async def test_two_peers_with_one_key_or_name_are_refused() -> None:
    pair = keys.generate()
    with pytest.raises(Invalid, match="same key"):
        Endpoint(pair, name="x", incarnation=1, peers=[peer_of(pair, "a"), peer_of(pair, "b")])
    twins = [peer_of(keys.generate(), "a"), peer_of(keys.generate(), "a")]
    with pytest.raises(Invalid, match="same name"):
        Endpoint(pair, name="x", incarnation=1, peers=twins)
