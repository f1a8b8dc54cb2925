"""How much agents may be given before they are heard: a leader places faster than a thousand agents
start, and what it is told of them, their beats included, would queue up behind what it tells them.
"""

from collections.abc import Sequence

from meshswarm.ids import TaskId
from meshswarm.model.task import TaskState
from meshswarm.store.commands import AssignTask, CreateTask, Simple
from meshswarm.store.view import View

MAX_UNHEARD = 3_000
"""Tasks that were given to agents which have not said a word of them yet."""

UNHEARD_MS = 5_000
"""Whatever was given longer ago does not count: its node is dead, or will soon be found so."""


class Pacing:
    """The tasks that one leader gave to agents of late."""

    def __init__(self) -> None:
        self._given: set[TaskId] = set()

    def note(self, commands: Sequence[Simple]) -> None:
        """These were committed."""
        for command in commands:
            if isinstance(command, CreateTask | AssignTask) and command.node_id is not None:
                self._given.add(command.task_id)

    def is_ahead(self, view: View, now_ms: int) -> bool:
        """Whether agents have enough to begin with for now."""
        if len(self._given) <= MAX_UNHEARD:
            return False
        after_ms = now_ms - UNHEARD_MS
        rows = (view.tasks.get(task_id) for task_id in self._given)
        self._given = {
            task.id
            for task in rows
            if task is not None
            and task.status.state is TaskState.ASSIGNED
            and task.status.since_ms > after_ms
        }
        return len(self._given) > MAX_UNHEARD
