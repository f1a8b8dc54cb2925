"""Where a rollout stands: failures counted, deadlines kept, and what is done when it is over.

All that this needs is in rows: the tasks, and the rollout with what was counted and when it last
got on. So it makes no difference who leads, nor since when.
"""

from collections.abc import Sequence

from attrs import evolve

from meshswarm.control.dependencies import held_since_ms, unmet
from meshswarm.control.slots import Slot
from meshswarm.control.turns import (
    Standing,
    began_ms,
    is_out_of_reach,
    key_of,
    obstacle,
    policy_of,
    standing_of,
)
from meshswarm.control.whatif import WhatIf
from meshswarm.model.node import NodeState
from meshswarm.model.rollout import (
    FailureAction,
    Rollout,
    RolloutPhase,
    RolloutReason,
    UpdatePolicy,
)
from meshswarm.model.service import RestartCondition, Service
from meshswarm.model.task import DesiredState, Health, Reason, Task, TaskState
from meshswarm.store.commands import RevertService, SetDesired, SetRollout

MAX_QUOTED = 200
"""Characters of a failed task's message that the rollout's quotes."""


def carry_on(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> None:
    """Write how far the service's rollout is, and end, pause or turn it as its policy says."""
    rollout = whatif.view.rollouts.get(service.id)
    if rollout is None or not rollout.phase.is_active:
        return
    policy = policy_of(whatif.view, service)
    failures = {
        key_of(slot): why
        for slot in slots
        if (why := _failure(whatif, service, rollout, slot)) is not None
    }
    keys = {key_of(slot) for slot in slots}
    failed = tuple(sorted(keys.intersection((*rollout.failed, *failures))))
    after = evolve(rollout, failed=failed)
    if len(failed) > policy.max_failure_ratio * len(slots):
        message = _too_many(service, policy, failed, failures, len(slots))
        if policy.failure_action is not FailureAction.CONTINUE:
            _give_up(whatif, after, policy, RolloutReason.TASKS_FAILED, message)
            return
    if after != rollout:
        # What is borne is got on from: each slot has a deadline of its own.
        after = evolve(after, progressed_at_ms=whatif.now_ms)
        _write(whatif, after)
    _take_back(whatif, service, rollout, slots)
    standing = standing_of(whatif, service, slots)
    after = _counted(whatif, after, policy, standing)
    if _is_whole(whatif, service, slots, after, standing):
        after = _completed(after, len(slots))
    elif after.slots_left == 0 and standing.outdated and not standing.busy:
        after = _after_step(after, len(standing.outdated), len(slots))
    else:
        held_ms = held_since_ms(whatif.view, service, whatif.now_ms)
        deadline_ms = max(after.progressed_at_ms, after.not_before_ms, held_ms)
        deadline_ms += round(policy.progress_deadline_s * 1_000)
        if deadline_ms <= whatif.now_ms:
            message = _stuck(whatif, service, policy, standing)
            _give_up(whatif, after, policy, RolloutReason.NO_PROGRESS, message)
            return
        whatif.look_again(service.id, deadline_ms)
    if after != whatif.view.rollouts[service.id]:
        _write(whatif, after)


def spend_turns(whatif: WhatIf, service: Service, turns: int) -> None:
    """Note that so many slots have their turn, of those that were left to a rollout by step."""
    rollout = whatif.view.rollouts.get(service.id)
    if turns and rollout is not None and rollout.slots_left is not None:
        _write(whatif, evolve(rollout, slots_left=max(0, rollout.slots_left - turns)))


# --- failures ---------------------------------------------------------------------------------


def _take_back(whatif: WhatIf, service: Service, rollout: Rollout, slots: Sequence[Slot]) -> None:
    """Stop new tasks that did not get healthy in time beside old ones that work, so that these
    stay and other slots have their turn; such slots are tried again when all others were."""
    for slot in slots:
        task = slot.live
        if task is None or not any(one.is_healthy for one in slot.surplus):
            continue
        if not is_out_of_reach(whatif, service, slot) and _is_late(whatif, service, rollout, slot):
            whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))


