"""Slots are filled, given up and removed; global services follow the nodes."""

from attrs import evolve

from meshswarm.ids import NodeId
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.service import Comparison, Constraint, Mode
from meshswarm.model.task import DesiredState, Reason, TaskState
from meshswarm.store.commands import CreateTask, ForgetTask, SetDesired
from tests.support.builders import NOW_MS, node, service, task, view
from tests.support.deciding import carried_out, decided, kinds, of_kind

N1, N2, N3 = node("n1"), node("n2"), node("n3")
SSD = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")


def test_missing_slots_are_filled_and_spread_in_one_pass() -> None:
    web = service("web", replicas=3)
    before = view([N1, N2, N3], [web], [task(web, 2, N2)])
    created = of_kind(decided(before), CreateTask)
    assert [(c.slot, c.node_id) for c in created] == [(1, N1.id), (3, N3.id)]
    assert all(c.desired is DesiredState.RUNNING for c in created)


def test_ids_are_the_same_for_whoever_decides_and_differ_by_slot() -> None:
    before = view([N1], [service("web", replicas=9)])
    ids = [c.task_id for c in of_kind(decided(before), CreateTask)]
    assert ids == [c.task_id for c in of_kind(decided(before), CreateTask)]
    assert len(set(ids)) == 9


def test_a_whole_service_needs_nothing() -> None:
    web = service("web", replicas=2)
    assert decided(view([N1], [web], [task(web, 1, N1), task(web, 2, N1)])).commands == ()


def test_scaling_up_leaves_the_present_tasks_alone_and_fills_gaps() -> None:
    web = service("web", replicas=3)
    before = view([N1], [web], [task(web, 2, N1), task(web, 5, N1)])
    assert [c.slot for c in of_kind(decided(before), CreateTask)] == [1]
    assert len(decided(before).commands) == 1


def test_scaling_down_takes_what_does_not_run_first() -> None:
    web = service("web", replicas=1)
    tasks = [
        task(web, 1, N1, TaskState.STARTING),
        task(web, 2, N1),
        task(web, 3, N2, TaskState.PREPARING),
    ]
    removed = of_kind(decided(view([N1, N2], [web], tasks)), SetDesired)
    assert sorted(c.task_id for c in removed) == ["web-1", "web-3"]
    assert {c.desired for c in removed} == {DesiredState.REMOVE}


def test_scaling_down_then_takes_from_the_node_with_most() -> None:
    web = service("web", replicas=3)
    tasks = [task(web, slot, N1) for slot in (1, 2, 3, 4)] + [task(web, 5, N2), task(web, 6, N3)]
    removed = of_kind(decided(view([N1, N2, N3], [web], tasks)), SetDesired)
    assert sorted(c.task_id for c in removed) == ["web-2", "web-3", "web-4"]


def test_a_slot_given_up_takes_its_history_along() -> None:
    web = service("web", replicas=0)
    old = task(web, 1, N1, TaskState.FAILED, id="old", created_at_ms=1)
    decision = decided(view([N1], [web], [old, task(web, 1, N1)]))
    assert of_kind(decision, ForgetTask) == [ForgetTask(task_id=old.id)]
    assert [c.task_id for c in of_kind(decision, SetDesired)] == ["web-1"]


def test_a_task_without_a_node_is_gone_at_once() -> None:
    web = service("web", replicas=0)
    before = view([N1], [web], [task(web, 1)])
    assert not carried_out(before, decided(before)).tasks


def test_a_slot_taken_again_waits_until_its_old_task_has_stopped() -> None:
    web = service("web")
    old = task(web, 1, N1, id="old", desired=DesiredState.REMOVE)
    before = view([N1, N2], [web], [old])
    [created] = of_kind(decided(before), CreateTask)
    assert created.desired is DesiredState.READY
    assert created.reason is Reason.WAITS_FOR_PREDECESSOR
    assert created.message == "waits until web.1.old has stopped"
    waiting = carried_out(before, decided(before))
    assert decided(waiting).commands == ()
    stopped = task(web, 1, N1, TaskState.SHUTDOWN, id="old", desired=DesiredState.REMOVE)
    after = view([N1, N2], [web], [stopped, waiting.tasks[created.task_id]])
    released = decided(after)
    assert kinds(released) == [SetDesired, ForgetTask]
    assert of_kind(released, SetDesired)[0].desired is DesiredState.RUNNING


