"""The session and the whole agent against toy managers, over real sockets on the loopback."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm import codec
from meshswarm.agent import dialing
from meshswarm.agent.agent import Agent
from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.agent.runtimes.port import LogLine
from meshswarm.agent.settings import AgentIdentity, AgentSettings
from meshswarm.errors import Conflict, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, TaskId
from meshswarm.mesh import keys
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.peers import NODES, Lane, Peer, PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request
from meshswarm.model.node import NodeRole
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.store.assignments import AssignmentChange, SessionHello
from meshswarm.store.commands import RegisterNode, ReportTasks, decode_command
from meshswarm.store.outcome import Outcome
from tests.agent.cards import assignment, full, upsert

T1 = TaskId("t1")
DEADLINE_S = 10.0
SETTINGS = AgentSettings(runtimes=(), beat_ms=100)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not is_so():  # noqa: ASYNC110 -- what is awaited comes over a socket
            await asyncio.sleep(0.005)


class Manager:
    """Serves sessions with the changes put into `changes`; keeps what agents say."""

    def __init__(self, name: str) -> None:
        self.keys = keys.generate()
        self.name = name
        self.first: AssignmentChange = full()
        self.changes: asyncio.Queue[AssignmentChange] = asyncio.Queue()
        self.registered: list[RegisterNode] = []
        self.statuses: dict[TaskId, list[TaskStatus]] = {}
        self.beats = 0
        self.answers_beats = True
        self.answers_proposals = True
        self.refusal: Conflict | None = None
        self.endpoint: Endpoint

    @property
    def peer(self) -> Peer:
        return Peer(
            name=self.name,
            role=PeerRole.MANAGER,
            public_key=self.keys.public,
            address=self.endpoint.address,
        )

    @asynccontextmanager
    async def opened(self, peers: list[Peer]) -> AsyncIterator["Manager"]:
        self.endpoint = Endpoint(
            self.keys, name=self.name, incarnation=1, listen="127.0.0.1:0", peers=peers
        )
        self.endpoint.on_stream("session.open", self._open, roles=NODES)
        self.endpoint.on_notify("session.beat", self._beat)
        self.endpoint.on_call("propose", self._propose, roles=NODES)
        async with self.endpoint.opened():
            yield self

    async def _open(self, request: Request) -> AsyncIterator[Chunk]:
        hello: SessionHello = codec.structure(request.body, SessionHello)
        if self.refusal is not None:
            raise self.refusal
        self.registered.append(hello.registration)
        yield Chunk(None, (codec.encode(self.first),))
        while True:
            yield Chunk(None, (codec.encode(await self.changes.get()),))

    def _beat(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        assert isinstance(body, list)
        self.beats += 1
        link = self.endpoint.accepted(peer.id)
        if self.answers_beats and link is not None:
            link.notify(Lane.CONTROL, "session.beat_ack", [body[1], body[1]])

    async def _propose(self, request: Request) -> Reply:
        assert isinstance(request.body, list)
        if not self.answers_proposals:
            raise Unavailable("no leader")
        command = decode_command(request.body[0])
        if isinstance(command, ReportTasks):
            for report in command.reports:
                self.statuses.setdefault(report.task_id, []).append(report.status)
        return Reply(Outcome(index=Index(1)).to_plain())


class World:
    """Some managers and one worker's agent; `fake` is what it runs tasks with."""

    def __init__(self, managers: list[Manager], agent: Agent, fake: FakeRuntime) -> None:
        self.managers = managers
        self.agent = agent
        self.fake = fake
        self.node: Peer

    def serving(self) -> Manager | None:
        peer = self.agent.manager
        return next((m for m in self.managers if peer and m.keys.id == peer.id), None)


