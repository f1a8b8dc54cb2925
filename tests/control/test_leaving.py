"""Drained nodes are emptied without harm, and by their deadline; moved tasks come to rest."""

import pytest
from attrs import evolve

from meshswarm.control.leaving import why_here
from meshswarm.model.node import Availability, Node
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy, Service
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.commands import CreateTask, MoveTasks, SetDesired, UpdateNode
from tests.support.builders import NOW_MS, commit, node, service, task, view
from tests.support.deciding import carried_out, decided, kinds, of_kind

N1, N2, N3 = node("n1"), node("n2"), node("n3")
START_FIRST = UpdatePolicy(order=UpdateOrder.START_FIRST, parallelism=2)


def drained(one: Node, by_ms: int = 0) -> Node:
    return evolve(one, availability=Availability.DRAIN, drain_by_ms=by_ms)


def spec_with(one: Service, **fields: object) -> Service:
    return evolve(one, spec=evolve(one.spec, **fields))  # type: ignore[arg-type]  # real fields


def test_a_drained_node_is_left_one_task_at_a_time() -> None:
    web = service("web", replicas=2)
    before = view([drained(N1), N2], [web], [task(web, 1, N1), task(web, 2, N1)])
    decision = decided(before)
    assert of_kind(decision, SetDesired) == [
        SetDesired(task_id=task(web, 1).id, desired=DesiredState.SHUTDOWN)
    ]
    [created] = of_kind(decision, CreateTask)
    assert (created.slot, created.node_id, created.desired) == (1, N2.id, DesiredState.READY)
    moving = carried_out(before, decision)
    assert decided(moving).commands == ()
    moved = view([drained(N1), N2], [web], [task(web, 1, N2), task(web, 2, N1)])
    assert [c.task_id for c in of_kind(decided(moved), SetDesired)] == ["web-2"]


def test_a_service_that_starts_first_leaves_as_many_at_a_time_as_its_rollouts_renew() -> None:
    web = spec_with(service("web", replicas=3), update=START_FIRST)
    before = view([drained(N1), N2], [web], [task(web, slot, N1) for slot in (1, 2, 3)])
    decision = decided(before)
    assert [CreateTask, CreateTask] == kinds(decision)
    assert [1, 2] == [c.slot for c in of_kind(decision, CreateTask)]
    moving = carried_out(before, decision)
    assert decided(moving).commands == ()


def test_the_old_task_goes_when_the_new_one_works() -> None:
    web = spec_with(service("web", replicas=1), update=START_FIRST)
    old = task(web, 1, N1, id="old")
    new = task(web, 1, N2, id="new", created_at_ms=old.created_at_ms + 1)
    nodes = [drained(N1), N2]
    starting = evolve(new, status=evolve(new.status, state=TaskState.STARTING))
    assert decided(view(nodes, [web], [old, starting])).commands == ()
    decision = decided(view(nodes, [web], [old, new]), now_ms=NOW_MS + 60_000)
    assert decision.commands == (SetDesired(task_id=old.id, desired=DesiredState.SHUTDOWN),)


def test_what_a_service_lets_be_missing_is_moved_at_once_and_no_more() -> None:
    web = spec_with(service("web", replicas=4), max_unavailable=2)
    before = view([drained(N1), N2], [web], [task(web, slot, N1) for slot in (1, 2, 3, 4)])
    decision = decided(before)
    assert 2 == len(of_kind(decision, SetDesired)) == len(of_kind(decision, CreateTask))
    assert decided(carried_out(before, decision)).commands == ()


def test_a_share_that_may_be_missing_is_moved_at_once_and_no_more() -> None:
    web = spec_with(service("web", replicas=9), max_unavailable_percent=25)
    before = view([drained(N1), N2], [web], [task(web, slot, N1) for slot in range(1, 10)])
    decision = decided(before)
    assert 2 == len(of_kind(decision, SetDesired)) == len(of_kind(decision, CreateTask))
    assert decided(carried_out(before, decision)).commands == ()


