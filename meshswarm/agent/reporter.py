"""Brings statuses to the managers: the latest of each task, repeated until acknowledged."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from meshswarm.errors import MeshswarmError, Unavailable
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.store.commands import ReportTasks, TaskReport

log = logging.getLogger(__name__)

MAX_PENDING = 10_000
"""Tasks with an unacknowledged status; beyond that the oldest is dropped, and said again in the
next session."""

MAX_BATCH = 200
"""Statuses in one proposal."""

LINGER_S = 0.05
"""A status on the way to running is held back so long: the next one usually replaces it."""

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0


class Reporter:
    """`propose` carries a command to the cluster, and raises `Unavailable` if it could not."""

    def __init__(self, node_id: NodeId, propose: Callable[[ReportTasks], Awaitable[None]]) -> None:
        self._node_id = node_id
        self._propose = propose
        self._pending: dict[TaskId, TaskStatus] = {}
        self._news = asyncio.Event()
        self._urgent = asyncio.Event()
        self._random = random.Random()

    @property
    def pending(self) -> int:
        """Tasks whose latest status is not acknowledged."""
        return len(self._pending)

    def say(self, task_id: TaskId, status: TaskStatus) -> None:
        """Report this status instead of any earlier one of the task."""
        self._pending.pop(task_id, None)
        if len(self._pending) >= MAX_PENDING:
            dropped = next(iter(self._pending))
            del self._pending[dropped]
            log.error("dropped the status of task=%s: %d wait", dropped, MAX_PENDING)
        self._pending[task_id] = status
        self._news.set()
        if status.state >= TaskState.RUNNING:
            self._urgent.set()

    async def run(self) -> None:
        """Report until cancelled."""
        attempt = 0
        while True:
            await self._worth_sending()
            batch = dict(list(self._pending.items())[:MAX_BATCH])
            try:
                await self._propose(_command(self._node_id, batch))
                attempt = 0
            except Unavailable:
                attempt += 1
            except MeshswarmError as error:
                log.error("the cluster refuses my report: %s", error)
                attempt += 1
            if attempt:
                await asyncio.sleep(retry_delay_s(attempt, self._random.random()))
                continue
            for task_id, status in batch.items():
                if self._pending.get(task_id) == status:
                    del self._pending[task_id]

    async def _worth_sending(self) -> None:
        """Wait for a status, and if it is not urgent a little longer for a better one."""
        if not self._pending:
            self._news.clear()
            self._urgent.clear()
            await self._news.wait()
        if not any(status.state >= TaskState.RUNNING for status in self._pending.values()):
            try:
                async with asyncio.timeout(LINGER_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass


def retry_delay_s(attempt: int, chance: float) -> float:
    """Seconds before attempt + 1: 0.1 doubling up to 2, less up to a half by `chance` in [0, 1)."""
    delay_s: float = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(attempt - 1, 10))
    return delay_s * (1 - chance / 2)


def _command(node_id: NodeId, batch: dict[TaskId, TaskStatus]) -> ReportTasks:
    reports = (TaskReport(task_id=task_id, status=status) for task_id, status in batch.items())
    return ReportTasks(node_id=node_id, reports=tuple(reports))
