"""Why a service is not whole, from a view alone."""

from meshswarm.control.why import why
from meshswarm.model.node import NodeState
from meshswarm.model.service import (
    Comparison,
    Constraint,
    Mode,
    RestartCondition,
    RestartPolicy,
)
from meshswarm.model.task import DesiredState, Health, Reason, TaskState
from tests.support.builders import NOW_MS, node, service, task, view

N1, N2 = node("n1"), node("n2")
DOWN = node("n3", state=NodeState.DOWN)
SSD = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")
WEB = service("web", replicas=2)


def test_a_whole_service_has_nothing_to_explain() -> None:
    report = why(view([N1], [WEB], [task(WEB, 1, N1), task(WEB, 2, N1)]), WEB, NOW_MS)
    assert report.slots == ()
    assert (report.desired, report.healthy) == (2, 2)
    assert report.summary == ("2 of 2 tasks of web run and are healthy",)


def test_a_task_that_nobody_can_ask_for_is_not_well() -> None:
    silent = task(
        WEB, 2, N1, reason=Reason.RUNTIME_UNAVAILABLE, message="the Docker engine does not answer"
    )
    report = why(view([N1], [WEB], [task(WEB, 1, N1), silent]), WEB, NOW_MS)
    [slot] = report.slots
    assert (Reason.RUNTIME_UNAVAILABLE, "the Docker engine does not answer") == (
        slot.reason,
        slot.message,
    )
    assert report.healthy == 1


def test_a_task_without_a_node_is_told_node_by_node() -> None:
    picky = service("web", constraints=(SSD,))
    waiting = task(picky, 1, reason=Reason.NO_SUITABLE_NODE, message="no suitable node: ...")
    report = why(view([N1, N2, DOWN], [picky], [waiting]), picky, NOW_MS)
    [slot] = report.slots
    assert (slot.slot, slot.node, slot.state) == (1, None, TaskState.PENDING)
    assert slot.reason is Reason.NO_SUITABLE_NODE
    assert slot.refusals == {
        "n1": ("lacks node.labels.disk==ssd",),
        "n2": ("lacks node.labels.disk==ssd",),
        "n3": ("is down", "lacks node.labels.disk==ssd"),
    }


def test_a_slot_in_backoff_says_when_it_starts_and_what_came_before() -> None:
    failed = task(
        WEB,
        1,
        N1,
        TaskState.FAILED,
        id="dead",
        reason=Reason.EXITED,
        message="exit code 3",
        exit_code=3,
        created_at_ms=1,
        ran_ms=5,
    )
    waiting = task(
        WEB,
        1,
        N1,
        TaskState.READY,
        attempt=2,
        desired=DesiredState.READY,
        not_before_ms=NOW_MS + 1_500,
    )
    report = why(view([N1], [WEB], [failed, waiting, task(WEB, 2, N1)]), WEB, NOW_MS)
    [slot] = report.slots
    assert (slot.reason, slot.message) == (Reason.BACKOFF, "starts in 1.5 s, as attempt 3")
    assert slot.refusals == {}
    [end] = slot.exits
    assert (end.task_id, end.node, end.exit_code, end.at_ms) == ("dead", "n1", 3, 6)
    assert end.message == "exit code 3"


def test_a_slot_that_is_given_up_says_so() -> None:
    once = service("web", restart=RestartPolicy(condition=RestartCondition.NONE))
    dead = task(once, 1, N1, TaskState.FAILED, reason=Reason.EXITED, message="exit code 3")
    [slot] = why(view([N1], [once], [dead]), once, NOW_MS).slots
    assert slot.refusals == {}, "no node is asked for it"
    assert slot.task_id == dead.id
    assert slot.message == (
        "not replaced: it failed (exit code 3), and its restart condition is none"
    )


def test_an_unhealthy_task_and_a_waiting_one_say_so() -> None:
    sick = task(WEB, 1, N1, health=Health.STARTING)
    old = task(WEB, 2, N1, id="old", desired=DesiredState.SHUTDOWN, created_at_ms=1)
    new = task(WEB, 2, N1, TaskState.READY, id="new", desired=DesiredState.READY)
    report = why(view([N1], [WEB], [sick, old, new]), WEB, NOW_MS)
    assert [slot.message for slot in report.slots] == [
        "its health is starting",
        "waits until web.2.old has stopped",
    ]


def test_a_slot_that_nobody_filled_yet_is_told() -> None:
    report = why(view([N1], [WEB], [task(WEB, 2, N1)]), WEB, NOW_MS)
    [slot] = report.slots
    assert (slot.slot, slot.task_id) == (1, None)
    assert slot.message == "no task was created for this slot yet"
    assert slot.refusals == {"n1": ()}


def test_a_rollout_under_way_or_held_up_is_told() -> None:
    web = service("web", replicas=2, revision=2, constraints=(SSD,))
    tasks = [task(web, 1, N1, revision=1), task(web, 2, N1, revision=1)]
    report = why(view([N1], [web], tasks), web, NOW_MS)
    assert report.slots == ()
    assert report.summary[1].startswith("2 of 2 still have another revision than 2")
    assert report.summary[2] == (
        "revision 2 cannot start: no suitable node: 1 of 1 lacks node.labels.disk==ssd"
    )


def test_a_global_service_is_told_by_node() -> None:
    agent = service("agent", mode=Mode.GLOBAL)
    lost = task(agent, 0, DOWN, TaskState.LOST, message="node n3 is down")
    report = why(view([N1, DOWN], [agent], [task(agent, 0, N1), lost]), agent, NOW_MS)
    [slot] = report.slots
    assert (slot.slot, slot.node, slot.refusals) == (0, "n3", {"n3": ("is down",)})
    assert (report.desired, report.healthy) == (2, 1)


def test_a_service_that_wants_nothing_says_why() -> None:
    idle = service("web", replicas=0)
    assert why(view([N1], [idle]), idle, NOW_MS).summary == (
        "web wants no task: it is scaled to 0",
    )
    nowhere = service("agent", mode=Mode.GLOBAL, constraints=(SSD,))
    [line] = why(view([N1], [nowhere]), nowhere, NOW_MS).summary
    assert "no node meets its constraints" in line


def test_a_cluster_without_a_ready_node_is_told() -> None:
    report = why(view([DOWN], [WEB], [task(WEB, 1), task(WEB, 2)]), WEB, NOW_MS)
    assert report.summary == (
        "0 of 2 tasks of web run and are healthy",
        "no node of the cluster is ready",
    )
