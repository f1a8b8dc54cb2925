"""What a leader's decision takes away, judged on the very view on which it was made.

An entry of the log is committed a while after it was decided, and agents report meanwhile; so here
the decision is carried out at once, and looked at by rules that know nothing of how it came about.
"""

from collections.abc import Iterable

from attrs import evolve

from meshswarm.ids import Index
from meshswarm.model.node import Availability
from meshswarm.model.rollout import UpdateOrder
from meshswarm.model.service import Mode, Service
from meshswarm.model.task import DesiredState, Reason, Task
from meshswarm.sim.trace import Violation
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import Batch
from meshswarm.store.view import View

MOST_MOVED = 10
"""Tasks that are moved unasked at a time."""


def judge(before: View, batch: Batch, now_ms: int) -> None:
    """A leader wants this; raises `Violation`."""
    base = evolve(before, index=Index(before.index + 1), clock_ms=max(before.clock_ms, now_ms))
    after = apply_command(base, batch).view
    _check_moves(before, after)
    for service in before.sorted_services():
        if service.spec.mode is Mode.REPLICATED and service.id in after.services:
            _check_service(before, after, service)


def _check_moves(before: View, after: View) -> None:
    """Nobody moves many tasks at once unasked, nor further ones while some still move."""
    old = {task.id for task in before.tasks.values() if task.leaves and task.is_live}
    new = {task.id for task in after.tasks.values() if task.leaves and task.is_live} - old
    if len(new) > MOST_MOVED or (old and new):
        raise Violation(f"{len(new)} tasks are to move while {len(old)} still do")


def _check_service(before: View, after: View, service: Service) -> None:
    slots = _by_slot(after.tasks_of(service.id))
    work = {slot for slot, tasks in slots.items() if any(map(_works, tasks))}
    taken = [
        task
        for slot, tasks in slots.items()
        for task in tasks
        if slot not in work and _was_taken(before, task) and not _is_overdue(after, task)
    ]
    made_way = [task for task in taken if task.ending is Reason.PREEMPTED]
    moved = [task for task in taken if task.revision == _newest(slots[task.slot]).revision]
    policies = service.spec.update, service.spec.rollback
    if all(one.order is UpdateOrder.START_FIRST for one in policies):
        early = [
            task.name
            for task in taken
            if task not in made_way and not _is_younger(task, slots[task.slot])
        ]
        if early:
            raise Violation(f"{early} work, and are stopped before others do")
    budget = service.spec.max_unavailable
    if budget is None or not (moved or made_way):
        return
    first = [one for one in policies if one.order is UpdateOrder.STOP_FIRST]
    rollout = before.rollouts.get(service.id)
    is_rolled_out = rollout is not None and rollout.phase.is_active
    turns = max((one.parallelism or 1_000_000 for one in first), default=0)
    missing = service.spec.replicas - len(work)
    if missing > max(budget, turns if is_rolled_out else 0):
        names = [task.name for task in (*moved, *made_way)]
        raise Violation(f"{missing} slots of {service.spec.name} lack a task with {names} taken")


def _by_slot(tasks: Iterable[Task]) -> dict[int, list[Task]]:
    found: dict[int, list[Task]] = {}
    for task in tasks:
        found.setdefault(task.slot, []).append(task)
    return found


def _works(task: Task) -> bool:
    return task.is_live and task.is_healthy


def _was_taken(before: View, task: Task) -> bool:
    """Whether it works, and is told to stop now."""
    old = before.tasks.get(task.id)
    return task.desired is DesiredState.SHUTDOWN and old is not None and _works(old)


def _newest(tasks: list[Task]) -> Task:
    return max(tasks, key=lambda task: (task.created_at_ms, task.is_live, task.attempt))


def _is_younger(task: Task, slot: list[Task]) -> bool:
    """Whether an older one stays: it was on its way to a revision that has been left."""
    return any(one.is_live and one.created_at_ms < task.created_at_ms for one in slot)


def _is_overdue(view: View, task: Task) -> bool:
    """Whether it is to leave a drained node regardless."""
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    is_drained = node is not None and node.availability is Availability.DRAIN
    return is_drained and node is not None and 0 < node.drain_by_ms <= view.clock_ms
