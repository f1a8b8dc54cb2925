"""What users ask of jobs: a stack of them, with services that wait for each other; runs by hand."""

import random

from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import Concurrency, JobSpec, MissedFires, Schedule
from meshswarm.model.service import (
    Mode,
    RestartCondition,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.sim.hosts import WORK
from meshswarm.store.commands import Command, PutStack, RemoveStack, RestartService
from meshswarm.store.job_commands import CancelRun, PauseJob, RemoveJob, ResumeJob, RunJob
from meshswarm.store.view import View

STACK = "batch"


def wish(rng: random.Random, view: View) -> Command:
    """Something about jobs that makes sense in this view, mostly."""
    jobs = view.sorted_jobs()
    kind = rng.randrange(8)
    if kind == 0:
        return RemoveStack(name=STACK)
    if kind <= 3 and jobs:
        verb = rng.choice((RunJob, RunJob, PauseJob, ResumeJob))
        return verb(job_id=rng.choice(jobs).id)
    # What waits for a service that was cancelled would wait for ever, and rightly so.
    runs = sorted(run.service_id for run in view.runs.values() if run.job_id is not None)
    if kind == 5 and runs:
        return CancelRun(service_id=rng.choice(runs))
    if kind == 6 and jobs and rng.random() < 0.3:
        return RemoveJob(job_id=rng.choice(jobs).id)
    once = view.service_named(f"{STACK}_once")
    if kind == 4 and once is not None:
        return RestartService(service_id=once.id)
    return PutStack(spec=_stack(rng))


def _stack(rng: random.Random) -> StackSpec:
    up = _service("up", Mode.REPLICATED, rng, command="run")
    once = _service("once", Mode.REPLICATED_JOB, rng, waits=(("up", Condition.STARTED),))
    each = _service("each", Mode.GLOBAL_JOB, rng)
    after = _service(
        "after",
        Mode.REPLICATED,
        rng,
        command="run",
        waits=(("once", Condition.COMPLETED), ("up", Condition.HEALTHY)),
    )
    services = (up, once, *([each] if rng.random() < 0.5 else []), after)
    jobs = [_job(rng, name) for name in ("tick", "tock") if rng.random() < 0.8]
    return StackSpec(name=STACK, services=services, jobs=tuple(jobs))


def _job(rng: random.Random, name: str) -> JobSpec:
    once = RestartPolicy(condition=RestartCondition.NONE)
    run = _service(name, Mode.REPLICATED_JOB, rng, restart=once, replicas=1)
    return JobSpec(
        name=f"{STACK}_{name}",
        stack=STACK,
        service=run,
        schedule=Schedule(
            cron="* * * * *",
            concurrency=rng.choice(tuple(Concurrency)),
            missed_fires=rng.choice(tuple(MissedFires)),
            starting_deadline_s=rng.choice((None, None, 5.0)),
        ),
        keep_complete=rng.randrange(3),
        keep_failed=rng.randrange(3),
    )


def _service(
    name: str,
    mode: Mode,
    rng: random.Random,
    *,
    command: str = WORK,
    waits: tuple[tuple[str, Condition], ...] = (),
    restart: RestartPolicy | None = None,
    replicas: int | None = None,
) -> ServiceSpec:
    return ServiceSpec(
        name=f"{STACK}_{name}",
        stack=STACK,
        mode=mode,
        replicas=rng.randrange(1, 4) if replicas is None and not mode.is_global else 1,
        max_concurrent=rng.choice((0, 1)) if mode is Mode.REPLICATED_JOB else 0,
        depends_on=tuple(
            Dependency(service=f"{STACK}_{other}", condition=condition, restarts=rng.random() < 0.3)
            for other, condition in waits
        ),
        task=TaskSpec(
            runtime=RuntimeKind.PROCESS,
            command=(command, f"v{rng.randrange(1, 3)}"),
            stop_grace_period_s=1.0,
            restart=restart or RestartPolicy(max_delay_s=2.0, reset_after_s=10.0),
        ),
    )
