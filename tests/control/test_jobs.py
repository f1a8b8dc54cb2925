"""A job's fires: each decided once, whoever leads; run, queued, skipped or run beside."""

import pytest
from attrs import evolve

from meshswarm.control import jobs as controls
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import (
    Concurrency,
    FireVerdict,
    Job,
    JobSpec,
    MissedFires,
    RunPhase,
    RunReason,
    Schedule,
    Trigger,
)
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.store import jobs as stored
from meshswarm.store.commands import (
    Batch,
    Command,
    PutService,
    PutStack,
    RemoveStack,
    ReportTasks,
    TaskReport,
)
from meshswarm.store.job_commands import DecideFire, PauseJob, ResumeJob, RunJob
from meshswarm.store.view import View, build_view
from tests.support.builders import NOW_MS, commit, node, service_spec
from tests.support.deciding import decided, of_kind

MINUTE = 60_000
START_MS = NOW_MS - NOW_MS % MINUTE  # a full minute
ONCE = RestartPolicy(condition=RestartCondition.NONE)


def _spec(name: str = "s_job", **fields: object) -> JobSpec:
    run = service_spec(name, mode=Mode.REPLICATED_JOB, stack="s", restart=ONCE)
    schedule = fields.pop("schedule", Schedule(cron="*/10 * * * *"))
    return JobSpec(name=name, stack="s", service=run, schedule=schedule, **fields)  # type: ignore[arg-type]


class _Cluster:
    """A view, a clock, and controllers that decide until they have nothing to add."""

    def __init__(self, *specs: JobSpec, at_ms: int = START_MS) -> None:
        self.now_ms = at_ms
        self.view = build_view(View(clock_ms=at_ms), nodes=(node("n1"),))
        self.fires: list[DecideFire] = []
        self.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=specs)))
        self.control()

    def propose(self, command: Command) -> None:
        applied = commit(self.view, command, at_ms=self.now_ms)
        assert applied.outcome.error is None, applied.outcome.error
        self.view = applied.view

    def control(self) -> None:
        for _ in range(20):
            decision = decided(self.view, now_ms=self.now_ms)
            assert decision.refused == ()
            if not decision.commands:
                return
            self.fires += of_kind(decision, DecideFire)
            self.propose(Batch(commands=decision.commands))
        raise AssertionError("it never settles")

    def at(self, ms: int) -> None:
        """The controllers look at this instant, in ms after the start."""
        self.now_ms = START_MS + ms
        self.control()

    def end(self, state: TaskState = TaskState.COMPLETE) -> None:
        """What runs ends."""
        for one in self.view.tasks.values():
            if one.node_id is not None and not one.status.state.is_terminal:
                report = TaskReport(task_id=one.id, status=TaskStatus(state=state))
                self.propose(ReportTasks(node_id=one.node_id, reports=(report,)))
        self.control()

    def job(self, name: str = "s_job") -> Job:
        found = self.view.job_named(name)
        assert found is not None
        return found

    def runs(self, name: str = "s_job") -> list[tuple[int, RunPhase]]:
        return [(run.number, run.phase) for run in self.view.runs_of(self.job(name).id)]

    def verdicts(self) -> list[tuple[int, FireVerdict]]:
        return [((fire.scheduled_ms - START_MS) // MINUTE, fire.verdict) for fire in self.fires]


RUN, SKIP, QUEUE = FireVerdict.RUN, FireVerdict.SKIP, FireVerdict.QUEUE
RUNNING, COMPLETE, FAILED = RunPhase.RUNNING, RunPhase.COMPLETE, RunPhase.FAILED
FIRST = 10 - START_MS // MINUTE % 10
"""Minutes from the start to the first fire."""


def _schedule(concurrency: Concurrency = Concurrency.FORBID, **fields: object) -> Schedule:
    return Schedule(cron="*/10 * * * *", concurrency=concurrency, **fields)  # type: ignore[arg-type]


def test_complaint_04_a_job_waits_for_its_time_and_then_runs_once() -> None:
    cluster = _Cluster(_spec())
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
    cluster = _Cluster(_spec())
    cluster.now_ms = START_MS + FIRST * MINUTE
    old = decided(cluster.view, now_ms=cluster.now_ms)
    new = decided(cluster.view, now_ms=cluster.now_ms + 3_000)
    assert of_kind(old, DecideFire) == of_kind(new, DecideFire)
    cluster.propose(Batch(commands=old.commands))
    applied = commit(cluster.view, Batch(commands=new.commands), at_ms=cluster.now_ms + 3_000)
    assert "DecideFire" == applied.outcome.effects[0][0]
    assert cluster.view.runs == applied.view.runs


def test_a_fire_is_refused_also_when_its_run_is_long_forgotten() -> None:
    cluster = _Cluster(_spec(keep_complete=0))
    cluster.at(FIRST * MINUTE)
    (fire,) = cluster.fires
    cluster.end()
    assert [] == cluster.runs()
    applied = commit(cluster.view, fire)
    assert applied.outcome.error is not None
    assert not applied.view.runs


def test_complaint_04_forbid_skips_a_fire_while_a_run_is_under_way_and_says_so() -> None:
    cluster = _Cluster(_spec())
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(FIRST, RUN), (FIRST + 10, SKIP)] == cluster.verdicts()
    assert (1, "run 1 was still under way") == (cluster.job().skipped, cluster.job().skip_message)
    cluster.end()
    cluster.at((FIRST + 20) * MINUTE)
    assert [(1, COMPLETE), (2, RUNNING)] == cluster.runs()


def test_queue_runs_once_when_the_present_run_is_over() -> None:
    cluster = _Cluster(_spec(schedule=_schedule(Concurrency.QUEUE)))
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
    cluster = _Cluster(_spec(schedule=_schedule(Concurrency.ALLOW)))
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(1, RUNNING), (2, RUNNING)] == cluster.runs()
    assert 2 == sum(task.is_live for task in cluster.view.tasks.values())


