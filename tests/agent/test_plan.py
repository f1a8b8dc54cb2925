"""The agent's decisions, driven by a synchronous toy that carries out one step after the other."""

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshswarm.agent import plan
from meshswarm.agent.card import (
    Card,
    Exit,
    Failure,
    HeldState,
    Prepare,
    Remove,
    Silence,
    Start,
    Step,
    Stop,
    Wait,
)
from meshswarm.ids import TaskId
from meshswarm.model.task import DesiredState, Health, Reason, TaskState, TaskStatus
from tests.agent.cards import assignment, full, gone, spec, upsert
from tests.agent.toy import Toy, remains, running

T1 = TaskId("t1")


def test_an_assigned_task_comes_to_run() -> None:
    toy = running()
    assert ["preparing", "Prepare", "starting", "Start", "running"] == toy.did()
    assert "id-t1" == toy.status().runtime_id
    assert 1_000 == toy.status().started_at_ms


def test_desired_ready_prepares_only_and_the_word_starts_it() -> None:
    toy = Toy()
    toy.tell(full(assignment(desired=DesiredState.READY)))
    toy.settle()
    assert ["preparing", "Prepare", "ready"] == toy.did()
    toy.tell(upsert(assignment()))
    toy.settle()
    assert ["starting", "Start", "running"] == toy.did()[3:]


def test_desired_shutdown_stops_and_keeps_the_remains_for_their_logs() -> None:
    toy = running()
    toy.tell(upsert(assignment(desired=DesiredState.SHUTDOWN)))
    toy.settle()
    assert ["Stop", "shutdown"] == toy.did()[5:]
    assert (Reason.STOPPED, 143) == (toy.status().reason, toy.status().exit_code)
    assert toy.cards[T1].held is not None
    toy.tell(gone("t1"))
    toy.settle()
    assert ["Remove", "Forget"] == toy.did()[7:]
    assert {} == toy.cards


def test_desired_remove_leaves_nothing() -> None:
    toy = running()
    toy.tell(upsert(assignment(desired=DesiredState.REMOVE)))
    toy.settle()
    assert ["Stop", "shutdown", "Remove"] == toy.did()[5:]


def test_what_ignores_its_stop_signal_is_killed_after_the_grace_and_again_later() -> None:
    toy = running()
    toy.stubborn = True
    toy.tell(upsert(assignment(desired=DesiredState.SHUTDOWN, runs=spec(stop_grace_period_s=3.0))))
    toy.settle()
    step = plan.next_step(toy.cards[T1], toy.cards, toy.now_ms)
    assert Wait(until_ms=4_000) == step
    toy.now_ms = 4_000
    toy.settle()
    assert ["Stop", "Kill", "shutdown"] == toy.did()[5:]


def test_sigkill_is_repeated_for_what_does_not_die() -> None:
    card = plan.seen(Card(task_id=T1, confirmed=True), evolve(remains(), state=HeldState.RUNNING))
    card = plan.after(card, Stop(kill=False), None, 0)
    assert Wait(until_ms=10_000) == plan.next_step(card, {}, 0)
    card = plan.after(card, Stop(kill=True), None, 10_000)
    assert Wait(until_ms=20_000) == plan.next_step(card, {}, 10_000)
    assert Stop(kill=True) == plan.next_step(card, {}, 20_000)


def test_each_end_has_its_state_and_reason() -> None:
    for how, state, reason in (
        (Exit(code=0), TaskState.COMPLETE, Reason.COMPLETED),
        (Exit(code=3), TaskState.FAILED, Reason.EXITED),
        (Exit(code=137), TaskState.FAILED, Reason.SIGNALLED),
        (Exit(code=137, out_of_memory=True), TaskState.FAILED, Reason.OUT_OF_MEMORY),
        (Exit(code=None), TaskState.FAILED, Reason.VANISHED),
        (Exit(code=255), TaskState.FAILED, Reason.EXITED),
        (
            Exit(code=127, failure=Reason.COMMAND_NOT_FOUND),
            TaskState.REJECTED,
            Reason.COMMAND_NOT_FOUND,
        ),
    ):
        toy = running()
        toy.end(T1, how)
        toy.settle()
        assert (state, reason) == (toy.status().state, toy.status().reason)


def test_an_ended_task_never_starts_again() -> None:
    toy = running()
    toy.end(T1, Exit(code=1))
    toy.settle()
    toy.tell(upsert(assignment()))
    toy.cards[T1] = plan.seen(toy.cards[T1], None)
    toy.settle()
    assert TaskState.FAILED is toy.status().state
    assert 1 == toy.did().count("Start")


def test_what_vanished_has_failed() -> None:
    toy = running()
    toy.cards[T1] = plan.seen(toy.cards[T1], None)
    toy.settle()
    assert Reason.VANISHED is toy.status().reason