def _failure(whatif: WhatIf, service: Service, rollout: Rollout, slot: Slot) -> str | None:
    """How a task of this rollout has failed in the slot, in this phase; None: none has."""
    if is_out_of_reach(whatif, service, slot):
        return None
    policy = policy_of(whatif.view, service)
    for task in slot.tasks:
        if task.revision != service.revision or task.created_at_ms < rollout.since_ms:
            continue
        if task.status.state.is_terminal and _has_failed(whatif, task, policy):
            return task.status.message or task.status.reason.value or task.status.state.label
    live = slot.live
    if live is None or not _is_late(whatif, service, rollout, slot):
        return None
    said = f": {live.status.message}" if live.status.message else ""
    waited = f"it is {live.status.state.label} and not healthy"
    return f"{waited} after {policy.healthy_deadline_s:g} s{said}"


def _is_late(whatif: WhatIf, service: Service, rollout: Rollout, slot: Slot) -> bool:
    """Whether the slot's new task should be healthy by now, and is not; else looks again then."""
    live = slot.live
    if live is None or live.revision != service.revision or live.is_healthy:
        return False
    policy = policy_of(whatif.view, service)
    deadline_ms = _healthy_by_ms(whatif, rollout, slot, live, policy)
    if deadline_ms > whatif.now_ms:
        whatif.look_again(service.id, deadline_ms)
        return False
    return True


def _has_failed(whatif: WhatIf, task: Task, policy: UpdatePolicy) -> bool:
    """Whether the end of this task speaks against its revision.

    One that was stopped does not, nor one that was lost with its node, nor one that ended of itself
    long after it had begun.
    """
    status = task.status
    if task.desired > DesiredState.RUNNING or status.state is TaskState.LOST:
        return False
    if status.state is TaskState.COMPLETE:
        condition = whatif.view.spec_of(task).task.restart.condition
        if condition is not RestartCondition.ANY:
            return False
    never_well = status.health in (Health.STARTING, Health.UNHEALTHY)
    if status.started_at_ms is None or never_well or status.reason is Reason.UNHEALTHY:
        return True
    return status.since_ms - status.started_at_ms < policy.monitor_s * 1_000


def _healthy_by_ms(
    whatif: WhatIf, rollout: Rollout, slot: Slot, task: Task, policy: UpdatePolicy
) -> int:
    """Until when the task must be healthy: what it has to wait for first is not held against it."""
    specs = [whatif.view.spec_of(one).task for one in slot.tasks if one is not task]
    grace_s = max((spec.stop_grace_period_s for spec in specs), default=0.0)
    began = max(task.created_at_ms, task.not_before_ms, rollout.since_ms)
    return began + round((grace_s + policy.healthy_deadline_s) * 1_000)


def _too_many(
    service: Service,
    policy: UpdatePolicy,
    failed: Sequence[str],
    failures: dict[str, str],
    slots: int,
) -> str:
    bearable = int(policy.max_failure_ratio * slots)
    found = next(((key, failures[key]) for key in failed if key in failures), None)
    told = f": {service.spec.name}.{found[0]}: {found[1][:MAX_QUOTED]}" if found else ""
    return f"{len(failed)} of {slots} slots failed, more than the {bearable} that may{told}"


def _give_up(
    whatif: WhatIf, rollout: Rollout, policy: UpdatePolicy, reason: RolloutReason, message: str
) -> None:
    """Go back if that is wanted and there is something to go back to, else wait for a user."""
    goes_back = (
        policy.failure_action is FailureAction.ROLLBACK
        and not rollout.phase.goes_back
        and rollout.stable_revision != rollout.revision
    )
    if goes_back:
        message = f"revision {rollout.revision} was given up: {message}"
        whatif.revert(
            RevertService(
                service_id=rollout.service_id,
                edition=rollout.edition,
                reason=reason,
                message=message,
            )
        )
        return
    phase = RolloutPhase.PAUSED
    if rollout.phase.goes_back:
        phase = RolloutPhase.ROLLBACK_PAUSED
        message = f"the way back failed: {message}"
    _write(whatif, evolve(rollout, phase=phase, reason=reason, message=message))


# --- progress ---------------------------------------------------------------------------------


