"""What commands do to jobs: put with their stack, run by hand, paused; their fires decided.

A job's run is a service of its own, named `JOB-NUMBER`, with a row in the table of runs. Its id
follows from the job and the fire, so a fire cannot begin two.
"""

from attrs import evolve

from meshswarm.errors import Conflict, Invalid, NotFound
from meshswarm.ids import JobId, ServiceId, Version, digest_id
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import FireVerdict, Job, JobSpec, Run, Trigger
from meshswarm.model.service import Service
from meshswarm.model.stack import StackSpec
from meshswarm.store import files
from meshswarm.store.job_commands import (
    DecideFire,
    ForgetRun,
    PauseJob,
    PlanFire,
    ResumeJob,
    RunJob,
)
from meshswarm.store.revisions import put_revision
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View

Effects = tuple[tuple[str, str], ...]

MAX_JOBS = 10_000
"""Jobs in the cluster; creating one more is refused."""

MAX_RUNS = 100
"""Runs of one job under way at a time; one more is refused, and a fire is skipped."""

MAX_KEPT = 1_000
"""Runs of a job that are kept, of either end; a spec that asks for more is refused."""

MAX_MESSAGE = 1_000
"""Characters of the reason why a fire was skipped; a longer one is cut."""


# --- users ------------------------------------------------------------------------------------


def put_jobs(transaction: Transaction, spec: StackSpec) -> list[tuple[str, str]]:
    """Make the stack's jobs exactly these; what each is now, in words."""
    names = {job.name for job in spec.jobs}
    if len(names) != len(spec.jobs):
        raise Invalid(f"stack {spec.name} names a job twice")
    effects: list[tuple[str, str]] = []
    for job in jobs_of(transaction.view, spec.name):
        if job.spec.name not in names:
            drop_job(transaction, job)
            effects.append((job.spec.name, "removed"))
    return effects + [(job.name, _put(transaction, spec.name, job)) for job in spec.jobs]


def jobs_of(view: View, stack: str) -> list[Job]:
    """The stack's jobs, by name."""
    return [job for job in view.sorted_jobs() if job.spec.stack == stack]


def drop_job(transaction: Transaction, job: Job) -> None:
    """Delete a job and all its runs."""
    for run in transaction.view.runs_of(job.id):
        transaction.drop_service(transaction.view.services[run.service_id])
    transaction.drop_job(job.id)


def run_job(transaction: Transaction, command: RunJob) -> Effects:
    """Begin a run by hand, and first one of each job that it depends on."""
    job = _job(transaction, command.job_id)
    if not job.spec.is_manual:
        raise Invalid(
            f"job {job.spec.name} is not to be run by hand",
            hint="its file says `triggers: {manual: false}`",
        )
    names = _start(transaction, job, Trigger.MANUAL, None, ())
    return tuple((name, "started") for name in names)


def pause_job(transaction: Transaction, command: PauseJob) -> Effects:
    """Let the schedule rest; a fire in the queue is forgotten."""
    job = _scheduled(transaction, command.job_id)
    if job.is_paused:
        return ((job.spec.name, "unchanged"),)
    _renew(transaction, evolve(job, is_paused=True))
    return ((job.spec.name, "paused"),)


def resume_job(transaction: Transaction, command: ResumeJob) -> Effects:
    """Let the schedule go on from now on: what it missed is not made up for."""
    job = _scheduled(transaction, command.job_id)
    if not job.is_paused:
        return ((job.spec.name, "unchanged"),)
    _renew(transaction, evolve(job, is_paused=False))
    return ((job.spec.name, "resumed"),)


# --- controllers ------------------------------------------------------------------------------


def plan_fire(transaction: Transaction, command: PlanFire) -> Effects:
    """Write down when the job fires next."""
    job = _edition(transaction, command.job_id, command.edition)
    transaction.put_job(evolve(job, next_fire_ms=command.next_fire_ms))
    return ()


def decide_fire(transaction: Transaction, command: DecideFire) -> Effects:
    """Run, queue or skip a fire."""
    job = _edition(transaction, command.job_id, command.edition)
    fire_ms = command.scheduled_ms
    is_queued = job.queued_ms == fire_ms
    if fire_ms <= job.fired_until_ms and not is_queued:
        raise Conflict(f"the fire of {job.spec.name} at {fire_ms} is decided already")
    job = evolve(
        job,
        fired_until_ms=max(fire_ms, job.fired_until_ms),
        next_fire_ms=job.next_fire_ms if is_queued else None,
        queued_ms=None if is_queued else job.queued_ms,
    )
    match command.verdict:
        case FireVerdict.RUN:
            transaction.put_job(job)
            _start(transaction, job, Trigger.SCHEDULE, fire_ms, ())
        case FireVerdict.QUEUE:
            transaction.put_job(evolve(job, queued_ms=fire_ms))
        case FireVerdict.SKIP:
            message = command.message[:MAX_MESSAGE]
            transaction.put_job(evolve(job, skipped=job.skipped + 1, skip_message=message))
    return ((job.spec.name, command.verdict.value),)