@asynccontextmanager
async def world(
    path: Path,
    *names: str,
    first: AssignmentChange | None = None,
    settings: AgentSettings = SETTINGS,
) -> AsyncIterator[World]:
    mine = keys.generate()
    node = Peer(name="worker", role=PeerRole.WORKER, public_key=mine.public)
    async with AsyncExitStack() as stack:
        managers = []
        for name in names:
            manager = Manager(name)
            manager.first = first or full()
            managers.append(await stack.enter_async_context(manager.opened([node])))
        endpoint = Endpoint(mine, name="worker", incarnation=7)
        fake = FakeRuntime(lambda: 1_000)
        identity = AgentIdentity(
            node_id=mine.id,
            name="worker",
            role=NodeRole.WORKER,
            cluster_id=ClusterId("cluster"),
            incarnation=7,
        )
        peers = [manager.peer for manager in managers]
        agent = Agent(endpoint, settings, identity, peers, path, runtimes=[fake])
        made = World(managers, agent, fake)
        made.node = node
        await stack.enter_async_context(endpoint.opened())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(agent.run(), name="agent")
        stack.callback(running.cancel)
        yield made


async def test_assignments_come_in_and_statuses_go_out(tmp_path: Path) -> None:
    async with world(tmp_path, "m1", first=full(assignment())) as here:
        (manager,) = here.managers
        await until(lambda: T1 in manager.statuses)
        await until(lambda: manager.statuses[T1][-1].state is TaskState.RUNNING)
        (registered,) = manager.registered
        assert (here.node.id, "worker", 7) == (
            registered.node_id,
            registered.name,
            registered.incarnation,
        )
        assert (here.fake.kind,) == registered.description.runtimes
        assert registered.description.resources.memory_bytes > 0
        manager.changes.put_nowait(upsert(assignment("t2", slot=2)))
        await until(lambda: TaskId("t2") in manager.statuses)


async def test_steps_on_the_way_are_mostly_spared(tmp_path: Path) -> None:
    async with world(tmp_path, "m1", first=full(assignment())) as here:
        (manager,) = here.managers
        await until(lambda: T1 in manager.statuses)
        assert [TaskState.RUNNING] == [status.state for status in manager.statuses[T1]]


async def test_a_silent_manager_is_left_for_the_next_and_no_task_is_touched(tmp_path: Path) -> None:
    async with world(tmp_path, "m1", "m2", first=full(assignment())) as here:
        await until(lambda: here.serving())
        left = here.serving()
        assert left is not None
        await until(lambda: left.beats > 1 and T1 in left.statuses)
        left.answers_beats = False
        await until(lambda: here.serving() not in (left, None))
        found = here.serving()
        assert found is not None
        await until(lambda: T1 in found.statuses)
        assert TaskState.RUNNING is found.statuses[T1][-1].state
        verbs = [verb for verb, _ in here.fake.calls]
        assert 1 == verbs.count("start")
        assert 0 == verbs.count("stop")


async def test_an_agent_that_is_asked_for_beats_at_once(tmp_path: Path) -> None:
    rarely = AgentSettings(runtimes=(), beat_ms=60_000)
    async with world(tmp_path, "m1", settings=rarely) as here:
        await until(lambda: here.serving())
        manager = here.managers[0]
        before = manager.beats
        link = manager.endpoint.accepted(here.node.id)
        assert link is not None
        link.notify(Lane.CONTROL, "session.probe")
        await until(lambda: manager.beats > before)


async def test_a_lost_manager_is_left_for_the_next(tmp_path: Path) -> None:
    async with world(tmp_path, "m1", "m2") as here:
        await until(lambda: here.serving())
        left = here.serving()
        assert left is not None
        left.endpoint.set_peers([])  # it cuts us off
        await until(lambda: here.serving() not in (left, None))


async def test_a_status_is_repeated_until_it_arrives(tmp_path: Path) -> None:
    async with world(tmp_path, "m1") as here:
        (manager,) = here.managers
        manager.answers_proposals = False
        await until(lambda: manager.registered)
        manager.changes.put_nowait(upsert(assignment()))
        await until(lambda: here.agent.cards.get(T1))
        await until(lambda: here.agent.cards[T1].status.state is TaskState.RUNNING)
        assert {} == manager.statuses
        manager.answers_proposals = True
        await until(lambda: T1 in manager.statuses)
        assert TaskState.RUNNING is manager.statuses[T1][-1].state


async def refused(path: Path) -> None:
    """Live as a node until the cluster refuses it."""
    async with world(path, "m1") as here:
        (manager,) = here.managers
        manager.refusal = Conflict("a node named worker exists already")
        manager.endpoint.set_peers([])  # so that it comes again
        manager.endpoint.set_peers([here.node])
        await asyncio.Event().wait()