def test_an_unhealthy_task_is_stopped_and_has_failed() -> None:
    toy = running()
    held = toy.cards[T1].held
    assert held is not None
    unwell = evolve(held, health=Health.UNHEALTHY, health_message="no answer")
    toy.cards[T1] = plan.seen(toy.cards[T1], unwell)
    toy.settle()
    assert ["running", "Stop", "failed"] == toy.did()[5:]
    assert (Reason.UNHEALTHY, "its health check failed: no answer") == (
        toy.status().reason,
        toy.status().message,
    )


def test_a_change_of_health_is_reported() -> None:
    toy = running()
    held = toy.cards[T1].held
    assert held is not None
    toy.cards[T1] = plan.seen(toy.cards[T1], evolve(held, health=Health.HEALTHY))
    toy.settle()
    assert Health.HEALTHY is toy.status().health


def test_a_spec_that_cannot_be_started_is_rejected_and_cleared_away() -> None:
    toy = Toy()
    toy.failures[Start] = Failure(reason=Reason.PORT_IN_USE, message="port 80 is taken")
    toy.tell(full(assignment()))
    toy.settle()
    assert ["preparing", "Prepare", "starting", "Start", "Remove"] == toy.did()
    assert (TaskState.REJECTED, Reason.PORT_IN_USE, "port 80 is taken") == (
        toy.status().state,
        toy.status().reason,
        toy.status().message,
    )


def test_a_silent_runtime_is_tried_again_for_a_while_then_the_task_is_rejected() -> None:
    toy = Toy()
    toy.failures[Prepare] = Failure(reason=Reason.RUNTIME_UNAVAILABLE, message="no engine")
    toy.tell(full(assignment()))
    toy.settle()
    assert (TaskState.PREPARING, Reason.RUNTIME_UNAVAILABLE) == (
        toy.status().state,
        toy.status().reason,
    )
    while not toy.status().state.is_terminal:
        step = plan.next_step(toy.cards[T1], toy.cards, toy.now_ms)
        assert isinstance(step, Wait)
        assert step.until_ms is not None
        toy.now_ms = step.until_ms
        toy.settle()
    assert TaskState.REJECTED is toy.status().state
    assert plan.PATIENCE_MS <= toy.now_ms <= plan.PATIENCE_MS + 2 * plan.RETRY_MAX_MS


def test_a_silent_runtime_that_comes_back_is_used() -> None:
    toy = Toy()
    toy.failures[Start] = Failure(reason=Reason.RUNTIME_UNAVAILABLE, message="no engine")
    toy.tell(full(assignment()))
    toy.settle()
    toy.failures.clear()
    toy.now_ms += plan.RETRY_FIRST_MS
    toy.settle()
    assert (TaskState.RUNNING, Reason.NONE) == (toy.status().state, toy.status().reason)
    assert toy.cards[T1].trouble is None


def test_one_long_failure_among_answers_is_tried_a_second_time_and_no_more() -> None:
    toy = Toy()
    toy.now_ms = 100_000
    long = Failure(reason=Reason.RUNTIME_UNAVAILABLE, message="no answer", lasted_ms=60_000)
    toy.failures[Start] = long
    toy.tell(full(assignment()))
    toy.settle()
    assert (TaskState.STARTING, Reason.RUNTIME_UNAVAILABLE) == (
        toy.status().state,
        toy.status().reason,
    )
    toy.now_ms += plan.RETRY_FIRST_MS
    toy.settle()
    assert TaskState.REJECTED is toy.status().state


def test_while_the_runtime_is_silent_long_failures_are_not_tried_again() -> None:
    toy = Toy()
    toy.now_ms = 100_000
    toy.tell(full(assignment()))
    toy.failures[Prepare] = Failure(
        reason=Reason.RUNTIME_UNAVAILABLE, message="x", lasted_ms=60_000
    )
    toy.cards[T1] = evolve(toy.cards[T1], silence=Silence(since_ms=60_000, message="x"))
    toy.settle()
    assert TaskState.REJECTED is toy.status().state


def test_what_waits_for_a_silent_runtime_says_so_until_it_answers() -> None:
    preparing = evolve(running().cards[T1], status=TaskStatus(state=TaskState.PREPARING), held=None)
    waiting = plan.heard(preparing, Silence(since_ms=1, message="no engine"))
    assert (TaskState.PREPARING, Reason.RUNTIME_UNAVAILABLE, "no engine") == (
        waiting.status.state,
        waiting.status.reason,
        waiting.status.message,
    )
    assert preparing == plan.heard(waiting, None)
    done = running().cards[T1]
    assert done.status == plan.heard(done, Silence(since_ms=1, message="no engine")).status


