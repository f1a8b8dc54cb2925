"""A job's slots are filled, so many at a time, until each has come to its end; then it is over."""

from attrs import evolve

from meshswarm.control.decide import Decision
from meshswarm.ids import TaskId
from meshswarm.model.job import Run, RunPhase, RunReason
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.task import DesiredState, Reason, TaskState
from meshswarm.store.commands import CreateTask, RestartService, ScaleService, SetDesired
from meshswarm.store.job_commands import SetRun
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, commit, node, service, task, view, with_rows
from tests.support.deciding import carried_out, decided, of_kind

N1, N2, N3 = node("n1"), node("n2"), node("n3")
ONCE = RestartPolicy(condition=RestartCondition.NONE)
TWICE = RestartPolicy(max_attempts=1)


def _job(name: str = "job", **fields: object):  # type: ignore[no-untyped-def]
    return service(name, **{"mode": Mode.REPLICATED_JOB, **fields})  # type: ignore[arg-type]


def _slots(decision: Decision) -> list[int]:
    return [command.slot for command in of_kind(decision, CreateTask)]


def _run(after: View) -> tuple[RunPhase, RunReason, int, int]:
    (run,) = after.runs.values()
    return run.phase, run.reason, run.completed, run.failed


def _done(before: View, *slots: int, state: TaskState = TaskState.COMPLETE) -> View:
    """The view once the live tasks of these slots have ended so."""
    ended = [
        evolve(one, status=evolve(one.status, state=state))
        for one in before.tasks.values()
        if one.slot in slots and one.is_live
    ]
    return with_rows(before, *ended)


def test_a_job_fills_so_many_slots_at_a_time_as_it_may() -> None:
    job = _job(replicas=5, max_concurrent=2)
    first = decided(view([N1, N2], [job]))
    assert [1, 2] == _slots(first)
    running = carried_out(view([N1, N2], [job]), first)
    assert [] == _slots(decided(running))
    assert [3] == _slots(decided(_done(running, 1)))


def test_without_a_limit_all_slots_are_under_way_at_once() -> None:
    assert [1, 2, 3] == _slots(decided(view([N1], [_job(replicas=3)])))


def test_a_job_is_complete_when_every_slot_is_and_stays_so() -> None:
    job = _job(replicas=2)
    before = view([N1], [job])
    before = carried_out(before, decided(before))
    half = _done(before, 1)
    half = carried_out(half, decided(half))
    assert (RunPhase.RUNNING, RunReason.NONE, 1, 0) == _run(half)
    whole = _done(half, 2)
    whole = carried_out(whole, decided(whole))
    assert (RunPhase.COMPLETE, RunReason.DONE, 2, 0) == _run(whole)
    assert () == decided(whole, now_ms=NOW_MS + 10**9).commands


def test_any_means_on_failure_to_a_job_and_failures_back_off() -> None:
    job = _job()
    dead = task(job, 1, N1, TaskState.FAILED, id="a", attempt=1, ran_ms=10)
    (created,) = of_kind(decided(view([N1], [job], [dead])), CreateTask)
    assert (1, 2, Reason.BACKOFF) == (created.slot, created.attempt, created.reason)
    assert created.not_before_ms == NOW_MS + 500


def test_a_slot_that_used_up_its_attempts_fails_and_the_others_go_on_to_their_end() -> None:
    job = _job(replicas=2, max_concurrent=1, restart=TWICE)
    dead = [
        task(job, 1, N1, TaskState.FAILED, id=name, attempt=n, message="exit code 3", ran_ms=10)
        for n, name in enumerate(("a", "b"))
    ]
    before = view([N1], [job], dead)
    decision = decided(before)
    assert [2] == _slots(decision)
    after = carried_out(before, decision)
    assert (RunPhase.RUNNING, RunReason.NONE, 0, 1) == _run(after)
    after = _done(after, 2)
    after = carried_out(after, decided(after))
    assert (RunPhase.FAILED, RunReason.TASKS_FAILED, 1, 1) == _run(after)
    (run,) = after.runs.values()
    assert run.message == (
        "1 of 2 slots failed: job.1: it failed (exit code 3), and was restarted 1 times, its limit"
    )
    assert run.ended_at_ms == NOW_MS


def test_what_is_to_run_once_is_not_repeated_after_its_node_was_lost() -> None:
    job = _job(restart=ONCE)
    lost = task(job, 1, N1, TaskState.LOST, id="a")
    before = view([N2], [job], [lost])
    after = carried_out(before, decided(before))
    assert (RunPhase.FAILED, RunReason.TASKS_FAILED, 0, 1) == _run(after)
    assert {"a"} == set(after.tasks)


def test_a_lost_task_of_any_other_job_is_repeated_elsewhere() -> None:
    job = _job()
    lost = task(job, 1, N1, TaskState.LOST, id="a")
    (created,) = of_kind(decided(view([N2], [job], [lost])), CreateTask)
    assert N2.id == created.node_id


