"""A job's fires: each decided once, whoever leads; run, queued, skipped or run beside."""

import pytest
from attrs import evolve

from meshswarm.control import jobs as controls
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import (
    Concurrency,
    FireVerdict,
    MissedFires,
    RunReason,
    Schedule,
    Trigger,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState
from meshswarm.store import jobs as stored
from meshswarm.store.commands import (
    Batch,
    PutService,
    PutStack,
    RemoveStack,
)
from meshswarm.store.job_commands import (
    DecideFire,
    PauseJob,
    ResumeJob,
    RunJob,
)
from meshswarm.store.view import View
from tests.support.builders import commit, service_spec
from tests.support.deciding import decided, of_kind
from tests.support.jobs import (
    COMPLETE,
    FAILED,
    FIRST,
    MINUTE,
    RUN,
    RUNNING,
    SKIP,
    START_MS,
    JobCluster,
    job_spec,
    schedule_of,
)


def test_complaint_04_a_job_waits_for_its_time_and_then_runs_once() -> None:
    cluster = JobCluster(job_spec())
    planned = cluster.job().next_fire_ms
    assert planned == START_MS + FIRST * MINUTE
    assert planned == decided(cluster.view, now_ms=planned - 500).wake_at_ms
    cluster.at(FIRST * MINUTE - 1)
    assert [] == cluster.fires
    cluster.at(FIRST * MINUTE)
    cluster.at(FIRST * MINUTE + 1)
    assert [(FIRST, RUN)] == cluster.verdicts()
    (run,) = cluster.view.runs.values()
    assert (1, Trigger.SCHEDULE, planned) == (run.number, run.trigger, run.scheduled_ms)
    row = cluster.view.services[run.service_id]
    assert ("s_job-1", "s") == (row.spec.name, row.spec.stack)
    assert 1 == len(cluster.view.tasks)
    cluster.end()
    assert [(1, COMPLETE)] == cluster.runs()


def test_a_fire_decided_by_an_old_leader_and_a_new_one_happens_once() -> None:
    cluster = JobCluster(job_spec())
    cluster.now_ms = START_MS + FIRST * MINUTE
    old = decided(cluster.view, now_ms=cluster.now_ms)
    new = decided(cluster.view, now_ms=cluster.now_ms + 3_000)
    assert of_kind(old, DecideFire) == of_kind(new, DecideFire)
    cluster.propose(Batch(commands=old.commands))
    applied = commit(cluster.view, Batch(commands=new.commands), at_ms=cluster.now_ms + 3_000)
    assert "DecideFire" == applied.outcome.effects[0][0]
    assert cluster.view.runs == applied.view.runs


def test_a_fire_is_refused_also_when_its_run_is_long_forgotten() -> None:
    cluster = JobCluster(job_spec(keep_complete=0))
    cluster.at(FIRST * MINUTE)
    (fire,) = cluster.fires
    cluster.end()
    assert [] == cluster.runs()
    applied = commit(cluster.view, fire)
    assert applied.outcome.error is not None
    assert not applied.view.runs


def test_complaint_04_forbid_skips_a_fire_while_a_run_is_under_way_and_says_so() -> None:
    cluster = JobCluster(job_spec())
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(FIRST, RUN), (FIRST + 10, SKIP)] == cluster.verdicts()
    assert (1, "run 1 was still under way") == (cluster.job().skipped, cluster.job().skip_message)
    cluster.end()
    cluster.at((FIRST + 20) * MINUTE)
    assert [(1, COMPLETE), (2, RUNNING)] == cluster.runs()


def test_queue_runs_once_when_the_present_run_is_over() -> None:
    cluster = JobCluster(job_spec(schedule=schedule_of(Concurrency.QUEUE)))
    for minutes in (FIRST, FIRST + 10, FIRST + 20):
        cluster.at(minutes * MINUTE)
    assert [(1, RUNNING)] == cluster.runs()
    cluster.end()
    assert [(1, COMPLETE), (2, RUNNING)] == cluster.runs()
    assert (FIRST + 20, RUN) == cluster.verdicts()[-1]
    cluster.end()
    assert [(1, COMPLETE), (2, COMPLETE)] == cluster.runs()
    assert cluster.job().queued_ms is None


def test_allow_runs_beside() -> None:
    cluster = JobCluster(job_spec(schedule=schedule_of(Concurrency.ALLOW)))
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(1, RUNNING), (2, RUNNING)] == cluster.runs()
    assert 2 == sum(task.is_live for task in cluster.view.tasks.values())