def test_replace_stops_the_present_run_and_begins_when_it_has_stopped() -> None:
    cluster = _Cluster(_spec(schedule=_schedule(Concurrency.REPLACE)))
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
        (_schedule(), 0, RUN),
        (_schedule(), 9 * MINUTE, RUN),
        (_schedule(missed_fires=MissedFires.SKIP), 60_000, RUN),
        (_schedule(missed_fires=MissedFires.SKIP), 60_001, SKIP),
        (_schedule(starting_deadline_s=5), 5_000, RUN),
        (_schedule(starting_deadline_s=5), 5_001, SKIP),
    ],
)
def test_a_late_fire_is_made_up_for_as_the_schedule_says(
    schedule: Schedule, late_ms: int, verdict: FireVerdict
) -> None:
    cluster = _Cluster(_spec(schedule=schedule))
    cluster.at(FIRST * MINUTE + late_ms)
    assert [(FIRST, verdict)] == cluster.verdicts()


def test_one_run_makes_up_for_all_that_was_missed() -> None:
    cluster = _Cluster(_spec())
    cluster.at((FIRST + 55) * MINUTE)
    assert [(FIRST + 50, RUN)] == cluster.verdicts()
    assert START_MS + (FIRST + 60) * MINUTE == cluster.job().next_fire_ms


def test_after_a_very_long_time_the_last_fire_is_found_in_steps() -> None:
    cluster = _Cluster(_spec(schedule=Schedule(cron="* * * * *")))
    cluster.at(3_500 * MINUTE)
    *skipped, last = cluster.verdicts()
    assert (3_500, RUN) == last
    assert {SKIP} == {verdict for _, verdict in skipped}
    assert 3 == len(skipped)


def test_history_is_bounded_for_each_end() -> None:
    cluster = _Cluster(_spec(keep_complete=2, keep_failed=1))
    ends = [TaskState.COMPLETE, TaskState.FAILED] * 4
    for number, end in enumerate(ends):
        cluster.at((FIRST + 10 * number) * MINUTE)
        cluster.end(end)
    assert [(5, COMPLETE), (7, COMPLETE), (8, FAILED)] == cluster.runs()
    assert 3 == len(cluster.view.services)
    assert 3 == len(cluster.view.tasks)


def test_a_paused_job_does_not_fire_and_makes_up_for_nothing() -> None:
    cluster = _Cluster(_spec())
    cluster.propose(PauseJob(job_id=cluster.job().id))
    cluster.at((FIRST + 5) * MINUTE)
    assert [] == cluster.fires
    cluster.propose(ResumeJob(job_id=cluster.job().id))
    cluster.control()
    assert [] == cluster.fires
    cluster.at((FIRST + 10) * MINUTE)
    assert [(FIRST + 10, RUN)] == cluster.verdicts()


