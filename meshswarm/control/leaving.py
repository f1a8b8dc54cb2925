"""Which tasks leave their nodes, and when: drained nodes are emptied, rebalanced tasks move.

A task that works is given up only when its successor works elsewhere (start-first), or within what
its service lets be missing: a service that stops first by its policy has one task moved at a time,
or `max_unavailable` of them. Where at most one task of a slot may run (`stop_after`) the old one
stops first. What finds no other node stays where it is, and so does what nothing would replace; at
a drained node's deadline all of them go regardless.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import frozen

from meshswarm.control.filters import filters_by_load, first_refusal, suits, value_of
from meshswarm.control.preempt import budget_of
from meshswarm.control.schedule import why_nowhere
from meshswarm.control.score import shunned
from meshswarm.control.skew import skew_of
from meshswarm.control.slots import Slot
from meshswarm.control.spans import span
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId
from meshswarm.model.node import Availability, Node
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import RestartCondition, Service, TaskSpec
from meshswarm.model.task import Task
from meshswarm.store.commands import MoveTasks
from meshswarm.store.view import View

MAX_TOLD = 5
"""Tasks that are to leave and told one by one; the rest are counted."""


@frozen(kw_only=True)
class Move:
    """A slot whose task is to leave now."""

    slot: Slot
    start_first: bool


def is_leaving(view: View, task: Task) -> bool:
    """Whether the live task is to be replaced elsewhere."""
    return task.node_id is not None and (task.leaves or _is_drained(view, task))


def _is_drained(view: View, task: Task) -> bool:
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    return node is not None and node.availability is Availability.DRAIN


def leaves(view: View, slot: Slot) -> bool:
    """Whether the slot's task is to be replaced elsewhere."""
    return slot.live is not None and is_leaving(view, slot.live)


def goes_by_ms(view: View, task: Task) -> int | None:
    """When the task goes regardless; None: it may take the time that it needs."""
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    if node is None or node.availability is not Availability.DRAIN:
        return None
    return node.drain_by_ms or None


def is_overdue(view: View, task: Task, now_ms: int) -> bool:
    """Whether the task goes regardless by now."""
    by_ms = goes_by_ms(view, task)
    return by_ms is not None and by_ms <= now_ms


def moves(
    whatif: WhatIf, service: Service, slots: Sequence[Slot], policy: UpdatePolicy, under_way: int
) -> list[Move]:
    """The slots to move now, if any; looks again when a deadline comes. `under_way` are moving."""
    found: list[Move] = []
    patient: list[tuple[Slot, Task]] = []
    for slot in slots:
        task = slot.live
        if task is None or not is_leaving(whatif.view, task) or slot.number == 0:
            continue
        by_ms = goes_by_ms(whatif.view, task)
        if by_ms is not None and by_ms <= whatif.now_ms:
            found.append(Move(slot=slot, start_first=False))
            continue
        if by_ms is not None:
            whatif.look_again(service.id, by_ms)
        patient.append((slot, task))
    patient.sort(key=lambda pair: (pair[1].is_healthy, pair[0].number))
    room = _Room(whatif, service, policy, under_way)
    for slot, task in patient:
        move = room.move(slot, task)
        if move is not None:
            found.append(move)
    return found


class _Room:
    """How many slots of a service may be moving, and which way they may."""

    def __init__(
        self, whatif: WhatIf, service: Service, policy: UpdatePolicy, under_way: int
    ) -> None:
        self._whatif = whatif
        self._service, self._name = service, service.spec.name
        budget = budget_of(whatif.view, service)
        self._stops_first = policy.order is UpdateOrder.STOP_FIRST and budget >= 1
        most: float = policy.parallelism or service.spec.replicas
        if self._stops_first:
            most = 1 if budget == float("inf") else budget + under_way
        self._left = most - under_way
        self._obstacles: dict[int, str] = {}

    def move(self, slot: Slot, task: Task) -> Move | None:
        """The slot's move; None: not now. While two tasks are live there is no third."""
        if self._left < 1 or slot.surplus or obstacle(self._whatif.view, slot):
            return None
        if _is_drained(self._whatif.view, task):
            if self._nowhere(task.revision):
                return None
        elif not is_better_elsewhere(self._whatif, self._service, task):
            self._whatif.do(MoveTasks(task_ids=(task.id,), leaves=False))
            return None
        is_alone = runs_alone(self._service, self._whatif.view.spec_of(task).task)
        if is_alone and task.is_healthy and not self._stops_first:
            return None
        self._left -= 1
        start_first = task.is_healthy and not is_alone and (task.leaves or not self._stops_first)
        return Move(slot=slot, start_first=start_first)

    def _nowhere(self, revision: int) -> str:
        """Why no other node takes a task of this revision; empty if one does."""
        if revision not in self._obstacles:
            view, service_id = self._whatif.view, self._whatif.view.service_ids[self._name]
            spec = view.revisions[service_id][revision].task
            self._obstacles[revision] = why_nowhere(self._whatif, spec, self._name)
        return self._obstacles[revision]