def test_replace_stops_the_present_run_and_begins_when_it_has_stopped() -> None:
    cluster = JobCluster(job_spec(schedule=schedule_of(Concurrency.REPLACE)))
    cluster.at(FIRST * MINUTE)
    cluster.at((FIRST + 10) * MINUTE)
    assert [(1, FAILED)] == cluster.runs(), "its task still stops"
    (run,) = cluster.view.runs.values()
    assert RunReason.REPLACED is run.reason
    cluster.end(TaskState.SHUTDOWN)
    assert [(1, FAILED), (2, RUNNING)] == cluster.runs()


@pytest.mark.parametrize(
    ("schedule", "late_ms", "verdict"),
    [
        (schedule_of(), 0, RUN),
        (schedule_of(), 9 * MINUTE, RUN),
        (schedule_of(missed_fires=MissedFires.SKIP), 60_000, RUN),
        (schedule_of(missed_fires=MissedFires.SKIP), 60_001, SKIP),
        (schedule_of(starting_deadline_s=5), 5_000, RUN),
        (schedule_of(starting_deadline_s=5), 5_001, SKIP),
    ],
)
def test_a_late_fire_is_made_up_for_as_the_schedule_says(
    schedule: Schedule, late_ms: int, verdict: FireVerdict
) -> None:
    cluster = JobCluster(job_spec(schedule=schedule))
    cluster.at(FIRST * MINUTE + late_ms)
    assert [(FIRST, verdict)] == cluster.verdicts()


def test_one_run_makes_up_for_all_that_was_missed() -> None:
    cluster = JobCluster(job_spec())
    cluster.at((FIRST + 55) * MINUTE)
    assert [(FIRST + 50, RUN)] == cluster.verdicts()
    assert START_MS + (FIRST + 60) * MINUTE == cluster.job().next_fire_ms


def test_after_a_very_long_time_the_last_fire_is_found_in_steps() -> None:
    cluster = JobCluster(job_spec(schedule=Schedule(cron="* * * * *")))
    cluster.at(3_500 * MINUTE)
    *skipped, last = cluster.verdicts()
    assert (3_500, RUN) == last
    assert {SKIP} == {verdict for _, verdict in skipped}
    assert 3 == len(skipped)


def test_history_is_bounded_for_each_end() -> None:
    cluster = JobCluster(job_spec(keep_complete=2, keep_failed=1))
    ends = [TaskState.COMPLETE, TaskState.FAILED] * 4
    for number, end in enumerate(ends):
        cluster.at((FIRST + 10 * number) * MINUTE)
        cluster.end(end)
    assert [(5, COMPLETE), (7, COMPLETE), (8, FAILED)] == cluster.runs()
    assert 3 == len(cluster.view.services)
    assert 3 == len(cluster.view.tasks)


def test_a_paused_job_does_not_fire_and_makes_up_for_nothing() -> None:
    cluster = JobCluster(job_spec())
    cluster.propose(PauseJob(job_id=cluster.job().id))
    cluster.at((FIRST + 5) * MINUTE)
    assert [] == cluster.fires
    cluster.propose(ResumeJob(job_id=cluster.job().id))
    cluster.control()
    assert [] == cluster.fires
    cluster.at((FIRST + 10) * MINUTE)
    assert [(FIRST + 10, RUN)] == cluster.verdicts()


def test_what_was_decided_before_a_pause_is_refused_after_it() -> None:
    cluster = JobCluster(job_spec())
    cluster.now_ms = START_MS + FIRST * MINUTE
    (stale,) = of_kind(decided(cluster.view, now_ms=cluster.now_ms), DecideFire)
    cluster.propose(PauseJob(job_id=cluster.job().id))
    applied = commit(cluster.view, stale)
    assert applied.outcome.error is not None
    assert not applied.view.runs


def test_another_schedule_counts_from_when_it_was_put() -> None:
    cluster = JobCluster(job_spec())
    cluster.at((FIRST - 1) * MINUTE + 30_000)
    hourly = job_spec(schedule=Schedule(cron="0 * * * *"))
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=(hourly,))))
    cluster.control()
    planned = cluster.job().next_fire_ms
    assert planned is not None
    assert 0 == planned % (60 * MINUTE)
    assert 2 == cluster.job().edition


def test_complaint_04_time_zones_count() -> None:
    cluster = JobCluster(job_spec(schedule=Schedule(cron="0 3 * * *", timezone="Asia/Kolkata")))
    planned = cluster.job().next_fire_ms
    assert planned is not None
    assert 21 * 60 + 30 == planned // MINUTE % (24 * 60)


def test_a_run_by_hand_is_one_more_and_changes_nothing_of_theschedule_of() -> None:
    cluster = JobCluster(job_spec())
    before = cluster.job().next_fire_ms
    cluster.propose(RunJob(job_id=cluster.job().id))
    cluster.control()
    assert [(1, RUNNING)] == cluster.runs()
    assert before == cluster.job().next_fire_ms
    (run,) = cluster.view.runs.values()
    assert (Trigger.MANUAL, None) == (run.trigger, run.scheduled_ms)


