"""A job's run: its slots filled until each has come to its end, then over.

A slot is *complete* once a task of it has completed, and has *failed* when its last task failed and
is not to be tried again. The others go on then; the run ends when none is left that may still
complete, or at its deadline. All that this needs is in rows, so it makes no difference who leads.
"""

from collections.abc import Sequence

from attrs import evolve, frozen

from meshswarm.control.dependencies import Unmet, unmet
from meshswarm.control.leaving import goes_by_ms, is_leaving
from meshswarm.control.restart import restart_of, stays_down
from meshswarm.control.slots import Slot, slots_of
from meshswarm.control.steps import keep, remove, slots_by_node
from meshswarm.control.turns import key_of
from meshswarm.control.whatif import WhatIf
from meshswarm.model.job import Run, RunPhase, RunReason
from meshswarm.model.node import NodeState
from meshswarm.model.service import RestartCondition, Service
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import CreateTask, SetDesired
from meshswarm.store.job_commands import SetRun
from meshswarm.store.view import View

MAX_QUOTED = 200
"""Characters of a failed slot's reason that the run's message quotes."""


@frozen(kw_only=True)
class Tally:
    """How a job's slots stand."""

    complete: tuple[Slot, ...]
    failed: tuple[Slot, ...]
    open: tuple[Slot, ...]
    """May still complete, in the order in which they are filled."""


def reconcile_run(whatif: WhatIf, service: Service) -> list[CreateTask]:
    """Decide what the job's slots need; returns the tasks to create that still want a node."""
    run = whatif.view.runs[service.id]
    slots = _wanted(whatif, service)
    tally = tally_of(whatif.view, service, slots)
    run = _judged(whatif, service, run, tally)
    if run != whatif.view.runs[service.id]:
        _write(whatif, run)
    if run.phase is RunPhase.FAILED:
        _stop(whatif, tally.open)
    if run.phase.is_over:
        return []
    room = service.spec.max_concurrent or len(tally.open)
    room -= sum(_is_under_way(slot) for slot in tally.open)
    drafts: list[CreateTask] = []
    held = unmet(whatif.view, service)
    for slot in tally.open:
        if len(drafts) > whatif.room:
            break  # The pass is full when these are placed; the next one sees to the rest.
        is_new = not _is_under_way(slot)
        if is_new and (room <= 0 or (held is not None and not _was_begun(slot, service))):
            continue
        _leave_drained_node(whatif, slot)
        made = keep(whatif, service, slot)
        if made is not None:
            room -= is_new
            drafts.append(made)
    for made in drafts:
        if made.node_id is not None:
            whatif.do(made)
    return [made for made in drafts if made.node_id is None]


def tally_of(view: View, service: Service, slots: Sequence[Slot]) -> Tally:
    """How these slots of the job stand."""
    complete: list[Slot] = []
    failed: list[Slot] = []
    left: list[Slot] = []
    for slot in slots:
        if is_complete(slot, service):
            complete.append(slot)
        elif why_failed(view, service, slot) is not None:
            failed.append(slot)
        else:
            left.append(slot)
    return Tally(complete=tuple(complete), failed=tuple(failed), open=tuple(left))


def is_complete(slot: Slot, service: Service) -> bool:
    """Whether a task of the job's present revision has completed in the slot."""
    return any(
        task.status.state is TaskState.COMPLETE and task.revision == service.revision
        for task in slot.dead
    )


def why_failed(view: View, service: Service, slot: Slot) -> str | None:
    """Why the slot's task failed and is not tried again; None if it may still complete."""
    if slot.latest is None or slot.live is not None or slot.stopping:
        return None
    policy = restart_of(service, view.spec_of(slot.latest).task)
    return stays_down(slot, policy, service.revision)


# --- slots --------------------------------------------------------------------------------------


def _wanted(whatif: WhatIf, service: Service) -> list[Slot]:
    """The slots that are to complete; what else there is, and earlier runs' tasks, is removed."""
    view = whatif.view
    for slot in slots_of(view.tasks_of(service.id)):
        old = [task for task in slot.tasks if task.revision != service.revision]
        remove(whatif, evolve(slot, tasks=tuple(old)))
    slots = slots_of(whatif.view.tasks_of(service.id))
    if service.spec.mode.is_global:
        wanted, unwanted = slots_by_node(whatif, service, slots)
    else:
        numbered = {slot.number: slot for slot in slots if slot.number}
        numbers = range(1, service.spec.replicas + 1)
        wanted = [numbered.get(number, Slot(number=number)) for number in numbers]
        unwanted = [slot for slot in slots if slot.number not in numbers]
    for slot in unwanted:
        remove(whatif, slot)
    return wanted


