"""The mesh client against real managers: real sockets, CURVE, elections and journals."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve
from immutables import Map

from meshswarm.client import Client, connected
from meshswarm.errors import Denied, KeyRefused, NotFound, SessionExpired, Unavailable
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.model.config import Config
from meshswarm.store.commands import Command, PutConfig, PutStack, RemoveConfig, RemoveStack
from meshswarm.store.view import Table, View
from tests.support.fake_cluster import stack
from tests.support.managers import Managers, managers, until


@asynccontextmanager
async def cluster(
    tmp_path: Path, *, patience_s: float = 10.0
) -> AsyncIterator[tuple[Managers, Client]]:
    """Three managers with a leader, and a client that they know."""
    pair = keys.generate()
    known = Peer(name="tester", role=PeerRole.CLIENT, public_key=pair.public)
    async with managers(tmp_path, clients=(known,)) as members:
        await members.leads()
        peers = [member.peer for member in members.members]
        async with connected(pair, name="tester", managers=peers, patience_s=patience_s) as client:
            yield members, client


async def test_what_is_proposed_is_read_and_watched(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (_, client):
        outcome = await client.propose(PutStack(spec=stack("shop", web=2)))
        assert outcome.effects == (("shop_web", "created"),)
        view = await client.read(Table.SERVICES)
        assert list(view.service_ids) == ["shop_web"]
        assert dict(view.stacks) == {}, "only what was asked for"
        async with aclosing(client.watch(Table.STACKS)) as views:
            assert list((await anext(views)).stacks) == ["shop"]
            await client.propose(RemoveStack(name="shop"))
            assert dict((await anext(views)).stacks) == {}


async def test_a_refusal_is_raised_as_what_it_is(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (_, client):
        with pytest.raises(NotFound, match="no stack 'nosuch'"):
            await client.propose(RemoveStack(name="nosuch"))


async def test_commands_proposed_at_once_share_entries_and_have_outcomes_of_their_own(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as (members, client), asyncio.TaskGroup() as tasks:

        async def outcome(number: int) -> object:
            try:
                if number % 7 == 0:
                    await client.propose(RemoveConfig(name="nosuch"))
                put = PutConfig(name=f"c{number}", data=str(number).encode())
                return (await client.propose(put)).effects
            except NotFound as error:
                return error.message

        asked = [tasks.create_task(outcome(n), name=f"command {n}") for n in range(200)]
        told = [await task for task in asked]
        for number, effects in enumerate(told):
            expected = ((f"c{number}", "created"),)
            assert effects == ("there is no config 'nosuch'" if number % 7 == 0 else expected)
        leader = await members.leads()
        assert leader.seat is not None
        assert leader.seat.driver.hub.view.index < 100
        row = await client.row(Table.CONFIGS, "c5")
        assert isinstance(row, Config)
        assert (b"5", None) == (row.data, await client.row(Table.CONFIGS, "c7"))


async def test_a_client_turns_to_the_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (members, client):
        leader = await members.leads()
        for number in range(len(members.members)):
            await client.propose(PutConfig(name=f"c{number}", data=b""))
        assert leader.name == client.asks_first


async def test_s71_a_client_that_was_forgotten_is_told_so_and_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (members, client):
        await client.propose(PutStack(spec=stack("one", web=1)))
        for member in members.members:
            assert member.seat is not None
            hub = member.seat.driver.hub
            await until(lambda hub=hub: hub.view.clients)  # type: ignore[misc]
            hub.view = evolve(hub.view, clients=Map(), forgotten_at=hub.view.index)
        with pytest.raises(SessionExpired, match="no longer remembers"):
            await client.propose(PutStack(spec=stack("two", web=1)))
        await client.propose(PutStack(spec=stack("three", web=1)))
        assert {"one", "three"} == set((await client.read(Table.STACKS)).stacks)


async def test_a_lost_leader_costs_a_pause_and_nothing_else(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (members, client):
        await client.propose(PutStack(spec=stack("one", web=1)))
        async with aclosing(client.watch(Table.STACKS)) as views:
            await anext(views)
            await (await members.leads()).stop()
            await client.propose(PutStack(spec=stack("two", web=1)))
            assert {"one", "two"} == set((await _until_two(views)).stacks)


async def _until_two(views: AsyncIterator[View]) -> View:
    async for view in views:
        if len(view.stacks) == 2:
            return view
    raise AssertionError("the watch ended")


async def test_statuses_log_and_elections(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (members, client):
        await client.propose(PutStack(spec=stack("shop", web=1)))
        answers = await client.statuses()
        assert [answer.name for answer in answers] == ["n1", "n2", "n3"]
        assert sorted(answer.status.raft_state for answer in answers if answer.status) == [
            "Follower",
            "Follower",
            "Leader",
        ]
        assert [answer.name for answer in await client.statuses(without="n2")] == ["n1", "n3"]
        async with aclosing(client.log()) as lines:
            words = [line.words async for line in lines]
        assert any("shop" in text for text in words)
        heir = next(m for m in members.members if m is not members.leader)
        elected = await client.elect(heir.keys.id)
        assert elected.leader == heir.name


async def test_without_a_quorum_every_manager_is_named(tmp_path: Path) -> None:
    async with cluster(tmp_path, patience_s=1.5) as (members, client):
        leader = await members.leads()
        for member in members.members:
            if member is not leader:
                await member.stop()
        with pytest.raises(Unavailable) as refused:
            await client.read(Table.STACKS)
        said = [detail.split(" ")[0] for detail in refused.value.details]
        assert said == ["n1", "n2", "n3"]
        answers = await client.statuses()
        assert [answer.name for answer in answers if answer.status] == [leader.name]


async def test_a_stranger_is_refused_without_waiting(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (members, _):
        peers = [member.peer for member in members.members]
        async with connected(
            keys.generate(), name="stranger", managers=peers, patience_s=60.0
        ) as stranger:
            with pytest.raises(Denied, match="no manager knows the key") as refused:
                await stranger.read(Table.STACKS)
            answers = await stranger.statuses()
        said = [detail.split(" ")[0] for detail in refused.value.details]
        assert said == ["n1", "n2", "n3"]
        assert {KeyRefused} == {type(answer.error) for answer in answers}


async def test_a_client_whose_first_command_was_given_up_goes_on(tmp_path: Path) -> None:
    """The cluster never saw it, so it remembers nothing that the client could acknowledge."""
    async with cluster(tmp_path, patience_s=0.5) as (members, client):
        for member in members.members[1:]:
            await member.stop()
        with pytest.raises(Unavailable):
            await client.propose(PutConfig(name="lost", data=b""))
        for member in members.members[1:]:
            member.start()
        async with asyncio.timeout(15):
            kept = PutConfig(name="kept", data=b"")
            while not await _is_done(client, kept):  # noqa: ASYNC110 -- nothing to be told by
                await asyncio.sleep(0.05)


async def _is_done(client: Client, command: Command) -> bool:
    """Whether the command was carried out; False if no manager could be asked."""
    try:
        await client.propose(command)
    except Unavailable:
        return False
    return True