def test_at_its_deadline_a_job_fails_and_is_stopped() -> None:
    job = _job(replicas=2, active_deadline_s=60)
    before = view([N1], [job], [task(job, 1, N1), task(job, 2, N1, TaskState.COMPLETE)])
    early = decided(before, now_ms=NOW_MS + 59_999)
    assert early.wake_at_ms == NOW_MS + 60_000
    assert [] == of_kind(early, SetDesired)
    late = decided(before, now_ms=NOW_MS + 60_000)
    assert of_kind(late, SetDesired) == [
        SetDesired(task_id=TaskId("job-1"), desired=DesiredState.SHUTDOWN)
    ]
    after = carried_out(before, late)
    assert (RunPhase.FAILED, RunReason.DEADLINE, 1, 0) == _run(after)
    assert "1 of 2 slots were" in next(iter(after.runs.values())).message
    assert () == decided(after, now_ms=NOW_MS + 10**9).commands


def test_a_restart_runs_the_job_again_and_removes_the_earlier_tasks() -> None:
    job = _job(replicas=2)
    ended = [task(job, slot, N1, TaskState.COMPLETE) for slot in (1, 2)]
    over = Run(service_id=job.id, started_at_ms=0, phase=RunPhase.COMPLETE, ended_at_ms=1)
    before = view([N1], [job], ended, runs=[over])
    again = commit(before, RestartService(service_id=job.id)).view
    run = again.runs[job.id]
    assert (RunPhase.RUNNING, 2, None) == (run.phase, run.edition, run.ended_at_ms)
    assert (2, None) == (again.services[job.id].revision, again.rollouts.get(job.id))
    after = carried_out(again, decided(again))
    assert [(1, 2), (2, 2)] == sorted((one.slot, one.revision) for one in after.tasks.values())


def test_a_new_task_waits_until_its_slots_old_one_has_stopped() -> None:
    job = _job()
    before = view([N1], [job], [task(job, 1, N1, id="old")])
    again = commit(before, RestartService(service_id=job.id)).view
    (created,) = of_kind(decided(again), CreateTask)
    assert (DesiredState.READY, Reason.WAITS_FOR_PREDECESSOR) == (created.desired, created.reason)
    after = carried_out(again, decided(again))
    assert DesiredState.REMOVE is after.tasks[TaskId("old")].desired


def test_more_completions_carry_a_job_on() -> None:
    job = _job(replicas=1)
    over = Run(service_id=job.id, started_at_ms=0, phase=RunPhase.COMPLETE, ended_at_ms=1)
    before = view([N1], [job], [task(job, 1, N1, TaskState.COMPLETE)], runs=[over])
    more = commit(before, ScaleService(service_id=job.id, replicas=3)).view
    assert [2, 3] == _slots(decided(more))


def test_a_verdict_on_an_earlier_run_is_refused() -> None:
    job = _job()
    before = view([N1], [job])
    again = commit(before, RestartService(service_id=job.id)).view
    stale = SetRun(
        service_id=job.id,
        edition=1,
        phase=RunPhase.COMPLETE,
        reason=RunReason.DONE,
        message="",
        completed=1,
        failed=0,
    )
    applied = commit(again, stale)
    assert applied.outcome.error is not None
    assert RunPhase.RUNNING is applied.view.runs[job.id].phase


def test_a_global_job_runs_once_on_every_node_and_on_those_that_come_later() -> None:
    job = _job(mode=Mode.GLOBAL_JOB)
    down = node("n3", state=NodeState.DOWN)
    before = view([N1, N2, down], [job])
    decision = decided(before, silent={"n3": 10**6})
    assert [N1.id, N2.id] == [c.node_id for c in of_kind(decision, CreateTask)]
    after = _done(carried_out(before, decision), 0)
    after = carried_out(after, decided(after, silent={"n3": 10**6}))
    assert (RunPhase.COMPLETE, RunReason.DONE, 2, 0) == _run(after)
    back = decided(after)  # n3 is heard again
    assert [N3.id] == [c.node_id for c in of_kind(back, CreateTask)]
    after = carried_out(after, back)
    assert (RunPhase.RUNNING, RunReason.NONE, 2, 0) == _run(after)


def test_a_global_job_that_no_node_suits_is_not_complete() -> None:
    drained = node("n1", availability=Availability.DRAIN)
    job = _job(mode=Mode.GLOBAL_JOB)
    after = view([drained], [job])
    assert () == decided(after).commands
    assert RunPhase.RUNNING is after.runs[job.id].phase


def test_a_drained_nodes_task_is_repeated_elsewhere_unless_it_must_run_once() -> None:
    drained = node("n1", availability=Availability.DRAIN)
    for restart, moved in ((RestartPolicy(), True), (ONCE, False)):
        job = _job(restart=restart)
        decision = decided(view([drained, N2], [job], [task(job, 1, drained)]))
        created = of_kind(decision, CreateTask)
        assert ([N2.id] if moved else []) == [one.node_id for one in created]


def test_a_job_without_completions_is_complete() -> None:
    before = view([N1], [_job(replicas=0)])
    assert (RunPhase.COMPLETE, RunReason.DONE, 0, 0) == _run(carried_out(before, decided(before)))
