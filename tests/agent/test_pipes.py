"""Pipes and measures as an agent serves them to managers, over real sockets on the loopback."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from attrs import frozen

from meshswarm import codec
from meshswarm.agent.pipes import INPUT, MAX_PIPES, METHOD, Pipes
from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.agent.runtimes.fake_pipe import FakePipe
from meshswarm.agent.stats import host_busy_ns, host_memory, measured, serve_stats
from meshswarm.answers import TaskStats
from meshswarm.errors import Conflict, Invalid, MeshswarmError, NotFound, Unavailable
from meshswarm.ids import TaskId
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, PeerRole
from meshswarm.mesh.requests import Chunk, Reply
from meshswarm.model.pipe import PIECE_BYTES, PipeKind, PipeWish, WindowSize
from meshswarm.model.task import Reason
from tests.agent.cards import assignment
from tests.mesh.meeting import meet

T1 = TaskId("t1")
TIMEOUT_S = 10.0
CAT = PipeWish(kind=PipeKind.RUN, argv=("cat",), has_input=True)


@frozen(eq=False)
class Desk:
    """A manager's link to an agent with one task, and what that runs it with."""

    link: Link
    fake: FakeRuntime

    @asynccontextmanager
    async def pipe(
        self, name: str = "p", task: str = "t1", wish: PipeWish = CAT
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """An open pipe, after its first chunk."""
        body = {"pipe": name, "task": task, "wish": codec.unstructure(wish)}
        async with self.link.stream(Lane.BULK, METHOD, body) as chunks:
            assert Chunk() == await anext(chunks)
            yield chunks

    async def put(
        self, data: bytes = b"", *, last: bool = False, size: Sequence[int] | None = None
    ) -> Reply:
        """Send a piece of input."""
        body = ["p", last, size]
        return await self.link.call(Lane.BULK, INPUT, body, (data,), timeout_s=TIMEOUT_S)


@asynccontextmanager
async def desk(role: PeerRole = PeerRole.MANAGER) -> AsyncIterator[Desk]:
    fake = FakeRuntime(lambda: 1_000)
    await fake.prepare(assignment())
    await fake.start(T1)
    async with meet(role=role) as meeting:
        Pipes(meeting.server, lambda task_id: fake if fake.board.look(task_id) else None)
        serve_stats(meeting.server, [fake])
        yield Desk(meeting.link, fake)


async def test_output_and_exit_come_as_chunks_and_input_by_calls() -> None:
    async with desk() as at, at.pipe() as chunks:
        assert Reply(True) == await at.put(b"hello", size=[30, 100])
        assert Reply(True) == await at.put(last=True)
        assert [
            Chunk("stdout", (b"hello",)),
            Chunk({"exit": 0}),
        ] == [chunk async for chunk in chunks]
        (pipe,) = at.fake.pipes
        assert [WindowSize(rows=30, columns=100)] == pipe.windows
        assert CAT == pipe.wish
        assert Reply(True) == await at.put(b"late"), "its end is on the way already"


async def test_input_that_finds_no_room_is_to_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshswarm.agent.pipes.ROOM_S", 0.0)
    monkeypatch.setattr(FakePipe, "room", lambda _: asyncio.Event().wait())
    async with desk() as at, at.pipe():
        assert Reply(False) == await at.put(b"hello")


async def test_a_pipe_that_nobody_reads_any_more_is_closed() -> None:
    async with desk() as at:
        for _ in range(MAX_PIPES + 3):
            async with at.pipe():
                pass
        async with at.pipe() as chunks:
            await at.put(last=True)
            assert Chunk({"exit": 0}) == await anext(chunks)


async def test_pipes_are_bounded_and_have_one_name_each() -> None:
    async with desk() as at, AsyncExitStack() as stack:
        await stack.enter_async_context(at.pipe())
        with pytest.raises(Conflict, match="open already"):
            async with at.pipe():
                raise AssertionError("there are two of that name")
        for number in range(MAX_PIPES - 1):
            await stack.enter_async_context(at.pipe(str(number)))
        with pytest.raises(Unavailable, match="32 pipes are open"):
            async with at.pipe("more"):
                raise AssertionError("there are too many")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({}, Invalid, "a wish"),
        ({"pipe": "p", "task": "t1", "wish": {"kind": "run"}}, MeshswarmError, "needs a command"),
        ({"pipe": "p", "task": "t1", "wish": {"kind": "read"}}, MeshswarmError, "needs a path"),
        ({"pipe": "p", "task": "t1", "wish": {"kind": "fly"}}, MeshswarmError, "fly"),
        (
            {"pipe": "p", "task": "t9", "wish": {"kind": "run", "argv": ["cat"]}},
            NotFound,
            "holds nothing of task t9",
        ),
    ],
)
async def test_what_is_no_pipe_is_refused(
    body: object, kind: type[MeshswarmError], words: str
) -> None:
    async with desk() as at:
        with pytest.raises(kind, match=words):
            async with at.link.stream(Lane.BULK, METHOD, body) as chunks:
                await anext(chunks)


@pytest.mark.parametrize(
    ("body", "data"),
    [(["p"], b""), (["p", False, None], b"x" * (PIECE_BYTES + 1)), (["p", False, [1]], b"")],
)
async def test_what_is_no_input_is_refused(body: object, data: bytes) -> None:
    async with desk() as at, at.pipe():
        with pytest.raises(Invalid):
            await at.link.call(Lane.BULK, INPUT, body, (data,), timeout_s=TIMEOUT_S)


async def test_a_runtime_that_opens_no_pipe_says_why() -> None:
    async with desk() as at:
        at.fake.fail("pipe", Reason.START_FAILED, "the moon is full")
        with pytest.raises(MeshswarmError, match="the moon is full"):
            async with at.pipe():
                raise AssertionError("it failed")


async def test_clients_do_not_speak_to_agents_past_the_managers() -> None:
    async with desk(PeerRole.CLIENT) as at:
        with pytest.raises(MeshswarmError, match="not for the client"):
            async with at.pipe():
                raise AssertionError("it was let in")


# --- measures -------------------------------------------------------------------------------------


async def test_an_agent_measures_what_runs_and_leaves_out_what_cannot_be_measured() -> None:
    async with desk() as at:
        await at.fake.prepare(assignment("t2"))
        reply = await at.link.call(Lane.BULK, "task.stats", {}, timeout_s=TIMEOUT_S)
        assert isinstance(reply.body, dict)
        assert {"t1": {"cpu_ns": 0, "memory_bytes": 0, "pids": 1}} == reply.body["tasks"]
        told = await measured([at.fake])
        assert {"t1": TaskStats(cpu_ns=0, memory_bytes=0, pids=1)} == told.tasks
        assert 0 < told.memory_used_bytes < told.memory_bytes
        at.fake.fail("stats", Reason.RUNTIME_UNAVAILABLE)
        assert {} == (await measured([at.fake])).tasks


def test_host_measures_are_read_as_the_kernel_writes_them() -> None:
    assert 70 * 10_000_000 == host_busy_ns("cpu  10 20 30 1000 500 1 2 7 90 90\ncpu0 1\n")
    text = "MemTotal:       2048 kB\nMemFree: 1 kB\nMemAvailable:   512 kB\n"
    assert (2 << 20, 512 << 10) == host_memory(text)
