"""A node's reporter, retold: what agents see is told to the managers, many things together."""

import random
from collections.abc import Callable

from meshswarm.errors import MeshswarmError
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.sim.clock import Bell, Life, Script
from meshswarm.store.commands import ReportTasks, TaskReport

LINGER_MS = 50
RETRY_FIRST_MS, RETRY_MAX_MS = 100, 2_000


class Reporter:
    """What one run of an agent has to tell; `send` raises until a manager has taken it."""

    def __init__(
        self,
        node_id: NodeId,
        life: Life,
        rng: random.Random,
        send: Callable[[ReportTasks], Script[None]],
    ) -> None:
        self._node_id, self._life, self._rng, self._send = node_id, life, rng, send
        self._pending: dict[TaskId, TaskStatus] = {}
        self._news, self._urgent = Bell(life), Bell(life)

    def say(self, task_id: TaskId, status: TaskStatus) -> None:
        """Have this told."""
        self._pending.pop(task_id, None)
        self._pending[task_id] = status
        self._news.ring()
        if status.state >= TaskState.RUNNING:
            self._urgent.ring()

    async def report_forever(self) -> None:
        """Tell what there is, until it is heard."""
        attempt = 0
        while True:
            if not self._pending:
                self._news.clear()
                self._urgent.clear()
                await self._news.wait()
            if not any(status.state >= TaskState.RUNNING for status in self._pending.values()):
                await self._urgent.wait(LINGER_MS)
            batch = dict(self._pending)
            try:
                await self._report(batch)
                attempt = 0
            except MeshswarmError:
                attempt += 1
                delay_ms = min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** min(attempt - 1, 10))
                await self._life.sleep(round(delay_ms * (1 - self._rng.random() / 2)))
                continue
            for task_id, status in batch.items():
                if self._pending.get(task_id) == status:
                    del self._pending[task_id]

    async def _report(self, batch: dict[TaskId, TaskStatus]) -> None:
        reports = tuple(TaskReport(task_id=t, status=status) for t, status in batch.items())
        await self._send(ReportTasks(node_id=self._node_id, reports=reports))
