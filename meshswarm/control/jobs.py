"""Jobs fire when their schedule says so: run, queued behind the present run, or skipped.

What is decided of a fire is a command that names its instant, and the store takes one decision for
each instant and no more; so a change of leader, at whatever moment, neither repeats a fire nor
loses one. When a job fires next stands in its row, written by whoever led then.
"""

from itertools import islice

from meshswarm.control.whatif import WhatIf
from meshswarm.cron import BadSchedule, fires_after
from meshswarm.ids import JobId
from meshswarm.model.job import (
    Concurrency,
    FireVerdict,
    Job,
    MissedFires,
    Run,
    RunPhase,
    RunReason,
    Schedule,
)
from meshswarm.store.job_commands import DecideFire, ForgetRun, PlanFire, SetRun
from meshswarm.store.jobs import MAX_RUNS
from meshswarm.store.users import MAX_SERVICES
from meshswarm.store.view import View

ON_TIME_MS = 60_000
"""Where missed fires are skipped, one this late is not missed: leaders change in seconds."""

MAX_MISSED = 1_000
"""Fires that a pass looks through for the last one; after a longer time the next pass goes on."""

STOPPING_MS = 200
"""How often a job is looked at whose present run has to stop before the next one."""


def fire_jobs(whatif: WhatIf) -> None:
    """Decide what is due of every job, and forget runs beyond those that are kept."""
    for job_id in sorted(whatif.view.jobs):
        if whatif.is_full:
            whatif.wake(whatif.now_ms)
            return
        _forget_runs(whatif, job_id)
        _queue(whatif, job_id)
        _fire(whatif, job_id)


def next_fire_ms(job: Job) -> int | None:
    """When the job fires next after what is decided already; None: never."""
    schedule = job.spec.schedule
    if schedule is None or job.is_paused:
        return None
    try:
        return next(fires_after(schedule.cron, schedule.timezone, job.fired_until_ms), None)
    except BadSchedule:
        # Checked where the file is read; this host does not know the zone.
        return None


def _fire(whatif: WhatIf, job_id: JobId) -> None:
    """Decide the fire that is due, and reckon the next one."""
    job = whatif.view.jobs[job_id]
    schedule = job.spec.schedule
    if schedule is None or job.is_paused:
        return
    if job.next_fire_ms is not None and job.next_fire_ms <= whatif.now_ms:
        scheduled_ms, is_last = _last_due(schedule, job, whatif.now_ms)
        verdict, message = _verdict(whatif, job, schedule, scheduled_ms)
        if not is_last:
            verdict, message = FireVerdict.SKIP, f"more than {MAX_MISSED} fires were missed"
        whatif.decide_fire(
            DecideFire(
                job_id=job_id,
                edition=job.edition,
                scheduled_ms=scheduled_ms,
                verdict=verdict,
                message=message,
            )
        )
        job = whatif.view.jobs[job_id]
    if job.next_fire_ms is None and not whatif.is_full:
        planned_ms = next_fire_ms(job)
        if planned_ms is not None:
            whatif.do(PlanFire(job_id=job_id, edition=job.edition, next_fire_ms=planned_ms))
            job = whatif.view.jobs[job_id]
    if job.next_fire_ms is not None:
        whatif.wake(max(job.next_fire_ms, whatif.now_ms))


def _last_due(schedule: Schedule, job: Job, now_ms: int) -> tuple[int, bool]:
    """The last fire up to now: one run makes up for all before it; and whether it is the last."""
    assert job.next_fire_ms is not None, "a fire is due"
    last_ms = job.next_fire_ms
    later = fires_after(schedule.cron, schedule.timezone, last_ms)
    for at_ms in islice(later, MAX_MISSED):
        if at_ms > now_ms:
            return last_ms, True
        last_ms = at_ms
    return last_ms, False


