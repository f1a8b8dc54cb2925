"""Which of the nodes that may take a task is the best: the smallest score wins.

First of all, whatever the strategy: a node where this revision failed again and again is taken only
if no other will do; then the node that keeps most of the rules which the service would like kept.
Load is weighed by what is reserved, not by counting tasks, and against
the node's size; its name breaks ties.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from meshswarm.control.filters import is_kept
from meshswarm.control.loads import ASSUMED_MEMORY_BYTES, ASSUMED_NANO_CPUS, Load
from meshswarm.ids import NodeId
from meshswarm.model.node import Node
from meshswarm.model.placement import Strategy
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import DesiredState, Task, TaskState

FAILURES = 3
"""Recent failures of a revision on one node after which it is tried elsewhere."""

RECENT_MS = 300_000
"""How long a failure counts, from the task's creation."""

WHOLE = 1_000_000
"""All that a node has, in the shares that scores compare."""

NANO_CPUS, MEMORY_BYTES = 1_000_000_000, 1 << 30
"""What a node is taken for that does not say what it has."""

Score = tuple[int | str, ...]
"""Of one length within a strategy. The first part is the urgent one, the last two are the node's
name and id."""

URGENT = 1
"""So many parts of a score weigh more than an even spread over labels."""

MANY = 1_000
"""More than the rules that a service can wish for."""


def node_of(score: Score) -> NodeId:
    """The node whose score it is."""
    return NodeId(str(score[-1]))


class Standing:
    """How a service stands with each node while its tasks are placed, one after the other."""

    def __init__(self, spec: TaskSpec, name: str, failures: Counter[NodeId]) -> None:
        self._name = name
        self._bad = _shunned(failures)
        self._wishes = tuple(r for r in spec.placement.affinities if not r.is_required)
        self._nano_cpus = max(spec.reservations.nano_cpus, ASSUMED_NANO_CPUS)
        self._memory_bytes = max(spec.reservations.memory_bytes, ASSUMED_MEMORY_BYTES)
        self._is_spread = spec.placement.strategy is Strategy.SPREAD
        self._rank = _RANKS[spec.placement.strategy]

    def score(self, node: Node, load: Load, placed: int = 0) -> Score:
        """The node's score for one more task, when so many have been placed there beyond `load`."""
        has, node_id = node.description.resources, node.id
        more = placed + 1
        cpus = (
            (load.weighed_nano_cpus + more * self._nano_cpus)
            * WHOLE
            // (has.nano_cpus or NANO_CPUS)
        )
        memory = (
            (load.weighed_memory_bytes + more * self._memory_bytes)
            * WHOLE
            // (has.memory_bytes or MEMORY_BYTES)
        )
        urgent = 0
        if self._wishes or self._bad:
            urgent = self._urgency(node_id, load)
        name = self._name
        live = placed + (load.live_of(name) if load.stopping else load.services.get(name, 0))
        tasks = placed + load.tasks
        if self._is_spread:
            return (urgent, live, cpus + memory, tasks, node.name, node_id)
        return (urgent, *self._rank(live, cpus, memory), tasks, node.name, node_id)

    def _urgency(self, node_id: NodeId, load: Load) -> int:
        unkept = sum(not is_kept(rule, load) for rule in self._wishes)
        return (node_id in self._bad) * MANY + unkept


def _binpack(live: int, cpus: int, memory: int) -> tuple[int, ...]:
    """A node that would be full is the last: reservations may be small, or missing."""
    fullest = max(cpus, memory)
    return (fullest > WHOLE, fullest if fullest > WHOLE else -fullest)


def _balanced(live: int, cpus: int, memory: int) -> tuple[int, ...]:
    return (max(cpus, memory), abs(cpus - memory), live)


_RANKS: dict[Strategy, Callable[[int, int, int], tuple[int, ...]]] = {
    Strategy.SPREAD: lambda live, cpus, memory: (live, cpus + memory),
    Strategy.BINPACK: _binpack,
    Strategy.BALANCED: _balanced,
}
"""Of the service's tasks on a node, and the shares of its processors and its memory that would be
taken: what the strategy compares."""


def recent_failures(tasks: Iterable[Task], revision: int, now_ms: int) -> Counter[NodeId]:
    """How often the revision failed on each node of late."""
    return Counter(
        task.node_id
        for task in tasks
        if task.node_id is not None
        and task.status.state in (TaskState.FAILED, TaskState.REJECTED)
        and task.revision == revision
        and task.desired <= DesiredState.RUNNING
        and task.created_at_ms > now_ms - RECENT_MS
    )


def shunned(tasks: Iterable[Task], revision: int, now_ms: int) -> frozenset[NodeId]:
    """The nodes on which the revision failed so often of late that any other one is better."""
    return _shunned(recent_failures(tasks, revision, now_ms))


def _shunned(failures: Counter[NodeId]) -> frozenset[NodeId]:
    return frozenset(node_id for node_id, count in failures.items() if count >= FAILURES)