def forget_run(transaction: Transaction, command: ForgetRun) -> Effects:
    """Delete a job's run that is over."""
    run = transaction.view.runs.get(command.service_id)
    if run is None or run.job_id is None:
        raise NotFound(f"{command.service_id} is no run of a job")
    if not run.phase.is_over:
        raise Conflict(f"the run {command.service_id} is still {run.phase.value}")
    transaction.drop_service(transaction.view.services[command.service_id])
    return ()


# --- parts ------------------------------------------------------------------------------------


def _put(transaction: Transaction, stack: str, spec: JobSpec) -> str:
    view = transaction.view
    if spec.stack != stack:
        raise Invalid(f"stack {stack} holds a job of another stack: {spec.name}")
    if not spec.service.mode.is_job:
        raise Invalid(f"job {spec.name} is to run as {spec.service.mode.value}, which has no end")
    if max(spec.keep_complete, spec.keep_failed) > MAX_KEPT:
        raise Invalid(f"job {spec.name} keeps more than {MAX_KEPT} runs")
    present = view.job_named(spec.name)
    if present is None:
        if len(view.jobs) >= MAX_JOBS:
            raise Invalid(f"the cluster has {MAX_JOBS} jobs, its limit")
        ours = min(view.nodes, default="")
        job = Job(
            id=JobId(digest_id("job", spec.name, view.index, ours)),
            spec=spec,
            fired_until_ms=view.clock_ms,
            created_at_ms=view.clock_ms,
            updated_at_ms=view.clock_ms,
        )
        transaction.put_job(job)
        return "created"
    if present.spec.stack != stack:
        raise Conflict(f"job {spec.name} belongs to {present.spec.stack or 'no stack'}")
    if present.spec == spec:
        return "unchanged"
    if present.spec.schedule == spec.schedule:
        changed = evolve(present, spec=spec, updated_at_ms=view.clock_ms)
        transaction.put_job(evolve(changed, edition=present.edition + 1))
    else:
        _renew(transaction, evolve(present, spec=spec))
    return "updated"


def _renew(transaction: Transaction, job: Job) -> None:
    """The job with a schedule that begins now."""
    now_ms = transaction.view.clock_ms
    transaction.put_job(
        evolve(
            job,
            edition=job.edition + 1,
            fired_until_ms=max(now_ms, job.fired_until_ms),
            next_fire_ms=None,
            queued_ms=None,
            updated_at_ms=now_ms,
        )
    )


def _start(
    transaction: Transaction,
    job: Job,
    trigger: Trigger,
    scheduled_ms: int | None,
    way: tuple[JobId, ...],
) -> list[str]:
    """Begin a run of the job, after those of the jobs that it depends on; the runs' names.

    `way` are the jobs whose runs wait for this one.
    """
    if job.id in way:
        raise Invalid(f"job {job.spec.name} depends on itself")
    started: list[str] = []
    depends_on: list[Dependency] = []
    for dependency in job.spec.service.depends_on:
        other = transaction.view.job_named(dependency.service)
        if other is not None:
            begun = _start(transaction, other, Trigger.DEPENDENCY, None, (*way, job.id))
            started += begun
            dependency = evolve(dependency, service=begun[-1], condition=Condition.COMPLETED)
        depends_on.append(dependency)
    job = transaction.view.jobs[job.id]
    view = transaction.view
    if sum(not run.phase.is_over for run in view.runs_of(job.id)) >= MAX_RUNS:
        raise Conflict(
            f"job {job.spec.name} has {MAX_RUNS} runs under way, its limit",
            hint=f"meshswarm job history {job.spec.name}",
        )
    number = job.runs + 1
    while f"{job.spec.name}-{number}" in view.service_ids:
        number += 1
    name = f"{job.spec.name}-{number}"
    spec = evolve(job.spec.service, name=name, stack=job.spec.stack, depends_on=tuple(depends_on))
    key = f"fire {scheduled_ms}" if scheduled_ms is not None else f"number {number}"
    service_id = ServiceId(digest_id("run", job.id, key))
    if service_id in view.services:
        raise Conflict(f"the run {name} has begun already")
    transaction.put_job(evolve(job, runs=number))
    transaction.put_service(
        Service(
            id=service_id,
            spec=files.pinned(view, spec, None),
            revision=1,
            version=Version(view.index),
            created_at_ms=view.clock_ms,
            updated_at_ms=view.clock_ms,
        )
    )
    transaction.put_run(
        Run(
            service_id=service_id,
            started_at_ms=view.clock_ms,
            trigger=trigger,
            job_id=job.id,
            number=number,
            scheduled_ms=scheduled_ms,
        )
    )
    put_revision(transaction, service_id, 1)
    return [*started, name]


def _scheduled(transaction: Transaction, job_id: JobId) -> Job:
    job = _job(transaction, job_id)
    if job.spec.schedule is None:
        raise Invalid(
            f"job {job.spec.name} has no schedule", hint=f"meshswarm job run {job.spec.name}"
        )
    return job


def _edition(transaction: Transaction, job_id: JobId, edition: int) -> Job:
    job = _job(transaction, job_id)
    if job.edition != edition:
        raise Conflict(f"job {job.spec.name} is at edition {job.edition}, not {edition}")
    return job


def _job(transaction: Transaction, job_id: JobId) -> Job:
    job = transaction.view.jobs.get(job_id)
    if job is None:
        raise NotFound(f"there is no job {job_id!r}", hint="meshswarm job ls")
    return job