def obstacle(view: View, slot: Slot) -> str:
    """Why the slot's task stays until its deadline, whatever room there is; empty if it need not.

    Nothing would replace it, so it is let come to its end; or neither order of its move is allowed.
    """
    task = slot.live
    if task is None:
        return ""
    spec, service = view.spec_of(task).task, view.services.get(task.service_id)
    if spec.restart.condition is RestartCondition.NONE:
        return "nothing would replace it (its restart condition is none), so it is let end"
    if service is None or not runs_alone(service, spec):
        return ""
    if 0 in (service.spec.max_unavailable, service.spec.max_unavailable_percent):
        return "it may neither be missing (max_unavailable is 0) nor run twice (stop_after)"
    return ""


def runs_alone(service: Service, spec: TaskSpec) -> bool:
    """Whether no two tasks of a slot may run at a time: its agents fence themselves, and no user
    asked for a start beside the old task."""
    return spec.stop_after_s is not None and service.spec.update.order is UpdateOrder.STOP_FIRST


def is_better_elsewhere(whatif: WhatIf, service: Service, task: Task) -> bool:
    """Whether a node would take a successor with which the service is spread more evenly, over its
    labels first; or one on which it has fewer tasks, its labels being the same."""
    here = whatif.view.nodes.get(task.node_id) if task.node_id is not None else None
    if here is None:
        return False
    spec, name = whatif.view.spec_of(task).task, service.spec.name
    suited, checks = suits(spec), filters_by_load(spec)
    is_further, skew = _further_than(whatif, service, here), skew_of(whatif, spec, name)
    return any(
        is_further(node)
        and (suited is None or suited(node))
        and (skew is None or skew.against(node) is None)
        and first_refusal(checks, node, spec, whatif.load_of(node.id), name) is None
        for node in whatif.candidates(spec)
    )


def shunned_by(whatif: WhatIf, service: Service) -> frozenset[NodeId]:
    """The nodes that the scheduler would take last for the service: it failed there of late."""
    view = whatif.view
    tasks = (view.tasks[task_id] for task_id in view.tasks_by_service.get(service.id, ()))
    return shunned(tasks, service.revision, whatif.now_ms)


def _further_than(whatif: WhatIf, service: Service, here: Node) -> Callable[[Node], bool]:
    """Whether a task is better placed on a node than `here`, so far as spreading goes."""
    name = service.spec.name
    values = [value_of(label) for label in service.spec.task.placement.spread_over]
    counts: Counter[tuple[str, ...]] = Counter()
    for node in whatif.view.nodes.values() if values else ():
        live, path = whatif.load_of(node.id).live_of(name), _path(values, node)
        for depth in range(1, len(path) + 1):
            counts[path[:depth]] += live
    own, own_live = _path(values, here), whatif.load_of(here.id).live_of(name)

    def is_further(node: Node) -> bool:
        path = _path(values, node)
        for depth in range(1, len(path) + 1):
            if path[:depth] != own[:depth]:
                return counts[own[:depth]] - counts[path[:depth]] > 1
        return whatif.load_of(node.id).live_of(name) < own_live

    return is_further


def _path(values: Sequence[Callable[[Node], str]], node: Node) -> tuple[str, ...]:
    return tuple(value(node) for value in values)


def why_here(view: View, task: Task, now_ms: int) -> str:
    """What a task that is to leave its node waits for, as a sentence without a beginning."""
    if not task.is_live:
        return "it stops"
    siblings = (view.tasks[one] for one in view.tasks_by_service[task.service_id])
    for other in siblings:
        is_same = other.slot == task.slot and (task.slot or other.node_id == task.node_id)
        if is_same and other.is_live and other.created_at_ms > task.created_at_ms:
            node = view.nodes.get(other.node_id) if other.node_id is not None else None
            where = f"on {node.name}" if node else "without a node yet"
            return f"its successor is {other.status.state.label} {where}"
    slot = Slot(number=task.slot, tasks=(task,))
    by_ms = goes_by_ms(view, task)
    until = f"; it goes in {span(by_ms - now_ms)} regardless" if by_ms else ""
    if against := obstacle(view, slot):
        return against + until
    if task.slot == 0:
        return "it goes when all others have left the node" + until
    against = why_nowhere(WhatIf(view, now_ms), view.spec_of(task).task, task.service_name)
    return (against or "others of its service go first") + until


def tell_leaving(view: View, service: Service, now_ms: int) -> list[str]:
    """A line for each task of the service that is to leave its node, a few of them at most."""
    found = [
        task
        for task in view.tasks_of(service.id)
        if task.is_live and is_leaving(view, task) and task.node_id is not None
    ]
    lines = [
        f"{service.spec.name}.{task.slot or view.nodes[task.node_id].name} is to leave "
        f"{view.nodes[task.node_id].name}{_because(view, task)}: {why_here(view, task, now_ms)}"
        for task in found[:MAX_TOLD]
        if task.node_id is not None
    ]
    return lines + ([f"and so are {len(found) - MAX_TOLD} more"] if len(found) > MAX_TOLD else [])


def _because(view: View, task: Task) -> str:
    return ", to rebalance the cluster" if task.leaves else ", which is drained"
