"""What follows an ended task: at once, later, or never."""

import pytest
from attrs import evolve

from meshswarm.control.restart import Successor, stays_down, successor
from meshswarm.control.slots import Slot
from meshswarm.model.service import RestartCondition, RestartPolicy
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.commands import CreateTask, SetDesired
from meshswarm.store.view import Table
from tests.support.builders import NOW_MS, node, service, task, view, with_rows
from tests.support.deciding import carried_out, decided, kinds, of_kind

N1, N2 = node("n1"), node("n2")
WEB = service("web")
ANY = RestartPolicy()


def _ended(
    state: TaskState = TaskState.FAILED, *, attempt: int = 0, ran_ms: int = 10, **fields: object
) -> Task:
    return task(WEB, 1, N1, state, attempt=attempt, ran_ms=ran_ms, **fields)  # type: ignore[arg-type]


def _next(*tasks: Task, policy: RestartPolicy = ANY) -> Successor | None:
    return successor(Slot(number=1, tasks=tasks), policy, 1, NOW_MS)


def _delay_ms(attempt: int, policy: RestartPolicy = ANY) -> int:
    following = _next(_ended(attempt=attempt), policy=policy)
    assert following is not None
    assert following.attempt == attempt + 1
    return max(0, following.not_before_ms - NOW_MS)


def test_complaint_42_the_first_replacement_comes_at_once_then_the_delay_doubles() -> None:
    assert [_delay_ms(attempt) for attempt in range(5)] == [0, 500, 1_000, 2_000, 4_000]
    assert _delay_ms(40) == 300_000
    assert _delay_ms(10_000) == 300_000


def test_a_delay_of_the_users_own_is_kept_even_above_the_limit() -> None:
    assert _delay_ms(3, RestartPolicy(delay_s=900)) == 900_000
    assert _delay_ms(3, RestartPolicy(delay_s=0)) == 0


def test_what_ran_well_begins_anew() -> None:
    following = _next(_ended(attempt=7, ran_ms=600_000))
    assert following == Successor(revision=1, attempt=1)


def test_the_loss_of_a_node_neither_counts_nor_delays() -> None:
    lost = _ended(TaskState.LOST, attempt=2)
    assert _next(lost) == Successor(revision=1, attempt=2)
    waiting = evolve(lost, not_before_ms=NOW_MS + 700)
    following = _next(waiting)
    assert following is not None
    assert (following.attempt, following.not_before_ms) == (2, NOW_MS + 700)


@pytest.mark.parametrize(
    ("condition", "state", "is_replaced"),
    [
        (RestartCondition.ANY, TaskState.COMPLETE, True),
        (RestartCondition.ANY, TaskState.SHUTDOWN, True),
        (RestartCondition.ANY, TaskState.REJECTED, True),
        (RestartCondition.ON_FAILURE, TaskState.COMPLETE, False),
        (RestartCondition.ON_FAILURE, TaskState.FAILED, True),
        (RestartCondition.ON_FAILURE, TaskState.LOST, True),
        (RestartCondition.NONE, TaskState.FAILED, False),
        (RestartCondition.NONE, TaskState.LOST, False),
    ],
)
def test_conditions(condition: RestartCondition, state: TaskState, is_replaced: bool) -> None:
    policy = RestartPolicy(condition=condition)
    assert (_next(_ended(state), policy=policy) is not None) is is_replaced


def test_a_service_gives_up_after_its_attempts() -> None:
    policy = RestartPolicy(max_attempts=2)
    ends = [_ended(id=f"t{n}", attempt=n, created_at_ms=NOW_MS + n) for n in range(3)]
    assert _next(*ends[:2], policy=policy) is not None
    assert _next(*ends, policy=policy) is None
    said = stays_down(Slot(number=1, tasks=tuple(ends)), policy, 1)
    assert said == "it failed (), and was restarted 2 times, its limit"


def test_what_completed_is_told_as_such() -> None:
    done = Slot(number=1, tasks=(_ended(TaskState.COMPLETE),))
    once = RestartPolicy(condition=RestartCondition.NONE)
    assert stays_down(done, once, 1) == "it completed, and its restart condition is none"
    assert stays_down(Slot(number=1), once, 1) is None


def test_only_ends_of_the_same_revision_within_the_window_count() -> None:
    policy = RestartPolicy(max_attempts=1, window_s=60)
    last = _ended(id="last")
    old = _ended(id="old", created_at_ms=last.created_at_ms - 60_001)
    recent = _ended(id="recent", created_at_ms=last.created_at_ms - 60_000)
    assert _next(old, last, policy=policy) is not None
    assert _next(recent, last, policy=policy) is None
    assert _next(evolve(recent, revision=0), last, policy=policy) is not None
    lost = evolve(recent, status=evolve(recent.status, state=TaskState.LOST))
    assert _next(lost, last, policy=policy) is not None
    stopped = evolve(recent, desired=DesiredState.SHUTDOWN)
    assert _next(stopped, last, policy=policy) is not None


def test_a_replacement_waits_on_its_node_until_it_is_due() -> None:
    dead = _ended(attempt=3, message="exit code 1")
    before = view([N1, N2], [WEB], [dead])
    decision = decided(before)
    [created] = of_kind(decision, CreateTask)
    assert (created.desired, created.not_before_ms) == (DesiredState.READY, NOW_MS + 2_000)
    assert created.reason is Reason.BACKOFF
    assert created.message == "waits 2 s: the last one failed (exit code 1)"
    assert created.node_id is not None
    assert decision.wake_at_ms is not None

    waiting = carried_out(before, decision)
    early = decided(waiting, dirty=decision.revisit, now_ms=NOW_MS + 1_999)
    assert early.commands == ()
    assert early.revisit == {(Table.SERVICES, WEB.id)}
    due = decided(waiting, dirty=early.revisit, now_ms=NOW_MS + 2_000)
    assert due.commands == (SetDesired(task_id=created.task_id, desired=DesiredState.RUNNING),)


def test_a_new_leader_finds_the_wait_in_the_rows() -> None:
    waiting = task(
        WEB, 1, N1, TaskState.READY, desired=DesiredState.READY, not_before_ms=NOW_MS + 800
    )
    before = view([N1], [WEB], [waiting])
    decision = decided(before)
    assert decision.commands == ()
    assert decision.wake_at_ms == NOW_MS + 800


def test_the_first_replacement_starts_at_once() -> None:
    decision = decided(view([N1], [WEB], [_ended()]))
    assert kinds(decision) == [CreateTask]
    [created] = of_kind(decision, CreateTask)
    assert (created.desired, created.attempt, created.message) == (DesiredState.RUNNING, 1, "")


def test_what_is_given_up_stays_so_until_it_is_deployed_anew() -> None:
    once = service("web", restart=RestartPolicy(condition=RestartCondition.NONE))
    before = view([N1], [once], [_ended()])
    assert decided(before).commands == ()
    anew = view([N1], [evolve(once, revision=2)], [_ended(revision=1)])
    assert [c.revision for c in of_kind(decided(anew), CreateTask)] == [2]


def test_after_three_failures_on_a_node_another_is_tried() -> None:
    dead = [_ended(id=f"t{n}", attempt=n, created_at_ms=NOW_MS - 100 + n) for n in range(3)]
    busy = service("busy", replicas=5)
    others = [task(busy, slot, N2) for slot in range(1, 6)]
    before = view([N1, N2], [WEB, busy], [*dead[:2], *others])
    assert of_kind(decided(before), CreateTask)[0].node_id == N1.id
    assert of_kind(decided(with_rows(before, dead[2])), CreateTask)[0].node_id == N2.id
