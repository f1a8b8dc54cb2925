"""A rollout, or a job's run, in sentences: where it stands, what it waits for, and what if that
never comes."""

from collections.abc import Iterator, Sequence

from meshswarm.control.dependencies import held_since_ms, unmet
from meshswarm.control.runs import tally_of
from meshswarm.control.slots import Slot
from meshswarm.control.spans import span
from meshswarm.control.turns import Standing, key_of, obstacle, policy_of, standing_of
from meshswarm.control.whatif import WhatIf
from meshswarm.model.job import RunPhase
from meshswarm.model.rollout import FailureAction, Rollout, RolloutPhase
from meshswarm.model.service import Service
from meshswarm.store.view import View

MAX_NAMED = 3
"""Slots that a sentence names; the rest are counted."""


def tell_rollout(view: View, service: Service, slots: Sequence[Slot], now_ms: int) -> Iterator[str]:
    """Where the service's rollout stands; nothing if its slots have their revision and it is
    over, or if there was none."""
    rollout = view.rollouts.get(service.id)
    whatif = WhatIf(view, now_ms)
    standing = standing_of(whatif, service, slots)
    if rollout is None or rollout.phase is RolloutPhase.COMPLETED:
        yield from _left_over(service, standing, len(slots))
    elif rollout.phase is RolloutPhase.ROLLED_BACK:
        yield f"it was rolled back to revision {service.revision}: {rollout.message}"
        yield from _left_over(service, standing, len(slots))
    else:
        yield _headline(rollout, standing, len(slots))
        if rollout.phase.is_paused:
            name = service.spec.name
            back = "" if rollout.phase.goes_back else f", `meshswarm service rollback {name}` back"
            yield f"`meshswarm service resume {name}` goes on with it{back}"
        else:
            yield _next(whatif, service, rollout, standing)
            yield _deadline(whatif, service, rollout)
    if standing.outdated and all(obstacle(whatif, service, slot) for slot in standing.outdated):
        against = obstacle(whatif, service, standing.outdated[0])
        yield f"revision {service.revision} cannot start: {against}"


def tell_run(view: View, service: Service, slots: Sequence[Slot], now_ms: int) -> Iterator[str]:
    """Where a job's run stands, and when it gives up."""
    run, name = view.runs[service.id], service.spec.name
    tally = tally_of(view, service, slots)
    running = sum(slot.live is not None and slot.live.is_healthy for slot in tally.open)
    failed = f", {len(tally.failed)} failed" if tally.failed else ""
    yield (
        f"{len(tally.complete)} of {len(slots)} slots of the job {name} are complete{failed}; "
        f"{running} {'runs' if running == 1 else 'run'}"
    )
    if run.phase.is_over:
        yield f"its run is over, {run.phase.value}: {run.message}"
        if run.phase is RunPhase.FAILED:
            job = view.jobs.get(run.job_id) if run.job_id is not None else None
            again = f"service restart {name}" if job is None else f"job run {job.spec.name}"
            yield f"`meshswarm {again}` runs it again"
    elif service.spec.active_deadline_s is not None:
        left_ms = service.spec.active_deadline_s * 1_000 - (now_ms - run.started_at_ms)
        yield f"if it is not complete within {span(left_ms)}, it has failed"


def _left_over(service: Service, standing: Standing, slots: int) -> Iterator[str]:
    if standing.outdated:
        yield (
            f"{len(standing.outdated)} of {slots} still have another revision than "
            f"{service.revision}, which comes to them one after the other"
        )


def _headline(rollout: Rollout, standing: Standing, slots: int) -> str:
    """What it is, how far, and what it says of itself."""
    number = rollout.revision
    what = {
        RolloutPhase.UPDATING: f"revision {number} is being rolled out",
        RolloutPhase.PAUSED: f"the rollout of revision {number} is paused",
        RolloutPhase.ROLLING_BACK: f"it is being rolled back to revision {number}",
        RolloutPhase.ROLLBACK_PAUSED: f"the way back to revision {number} is paused",
    }[rollout.phase]
    failed = f", {len(rollout.failed)} failed" if rollout.failed else ""
    said = f": {rollout.message}" if rollout.message else ""
    return f"{what}; {len(standing.well)} of {slots} slots are well{failed}{said}"


def _next(whatif: WhatIf, service: Service, rollout: Rollout, standing: Standing) -> str:
    """What the rollout does at this moment."""
    if standing.busy:
        names = [f"{service.spec.name}.{key_of(slot)}" for slot in standing.busy[:MAX_NAMED]]
        more = len(standing.busy) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more > 0 else "")
        return f"it waits until {listed} {'are' if len(standing.busy) > 1 else 'is'} well"
    if rollout.not_before_ms > whatif.now_ms:
        wait_ms = rollout.not_before_ms - whatif.now_ms
        return f"the next slot has its turn in {span(wait_ms)}, after the delay"
    held = unmet(whatif.view, service, for_rollout=True) if standing.outdated else None
    if held is not None:
        return f"it {held.message}"
    if standing.outdated:
        return "the next slot has its turn now"
    monitor_s = policy_of(whatif.view, service).monitor_s
    return f"every slot is well, and is watched until it has run for {span(monitor_s * 1_000)}"


def _deadline(whatif: WhatIf, service: Service, rollout: Rollout) -> str:
    """When it gives up, and what it does then."""
    policy = policy_of(whatif.view, service)
    held_ms = held_since_ms(whatif.view, service, whatif.now_ms)
    began_ms = max(rollout.progressed_at_ms, rollout.not_before_ms, held_ms)
    left_ms = policy.progress_deadline_s * 1_000 - (whatif.now_ms - began_ms)
    goes_back = policy.failure_action is FailureAction.ROLLBACK and not rollout.phase.goes_back
    then = f"goes back to revision {rollout.stable_revision}" if goes_back else "pauses"
    return f"if no slot comes to be well within {span(left_ms)}, it {then}"
