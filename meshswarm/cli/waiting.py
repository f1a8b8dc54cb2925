"""What a rollout still lacks, slot by slot. Pure: a view in, a sentence for each slot out."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice

from attrs import Factory, frozen

from meshswarm.cli.rows import node_name
from meshswarm.control.dependencies import unmet
from meshswarm.control.leaving import why_here
from meshswarm.control.restart import restart_of
from meshswarm.control.slots import Slot, slots_of
from meshswarm.control.steps import belongs_on
from meshswarm.errors import Conflict, MeshswarmError, RolledBack
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.job import RunPhase
from meshswarm.model.node import NodeState
from meshswarm.model.rollout import Rollout, RolloutPhase, RolloutReason
from meshswarm.model.service import RestartCondition, Service, TaskSpec
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.store.files import is_as_asked
from meshswarm.store.view import View


@frozen(kw_only=True)
class Goal:
    """What is waited for: these services whole, those gone; both by full name."""

    whole: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    empty: frozenset[NodeId] = frozenset()
    """Nodes on which nothing is to run any more."""
    moved: frozenset[TaskId] = frozenset()
    """Tasks that are to run elsewhere, by others."""
    now_ms: int = 0
    """When the wait began, for words about deadlines."""
    specs: Mapping[str, TaskSpec] = Factory(dict)
    """What services are to run: one that runs another has been rolled back, or moved on."""
    is_step: bool = False
    """Whether a rollout that pauses after its step is where it should be."""
    is_restart: bool = False
    """Whether going back is a failure even though it leads to the same spec."""
    any_revision: bool = False
    """Whether slots with an older revision are as good (after scaling)."""


@frozen(kw_only=True)
class SlotProgress:
    """How far one slot has got."""

    name: str
    """`SERVICE.SLOT`, `SERVICE.NODE` of a global service, or the service's of what concerns all."""
    service: str
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
            removed = SlotProgress(
                name=name, service=name, state="removed", why=gone, is_hopeless=True
            )
            slots.append(removed)
        else:
            slots.extend(_slots_of(view, goal, service))
            slots.extend(_run_of(view, service))
            slots.extend(_rollout_of(view, goal, service))
    slots.extend(_still_on(view, goal, task) for task in _to_leave(view, goal))
    left = sorted(view.tasks.values(), key=lambda task: (task.service_name, task.slot, task.id))
    leaving = (task for task in left if task.service_name in goal.gone)
    slots.extend(_leaving(view, task) for task in leaving if not task.status.state.is_terminal)
    return tuple(slots)


def ending(view: View, goal: Goal) -> MeshswarmError | None:
    """Why it makes no sense to go on waiting for this goal; None: it does.

    A rollback is waited for first; one that does not get through is told like any other pause.
    """
    for name in sorted(goal.whole):
        service = view.service_named(name)
        run = view.runs.get(service.id) if service else None
        if run is not None and run.phase is RunPhase.FAILED:
            return MeshswarmError(f"job {name} failed: {run.message}", hint=f"meshswarm why {name}")
        rollout = view.rollouts.get(service.id) if service else None
        if service is None or rollout is None or goal.any_revision:
            continue
        phase, said = rollout.phase, rollout.message
        wanted = goal.specs.get(name, service.spec.task)
        if goal.is_step and _is_step_done(rollout):
            continue  # where it should be; others are waited for
        if phase.is_paused:
            way = f"the way back of {name}" if phase.goes_back else f"the rollout of {name}"
            hint = f"meshswarm why {name}; then meshswarm service resume {name}"
            if not phase.goes_back:
                hint += f", or meshswarm service rollback {name}"
            return MeshswarmError(f"{way} is paused: {said}", hint=hint)
        went_back = goal.is_restart and phase.goes_back
        if is_as_asked(wanted, service.spec.task) and not went_back:
            continue
        if phase is RolloutPhase.ROLLED_BACK:
            where = f"{name} was rolled back to revision {service.revision}"
            return RolledBack(f"{where}: {said}", hint=f"meshswarm service ps {name}")
        if not phase.goes_back:
            return Conflict(
                f"{name} was changed by somebody else meanwhile, to revision {service.revision}",
                hint=f"meshswarm service inspect {name}",
            )
    return None


def _is_step_done(rollout: Rollout) -> bool:
    return rollout.phase.is_paused and rollout.reason is RolloutReason.STEP_DONE


def _to_leave(view: View, goal: Goal) -> list[Task]:
    """What still runs where nothing is to, or is to move and has not."""
    found = [task for node_id in sorted(goal.empty) for task in view.tasks_on(node_id)]
    rows = (view.tasks[task_id] for task_id in sorted(goal.moved) if task_id in view.tasks)
    found += [task for task in rows if task.leaves]  # else it stays: no place is better by now
    return [task for task in found if not task.status.state.is_terminal]


