"""The reporter: the latest status of each task, until it is acknowledged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshswarm.agent import reporter
from meshswarm.agent.reporter import Reporter, retry_delay_s
from meshswarm.errors import Invalid, MeshswarmError, OutcomeUnknown
from meshswarm.ids import TaskId
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.store.commands import ReportTasks
from tests.agent.cards import NODE


class Cluster:
    """Takes reports, after the errors it is to raise; `gate` holds a proposal under way."""

    def __init__(self, *errors: MeshswarmError) -> None:
        self.errors = list(errors)
        self.reports: list[ReportTasks] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.reporter = Reporter(NODE, self._propose)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reporter]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.reporter.run(), name="reporter")
            yield self.reporter
            async with asyncio.timeout(5):
                while self.reporter.pending:  # noqa: ASYNC110 -- nothing tells when it is empty
                    await asyncio.sleep(0.005)
            task.cancel()

    async def _propose(self, command: ReportTasks) -> None:
        self.reports.append(command)
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)

    def states(self) -> list[list[tuple[str, TaskState]]]:
        return [[(r.task_id, r.status.state) for r in c.reports] for c in self.reports]


def status(state: TaskState) -> TaskStatus:
    return TaskStatus(state=state)


async def test_what_is_replaced_before_it_went_out_is_never_sent() -> None:
    cluster = Cluster()
    async with cluster.running() as telling:
        for state in (TaskState.PREPARING, TaskState.STARTING, TaskState.RUNNING):
            telling.say(TaskId("t1"), status(state))
            await asyncio.sleep(0)
    assert [[("t1", TaskState.RUNNING)]] == cluster.states()


async def test_what_comes_while_one_is_under_way_goes_together() -> None:
    cluster = Cluster()
    cluster.gate.clear()
    async with cluster.running() as telling:
        telling.say(TaskId("t1"), status(TaskState.RUNNING))
        async with asyncio.timeout(5):
            while not cluster.reports:  # noqa: ASYNC110 -- the proposal is under way then
                await asyncio.sleep(0)
        telling.say(TaskId("t1"), status(TaskState.FAILED))
        telling.say(TaskId("t2"), status(TaskState.RUNNING))
        cluster.gate.set()
    assert [
        [("t1", TaskState.RUNNING)],
        [("t1", TaskState.FAILED), ("t2", TaskState.RUNNING)],
    ] == cluster.states()


async def test_an_unacknowledged_status_is_sent_again() -> None:
    cluster = Cluster(OutcomeUnknown("no answer"), Invalid("no"))
    async with cluster.running() as telling:
        telling.say(TaskId("t1"), status(TaskState.RUNNING))
    assert 3 * [[("t1", TaskState.RUNNING)]] == cluster.states()


async def test_batches_and_the_table_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "MAX_PENDING", 3)
    monkeypatch.setattr(reporter, "MAX_BATCH", 2)
    cluster = Cluster()
    async with cluster.running() as telling:
        for number in range(5):
            telling.say(TaskId(f"t{number}"), status(TaskState.RUNNING))
        assert 3 == telling.pending
    assert [["t2", "t3"], ["t4"]] == [[i for i, _ in batch] for batch in cluster.states()]


def test_the_pause_grows_to_a_limit() -> None:
    assert [0.1, 0.2, 0.4] == [retry_delay_s(attempt, 0.0) for attempt in (1, 2, 3)]
    assert 2.0 == retry_delay_s(1_000, 0.0)
    assert 1.0 < retry_delay_s(1_000, 0.99) < 2.0