def silent(toy: Toy, since_ms: int = 0) -> None:
    silence = Silence(since_ms=since_ms, message="no engine")
    toy.cards[T1] = evolve(toy.cards[T1], silence=silence)
    toy.settle()


def test_a_task_whose_runtime_falls_silent_says_so_and_is_fine_when_it_is_back() -> None:
    toy = running()
    silent(toy)
    assert (TaskState.RUNNING, Reason.RUNTIME_UNAVAILABLE, "no engine") == (
        toy.status().state,
        toy.status().reason,
        toy.status().message,
    )
    toy.cards[T1] = evolve(toy.cards[T1], silence=None)
    toy.settle()
    assert (TaskState.RUNNING, Reason.NONE) == (toy.status().state, toy.status().reason)


def test_a_task_whose_runtime_stays_silent_is_given_up_and_stopped_if_it_still_runs() -> None:
    toy = running()
    silent(toy)
    toy.now_ms = plan.PATIENCE_MS - 1
    toy.settle()
    assert TaskState.RUNNING is toy.status().state
    toy.now_ms = plan.PATIENCE_MS
    toy.settle()
    assert (TaskState.FAILED, Reason.RUNTIME_UNAVAILABLE, "no engine (for 30 s)") == (
        toy.status().state,
        toy.status().reason,
        toy.status().message,
    )
    assert "Stop" == toy.did()[-1]


def test_a_stop_does_not_wait_for_ever_for_a_silent_runtime() -> None:
    toy = running()
    toy.stubborn = True
    silent(toy)
    toy.tell(upsert(assignment(desired=DesiredState.SHUTDOWN)))
    toy.now_ms = plan.PATIENCE_MS
    toy.settle()
    assert TaskState.FAILED is toy.status().state


def test_an_end_that_was_seen_before_the_silence_is_told_as_it_was() -> None:
    toy = running()
    toy.end(T1, Exit(code=3))
    silent(toy)
    assert (TaskState.FAILED, Reason.EXITED) == (toy.status().state, toy.status().reason)


def test_a_pull_is_said_as_long_as_it_lasts() -> None:
    toy = Toy()
    toy.failures[Prepare] = Failure(reason=Reason.RUNTIME_UNAVAILABLE, message="no engine")
    toy.tell(full(assignment()))
    toy.settle()
    pulling = plan.pulled(toy.cards[T1], "app:1")
    assert (Reason.PULLING_IMAGE, "the image app:1 is being pulled") == (
        pulling.status.reason,
        pulling.status.message,
    )
    over = plan.pulled(pulling, "")
    assert (TaskState.PREPARING, Reason.NONE) == (over.status.state, over.status.reason)
    assert toy.cards[T1] == plan.pulled(toy.cards[T1], ""), "other reasons stay"
    assert running().cards[T1] == plan.pulled(running().cards[T1], "app:1")


def test_a_failed_stop_is_said_and_tried_again() -> None:
    toy = running()
    toy.failures[Stop] = Failure(reason=Reason.STOP_FAILED, message="engine says no")
    toy.tell(upsert(assignment(desired=DesiredState.SHUTDOWN)))
    toy.settle()
    assert (TaskState.RUNNING, Reason.STOP_FAILED) == (toy.status().state, toy.status().reason)
    toy.failures.clear()
    toy.now_ms += plan.RETRY_FIRST_MS
    toy.settle()
    assert TaskState.SHUTDOWN is toy.status().state


def test_a_backoff_that_an_agent_remembers_is_waited_for_by_its_own_clock_too() -> None:
    """A leader an hour ahead, and a restart: the task was not started for an hour."""
    ahead = assignment(created_at_ms=3_600_000, not_before_ms=3_602_000)
    remembered = Card(task_id=T1, assignment=ahead, told_at_ms=3_600_000)
    cards = plan.told({T1: remembered}, full(ahead), 1_000)
    card = plan.seen(cards[T1], None)
    assert Wait(until_ms=3_000) == plan.next_step(card, {T1: card}, 1_000)


def test_a_backoff_is_waited_for_by_our_clock_if_the_leaders_is_ahead() -> None:
    toy = Toy()
    toy.tell(full(assignment(created_at_ms=9_000_000, not_before_ms=9_002_000)))
    toy.settle()
    assert [] == toy.did(), "what fails to prepare must back off as well"
    step = plan.next_step(toy.cards[T1], toy.cards, toy.now_ms)
    assert Wait(until_ms=3_000) == step
    toy.now_ms = 3_000
    toy.settle()
    assert TaskState.RUNNING is toy.status().state