def _verdict(
    whatif: WhatIf, job: Job, schedule: Schedule, scheduled_ms: int
) -> tuple[FireVerdict, str]:
    """What becomes of the fire, and why if it is skipped."""
    late_ms = whatif.now_ms - scheduled_ms
    limit_ms = _deadline_ms(schedule)
    if limit_ms is not None and late_ms > limit_ms:
        late = f"it could only have begun {late_ms / 1_000:.0f} s late"
        return FireVerdict.SKIP, f"{late}, and {limit_ms / 1_000:g} s are its limit"
    view = whatif.view
    active = active_runs(view, job.id)
    if len(view.services) >= MAX_SERVICES:
        return FireVerdict.SKIP, f"the cluster has {MAX_SERVICES} services, its limit"
    if not active:
        return FireVerdict.RUN, ""
    match schedule.concurrency:
        case Concurrency.ALLOW if len(active) < MAX_RUNS:
            return FireVerdict.RUN, ""
        case Concurrency.QUEUE | Concurrency.REPLACE:
            return FireVerdict.QUEUE, ""
        case _:
            names = ", ".join(str(run.number) for run in active[:3])
            return FireVerdict.SKIP, f"run {names} was still under way"


def _deadline_ms(schedule: Schedule) -> int | None:
    if schedule.starting_deadline_s is not None:
        return round(schedule.starting_deadline_s * 1_000)
    return ON_TIME_MS if schedule.missed_fires is MissedFires.SKIP else None


def _queue(whatif: WhatIf, job_id: JobId) -> None:
    """Begin the run that waits, if nothing is under way any more; stop what it replaces."""
    job = whatif.view.jobs[job_id]
    schedule = job.spec.schedule
    if job.queued_ms is None or schedule is None:
        return
    active = active_runs(whatif.view, job_id)
    if not active:
        whatif.decide_fire(
            DecideFire(
                job_id=job_id,
                edition=job.edition,
                scheduled_ms=job.queued_ms,
                verdict=FireVerdict.RUN,
            )
        )
        return
    whatif.wake(whatif.now_ms + STOPPING_MS)
    if schedule.concurrency is Concurrency.REPLACE:
        for run in active:
            if not run.phase.is_over:
                _replace(whatif, run)


def _replace(whatif: WhatIf, run: Run) -> None:
    whatif.do(
        SetRun(
            service_id=run.service_id,
            edition=run.edition,
            phase=RunPhase.FAILED,
            reason=RunReason.REPLACED,
            message="its job fired again, and replaces it",
            completed=run.completed,
            failed=run.failed,
        )
    )


def active_runs(view: View, job_id: JobId) -> list[Run]:
    """The job's runs that are under way, or have not quite stopped."""
    return [run for run in view.runs_of(job_id) if not run.phase.is_over or _still_stops(view, run)]


def _is_waited_for(view: View, run: Run) -> bool:
    """Whether a run that has not ended depends on how this one did."""
    service = view.services[run.service_id]
    others = (view.runs.get(one) for one in view.dependents.get(service.spec.name, ()))
    return any(other is not None and not other.phase.is_over for other in others)


def _still_stops(view: View, run: Run) -> bool:
    ids = view.tasks_by_service.get(run.service_id, ())
    return any(not view.tasks[task_id].status.state.is_terminal for task_id in ids)


def _forget_runs(whatif: WhatIf, job_id: JobId) -> None:
    """Forget the oldest runs that are over, beyond those that the job keeps of each end."""
    view, spec = whatif.view, whatif.view.jobs[job_id].spec
    over = [run for run in view.runs_of(job_id) if run.phase.is_over]
    for phase, kept in (
        (RunPhase.COMPLETE, spec.keep_complete),
        (RunPhase.FAILED, spec.keep_failed),
    ):
        runs = [run for run in over if run.phase is phase]
        for run in runs[: max(0, len(runs) - kept)]:
            if not _still_stops(view, run) and not _is_waited_for(view, run):
                whatif.do(ForgetRun(service_id=run.service_id))
