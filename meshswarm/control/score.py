"""Which of the nodes that may take a task is the best: the smallest score wins.

Spread: first the node with the fewest tasks of the service, then with the fewest at all; its name
breaks ties. A node that is silent just now, or where this revision failed again and again, is
taken only if no other will do.
"""

from collections import Counter
from collections.abc import Iterable

from meshswarm.control.filters import Load
from meshswarm.ids import NodeId
from meshswarm.model.node import Node
from meshswarm.model.task import DesiredState, Task, TaskState

FAILURES = 3
"""Recent failures of a revision on one node after which it is tried elsewhere."""

RECENT_MS = 300_000
"""How long a failure counts, from the task's creation."""

Score = tuple[bool, bool, int, int, str]


class Standing:
    """How a service stands with each node while its tasks are placed, one after the other."""

    def __init__(
        self, tasks: Iterable[Task], revision: int, silent: frozenset[NodeId], now_ms: int
    ) -> None:
        self._silent = silent
        self._live: Counter[NodeId] = Counter()
        self._failures: Counter[NodeId] = Counter()
        for task in tasks:
            if task.node_id is None:
                continue
            if task.is_live:
                self._live[task.node_id] += 1
            elif task.revision == revision and _failed_recently(task, now_ms):
                self._failures[task.node_id] += 1

    def note_placed(self, node_id: NodeId) -> None:
        """The node has one more of the service's tasks."""
        self._live[node_id] += 1

    def score(self, node: Node, load: Load) -> Score:
        """The node's score for one more task."""
        return (
            node.id in self._silent,
            self._failures[node.id] >= FAILURES,
            self._live[node.id],
            load.tasks,
            node.name,
        )


def _failed_recently(task: Task, now_ms: int) -> bool:
    return (
        task.status.state in (TaskState.FAILED, TaskState.REJECTED)
        and task.desired <= DesiredState.RUNNING
        and task.created_at_ms > now_ms - RECENT_MS
    )