@pytest.mark.parametrize("nothing", ["max_unavailable", "max_unavailable_percent"])
def test_a_service_that_lets_nothing_be_missing_starts_first_whatever_its_policy(
    nothing: str,
) -> None:
    web = spec_with(service("web", replicas=2), **{nothing: 0})
    before = view([drained(N1), N2], [web], [task(web, 1, N1), task(web, 2, N1)])
    assert [CreateTask] == kinds(decided(before))


def test_what_finds_no_other_node_stays_until_the_deadline() -> None:
    web = service("web", replicas=2)
    tasks = [task(web, 1, N1), task(web, 2, N1)]
    assert decided(view([drained(N1)], [web], tasks)).commands == ()
    waiting = decided(view([drained(N1, by_ms=NOW_MS + 500)], [web], tasks))
    assert ((), NOW_MS + 500) == (waiting.commands, waiting.wake_at_ms)
    overdue = decided(view([drained(N1, by_ms=NOW_MS)], [web], tasks))
    assert ["web-1", "web-2"] == [c.task_id for c in of_kind(overdue, SetDesired)]
    assert {None} == {c.node_id for c in of_kind(overdue, CreateTask)}


def test_what_must_run_only_once_is_let_end_and_stopped_at_the_deadline() -> None:
    once = service("once", restart=RestartPolicy(condition=RestartCondition.NONE))
    tasks = [task(once, 1, N1)]
    assert decided(view([drained(N1), N2], [once], tasks)).commands == ()
    before = view([drained(N1, by_ms=NOW_MS), N2], [once], tasks)
    decision = decided(before)
    assert [SetDesired] == kinds(decision)
    assert decided(carried_out(before, decision)).commands == ()


def test_a_global_task_leaves_a_drained_node_last_or_at_the_deadline() -> None:
    agent, web = service("agent", mode=Mode.GLOBAL), service("web", replicas=1)
    own = evolve(task(agent, 0, N1), slot=0)
    tasks: list[Task] = [own, task(web, 1, N1)]
    stuck = view([drained(N1)], [agent, web], tasks)
    assert decided(stuck).commands == ()
    alone = decided(view([drained(N1)], [agent], [own]))
    assert [SetDesired(task_id=own.id, desired=DesiredState.REMOVE)] == list(alone.commands)
    late = decided(view([drained(N1, by_ms=NOW_MS)], [agent, web], tasks))
    assert SetDesired(task_id=own.id, desired=DesiredState.REMOVE) in late.commands


def test_a_paused_node_keeps_what_it_has() -> None:
    web = service("web", replicas=1)
    paused = evolve(N1, availability=Availability.PAUSE)
    assert decided(view([paused, N2], [web], [task(web, 1, N1)])).commands == ()


def test_a_node_that_is_active_again_keeps_the_old_task() -> None:
    web = spec_with(service("web", replicas=1), update=START_FIRST)
    old = task(web, 1, N1, id="old")
    new = task(web, 1, N2, TaskState.STARTING, id="new", created_at_ms=old.created_at_ms + 1)
    decision = decided(view([N1, N2], [web], [old, new]))
    assert decision.commands == (SetDesired(task_id=new.id, desired=DesiredState.SHUTDOWN),)


def test_a_task_that_is_to_move_starts_elsewhere_first() -> None:
    web = service("web", replicas=2)
    before = view([N1, N2], [web], [task(web, 1, N1), task(web, 2, N1)])
    marked = commit(before, MoveTasks(task_ids=(task(web, 1).id,)), at_ms=NOW_MS).view
    decision = decided(marked)
    assert [(1, N2.id)] == [(c.slot, c.node_id) for c in of_kind(decision, CreateTask)]
    assert [CreateTask] == kinds(decision)
    assert decided(carried_out(marked, decision)).commands == ()


def test_a_slot_with_two_tasks_makes_up_for_no_other() -> None:
    web = spec_with(service("web", replicas=3), max_unavailable=1)
    leaving = evolve(task(web, 1, N2, id="old"), leaves=True)
    beside = task(web, 1, N3, id="new", created_at_ms=NOW_MS - 1)
    stopping = task(web, 2, N1, TaskState.STARTING)
    before = view([drained(N1), N2, N3], [web], [leaving, beside, stopping, task(web, 3, N1)])
    decision = decided(before)
    assert "web-3" not in [c.task_id for c in of_kind(decision, SetDesired)]


