"""Which of the nodes that may take a task is the best: the smallest score wins.

Spread: first the node with the fewest tasks of the service, then with the fewest at all; its name
breaks ties. A node that is silent just now, or where this revision failed again and again, is
taken only if no other will do.
"""

from collections import Counter
from collections.abc import Iterable

from attrs import frozen

from meshswarm.control.filters import Load
from meshswarm.ids import NodeId
from meshswarm.model.node import Node
from meshswarm.model.task import DesiredState, Task, TaskState

FAILURES = 3
"""Recent failures of a revision on one node after which it is tried elsewhere."""

RECENT_MS = 300_000
"""How long a failure counts, from the task's creation."""

Score = tuple[bool, bool, int, int, str]


@frozen(kw_only=True)
class Standing:
    """How a service stands with each node: its live tasks there, and its recent failures."""

    live: Counter[NodeId]
    failures: Counter[NodeId]
    silent: frozenset[NodeId]

    @staticmethod
    def of(
        tasks: Iterable[Task], revision: int, silent: frozenset[NodeId], now_ms: int
    ) -> "Standing":
        """The standing of a service with these tasks, for placing tasks of this revision."""
        live: Counter[NodeId] = Counter()
        failures: Counter[NodeId] = Counter()
        for task in tasks:
            if task.node_id is None:
                continue
            if task.is_live:
                live[task.node_id] += 1
            elif task.revision == revision and _failed_recently(task, now_ms):
                failures[task.node_id] += 1
        return Standing(live=live, failures=failures, silent=silent)

    def score(self, node: Node, load: Load) -> Score:
        """The node's score for one more task."""
        return (
            node.id in self.silent,
            self.failures[node.id] >= FAILURES,
            self.live[node.id],
            load.tasks,
            node.name,
        )


def _failed_recently(task: Task, now_ms: int) -> bool:
    return (
        task.status.state in (TaskState.FAILED, TaskState.REJECTED)
        and task.desired <= DesiredState.RUNNING
        and task.created_at_ms > now_ms - RECENT_MS
    )