def test_what_was_decided_before_a_pause_is_refused_after_it() -> None:
    cluster = _Cluster(_spec())
    cluster.now_ms = START_MS + FIRST * MINUTE
    (stale,) = of_kind(decided(cluster.view, now_ms=cluster.now_ms), DecideFire)
    cluster.propose(PauseJob(job_id=cluster.job().id))
    applied = commit(cluster.view, stale)
    assert applied.outcome.error is not None
    assert not applied.view.runs


def test_another_schedule_counts_from_when_it_was_put() -> None:
    cluster = _Cluster(_spec())
    cluster.at((FIRST - 1) * MINUTE + 30_000)
    hourly = _spec(schedule=Schedule(cron="0 * * * *"))
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=(hourly,))))
    cluster.control()
    planned = cluster.job().next_fire_ms
    assert planned is not None
    assert 0 == planned % (60 * MINUTE)
    assert 2 == cluster.job().edition


def test_complaint_04_time_zones_count() -> None:
    cluster = _Cluster(_spec(schedule=Schedule(cron="0 3 * * *", timezone="Asia/Kolkata")))
    planned = cluster.job().next_fire_ms
    assert planned is not None
    assert 21 * 60 + 30 == planned // MINUTE % (24 * 60)


def test_a_run_by_hand_is_one_more_and_changes_nothing_of_the_schedule() -> None:
    cluster = _Cluster(_spec())
    before = cluster.job().next_fire_ms
    cluster.propose(RunJob(job_id=cluster.job().id))
    cluster.control()
    assert [(1, RUNNING)] == cluster.runs()
    assert before == cluster.job().next_fire_ms
    (run,) = cluster.view.runs.values()
    assert (Trigger.MANUAL, None) == (run.trigger, run.scheduled_ms)


def test_what_is_not_for_hands_is_refused() -> None:
    cluster = _Cluster(_spec(is_manual=False))
    applied = commit(cluster.view, RunJob(job_id=cluster.job().id))
    assert applied.outcome.error is not None
    assert "not to be run by hand" in applied.outcome.error.message


def test_a_job_runs_the_jobs_that_it_depends_on_first() -> None:
    late = _spec("s_late", schedule=None)
    waits = evolve(late.service, depends_on=(Dependency(service="s_job"),))
    cluster = _Cluster(_spec(schedule=None), evolve(late, service=waits))
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
    cluster = _Cluster(_spec(schedule=_schedule(Concurrency.ALLOW)))
    for minutes in (FIRST, FIRST + 10):
        cluster.at(minutes * MINUTE)
    assert [(FIRST, RUN), (FIRST + 10, SKIP)] == cluster.verdicts()
    applied = commit(cluster.view, RunJob(job_id=cluster.job().id))
    assert applied.outcome.error is not None
    assert "job s_job has 1 runs under way, its limit" == applied.outcome.error.message


def test_jobs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MAX_JOBS", 1)
    spec = StackSpec(name="s", services=(), jobs=(_spec("s_a"), _spec("s_b")))
    applied = commit(View(), PutStack(spec=spec))
    assert applied.outcome.error is not None
    assert "the cluster has 1 jobs, its limit" == applied.outcome.error.message
    assert not applied.view.jobs


def test_runs_survive_a_deploy_of_their_stack_and_go_with_their_job() -> None:
    cluster = _Cluster(_spec())
    cluster.at(FIRST * MINUTE)
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=(_spec(),))))
    cluster.control()
    assert [(1, RUNNING)] == cluster.runs()
    cluster.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=())))
    left = (cluster.view.jobs, cluster.view.runs, cluster.view.services)
    assert not any(left)


def test_a_stack_takes_its_jobs_along() -> None:
    cluster = _Cluster(_spec())
    cluster.at(FIRST * MINUTE)
    cluster.propose(RemoveStack(name="s"))
    cluster.control()
    cluster.end(TaskState.SHUTDOWN)
    left = (cluster.view.jobs, cluster.view.runs, cluster.view.services, cluster.view.tasks)
    assert not any(left)


def test_a_service_cannot_take_the_name_of_a_run() -> None:
    cluster = _Cluster(_spec())
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