def test_a_waiting_task_is_released_when_the_old_ones_node_dies() -> None:
    web = service("web")
    old = task(web, 1, N1, id="old", desired=DesiredState.SHUTDOWN)
    new = task(web, 1, N2, TaskState.READY, id="new", desired=DesiredState.READY)
    decision = decided(view([N1, N2], [web], [old, new]), silent={"n1": 5_000})
    assert [c.task_id for c in of_kind(decision, SetDesired)] == ["new"]


def test_two_live_tasks_of_a_slot_become_one() -> None:
    web = service("web")
    tasks = [task(web, 1, N1, id="old", created_at_ms=5), task(web, 1, N2, id="new")]
    decision = decided(view([N1, N2], [web], tasks))
    assert decision.commands == (SetDesired(task_id=tasks[0].id, desired=DesiredState.SHUTDOWN),)


def test_a_removed_service_ends_without_a_row() -> None:
    web = service("web", replicas=3)
    rows = [
        task(web, 1, N1),
        task(web, 2),
        task(web, 3, N1, TaskState.LOST),
        task(web, 4, N1, id="stops", desired=DesiredState.REMOVE),
    ]
    before = view([N1], [], rows)
    after = carried_out(before, decided(before))
    assert sorted(after.tasks) == ["stops", "web-1"]
    stopped = [
        task(web, 1, N1, TaskState.SHUTDOWN, desired=DesiredState.REMOVE),
        task(web, 4, N1, TaskState.SHUTDOWN, id="stops", desired=DesiredState.REMOVE),
    ]
    before = view([N1], [], stopped)
    empty = carried_out(before, decided(before))
    assert not empty.tasks
    assert not empty.revisions


# --- global -----------------------------------------------------------------------------------

AGENT = service("agent", mode=Mode.GLOBAL)


def test_a_global_service_has_a_task_on_every_node_that_fits() -> None:
    agent = service("agent", mode=Mode.GLOBAL, constraints=(SSD,))
    nodes = [
        node("n1", labels={"disk": "ssd"}),
        node("n2", labels={"disk": "hdd"}),
        node("n3", labels={"disk": "SSD"}),
        node("n4", labels={"disk": "ssd"}, availability=Availability.PAUSE),
        node("n5", labels={"disk": "ssd"}, runtimes=()),
    ]
    created = of_kind(decided(view(nodes, [agent])), CreateTask)
    assert [(c.slot, c.node_id) for c in created] == [(0, "id-n1"), (0, "id-n3")]


def test_a_new_node_gets_its_task() -> None:
    before = view([N1, N2], [AGENT], [task(AGENT, 0, N1)])
    assert [c.node_id for c in of_kind(decided(before), CreateTask)] == [N2.id]


def test_a_global_task_leaves_a_node_that_is_drained_or_no_longer_fits() -> None:
    for one, fitting in (
        (node("n1", availability=Availability.DRAIN), AGENT),
        (N1, service("agent", mode=Mode.GLOBAL, constraints=(SSD,))),
    ):
        decision = decided(view([one], [fitting], [task(fitting, 0, one)]))
        assert [c.desired for c in of_kind(decision, SetDesired)] == [DesiredState.REMOVE]
        assert not of_kind(decision, CreateTask)


def test_a_paused_node_keeps_what_it_has() -> None:
    paused = node("n1", availability=Availability.PAUSE)
    web = service("web")
    tasks = [task(AGENT, 0, paused), task(web, 1, paused)]
    assert decided(view([paused, N2], [web], tasks[1:])).commands == ()
    assert decided(view([paused], [AGENT], tasks[:1])).commands == ()


def test_a_global_task_lost_with_its_node_comes_back_with_it() -> None:
    down = node("n1", state=NodeState.DOWN)
    before = view([down], [AGENT], [task(AGENT, 0, down, TaskState.LOST)])
    assert decided(before, silent={"n1": 9_000}).commands == ()
    [created] = of_kind(decided(before), CreateTask)
    assert created.node_id == down.id


def test_a_service_whose_mode_changes_starts_anew() -> None:
    before = view([N1, N2], [AGENT], [task(AGENT, 1, N1), task(AGENT, 2, N1)])
    decision = decided(before)
    assert len(of_kind(decision, SetDesired)) == 2
    assert [c.node_id for c in of_kind(decision, CreateTask)] == [N1.id, N2.id]


def test_a_node_id_of_nobody_disturbs_nothing() -> None:
    web = service("web")
    stray = evolve(task(web, 1, N1), node_id=NodeId("gone"))
    assert decided(view([N1], [web], [stray]), now_ms=NOW_MS).commands == ()
