"""What a rollout still lacks, slot by slot. Pure: a view in, a sentence for each slot out."""

from collections.abc import Iterator, Sequence
from itertools import count, islice

from attrs import frozen

from meshswarm.cli.rows import node_name
from meshswarm.control.services import belongs_on
from meshswarm.control.slots import Slot, slots_of
from meshswarm.model.node import NodeState
from meshswarm.model.service import Mode, RestartCondition, Service
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.store.view import View


@frozen(kw_only=True)
class Goal:
    """What is waited for: these services whole, those gone; both by full name."""

    whole: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


@frozen(kw_only=True)
class SlotProgress:
    """How far one slot has got."""

    name: str
    """`SERVICE.SLOT`, or `SERVICE.NODE` of a global service."""
    state: str
    node: str | None = None
    why: str = ""
    """The sentence that goes with the state."""
    is_done: bool = False
    is_hopeless: bool = False
    """It ended, and its restart policy says that it stays so."""

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node else ""
        why = f": {self.why}" if self.why else ""
        return f"{self.name} {self.state}{where}{why}"


def progress(view: View, goal: Goal) -> tuple[SlotProgress, ...]:
    """Every slot that the goal speaks of, in order."""
    slots: list[SlotProgress] = []
    for name in sorted(goal.whole):
        service = view.service_named(name)
        if service is None:
            gone = "it was removed meanwhile"
            slots.append(SlotProgress(name=name, state="removed", why=gone, is_hopeless=True))
        else:
            slots.extend(_slots_of(view, service))
    left = sorted(view.tasks.values(), key=lambda task: (task.service_name, task.slot, task.id))
    leaving = (task for task in left if task.service_name in goal.gone)
    slots.extend(_leaving(view, task) for task in leaving if not task.status.state.is_terminal)
    return tuple(slots)


def is_reached(slots: tuple[SlotProgress, ...]) -> bool:
    """Whether nothing is left to wait for."""
    return all(slot.is_done for slot in slots)


def _slots_of(view: View, service: Service) -> Iterator[SlotProgress]:
    """What the service should have, what it lacks, and what still has to stop."""
    held = slots_of(view.tasks_of(service.id))
    if service.spec.mode is Mode.GLOBAL:
        wanted = [n for n in view.sorted_nodes() if n.state is NodeState.READY]
        missing = {node.id: node.name for node in wanted if belongs_on(service, node)}
        kept = [slot for slot in held if slot.node_id in missing]
        names = [missing.pop(slot.node_id) for slot in kept if slot.node_id in missing]
        absent = sorted(missing.values())
    else:
        kept = [slot for slot in held if slot.number and not slot.is_left]
        names = [str(slot.number) for slot in kept]
        free = (n for n in count(1) if str(n) not in names)
        absent = [str(n) for n in islice(free, max(0, service.spec.replicas - len(kept)))]
    for slot, name in zip(kept, names, strict=True):
        yield _slot(view, service, f"{service.spec.name}.{name}", slot)
    for name in absent:
        why = "no task was made for it yet"
        yield SlotProgress(name=f"{service.spec.name}.{name}", state="missing", why=why)
    surplus = len(kept) - service.spec.replicas
    if surplus > 0 and service.spec.mode is Mode.REPLICATED:
        why = f"{surplus} of {len(kept)} slots are still to be removed"
        yield SlotProgress(name=service.spec.name, state="surplus", why=why)
    for slot in held:
        if slot not in kept:
            for task in slot.tasks:
                if not task.status.state.is_terminal:
                    yield _leaving(view, task)


def _slot(view: View, service: Service, name: str, slot: Slot) -> SlotProgress:
    """The slot as its newest task shows it; done if that is whole and no other still runs."""
    newest = slot.latest
    assert newest is not None, f"slot {name} is held by a task"
    status = newest.status
    condition = service.spec.task.restart.condition
    is_current = newest.revision == service.revision
    has_completed = status.state is TaskState.COMPLETE and condition is not RestartCondition.ANY
    has_failed = status.state.is_terminal and status.state is not TaskState.COMPLETE
    others = [task for task in slot.stopping if task is not newest]
    return SlotProgress(
        name=name,
        state=_state(newest) if is_current else "outdated",
        node=node_name(view, newest.node_id),
        why=_why(newest, others, slot.dead, is_current=is_current),
        is_done=is_current and not others and (newest.is_healthy or has_completed),
        is_hopeless=is_current and has_failed and condition is RestartCondition.NONE,
    )


def _state(task: Task) -> str:
    if task.status.state is not TaskState.RUNNING or task.status.health is Health.NONE:
        return task.status.state.label
    return task.status.health.value if task.is_healthy else f"running, {task.status.health.value}"


def _why(task: Task, others: Sequence[Task], dead: Sequence[Task], *, is_current: bool) -> str:
    """The task's own words; without any, those of the one whose failure led to it."""
    if not is_current:
        return f"revision {task.revision} is still to be replaced"
    if others and task.is_healthy:
        return "the task that it replaces still stops"
    said = task.status.message or task.status.reason.value.replace("_", " ")
    if said or task.is_healthy or not task.attempt or not dead:
        return said
    return f"the one before {dead[-1].status.state.label}: {dead[-1].status.message}"


def _leaving(view: View, task: Task) -> SlotProgress:
    return SlotProgress(
        name=f"{task.service_name}.{task.slot or node_name(view, task.node_id) or task.id}",
        state="stopping",
        node=node_name(view, task.node_id),
        why=task.status.message,
    )