def _was_begun(slot: Slot, service: Service) -> bool:
    """Whether this run has had a task in the slot."""
    return any(task.revision == service.revision for task in slot.tasks)


def _is_under_way(slot: Slot) -> bool:
    return slot.live is not None or bool(slot.stopping)


def _leave_drained_node(whatif: WhatIf, slot: Slot) -> None:
    """Stop a task that must leave its node; one that is not to be repeated may end there, up
    to the node's deadline."""
    view, task = whatif.view, slot.live
    if task is None or not is_leaving(view, task):
        return
    by_ms = goes_by_ms(view, task)
    is_once = view.spec_of(task).task.restart.condition is RestartCondition.NONE
    if not is_once or (by_ms is not None and by_ms <= whatif.now_ms):
        whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))
    elif by_ms is not None:
        whatif.look_again(task.service_id, by_ms)


def _stop(whatif: WhatIf, slots: Sequence[Slot]) -> None:
    for slot in slots:
        for task in slot.tasks:
            if task.is_live:
                whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))


# --- the run ------------------------------------------------------------------------------------


def _judged(whatif: WhatIf, service: Service, run: Run, tally: Tally) -> Run:
    """The run as its slots show it; looks again when its deadline comes."""
    if run.phase is RunPhase.FAILED:
        return run
    reachable = [slot for slot in tally.open if not _is_out_of_reach(whatif.view, slot)]
    ended = len(tally.complete) + len(tally.failed)
    counted = evolve(run, completed=len(tally.complete), failed=len(tally.failed))
    if run.phase is RunPhase.COMPLETE:
        # A node that came, or came back: a global job runs there as well.
        goes_on = evolve(counted, phase=RunPhase.RUNNING, reason=RunReason.NONE, message="")
        return goes_on if reachable else counted
    if not reachable and (ended or not service.spec.mode.is_global):
        return _over(whatif.view, service, counted, tally)
    held = _never_begins(whatif.view, service, run, tally)
    if held is not None:
        failed = evolve(counted, phase=RunPhase.FAILED, reason=RunReason.DEPENDENCY)
        return evolve(failed, message=f"it {held.message}")
    deadline_s = service.spec.active_deadline_s
    if deadline_s is None:
        return counted
    deadline_ms = run.started_at_ms + round(deadline_s * 1_000)
    if deadline_ms > whatif.now_ms:
        whatif.look_again(service.id, deadline_ms)
        return counted
    message = (
        f"not complete after {deadline_s:g} s, its deadline: "
        f"{len(tally.complete)} of {ended + len(tally.open)} slots were"
    )
    return evolve(counted, phase=RunPhase.FAILED, reason=RunReason.DEADLINE, message=message)


def _never_begins(view: View, service: Service, run: Run, tally: Tally) -> Unmet | None:
    """What keeps a job's run from beginning for good: were it waited for, the job would not fire
    any more. A service that runs once is its user's to repair."""
    if run.job_id is None or any(slot.tasks for slot in (*tally.complete, *tally.open)):
        return None
    held = unmet(view, service)
    return held if held is not None and held.is_hopeless else None


def _is_out_of_reach(view: View, slot: Slot) -> bool:
    """Whether the slot is a node that is not ready, so that nothing comes of waiting for it."""
    return slot.node_id is not None and view.nodes[slot.node_id].state is not NodeState.READY


def _over(view: View, service: Service, run: Run, tally: Tally) -> Run:
    total = len(tally.complete) + len(tally.failed)
    if not tally.failed:
        message = f"{run.completed} of {total} slots are complete"
        return evolve(run, phase=RunPhase.COMPLETE, reason=RunReason.DONE, message=message)
    first = tally.failed[0]
    why = (why_failed(view, service, first) or "")[:MAX_QUOTED]
    message = f"{run.failed} of {total} slots failed: {service.spec.name}.{key_of(first)}: {why}"
    return evolve(run, phase=RunPhase.FAILED, reason=RunReason.TASKS_FAILED, message=message)


def _write(whatif: WhatIf, run: Run) -> None:
    whatif.do(
        SetRun(
            service_id=run.service_id,
            edition=run.edition,
            phase=run.phase,
            reason=run.reason,
            message=run.message,
            completed=run.completed,
            failed=run.failed,
        )
    )
