"""The way to a task: which manager or agent is asked, and what is refused on the way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshswarm.cluster.relay import MAX_PIPES, Relay
from meshswarm.errors import Conflict, Invalid, NotFound, Unavailable
from meshswarm.ids import NodeId
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request
from meshswarm.model.task import TaskState
from meshswarm.store.view import View
from tests.support.fake_cluster import cluster_of, stack, with_stack, with_task


def peer(name: str, role: PeerRole) -> Peer:
    return Peer(name=name, role=role, public_key=keys.generate().public)


CLIENT, MANAGER = peer("ops", PeerRole.CLIENT), peer("m2", PeerRole.MANAGER)


class Way:
    """A link that notes what it was asked for; streams give one chunk."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    @asynccontextmanager
    async def stream(self, _: object, method: str, body: object) -> AsyncIterator[Any]:
        self.asked.append((method, body))

        async def chunks() -> AsyncIterator[Chunk]:
            yield Chunk(method)

        yield chunks()

    async def call(
        self, _: object, method: str, body: object, payloads: object = (), *, timeout_s: float
    ) -> Reply:
        self.asked.append((method, body))
        return Reply(method)


class World:
    """A manager whose own node's session is `here`, that of another one with `m2`, or nowhere."""

    def __init__(self, serves: str = "") -> None:
        view = with_stack(cluster_of("n1"), stack("shop", web=1))
        self.view: View = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
        (self.task,) = self.view.tasks
        self.agent, self.manager = Way(), Way()
        self.calls: dict[str, Any] = {}
        self.streams: dict[str, Any] = {}
        here, there = serves == "here", serves == "m2"
        endpoint = SimpleNamespace(
            on_stream=lambda name, handler, roles: self.streams.update({name: handler}),
            on_call=lambda name, handler, roles: self.calls.update({name: handler}),
            link=lambda _: self.manager,
        )
        self.relay = Relay(
            cast(Any, SimpleNamespace(hub=SimpleNamespace(view=self.view))),
            cast(Any, SimpleNamespace(link_to=lambda _: self.agent if here else None)),
            cast(Any, SimpleNamespace(server_of=lambda _: MANAGER.id if there else None)),
            cast(Any, endpoint),
            lambda node_id: MANAGER if node_id == MANAGER.id else None,
        )

    def pipe(self, name: str = "p", asker: Peer = CLIENT) -> AsyncIterator[Chunk]:
        body = {"pipe": name, "task": self.task, "wish": {}}
        chunks: AsyncIterator[Chunk] = self.streams["pipe"](Request(asker, "pipe", body))
        return chunks

    async def put(self, name: str = "p") -> Reply:
        body = [name, False, None]
        reply: Reply = await self.calls["pipe.input"](Request(CLIENT, "pipe.input", body, (b"x",)))
        return reply


@pytest.mark.parametrize(("serves", "method"), [("here", "task.pipe"), ("m2", "pipe")])
async def test_input_goes_the_way_of_its_pipe_until_that_ends(serves: str, method: str) -> None:
    world = World(serves)
    chunks = world.pipe()
    assert Chunk(method) == await anext(chunks)
    assert Reply(f"{method}.input") == await world.put()
    assert [chunk async for chunk in chunks] == []
    assert Reply(True) == await world.put(), "its end is on the way already"
    way = world.agent if serves == "here" else world.manager
    assert [name for name, _ in way.asked] == [method, f"{method}.input"]


async def test_a_manager_that_was_asked_by_one_asks_no_third() -> None:
    world = World("m2")
    with pytest.raises(Unavailable, match="no manager has a session with node n1"):
        await anext(world.pipe(asker=MANAGER))
    with pytest.raises(Unavailable):
        await anext(World().pipe())


async def test_pipes_are_bounded_and_have_one_name_each() -> None:
    world = World("here")
    opened = [world.pipe(str(number)) for number in range(MAX_PIPES)]
    for chunks in opened:
        await anext(chunks)
    with pytest.raises(Conflict):
        await anext(world.pipe("0"))
    with pytest.raises(Unavailable, match="pipes are open already"):
        await anext(world.pipe("one more"))
    for chunks in opened:
        assert [chunk async for chunk in chunks] == []
    assert Chunk("task.pipe") == await anext(world.pipe("one more"))


async def test_what_names_no_task_or_node_is_refused() -> None:
    world = World("here")
    for body, kind in (({}, Invalid), ({"task": "t99"}, NotFound)):
        with pytest.raises(kind):
            await anext(world.streams["logs"](Request(CLIENT, "logs", body)))
    with pytest.raises(NotFound):
        await world.calls["stats"](Request(CLIENT, "stats", {"node": "nowhere"}))
    reply = await world.calls["stats"](Request(CLIENT, "stats", {"node": NodeId("idn1")}))
    assert reply == Reply("task.stats")