def _still_on(view: View, goal: Goal, task: Task) -> SlotProgress:
    now_ms = max(goal.now_ms, view.clock_ms)
    return SlotProgress(
        name=f"{task.service_name}.{task.slot or node_name(view, task.node_id)}",
        service=task.service_name,
        state="still" if task.is_live else "stopping",
        node=node_name(view, task.node_id),
        why=why_here(view, task, now_ms) if task.is_live else "",
    )


def is_reached(slots: tuple[SlotProgress, ...]) -> bool:
    """Whether nothing is left to wait for."""
    return all(slot.is_done for slot in slots)


def _rollout_of(view: View, goal: Goal, service: Service) -> Iterator[SlotProgress]:
    """The service's rollout, as long as it is not where it should be."""
    rollout = view.rollouts.get(service.id)
    if rollout is None or goal.any_revision:
        return
    phase, wanted = rollout.phase, goal.specs.get(service.spec.name, service.spec.task)
    went_back = goal.is_restart and phase.goes_back
    is_other = not is_as_asked(wanted, service.spec.task)
    if not (rollout.is_under_way or went_back or is_other):
        return
    failed = f", {len(rollout.failed)} failed" if rollout.failed else ""
    said = f": {rollout.message}" if rollout.message else ""
    yield SlotProgress(
        name=service.spec.name,
        service=service.spec.name,
        state=phase.value.replace("_", " "),
        why=f"{rollout.well} of its slots have revision {rollout.revision} and are well"
        f"{failed}{said}",
        is_done=goal.is_step and _is_step_done(rollout),
    )


def _run_of(view: View, service: Service) -> Iterator[SlotProgress]:
    """The job's run, until it is complete."""
    run = view.runs.get(service.id)
    if run is not None and run.phase is not RunPhase.COMPLETE:
        failed = f", {run.failed} failed" if run.failed else ""
        why = run.message or f"{run.completed} of its slots are complete{failed}"
        name = service.spec.name
        yield SlotProgress(name=name, service=name, state=run.phase.value, why=why)


def _slots_of(view: View, goal: Goal, service: Service) -> Iterator[SlotProgress]:
    """What the service should have, what it lacks, and what still has to stop."""
    held = slots_of(view.tasks_of(service.id))
    if service.spec.mode.is_global:
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
        yield _slot(view, goal, service, f"{service.spec.name}.{name}", slot)
    blocked = unmet(view, service) if absent else None
    for name in absent:
        yield SlotProgress(
            name=f"{service.spec.name}.{name}",
            service=service.spec.name,
            state="missing" if blocked is None else "waiting",
            why="no task was made for it yet" if blocked is None else f"it {blocked.message}",
            is_hopeless=blocked is not None and blocked.is_hopeless,
        )
    surplus = len(kept) - service.spec.replicas
    if surplus > 0 and not service.spec.mode.is_global:
        why = f"{surplus} of {len(kept)} slots are still to be removed"
        full = service.spec.name
        yield SlotProgress(name=full, service=full, state="surplus", why=why)
    for slot in held:
        if slot not in kept:
            for task in slot.tasks:
                if not task.status.state.is_terminal:
                    yield _leaving(view, task)


def _slot(view: View, goal: Goal, service: Service, name: str, slot: Slot) -> SlotProgress:
    """The slot as its newest task shows it; done if that is whole and no other still runs."""
    newest, live = slot.latest, slot.live
    if live is not None and live.revision == service.revision and not slot.surplus:
        newest = live  # what was tried beside it has failed, and is not wanted any more
    assert newest is not None, f"slot {name} is held by a task"
    status = newest.status
    condition = restart_of(service, service.spec.task).condition
    is_job = service.spec.mode.is_job
    rollout = view.rollouts.get(service.id)
    is_enough = goal.any_revision or (goal.is_step and rollout and rollout.phase.is_paused)
    is_current = newest.revision == service.revision or bool(is_enough)
    has_completed = status.state is TaskState.COMPLETE and condition is not RestartCondition.ANY
    has_failed = status.state.is_terminal and status.state is not TaskState.COMPLETE
    others = [task for task in (*slot.stopping, *slot.surplus) if task is not newest]
    return SlotProgress(
        name=name,
        service=service.spec.name,
        state=_state(newest) if is_current else "outdated",
        node=node_name(view, newest.node_id),
        why=_why(newest, others, slot.dead, is_current=is_current),
        is_done=is_current and not others and (has_completed or (newest.is_healthy and not is_job)),
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
        service=task.service_name,
        state="stopping",
        node=node_name(view, task.node_id),
        why=task.status.message,
    )
