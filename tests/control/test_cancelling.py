"""Runs that a user stops, jobs that are removed, and runs that can never begin."""

from attrs import evolve

from meshswarm.control.why_job import why_job
from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import JobId, ServiceId
from meshswarm.model.dependency import Dependency
from meshswarm.model.job import (
    Concurrency,
    JobSpec,
    Run,
    RunPhase,
    RunReason,
)
from meshswarm.model.service import Mode
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import (
    PutService,
    RestartService,
)
from meshswarm.store.job_commands import (
    CancelRun,
    ForgetRun,
    PauseJob,
    RemoveJob,
    RunJob,
    SetRun,
)
from tests.support.builders import commit, service_spec
from tests.support.deciding import decided, of_kind
from tests.support.jobs import (
    COMPLETE,
    FAILED,
    FIRST,
    MINUTE,
    RUNNING,
    JobCluster,
    job_spec,
    schedule_of,
)


def _told(run: Run, phase: RunPhase) -> SetRun:
    """What controllers write once they see it so."""
    return SetRun(
        service_id=run.service_id,
        edition=run.edition,
        phase=phase,
        reason=RunReason.DONE,
        message="",
        completed=1,
        failed=0,
    )


def _late(*, first: JobSpec) -> JobCluster:
    """A job that runs after another one, run by hand."""
    late = job_spec("s_late", schedule=None)
    waits = evolve(late.service, depends_on=(Dependency(service="s_job"),))
    cluster = JobCluster(first, evolve(late, service=waits))
    cluster.propose(RunJob(job_id=cluster.job("s_late").id))
    cluster.control()
    return cluster


def test_a_run_that_waits_for_one_that_failed_fails_with_it_and_its_job_fires_again() -> None:
    cluster = _late(first=job_spec(schedule=None))
    cluster.end(TaskState.FAILED)
    assert [(1, FAILED)] == cluster.runs("s_late")
    (run,) = cluster.view.runs_of(cluster.job("s_late").id)
    assert (
        RunReason.DEPENDENCY,
        "it waits until s_job-1 has completed: it has failed, with 0 slots complete",
    ) == (
        run.reason,
        run.message,
    )
    assert ["s_job-1"] == [task.service_name for task in cluster.view.tasks.values()]


def test_a_run_is_not_forgotten_before_the_one_that_waits_for_it_has_ended() -> None:
    cluster = _late(first=job_spec(schedule=None, keep_complete=0))
    (run,) = cluster.view.runs_of(cluster.job("s_job").id)
    cluster.propose(_told(run, COMPLETE))
    assert [] == of_kind(decided(cluster.view, now_ms=cluster.now_ms), ForgetRun)
    cluster.end()
    assert [(1, COMPLETE)] == cluster.runs("s_job")
    cluster.end()
    assert ([], [(1, COMPLETE)]) == (cluster.runs("s_job"), cluster.runs("s_late"))


def test_a_cancelled_run_has_failed_and_stops() -> None:
    cluster = JobCluster(job_spec(schedule=schedule_of(Concurrency.QUEUE)))
    cluster.at(FIRST * MINUTE)
    cluster.at((FIRST + 10) * MINUTE)
    (run,) = cluster.view.runs.values()
    cluster.propose(CancelRun(service_id=run.service_id))
    stale = commit(cluster.view, _told(run, COMPLETE))
    assert isinstance(stale.outcome.error, Conflict), "it was decided before the run was cancelled"
    cluster.control()
    run = cluster.view.runs[run.service_id]
    assert (FAILED, RunReason.CANCELLED) == (run.phase, run.reason)
    assert cluster.now_ms == run.ended_at_ms
    (task,) = cluster.view.tasks.values()
    assert DesiredState.SHUTDOWN is task.desired
    assert [(1, FAILED)] == cluster.runs(), "what waits begins when it has stopped"
    cluster.end(TaskState.SHUTDOWN)
    cluster.at((FIRST + 10) * MINUTE + 1_000)
    assert [(1, FAILED), (2, RUNNING)] == cluster.runs()
    again = commit(cluster.view, CancelRun(service_id=run.service_id))
    assert (("s_job-1", "unchanged"),) == again.outcome.effects


