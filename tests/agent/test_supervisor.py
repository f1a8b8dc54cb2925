"""The supervisor with a fake runtime: real coroutines, no processes; time is what the test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm import codec
from meshswarm.agent.card import Card, Exit, Held, HeldState
from meshswarm.agent.files import FileStore
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.memory import Memory, MemoryFile
from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.agent.supervisor import Supervisor
from meshswarm.errors import Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, TaskId
from meshswarm.model.file import FileUse
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import DesiredState, Reason, TaskState, TaskStatus
from meshswarm.store.assignments import Assignment
from tests.agent.cards import NODE, assignment, full, gone, spec, upsert

T1 = TaskId("t1")
DEADLINE_S = 5.0


class Rig:
    """One node's agent without its session; `again` restarts it over the same runtime."""

    def __init__(
        self, path: Path, fake: FakeRuntime | None = None, home: Path | None = None
    ) -> None:
        self.path = path
        self.contents: dict[str, bytes] = {}
        self.root = FilesRoot(home or path, NODE)
        self.fake = fake or FakeRuntime(lambda: 1_000)
        self.said: list[tuple[TaskId, TaskStatus]] = []
        memory = MemoryFile(path / "state.cbor", ClusterId("cluster"), NODE)
        files = self.store = FileStore(self.root, self._fetch)
        self.supervisor = Supervisor({self.fake.kind: self.fake}, memory, self._say, files)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.supervisor.run(), name="supervisor")
            try:
                yield self
            finally:
                task.cancel()

    def again(self) -> "Rig":
        fake = FakeRuntime(lambda: 2_000)
        for held in self.fake.board.all():
            fake.board.put(held)
        return Rig(self.path, fake)

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait for something that a status or a call of the runtime tells."""
        async with asyncio.timeout(DEADLINE_S):
            while not is_so():  # noqa: ASYNC110 -- nothing is left to wait for but the loop
                await asyncio.sleep(0)

    async def reaches(self, state: TaskState, task_id: TaskId = T1) -> TaskStatus:
        await self.until(lambda: any(i == task_id and s.state is state for i, s in self.said))
        return next(s for i, s in reversed(self.said) if i == task_id)

    def count(self, verb: str) -> int:
        return sum(verb == done for done, _ in self.fake.calls)

    async def _fetch(self, use: FileUse) -> bytes:
        content = self.contents.get(use.source)
        if content is None:
            raise Unavailable("no manager serves this node")
        return content

    def _say(self, task_id: TaskId, status: TaskStatus) -> None:
        self.said.append((task_id, status))


async def test_a_task_runs_ends_and_is_cleared_away(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        running = await rig.reaches(TaskState.RUNNING)
        assert "fake-t1" == running.runtime_id
        rig.fake.end(T1, Exit(code=3))
        failed = await rig.reaches(TaskState.FAILED)
        assert (Reason.EXITED, 3) == (failed.reason, failed.exit_code)
        rig.supervisor.told(gone("t1"))
        await rig.until(lambda: not rig.supervisor.cards)
        assert 1 == rig.count("start")


async def test_complaint_41_a_restarted_agent_adopts_and_starts_nothing_twice(
    tmp_path: Path,
) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment(), assignment("t2", slot=2)))
        await rig.reaches(TaskState.RUNNING)
        await rig.reaches(TaskState.RUNNING, TaskId("t2"))
        rig.fake.end(TaskId("t2"), Exit(code=0))
        await rig.reaches(TaskState.COMPLETE, TaskId("t2"))
    async with rig.again().running() as second:
        await second.until(lambda: second.count("refresh"))
        assert TaskState.RUNNING is second.supervisor.cards[T1].status.state
        second.supervisor.told(full(assignment(), assignment("t2", slot=2)))
        await second.until(lambda: len(second.said) >= 2)
        states = {task_id: status.state for task_id, status in second.said}
        assert {"t1": TaskState.RUNNING, "t2": TaskState.COMPLETE} == states
        assert 0 == second.count("start")


async def test_what_ended_while_the_agent_was_away_is_said(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    rig.fake.end(T1, Exit(code=9))
    async with rig.again().running() as second:
        failed = await second.reaches(TaskState.FAILED)
        assert 9 == failed.exit_code


async def test_an_agent_alone_starts_nothing_and_stops_nothing(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    async with Rig(tmp_path, FakeRuntime(lambda: 2_000)).running() as alone:
        vanished = await alone.reaches(TaskState.FAILED)
        assert Reason.VANISHED is vanished.reason
        assert 0 == alone.count("prepare")


async def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    (tmp_path / "state.cbor").write_bytes(b"\xff torn")
    async with rig.again().running() as second:
        await second.until(lambda: T1 in second.supervisor.cards)
        second.supervisor.told(full(assignment(state=TaskState.RUNNING)))
        await second.until(lambda: second.said)
        assert TaskState.RUNNING is second.said[-1][1].state
        assert 0 == second.count("start") + second.count("stop")


async def test_the_memory_of_another_node_is_not_used(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    other = MemoryFile(tmp_path / "state.cbor", ClusterId("cluster"), NodeId("node-b"))
    assert {} == other.load()


async def test_orphans_are_stopped_once_a_manager_spoke(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    second = rig.again()
    (tmp_path / "state.cbor").unlink()
    async with second.running():
        await second.until(lambda: second.count("refresh"))
        assert 0 == second.count("stop")
        second.supervisor.told(full())
        stopped = await second.reaches(TaskState.SHUTDOWN)
        assert Reason.NODE_RETURNED is stopped.reason
        await second.until(lambda: not second.fake.board.all())


async def test_complaint_26_orphans_found_after_a_manager_spoke_are_stopped_too(
    tmp_path: Path,
) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    slow = FakeRuntime(lambda: 2_000)
    slow.fail("refresh", Reason.RUNTIME_UNAVAILABLE)
    (tmp_path / "state.cbor").unlink()
    async with Rig(tmp_path, slow).running() as second:
        second.supervisor.told(full())
        for held in rig.fake.board.all():
            slow.board.put(held)
        await second.until(lambda: not slow.board.all())
        assert 1 == second.count("stop")


async def test_a_runtime_that_does_not_answer_yet_loses_no_task(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    silent = FakeRuntime(lambda: 2_000)
    silent.fail("refresh", Reason.RUNTIME_UNAVAILABLE)
    async with Rig(tmp_path, silent).running() as second:
        second.supervisor.told(full(assignment(state=TaskState.RUNNING)))
        await second.until(lambda: second.count("refresh"))
        for held in rig.fake.board.all():
            silent.board.put(held)
        await second.until(lambda: second.count("refresh") == 2)
        assert [] == [s for _, s in second.said if s.state.is_terminal]


async def test_a_runtime_that_falls_silent_is_told_of_each_of_its_tasks(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
        rig.fake.board.note_silence("the engine does not answer")
        await rig.until(lambda: rig.said[-1][1].reason is Reason.RUNTIME_UNAVAILABLE)
        rig.fake.board.note_silence("")
        await rig.until(lambda: rig.said[-1][1].reason is Reason.NONE)
        assert {TaskState.RUNNING} == {status.state for _, status in rig.said[-2:]}


async def test_a_silent_runtime_is_told_of_the_tasks_of_an_agent_that_comes_back(
    tmp_path: Path,
) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    silent = FakeRuntime(lambda: 2_000)
    silent.fail("refresh", Reason.RUNTIME_UNAVAILABLE)
    async with Rig(tmp_path, silent).running() as second:
        silent.board.note_silence("the engine does not answer")
        second.supervisor.told(full(assignment(state=TaskState.RUNNING)))
        await second.until(
            lambda: any(s.reason is Reason.RUNTIME_UNAVAILABLE for _, s in second.said)
        )
        assert {TaskState.RUNNING} == {status.state for _, status in second.said}


async def test_a_pull_is_told_while_the_preparation_goes_on(tmp_path: Path) -> None:
    class Pulling(FakeRuntime):
        async def prepare(self, assignment: Assignment) -> Held:
            self.board.note_pull(assignment.task.id, "app:1")
            while not any(s.reason is Reason.PULLING_IMAGE for _, s in rig.said):  # noqa: ASYNC110
                await asyncio.sleep(0)
            self.board.note_pull(assignment.task.id, "")
            return await super().prepare(assignment)

    async with Rig(tmp_path, Pulling(lambda: 1_000)).running() as rig:
        rig.supervisor.told(full(assignment()))
        assert Reason.NONE is (await rig.reaches(TaskState.RUNNING)).reason


async def test_a_preparation_is_given_up_when_the_task_is_no_longer_wanted(tmp_path: Path) -> None:
    class Slow(FakeRuntime):
        async def prepare(self, assignment: Assignment) -> None:  # type: ignore[override]  # never returns
            self.calls.append(("prepare", assignment.task.id))
            await asyncio.Event().wait()

    async with Rig(tmp_path, Slow(lambda: 1_000)).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.until(lambda: rig.count("prepare"))
        rig.supervisor.told(upsert(assignment(desired=DesiredState.SHUTDOWN)))
        stopped = await rig.reaches(TaskState.SHUTDOWN)
        assert Reason.STOPPED is stopped.reason


async def test_a_successor_waits_for_its_predecessor(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
        rig.fake.stubborn.add(T1)
        rig.supervisor.told(
            upsert(
                assignment(desired=DesiredState.SHUTDOWN),
                assignment("t2", fencing=2),
            )
        )
        waits = await rig.reaches(TaskState.READY, TaskId("t2"))
        assert Reason.WAITS_FOR_PREDECESSOR is waits.reason
        rig.fake.end(T1, Exit(code=0))
        await rig.reaches(TaskState.RUNNING, TaskId("t2"))


async def test_a_runtime_that_this_node_lacks_is_named(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        runs = evolve(spec(), runtime=RuntimeKind.DOCKER, image="app")
        rig.supervisor.told(full(assignment(runs=runs)))
        await rig.until(lambda: any(s.reason is Reason.RUNTIME_UNAVAILABLE for _, s in rig.said))


async def test_a_manager_that_lags_is_not_believed(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(evolve(full(assignment()), index=Index(9)))
        await rig.reaches(TaskState.RUNNING)
        with pytest.raises(Unavailable, match="index 8"):
            rig.supervisor.told(evolve(full(), index=Index(8)))
        held = rig.fake.board.look(T1)
        assert held is not None
        assert HeldState.RUNNING is held.state


async def test_a_new_manager_is_told_what_it_does_not_know(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        running = await rig.reaches(TaskState.RUNNING)
        rig.said.clear()
        rig.supervisor.told(full(assignment(status=running)))
        rig.supervisor.told(full(assignment()))
        assert [(T1, running)] == rig.said


async def test_an_ended_supervisor_leaves_everything_running(tmp_path: Path) -> None:
    async with Rig(tmp_path).running() as rig:
        rig.supervisor.told(full(assignment()))
        await rig.reaches(TaskState.RUNNING)
    assert 0 == rig.count("stop") + rig.count("kill")
    assert (tmp_path / "state.cbor").stat().st_mode & 0o077 == 0


def test_what_is_written_is_the_memory_encoded_only_where_it_changed(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path / "state.cbor", ClusterId("cluster"), NODE)
    first = {
        f"t{number}": Card(task_id=TaskId(f"t{number}"), assignment=assignment(f"t{number}"))
        for number in range(30)
    }
    cards = {TaskId(key): card for key, card in first.items()}
    cards[TaskId("orphan")] = Card(task_id=TaskId("orphan"))
    for _ in range(2):
        memory = codec.decode(file.encoded(cards), Memory)
        assigned = [card for _, card in sorted(cards.items()) if card.assignment]
        assert [card.assignment for card in assigned] == list(memory.assignments)
        assert {card.task_id: card.status for card in assigned} == memory.statuses
        cards[T1] = evolve(cards[T1], status=TaskStatus(state=TaskState.RUNNING))
        cards.pop(TaskId("t2"), None)
    assert {} == dict(codec.decode(file.encoded({}), Memory).statuses)