def _counted(whatif: WhatIf, rollout: Rollout, policy: UpdatePolicy, standing: Standing) -> Rollout:
    """The rollout with the slots that are well; one more sets its deadline and delay anew."""
    well = len(standing.well)
    if well <= rollout.well:
        return evolve(rollout, well=well)
    not_before_ms = whatif.now_ms + round(policy.delay_s * 1_000) if policy.delay_s else 0
    return evolve(rollout, well=well, progressed_at_ms=whatif.now_ms, not_before_ms=not_before_ms)


def _is_whole(
    whatif: WhatIf,
    service: Service,
    slots: Sequence[Slot],
    rollout: Rollout,
    standing: Standing,
) -> bool:
    """Whether nothing is left to do or to watch: what failed, and what no one can reach, is not
    waited for."""
    ahead = [slot for slot in standing.outdated if not _is_on_dead_node(whatif, slot)]
    if any(key_of(slot) not in rollout.failed for slot in (*ahead, *standing.busy)):
        return False
    if slots and not standing.well and not rollout.failed:
        return False  # nobody is there to say anything of it
    monitor_ms = round(policy_of(whatif.view, service).monitor_s * 1_000)
    watched_until_ms = max(
        (
            began_ms(slot.live, whatif.now_ms) + monitor_ms
            for slot in standing.well
            if slot.live is not None and slot.live.created_at_ms >= rollout.started_at_ms
        ),
        default=0,
    )
    if watched_until_ms > whatif.now_ms:
        whatif.look_again(service.id, watched_until_ms)
        return False
    return True


def _is_on_dead_node(whatif: WhatIf, slot: Slot) -> bool:
    if slot.node_id is None:
        return False
    return whatif.view.nodes[slot.node_id].state is not NodeState.READY


def _completed(rollout: Rollout, slots: int) -> Rollout:
    """The rollout as it ends; one that went back goes on saying why."""
    if rollout.phase.goes_back:
        return evolve(rollout, phase=RolloutPhase.ROLLED_BACK, slots_left=None)
    failed = f", and {len(rollout.failed)} failed on the way" if rollout.failed else ""
    return evolve(
        rollout,
        phase=RolloutPhase.COMPLETED,
        reason=RolloutReason.DONE,
        message=f"{rollout.well} of {slots} slots have revision {rollout.revision}{failed}",
        slots_left=None,
    )


def _after_step(rollout: Rollout, ahead: int, slots: int) -> Rollout:
    phase = RolloutPhase.ROLLBACK_PAUSED if rollout.phase.goes_back else RolloutPhase.PAUSED
    message = f"its step is done: {slots - ahead} of {slots} slots have revision {rollout.revision}"
    return evolve(rollout, phase=phase, reason=RolloutReason.STEP_DONE, message=message)


def _stuck(whatif: WhatIf, service: Service, policy: UpdatePolicy, standing: Standing) -> str:
    """What no progress for so long is probably due to."""
    what = f"no slot came to be well for {policy.progress_deadline_s:g} s"
    for slot in standing.busy:
        task = slot.live or slot.latest
        if task is not None:
            said = task.status.message or f"it is {task.status.state.label}"
            return f"{what}: {service.spec.name}.{key_of(slot)}: {said[:MAX_QUOTED]}"
    held = unmet(whatif.view, service, for_rollout=True)
    if held is not None:
        return f"{what}: it {held.message[:MAX_QUOTED]}"
    for slot in standing.outdated:
        against = obstacle(whatif, service, slot)
        if against:
            return f"{what}: revision {service.revision} finds no node: {against[:MAX_QUOTED]}"
    return what


def _write(whatif: WhatIf, rollout: Rollout) -> None:
    whatif.do(
        SetRollout(
            service_id=rollout.service_id,
            edition=rollout.edition,
            phase=rollout.phase,
            reason=rollout.reason,
            message=rollout.message,
            well=rollout.well,
            progressed_at_ms=rollout.progressed_at_ms,
            not_before_ms=rollout.not_before_ms,
            failed=rollout.failed,
            slots_left=rollout.slots_left,
        )
    )