def test_complaint_26_orphans_are_stopped_and_removed_but_only_once_a_manager_spoke() -> None:
    toy = Toy()
    toy.find(remains("old", state=HeldState.RUNNING))
    toy.settle()
    assert [] == toy.did("old")
    toy.tell(full())
    toy.settle()
    assert ["Stop", "shutdown", "Remove", "Forget"] == toy.did("old")
    assert Reason.NODE_RETURNED is toy.said[-1][1].reason


def test_a_successor_starts_once_its_superseded_predecessor_has_stopped() -> None:
    toy = Toy()
    toy.stubborn = True
    toy.find(remains("old", state=HeldState.RUNNING))
    toy.tell(full(assignment("new", fencing=2)))
    toy.settle()
    assert (TaskState.READY, Reason.WAITS_FOR_PREDECESSOR) == (
        toy.status("new").state,
        toy.status("new").reason,
    )
    toy.end(TaskId("old"), Exit(code=143))
    toy.settle()
    assert TaskState.RUNNING is toy.status("new").state


def test_start_first_lets_both_run() -> None:
    toy = running()
    toy.tell(upsert(assignment("t2", fencing=2)))
    toy.settle()
    assert TaskState.RUNNING is toy.status("t1").state
    assert TaskState.RUNNING is toy.status("t2").state


def test_a_restarted_agent_adopts_what_runs() -> None:
    toy = Toy()
    healthy = evolve(remains(state=HeldState.RUNNING), started_at_ms=500)
    toy.cards[T1] = Card(
        task_id=T1, assignment=assignment(), status=TaskStatus(state=TaskState.RUNNING)
    )
    toy.settle()
    assert [] == toy.did(), "before the runtime answered nobody knows"
    toy.find(healthy)
    toy.tell(full(assignment(state=TaskState.RUNNING)))
    toy.settle()
    assert ["running"] == toy.did()
    assert 500 == toy.status().started_at_ms


def test_a_restarted_agent_starts_nothing_on_its_own_memory() -> None:
    toy = Toy()
    toy.cards[T1] = plan.seen(Card(task_id=T1, assignment=assignment()), None)
    toy.settle()
    assert [] == toy.did()
    toy.tell(full(assignment()))
    toy.settle()
    assert TaskState.RUNNING is toy.status().state


def test_a_task_that_was_asked_to_stop_before_it_ran_is_over() -> None:
    toy = Toy()
    toy.tell(full(assignment(desired=DesiredState.SHUTDOWN)))
    toy.settle()
    assert ["shutdown"] == toy.did()


class AnyOrder(RuleBasedStateMachine):
    """Managers, tasks and faults do what they like: each task starts once, states move forward.

    The assertions are in `Toy.step`.
    """

    @initialize()
    def begin(self) -> None:
        self.toy = Toy()

    @rule(
        task=st.sampled_from(["t1", "t2"]),
        desired=st.sampled_from(list(DesiredState)),
        fencing=st.integers(1, 2),
    )
    def tell(self, task: str, desired: DesiredState, fencing: int) -> None:
        known = self.toy.cards.get(TaskId(task))
        if known and known.assignment and known.assignment.task.desired > desired:
            return
        self.toy.tell(upsert(assignment(task, desired=desired, fencing=fencing)))

    @rule(task=st.sampled_from(["t1", "t2"]))
    def forget(self, task: str) -> None:
        self.toy.tell(gone(task))

    @rule()
    def full_set_of_none(self) -> None:
        self.toy.tell(full())

    @rule(task=st.sampled_from(["t1", "t2"]))
    def step(self, task: str) -> None:
        if TaskId(task) in self.toy.cards:
            self.toy.step(TaskId(task))

    @rule(task=st.sampled_from(["t1", "t2"]), code=st.sampled_from([0, 1, 137, None]))
    def end(self, task: str, code: int | None) -> None:
        card = self.toy.cards.get(TaskId(task))
        if card and card.held and card.held.state is HeldState.RUNNING:
            self.toy.end(TaskId(task), Exit(code=code))

    @rule(step=st.sampled_from([Prepare, Start, Stop, Remove]), reason=st.sampled_from(Reason))
    def break_runtime(self, step: type[Step], reason: Reason) -> None:
        self.toy.failures[step] = Failure(reason=reason, message="injected")

    @rule()
    def mend_runtime(self) -> None:
        self.toy.failures.clear()

    @rule(ms=st.integers(0, 60_000))
    def wait(self, ms: int) -> None:
        self.toy.now_ms += ms

    @invariant()
    def nothing_runs_that_ended(self) -> None:
        for card in self.toy.cards.values():
            step = plan.next_step(card, self.toy.cards, self.toy.now_ms)
            if card.status.state.is_terminal:
                assert not isinstance(step, Prepare | Start)


TestAnyOrder = AnyOrder.TestCase
