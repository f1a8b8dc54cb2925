"""Which tasks would be better placed elsewhere, once nodes have come or returned: a plan, no more.

Two kinds of shifts are worth a task's move. One evens out a service over its labels and nodes
where it has two more tasks on one than on another; the other moves a task to a node that would
then be less used than its own is now, where its service is none the worse for it. The first kind
lessens how uneven services are, the second leaves that alone and lessens how uneven nodes are: so
plans come to an end, however often they are made and carried out. The scheduler chooses by the
same order, so it takes successors where the plan says, or where it is better still.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from attrs import frozen

from meshswarm.control.filters import filters_by_load, first_refusal, suits, value_of
from meshswarm.control.leaving import is_leaving, runs_alone, shunned_by
from meshswarm.control.loads import Load, More, more_of
from meshswarm.control.score import MEMORY_BYTES, NANO_CPUS, WHOLE
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.placement import Strategy
from meshswarm.model.service import Mode, RestartCondition, Service
from meshswarm.model.task import Task
from meshswarm.store.commands import MoveTasks
from meshswarm.store.view import View

MOST_SHIFTS = 500
"""Shifts of one plan; the next plan says the rest."""

CALM_MS = 30_000
"""For how long nodes must have been ready before tasks are moved to them unasked."""

EVERY_MS, SERVICES_LOOKED_AT, MOST_UNASKED = 2_000, 50, 10
"""How often so many services are looked at unasked, and how many tasks are moved at most before
all of these have moved."""


@frozen(kw_only=True)
class Shift:
    """A task that would move."""

    task_id: TaskId
    service: str
    slot: int
    source: NodeId
    target: NodeId


def plan(
    view: View, now_ms: int, service_ids: Iterable[ServiceId] | None = None
) -> tuple[Shift, ...]:
    """The shifts that even the cluster out, of these services (None: all), in order.

    Services that pack, are being rolled out, have a task that does not work, or none that may run
    twice (`stop_after`), are left alone.
    """
    whatif = WhatIf(view, now_ms)
    chosen = sorted(view.services if service_ids is None else service_ids)
    services = [view.services[i] for i in chosen if i in view.services]
    boards = [board for one in services if (board := _board(whatif, one)) is not None]
    found: list[Shift] = []
    loads = _Loads(whatif)
    for uneven in (_Board.uneven, _Board.lighter):
        for board in boards:
            while len(found) < MOST_SHIFTS and (pair := uneven(board, loads)) is not None:
                found.append(board.shift(loads, *pair))
    return tuple(found)


def _board(whatif: WhatIf, service: Service) -> "_Board | None":
    """The service's board; None if it is to be left alone."""
    view, spec = whatif.view, service.spec.task
    rollout = view.rollouts.get(service.id)
    is_rolled_out = rollout is not None and (rollout.phase.is_active or rollout.phase.is_paused)
    can_move = spec.restart.condition is not RestartCondition.NONE
    if service.spec.mode is not Mode.REPLICATED or is_rolled_out or not can_move:
        return None
    if spec.placement.strategy is not Strategy.SPREAD or runs_alone(service, spec):
        return None
    tasks = [task for task in view.tasks_of(service.id) if not task.status.state.is_terminal]
    is_settled = all(
        task.is_live and task.is_healthy and not is_leaving(view, task) for task in tasks
    )
    if not is_settled or len(tasks) != service.spec.replicas:
        return None
    suited = suits(spec)
    targets = {n.id for n in whatif.candidates(spec) if suited is None or suited(n)}
    targets -= shunned_by(whatif, service)
    return _Board(service, tasks, view.nodes, frozenset(targets))


def used_of(node: Node, nano_cpus: int, memory_bytes: int) -> int:
    """How much of a node so much is, as the scheduler's spread weighs it; rounded, so that the
    share of a sum is not the sum of the shares."""
    has = node.description.resources
    cpus = nano_cpus * WHOLE // (has.nano_cpus or NANO_CPUS)
    return cpus + memory_bytes * WHOLE // (has.memory_bytes or MEMORY_BYTES)


def is_calm(view: View, now_ms: int, calm_ms: int = CALM_MS) -> bool:
    """Whether it is the time to move tasks unasked: nothing moves already, and what nodes there are
    have been ready for a while. One that comes and goes is not worth a move."""
    if any(task.leaves and task.is_live for task in view.tasks.values()):
        return False
    return all(
        node.state is NodeState.DOWN
        or (node.state is NodeState.READY and node.since_ms <= now_ms - calm_ms)
        for node in view.nodes.values()
    )


class Rounds:
    """Which services a leader evens out next, unasked: a few at a time, now and then, when all is
    calm. A new leader begins with the first ones again."""

    def __init__(self, calm_ms: int = CALM_MS) -> None:
        self._calm_ms = calm_ms
        self._left: list[ServiceId] = []
        self._next_ms = 0

    def next(self, view: View, now_ms: int, clock_ms: int) -> MoveTasks | None:
        """The tasks to move now; `now_ms` is log time, `clock_ms` some clock that only goes on."""
        if clock_ms < self._next_ms or not is_calm(view, now_ms, self._calm_ms):
            return None
        self._next_ms = clock_ms + EVERY_MS
        if not self._left:
            self._left = sorted(view.services, reverse=True)
        taken = [self._left.pop() for _ in range(min(SERVICES_LOOKED_AT, len(self._left)))]
        shifts = plan(view, now_ms, taken)[:MOST_UNASKED]
        return MoveTasks(task_ids=tuple(one.task_id for one in shifts)) if shifts else None