def test_what_is_not_for_hands_is_refused() -> None:
    cluster = JobCluster(job_spec(is_manual=False))
    applied = commit(cluster.view, RunJob(job_id=cluster.job().id))
    assert applied.outcome.error is not None
    assert "not to be run by hand" in applied.outcome.error.message


def test_a_job_runs_the_jobs_that_it_depends_on_first() -> None:
    late = job_spec("s_late", schedule=None)
    waits = evolve(late.service, depends_on=(Dependency(service="s_job"),))
    cluster = JobCluster(job_spec(schedule=None), evolve(late, service=waits))
    cluster.propose(RunJob(job_id=cluster.job("s_late").id))
    cluster.control()
    assert ["s_job-1"] == [task.service_name for task in cluster.view.tasks.values()]
    row = cluster.view.service_named("s_late-1")
    assert row is not None
    assert row.spec.depends_on == (Dependency(service="s_job-1", condition=Condition.COMPLETED),)
    cluster.end()
    assert [(1, RUNNING)] == cluster.runs("s_late")
    assert {"s_job-1", "s_late-1"} == {t.service_name for t in cluster.view.tasks.values()}


def test_no_more_runs_are_under_way_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_RUNS", 1)
    monkeypatch.setattr(controls, "MAX_RUNS", 1)
    cluster = JobCluster(job_spec(schedule=schedule_of(Concurrency.ALLOW)))
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(FIRST, RUN), (FIRST + 10, SKIP)] == cluster.verdicts()
    applied = commit(cluster.view, RunJob(job_id=cluster.job().id))
    assert applied.outcome.error is not None
    assert "job s_job has 1 runs under way, its limit" == applied.outcome.error.message


def test_jobs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_JOBS", 1)
    spec = StackSpec(name="s", services=(), jobs=(job_spec("s_a"), job_spec("s_b")))
    applied = commit(View(), PutStack(spec=spec))
    assert applied.outcome.error is not None
    assert "the cluster has 1 jobs, its limit" == applied.outcome.error.message
    assert not applied.view.jobs


def test_runs_survive_a_deploy_of_their_stack_and_go_with_their_job() -> None:
    cluster = JobCluster(job_spec())
    cluster.at(FIRST * MINUTE)
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=(job_spec(),))))
    cluster.control()
    assert [(1, RUNNING)] == cluster.runs()
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=())))
    left = (cluster.view.jobs, cluster.view.runs, cluster.view.services)
    assert not any(left)


def test_a_stack_takes_its_jobs_along() -> None:
    cluster = JobCluster(job_spec())
    cluster.at(FIRST * MINUTE)
    cluster.propose(RemoveStack(name="s"))
    cluster.control()
    cluster.end(TaskState.SHUTDOWN)
    left = (cluster.view.jobs, cluster.view.runs, cluster.view.services, cluster.view.tasks)
    assert not any(left)


def test_a_service_cannot_take_the_name_of_a_run() -> None:
    cluster = JobCluster(job_spec())
    cluster.at(FIRST * MINUTE)
    spec = service_spec("s_job-1", stack="s")
    applied = commit(cluster.view, PutService(spec=spec))
    assert applied.outcome.error is not None
    assert "s_job-1 is a run of a job" == applied.outcome.error.message
    taken = service_spec("s_job-2", stack="s")
    cluster.propose(PutService(spec=taken))
    cluster.end()
    cluster.at((FIRST + 10) * MINUTE)
    assert [(1, COMPLETE), (3, RUNNING)] == cluster.runs()


def test_a_fire_that_the_store_refuses_is_skipped_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Undecided it would be due in every pass, and the leader would do nothing else."""
    monkeypatch.setattr(stored, "MAX_RUNS", 1)
    first = job_spec("s_first", schedule=None)
    needs = Dependency(service="s_first", condition=Condition.COMPLETED)
    then = job_spec("s_then")
    cluster = JobCluster(first, evolve(then, service=evolve(then.service, depends_on=(needs,))))
    other = cluster.view.job_named("s_first")
    assert other is not None
    cluster.propose(RunJob(job_id=other.id))
    cluster.at(10 * MINUTE)
    assert [FireVerdict.SKIP] == [fire.verdict for fire in cluster.fires]
    assert "job s_first has 1 runs under way, its limit" == cluster.fires[0].message
    assert decided(cluster.view, now_ms=cluster.now_ms).wake_at_ms != cluster.now_ms
    cluster.end()
    cluster.at(20 * MINUTE)
    assert FireVerdict.RUN is cluster.fires[-1].verdict