def test_what_stayed_on_a_drained_node_leaves_once_there_is_another() -> None:
    web = service("web", replicas=1)
    paused = evolve(N2, availability=Availability.PAUSE)
    before = view([drained(N1), paused], [web], [task(web, 1, N1)])
    assert decided(before).commands == ()
    active = UpdateNode(node_id=N2.id, availability=Availability.ACTIVE)
    applied = commit(before, active, at_ms=NOW_MS)
    decision = decided(applied.view, dirty=frozenset(applied.changed))
    assert [SetDesired, CreateTask] == kinds(decision)


def test_the_deadline_comes_though_the_new_task_does_not_get_well() -> None:
    web = spec_with(service("web", replicas=1), update=START_FIRST)
    old = task(web, 1, N1, id="old")
    new = task(web, 1, N2, TaskState.STARTING, id="new", created_at_ms=old.created_at_ms + 1)
    before = view([drained(N1, by_ms=NOW_MS + 500), N2], [web], [old, new])
    waiting = decided(before)
    assert ((), NOW_MS + 500) == (waiting.commands, waiting.wake_at_ms)
    overdue = decided(before, dirty=waiting.revisit, now_ms=NOW_MS + 500)
    assert overdue.commands == (SetDesired(task_id=old.id, desired=DesiredState.SHUTDOWN),)


def test_there_is_no_third_task_in_a_slot() -> None:
    web = spec_with(service("web", replicas=1), update=START_FIRST)
    old = evolve(task(web, 1, N1, id="old"), leaves=True)
    new = task(web, 1, N2, id="new", created_at_ms=NOW_MS - 1)
    moved_again = view([N1, N2, N3], [web], [old, evolve(new, leaves=True)])
    assert decided(moved_again).commands == ()


def test_a_rollout_in_the_middle_of_a_move_waits_for_the_old_task_to_stop() -> None:
    web = spec_with(service("web", replicas=1, revision=2), update=START_FIRST)
    old = evolve(task(web, 1, N1, id="old", revision=1), leaves=True)
    new = task(web, 1, N2, id="new", revision=1, created_at_ms=NOW_MS - 1)
    decision = decided(view([N1, N2, N3], [web], [old, new]))
    stopped = [command.task_id for command in of_kind(decision, SetDesired)]
    [third] = of_kind(decision, CreateTask)
    assert (["old"], 2, DesiredState.READY) == (stopped, third.revision, third.desired)


def test_of_what_fences_itself_no_two_tasks_run_for_the_sake_of_a_move() -> None:
    db = service("db", replicas=2, stop_after_s=5.0)
    tasks = [task(db, 1, N1), task(db, 2, N1)]
    marked = [evolve(tasks[0], leaves=True), tasks[1]]
    for before in (view([drained(N1), N2], [db], tasks), view([N1, N2], [db], marked)):
        decision = decided(before)
        assert ["db-1"] == [c.task_id for c in of_kind(decision, SetDesired)]
        assert [DesiredState.READY] == [c.desired for c in of_kind(decision, CreateTask)]
    never = spec_with(db, max_unavailable=0)
    assert decided(view([drained(N1), N2], [never], tasks)).commands == ()
    late = decided(view([drained(N1, by_ms=NOW_MS), N2], [never], tasks))
    assert {"db-1", "db-2"} == {c.task_id for c in of_kind(late, SetDesired)}
    asked = spec_with(db, update=START_FIRST)
    assert [CreateTask] == kinds(decided(view([N1, N2], [asked], marked)))


def test_a_global_task_has_no_successor_on_another_node() -> None:
    one = service("one", mode=Mode.GLOBAL)
    away = [evolve(each, availability=Availability.DRAIN) for each in (node("n1"), node("n2"))]
    tasks = [task(one, 0, on, id=on.name, created_at_ms=at) for at, on in enumerate(away)]
    found = view(away, [one], tasks)
    words = {why_here(found, each, NOW_MS) for each in found.tasks.values()}
    assert words == {"it goes when all others have left the node"}