class _Loads:
    """The nodes' loads as the plan changes them."""

    def __init__(self, whatif: WhatIf) -> None:
        self._whatif = whatif
        self._changed: dict[NodeId, Load] = {}
        self._less: dict[NodeId, tuple[int, int]] = {}

    def of(self, node_id: NodeId) -> Load:
        """The node's load with what comes to it; what goes is still there when that starts."""
        return self._changed.get(node_id) or self._whatif.load_of(node_id)

    def used(self, node_id: NodeId, more: More | None = None) -> int:
        """How much of the node is used when all that was planned is done, and one more has come."""
        load, (nano_cpus, memory_bytes) = self.of(node_id), self._less.get(node_id, (0, 0))
        return used_of(
            self._whatif.view.nodes[node_id],
            load.weighed_nano_cpus - nano_cpus + (more.weighed_nano_cpus if more else 0),
            load.weighed_memory_bytes - memory_bytes + (more.weighed_memory_bytes if more else 0),
        )

    def note(self, more: More, source: NodeId, target: NodeId) -> None:
        """One such task goes from one node to the other."""
        nano_cpus, memory_bytes = self._less.get(source, (0, 0))
        self._less[source] = (
            nano_cpus + more.weighed_nano_cpus,
            memory_bytes + more.weighed_memory_bytes,
        )
        self._changed[target] = self.of(target).plus(more)


class _Board:
    """One service's tasks by node, and the nodes that may have more."""

    def __init__(
        self,
        service: Service,
        tasks: Sequence[Task],
        nodes: Mapping[NodeId, Node],
        suited: Collection[NodeId],
    ) -> None:
        self._service, self._nodes = service, nodes
        self._more = more_of(service.spec.task, service.spec.name)
        self._movable: dict[NodeId, list[Task]] = {}
        self._counts: Counter[NodeId] = Counter()
        for task in sorted(tasks, key=lambda task: task.slot):
            if task.node_id in nodes and task.node_id is not None:
                self._movable.setdefault(task.node_id, []).append(task)
                self._counts[task.node_id] += 1
        values = [value_of(label) for label in service.spec.task.placement.spread_over]
        shown = set(suited) | set(self._counts)
        self._paths = {i: tuple(value(nodes[i]) for value in values) for i in sorted(shown)}
        self._suited = suited
        self._depth = len(values)

    def uneven(self, loads: _Loads) -> tuple[NodeId, NodeId] | None:
        """Source and target of a shift that makes the service more even; None: it is even."""
        for depth in range(self._depth + 1):
            for group in self._groups(depth):
                pair = self._pair(loads, depth, group, least=2)
                if pair is not None:
                    return pair
        return None

    def lighter(self, loads: _Loads) -> tuple[NodeId, NodeId] | None:
        """Source and target of a shift that only makes the nodes more even."""
        for group in self._groups(self._depth):
            pair = self._pair(loads, self._depth, group, least=1)
            if pair is not None:
                return pair
        return None

    def shift(self, loads: _Loads, source: NodeId, target: NodeId) -> Shift:
        """Note the shift of a task: of those on a node the last slot's goes first."""
        task = self._movable[source].pop()
        self._counts[source] -= 1
        self._counts[target] += 1
        loads.note(self._more, source, target)
        return Shift(
            task_id=task.id,
            service=self._service.spec.name,
            slot=task.slot,
            source=source,
            target=target,
        )

    def _groups(self, depth: int) -> list[list[NodeId]]:
        """The nodes that the labels before this depth do not tell apart."""
        found: dict[tuple[str, ...], list[NodeId]] = {}
        for node_id, path in self._paths.items():
            found.setdefault(path[:depth], []).append(node_id)
        return [found[key] for key in sorted(found)]

    def _pair(
        self, loads: _Loads, depth: int, group: list[NodeId], least: int
    ) -> tuple[NodeId, NodeId] | None:
        """The fullest and the emptiest of the group, by label value or by node, if their numbers
        of tasks differ by `least`; by 1 only if the emptier is the less used one, then too."""
        counted: Counter[object] = Counter()
        for node_id in group:
            counted[self._branch(node_id, depth)] += self._counts[node_id]
        sources = [i for i in group if self._movable.get(i)]
        sources.sort(
            key=lambda i: (-counted[self._branch(i, depth)], -self._counts[i], -loads.used(i), i)
        )
        targets = [i for i in group if i in self._suited]
        targets.sort(
            key=lambda i: (counted[self._branch(i, depth)], self._counts[i], loads.used(i), i)
        )
        for source in sources[:1]:
            for target in targets:
                gap = counted[self._branch(source, depth)] - counted[self._branch(target, depth)]
                if gap < least:
                    return None
                if gap == 1 and loads.used(target, self._more) >= loads.used(source):
                    continue
                if self._takes(loads, target):
                    return source, target
        return None

    def _branch(self, node_id: NodeId, depth: int) -> object:
        return self._paths[node_id][depth] if depth < self._depth else node_id

    def _takes(self, loads: _Loads, node_id: NodeId) -> bool:
        spec, name = self._service.spec.task, self._service.spec.name
        node = self._nodes[node_id]
        if first_refusal(filters_by_load(spec), node, spec, loads.of(node_id), name) is not None:
            return False
        return not spec.placement.max_skew or not self._depth or self._stays_even(node_id)

    def _stays_even(self, node_id: NodeId) -> bool:
        """Whether one more task there keeps to the limit of the skew, as the scheduler counts it:
        the task that leaves is still where it was."""
        tasks = Counter(dict.fromkeys((self._paths[one][0] for one in self._suited), 0))
        for one, path in self._paths.items():
            if path[0] in tasks:
                tasks[path[0]] += self._counts[one]
        most = self._service.spec.task.placement.max_skew
        return tasks[self._paths[node_id][0]] + 1 - min(tasks.values()) <= most
