"""Which tasks leave their nodes, and when: drained nodes are emptied, rebalanced tasks move.

A task that works is given up only when its successor works elsewhere (start-first), or within what
its service lets be missing: a service that stops first by its policy has one task moved at a time,
or `max_unavailable` of them. What finds no other node stays where it is, and so does what nothing
would replace; at a drained node's deadline all of them go regardless.
"""

from collections.abc import Sequence

from attrs import frozen

from meshswarm.control.preempt import budget_of
from meshswarm.control.schedule import why_nowhere
from meshswarm.control.slots import Slot
from meshswarm.control.whatif import WhatIf
from meshswarm.model.node import Availability
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import RestartCondition, Service
from meshswarm.model.task import Task
from meshswarm.store.view import View


@frozen(kw_only=True)
class Move:
    """A slot whose task is to leave now."""

    slot: Slot
    start_first: bool


def is_leaving(view: View, task: Task) -> bool:
    """Whether the live task is to be replaced elsewhere."""
    if task.node_id is None:
        return False
    node = view.nodes.get(task.node_id)
    return task.leaves or (node is not None and node.availability is Availability.DRAIN)


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
        self._name = service.spec.name
        budget = budget_of(whatif.view, service)
        self._stops_first = policy.order is UpdateOrder.STOP_FIRST and budget >= 1
        most: float = policy.parallelism or service.spec.replicas
        if self._stops_first:
            most = 1 if service.spec.max_unavailable is None else budget + under_way
        self._left = most - under_way
        self._obstacles: dict[int, str] = {}

    def move(self, slot: Slot, task: Task) -> Move | None:
        """The slot's move; None: not now."""
        if self._left < 1 or obstacle(self._whatif.view, slot):
            return None
        if self._nowhere(task.revision):
            return None
        self._left -= 1
        start_first = task.is_healthy and (task.leaves or not self._stops_first)
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

    Nothing would replace it: it is let come to its end.
    """
    task = slot.live
    if task is None:
        return ""
    if view.spec_of(task).task.restart.condition is RestartCondition.NONE:
        return "nothing would replace it (its restart condition is none), so it is let end"
    return ""