async def test_a_node_that_the_cluster_refuses_ends(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await refused(tmp_path)
    assert caught.group_contains(Conflict, match="exists already")


async def test_a_managers_agent_speaks_to_its_own_node(tmp_path: Path) -> None:
    manager = Manager("m1")
    manager.first = full(assignment())
    async with manager.opened([]):
        identity = AgentIdentity(
            node_id=manager.keys.id,
            name="m1",
            role=NodeRole.MANAGER,
            cluster_id=ClusterId("cluster"),
            incarnation=1,
        )
        fake = FakeRuntime(lambda: 1_000)
        agent = Agent(
            manager.endpoint, SETTINGS, identity, [manager.peer], tmp_path, runtimes=[fake]
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(agent.run(), name="agent")
            await until(lambda: T1 in manager.statuses and manager.beats >= 6)
            assert 1 == len(manager.registered), "the session outlives several beats"
            running.cancel()


async def test_a_manager_reads_a_tasks_output(tmp_path: Path) -> None:
    async with world(tmp_path, "m1", first=full(assignment())) as here:
        (manager,) = here.managers
        await until(lambda: T1 in manager.statuses)
        here.fake.written[T1] += [
            LogLine(stream="stdout", text="one", at_ms=1),
            LogLine(stream="stdout", text="two", at_ms=2),
            LogLine(stream="stderr", text="oops", at_ms=3),
        ]
        link = manager.endpoint.accepted(here.node.id)
        assert link is not None
        wish = {"task": "t1", "follow": False, "tail": None, "since_ms": 0}
        async with link.stream(Lane.BULK, "task.logs", wish) as chunks:
            bodies = [chunk.body async for chunk in chunks]
        assert [
            {"stream": "stdout", "lines": ["one", "two"], "at_ms": 1, "times": [1, 2]},
            {"stream": "stderr", "lines": ["oops"], "at_ms": 3, "times": [3]},
        ] == bodies
        for bad, word in (
            ({"task": "t9"}, "t9"),
            ({}, "names a task"),
            ({"task": "t1", "tail": -1}, "-1"),
        ):
            with pytest.raises(Exception, match=word):
                async with link.stream(Lane.BULK, "task.logs", bad) as chunks:
                    await anext(chunks)


# --- which manager, and when to leave it ----------------------------------------------------------


def test_a_manager_tries_itself_first_and_workers_spread() -> None:
    peers = [
        Peer(name=f"m{n}", role=PeerRole.MANAGER, public_key=keys.generate().public)
        for n in range(3)
    ]
    for own in peers:
        assert own is dialing.in_order(peers, own.id)[0]
    firsts = {dialing.in_order(peers, NodeId(f"worker{n}"))[0].name for n in range(50)}
    assert {"m0", "m1", "m2"} == firsts


def test_a_whole_round_of_failures_is_followed_by_a_growing_pause() -> None:
    pauses = [dialing.pause_s(failures, 3, 0.0) for failures in range(1, 22)]
    assert [0, 0, 0.1, 0, 0, 0.2, 0, 0, 0.4] == pauses[:9]
    assert 2.0 == pauses[-1]
    assert 1.0 < dialing.pause_s(21, 3, 0.99)
    assert 2.0 == dialing.pause_s(3_000, 3, 0.0)


def test_a_session_is_dead_after_two_unanswered_beats_and_some_slack() -> None:
    beats = dialing.Beats(beat_s=1.0, answered_s=10.0)
    assert 12.5 == beats.dead_s
    assert 13.5 == evolve(beats, answered_s=11.0).dead_s


def test_an_agent_that_was_not_awake_itself_looks_for_acknowledgements_first() -> None:
    beats = dialing.Beats(beat_s=1.0, answered_s=10.0)
    assert beats == beats.awake_until(12.6), "silent, and we were awake all the time"
    late = beats.awake_until(20.0)
    assert 20.0 + dialing.LATE_S == late.dead_s
    assert late == late.awake_until(20.0 + dialing.LATE_S)
