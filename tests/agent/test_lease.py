"""How long no manager has known of a node, and what its agent does about it."""

from pathlib import Path

from attrs import evolve

from meshswarm.agent import plan
from meshswarm.agent.card import Failure, Report, Silence, Start, Step, Stop, Wait
from meshswarm.agent.contact import ContactFile, boot_ms
from meshswarm.agent.lease import MAX_SENT, Lease
from meshswarm.ids import TaskId
from meshswarm.model.task import Reason, TaskState
from tests.agent.cards import assignment, full, spec
from tests.agent.probing import running
from tests.agent.toy import Toy

T1 = TaskId("t1")

FENCED = spec(stop_after_s=30.0, stop_grace_period_s=5.0)


def test_it_counts_from_the_sending_of_what_is_vouched_for() -> None:
    lease = Lease(0)
    for beat, at_ms in ((1, 1_000), (2, 2_000), (3, 3_000)):
        lease.sent(beat, at_ms)
    assert 3_500 == lease.alone_ms(3_500)
    lease.vouched(2)
    assert 1_500 == lease.alone_ms(3_500)
    lease.vouched(1)
    assert 1_500 == lease.alone_ms(3_500)
    lease.vouched(3)
    assert 500 == lease.alone_ms(3_500)


def test_it_keeps_no_more_beats_than_it_says() -> None:
    lease = Lease(0)
    for beat in range(1, 3 * MAX_SENT):
        lease.sent(beat, beat)
    lease.vouched(MAX_SENT)  # given up long ago: no reason to believe anything
    assert 0 == lease.contact_ms
    lease.vouched(3 * MAX_SENT - 1)
    assert 3 * MAX_SENT - 1 == lease.contact_ms


def test_the_next_process_counts_on_and_one_of_another_boot_does_not(tmp_path: Path) -> None:
    file = ContactFile(tmp_path / "agent" / "contact")
    assert file.load() is None
    now_ms = boot_ms()
    file.save(now_ms)
    assert now_ms == ContactFile(tmp_path / "agent" / "contact").load()
    for text in ("another-boot 12\n", "torn", ""):
        (tmp_path / "agent" / "contact").write_text(text)
        assert file.load() is None


# --- what the plan makes of it --------------------------------------------------------------------


def _running() -> Toy:
    toy = Toy()
    toy.tell(full(assignment(runs=FENCED)))
    toy.settle()
    return toy


def _next(toy: Toy, alone_ms: int) -> Step:
    return plan.next_step(toy.cards[T1], toy.cards, toy.now_ms, alone_ms)


def test_a_task_is_stopped_once_no_manager_has_known_of_its_node_for_so_long() -> None:
    toy = _running()
    assert Wait(until_ms=toy.now_ms + 1) == _next(toy, 29_999)
    assert Stop(kill=False, fenced=True) == _next(toy, 30_000)
    toy.cards[T1] = plan.after(toy.cards[T1], Stop(kill=False, fenced=True), None, toy.now_ms)
    # It ends as anything does, by SIGKILL if it must, whether a manager is back by then or not.
    assert Wait(until_ms=toy.now_ms + 5_000) == _next(toy, 0)
    toy.now_ms += 5_000
    assert Stop(kill=True) == _next(toy, 40_000)
    toy.settle()
    status = toy.status()
    assert (TaskState.SHUTDOWN, Reason.FENCED) == (status.state, status.reason)
    assert "its agent stopped it: no manager knew of its node for 30 s" == status.message


def test_others_run_on_whatever_happens() -> None:
    toy = Toy()
    toy.tell(full(assignment()))
    toy.settle()
    assert Wait() == _next(toy, 10**9)


def test_nothing_is_begun_that_would_have_to_end() -> None:
    toy = Toy()
    toy.tell(full(assignment(runs=FENCED)))
    toy.step(T1)
    toy.step(T1)
    toy.step(T1)
    assert isinstance(_next(toy, 0), Start)
    step = _next(toy, 30_000)
    assert isinstance(step, Report)
    assert (TaskState.SHUTDOWN, Reason.FENCED) == (step.status.state, step.status.reason)


def test_one_of_which_nobody_knows_whether_it_runs_is_not_given_up() -> None:
    toy = _running()
    silence = Silence(since_ms=toy.now_ms, message="the engine does not answer")
    toy.cards[T1] = evolve(toy.cards[T1], silence=silence)
    step = _next(toy, 0)
    assert isinstance(step, Report)
    assert Reason.RUNTIME_UNAVAILABLE is step.status.reason
    toy.cards[T1] = plan.after(toy.cards[T1], step, None, toy.now_ms)
    toy.now_ms += 10 * plan.PATIENCE_MS
    assert Wait(until_ms=toy.now_ms + 30_000) == _next(toy, 0)
    assert Stop(kill=False, fenced=True) == _next(toy, 30_000)


def test_what_cannot_be_stopped_is_tried_again() -> None:
    toy = _running()
    failed = Failure(reason=Reason.RUNTIME_UNAVAILABLE, message="no answer")
    stop = Stop(kill=False, fenced=True)
    toy.cards[T1] = plan.after(toy.cards[T1], stop, failed, toy.now_ms)
    assert Wait(until_ms=toy.now_ms + plan.RETRY_FIRST_MS) == _next(toy, 30_000)
    toy.now_ms += plan.RETRY_FIRST_MS
    assert stop == _next(toy, 30_500)


# --- with a real process ------------------------------------------------------------------------


async def test_a_process_is_ended_when_no_manager_has_known_of_its_node_for_long(
    tmp_path: Path,
) -> None:
    fenced = spec("/bin/sh", "-c", "trap '' TERM; sleep 60 & wait", stop_after_s=0.2)
    fenced = evolve(fenced, stop_grace_period_s=0.1)
    async with running(tmp_path / "agent") as rig:
        other = assignment("t2", slot=2, runs=spec("sleep", "60"))
        rig.supervisor.told(full(assignment(runs=fenced), other))
        await rig.until(lambda: sum(one.state is TaskState.RUNNING for one in rig.said) == 2)
        rig.alone_ms = 1_000
        await rig.until(lambda: any(one.state.is_terminal for one in rig.said))
        [end] = [one for one in rig.said if one.state.is_terminal]
        assert (TaskState.SHUTDOWN, Reason.FENCED) == (end.state, end.reason)
        assert "its agent stopped it: no manager knew of its node for 0.2 s" == end.message
        # It ignores its stop signal, so SIGKILL came after the grace period; the other one runs on.
        assert 137 == end.exit_code
        assert rig.supervisor.cards[TaskId("t2")].runs