def test_what_waits_for_a_cancelled_run_fails_with_it() -> None:
    cluster = _late(first=job_spec(schedule=None))
    (run,) = cluster.view.runs_of(cluster.job("s_job").id)
    cluster.propose(CancelRun(service_id=run.service_id))
    cluster.control()
    assert [(1, FAILED)] == cluster.runs("s_late")


def test_a_service_that_runs_to_its_end_is_cancelled_and_begins_anew_when_restarted() -> None:
    cluster = JobCluster(job_spec())
    cluster.propose(PutService(spec=service_spec("once", mode=Mode.REPLICATED_JOB)))
    cluster.control()
    row = cluster.view.find_service("once")
    cluster.propose(CancelRun(service_id=row.id))
    cluster.control()
    cluster.end(TaskState.SHUTDOWN)
    assert FAILED is cluster.view.runs[row.id].phase
    cluster.propose(RestartService(service_id=row.id))
    cluster.control()
    cluster.end()
    assert COMPLETE is cluster.view.runs[row.id].phase
    applied = commit(cluster.view, CancelRun(service_id=ServiceId("none")))
    assert isinstance(applied.outcome.error, NotFound)


def test_a_removed_job_takes_its_runs_along_and_its_stack_if_that_is_empty() -> None:
    cluster = JobCluster(job_spec(), job_spec("s_other"))
    cluster.at(FIRST * MINUTE)
    cluster.propose(RemoveJob(job_id=cluster.job().id))
    cluster.control()
    assert ["s_other"] == [job.spec.name for job in cluster.view.sorted_jobs()]
    assert {"s_other-1"} == {row.spec.name for row in cluster.view.services.values()}
    cluster.end(TaskState.SHUTDOWN)
    assert ["s"] == list(cluster.view.stacks)
    cluster.propose(RemoveJob(job_id=cluster.job("s_other").id))
    cluster.control()
    left = (cluster.view.jobs, cluster.view.runs, cluster.view.services, cluster.view.stacks)
    assert not any(left)
    applied = commit(cluster.view, RemoveJob(job_id=JobId("none")))
    assert isinstance(applied.outcome.error, NotFound)


def test_why_tells_what_runs_a_job_and_how_its_last_run_stands() -> None:
    cluster = JobCluster(job_spec(), job_spec("s_hand", schedule=None))

    def said(name: str) -> tuple[str, ...]:
        return why_job(cluster.view, cluster.job(name), cluster.now_ms).summary

    assert (
        "job s_hand has no schedule; `meshswarm job run s_hand` runs it",
        "it has not run yet",
    ) == said("s_hand")
    fires = "job s_job fires at `*/10 * * * *` in UTC"
    assert (f"{fires}, next in {FIRST} min", "it has not run yet") == said("s_job")
    cluster.at((FIRST + 10) * MINUTE)
    cluster.at((FIRST + 20) * MINUTE)
    assert (
        f"{fires}, next in 10 min",
        "1 of its fires was skipped, the last one because run 1 was still under way",
        "run 1, its last one, has been under way for 10 min",
    ) == said("s_job")
    report = why_job(cluster.view, cluster.job(), cluster.now_ms)
    assert report.run is not None
    assert "s_job-1" == report.run.service
    cluster.end(TaskState.FAILED)
    cluster.now_ms += 5_000
    cluster.propose(PauseJob(job_id=cluster.job().id))
    assert "is paused; `meshswarm job resume s_job` lets it fire again" in said("s_job")[0]
    assert said("s_job")[-1].startswith("run 1, its last one, failed 5 s ago: 1 of 1 slots failed")
    report = why_job(cluster.view, cluster.job(), cluster.now_ms)
    assert report.run is not None
    assert "`meshswarm job run s_job` runs it again" == report.run.summary[-1]
