"""Start and stop order: what a service waits for before its first tasks, its rollout, or its end.

What is waited for is read off the rows of the other service. Only what is new waits: a slot's first
task, a job's new run, a rollout's next turns. What replaces a task that died never does, so a
dependency that fails later takes nothing down with it.
"""

from attrs import frozen

from meshswarm.control.restart import restart_of, stays_down
from meshswarm.control.slots import Slot, is_outdated
from meshswarm.control.steps import slots_wanted
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import ServiceId
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import RunPhase
from meshswarm.model.node import NodeState
from meshswarm.model.service import Service
from meshswarm.model.task import Health, TaskState
from meshswarm.store.view import View

_WORDS = {
    Condition.STARTED: "has started",
    Condition.HEALTHY: "is healthy",
    Condition.COMPLETED: "has completed",
}


@frozen(kw_only=True)
class Unmet:
    """A dependency that is not as it must be."""

    message: str
    """`waits until shop_db is healthy: 0 of 1 slots are`."""
    is_hopeless: bool = False
    """Whether nothing but a user will change that."""


def unmet(view: View, service: Service, *, for_rollout: bool = False) -> Unmet | None:
    """What keeps the service's first tasks from starting, or its rollout from going on.

    A rollout waits until the other service's slots have their present revision; a first task does
    so only while they are on their way to it.
    """
    for dependency in service.spec.depends_on:
        found = _unmet(view, dependency, for_rollout)
        if found is not None:
            return found
    return None


def held_since_ms(view: View, service: Service, now_ms: int) -> int:
    """Until when the service's rollout was held up by what has a deadline of its own: `now_ms` if
    it still is; 0 if it never was."""
    latest = 0
    for dependency in service.spec.depends_on:
        other = view.service_named(dependency.service)
        if other is None:
            continue
        rollout, run = view.rollouts.get(other.id), view.runs.get(other.id)
        if rollout is not None:
            latest = max(latest, now_ms if rollout.phase.is_active else rollout.since_ms)
        if run is not None and other.spec.active_deadline_s is not None:
            latest = max(latest, now_ms if run.ended_at_ms is None else run.ended_at_ms)
    return latest


def _unmet(view: View, dependency: Dependency, for_rollout: bool) -> Unmet | None:
    name, condition = dependency.service, dependency.condition
    until = f"waits until {name} {_WORDS[condition]}"
    other = view.service_named(name)
    if other is None:
        is_missed = dependency.is_required
        return Unmet(message=f"{until}: there is no such service") if is_missed else None
    run = view.runs.get(other.id)
    if run is not None and condition is Condition.COMPLETED:
        if run.phase is RunPhase.COMPLETE:
            return None
        has_failed = run.phase is RunPhase.FAILED
        if has_failed and not dependency.is_required:
            return None
        how = "has failed" if has_failed else "is running"
        return Unmet(
            message=f"{until}: it {how}, with {run.completed} slots complete",
            is_hopeless=has_failed,
        )
    slots = slots_wanted(view, other)
    reached = [slot for slot in slots if not _is_out_of_reach(view, slot)]
    missing = [slot for slot in reached if not _is_met(view, other, slot, condition, for_rollout)]
    if slots and not reached:
        missing = slots
    if not missing:
        return None
    if not dependency.is_required and any(_is_failing(view, other, slot) for slot in missing):
        return None
    rollout = view.rollouts.get(other.id)
    is_paused = for_rollout and rollout is not None and rollout.phase.is_paused
    is_paused &= any(is_outdated(slot, other) for slot in missing)
    paused = f"; its rollout is paused: `meshswarm service resume {name}`" if is_paused else ""
    return Unmet(
        message=f"{until}: {len(slots) - len(missing)} of {len(slots)} slots are so far{paused}",
        is_hopeless=is_paused or any(_ended_for_good(view, other, slot) for slot in missing),
    )


def _is_out_of_reach(view: View, slot: Slot) -> bool:
    """Whether nobody can tell when the slot will be so far: its node is not ready, or none takes
    its task. Such a slot is waited for only if all are so."""
    if slot.node_id is not None:
        return view.nodes[slot.node_id].state is not NodeState.READY
    return slot.live is not None and slot.live.node_id is None


def _is_met(
    view: View, other: Service, slot: Slot, condition: Condition, for_rollout: bool
) -> bool:
    rollout = view.rollouts.get(other.id)
    must_be_current = for_rollout or other.spec.mode.is_job
    must_be_current |= rollout is not None and rollout.phase.is_active
    tasks = [task for task in slot.tasks if not must_be_current or task.revision == other.revision]
    match condition:
        case Condition.STARTED:
            return any(
                task.status.state is TaskState.COMPLETE
                or (task.is_live and task.status.state is TaskState.RUNNING)
                for task in tasks
            )
        case Condition.HEALTHY:
            return any(task.is_live and task.is_healthy for task in tasks)
        case Condition.COMPLETED:
            return any(task.status.state is TaskState.COMPLETE for task in tasks)


def _is_failing(view: View, other: Service, slot: Slot) -> bool:
    """Whether the slot is not well and has shown so: it is not waited for if it need not be."""
    task = slot.live
    if task is None:
        return slot.latest is not None
    return task.attempt > 0 or task.node_id is None or task.status.health is Health.UNHEALTHY


def _ended_for_good(view: View, other: Service, slot: Slot) -> bool:
    if slot.latest is None or slot.live is not None or slot.stopping:
        return False
    policy = restart_of(other, view.spec_of(slot.latest).task)
    return stays_down(slot, policy, other.revision) is not None


# --- the end ------------------------------------------------------------------------------------


def is_still_needed(whatif: WhatIf, service_id: ServiceId, name: str) -> bool:
    """Whether a removed service must run on, because one that depends on it is being removed too
    and has not stopped."""
    view = whatif.view
    if whatif.leaving is None:
        whatif.leaving = _leaving(view)
    return any(
        not view.tasks[task_id].status.state.is_terminal
        for other in whatif.leaving.get(name, ())
        if other != service_id
        for task_id in view.tasks_by_service.get(other, ())
    )


def _leaving(view: View) -> dict[str, list[ServiceId]]:
    found: dict[str, list[ServiceId]] = {}
    for service_id in view.tasks_by_service:
        if service_id not in view.services:
            for name in _needed_by(view, service_id):
                found.setdefault(name, []).append(service_id)
    return found


def _needed_by(view: View, service_id: ServiceId) -> set[str]:
    """The names of what a removed service's tasks depended on."""
    numbered = view.revisions.get(service_id)
    revisions = numbered.values() if numbered is not None else ()
    return {one.service for revision in revisions for one in revision.depends_on}
