"""Verdicts on nodes, and what becomes of a dead node's tasks."""

from attrs import evolve

from meshswarm.control.decide import Decision, decide
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import AssignTask, CreateTask, LoseTask, SetNodeState
from meshswarm.store.view import Table, View
from tests.support.builders import NOW_MS, node, service, task, view
from tests.support.deciding import carried_out, decided, kinds, of_kind

N = [node(f"n{number}") for number in range(1, 7)]
UNKNOWN = node("n1", state=NodeState.UNKNOWN)
DOWN = node("n1", state=NodeState.DOWN, message="nothing was heard of it for 4 s")


def _verdicts(decision: Decision) -> dict[NodeId, tuple[NodeState, str]]:
    return {c.node_id: (c.state, c.message) for c in of_kind(decision, SetNodeState)}


def _judged(
    one: Node, *, silent_ms: int | None, observing_ms: int = 1_000_000, incarnation: int = 1
) -> Decision:
    silent = {} if silent_ms is None else {one.id: silent_ms}
    incarnations = {one.id: incarnation}
    liveness = Liveness(silent_ms=silent, observing_ms=observing_ms, incarnations=incarnations)
    return decide(view([one]), frozenset(), liveness, LivenessPolicy(), NOW_MS)


def test_a_node_is_ready_as_soon_as_it_is_heard() -> None:
    for one in (UNKNOWN, DOWN):
        assert _verdicts(_judged(one, silent_ms=0)) == {one.id: (NodeState.READY, "")}


def test_complaint_12_a_node_is_down_after_four_seconds_of_silence() -> None:
    suspect = (NodeState.SUSPECT, "nothing was heard of it for 2 s")
    assert _verdicts(_judged(N[0], silent_ms=3_999)) == {N[0].id: suspect}
    down = (NodeState.DOWN, "nothing was heard of it for 4 s")
    assert _verdicts(_judged(N[0], silent_ms=4_000)) == {N[0].id: down}


def test_between_two_and_four_seconds_it_is_a_suspect() -> None:
    assert _judged(N[0], silent_ms=1_999).suspects == ()
    assert _judged(N[0], silent_ms=2_000).suspects == (N[0].id,)
    assert _judged(N[0], silent_ms=4_000).suspects == ()
    assert _judged(DOWN, silent_ms=2_500).suspects == ()


def test_the_next_pass_comes_when_a_limit_is_reached() -> None:
    assert _judged(N[0], silent_ms=500).wake_at_ms == NOW_MS + 1_500
    assert _judged(N[0], silent_ms=2_600).wake_at_ms == NOW_MS + 1_400
    assert _judged(DOWN, silent_ms=9_000).wake_at_ms is None


def test_nobody_is_silent_for_longer_than_the_leader_has_listened() -> None:
    for observing_ms, state in ((3_000, NodeState.SUSPECT), (4_000, NodeState.DOWN)):
        judged = _judged(N[0], silent_ms=None, observing_ms=observing_ms)
        assert _verdicts(judged)[N[0].id][0] is state


def test_a_node_that_just_registered_is_given_its_time() -> None:
    assert _verdicts(_judged(UNKNOWN, silent_ms=None)) == {}
    old = evolve(UNKNOWN, since_ms=NOW_MS - 4_000)
    assert _verdicts(_judged(old, silent_ms=None))[old.id][0] is NodeState.DOWN


def test_a_newer_process_must_register_before_its_node_is_ready() -> None:
    assert _verdicts(_judged(DOWN, silent_ms=0, incarnation=2)) == {}
    assert DOWN.id in _verdicts(_judged(DOWN, silent_ms=0, incarnation=1))


def test_one_of_three_nodes_is_given_up() -> None:
    decision = decided(view(N[:3]), silent={"n1": 4_000})
    assert list(_verdicts(decision)) == [N[0].id]


def test_most_nodes_at_once_are_held_and_say_so() -> None:
    decision = decided(view(N[:5]), silent={"n1": 4_100, "n2": 4_000, "n3": 3_100})
    verdicts = _verdicts(decision)
    assert sorted(verdicts) == [N[0].id, N[1].id, N[2].id]
    state, message = verdicts[N[0].id]
    assert state is NodeState.SUSPECT
    assert message.startswith("silent, as 3 of 5 nodes are at once: held for up to 300 s")
    assert verdicts[N[2].id] == (NodeState.SUSPECT, "nothing was heard of it for 2 s")
    assert decision.suspects == (N[0].id, N[1].id, N[2].id)


def test_a_held_node_that_is_heard_again_loses_its_message() -> None:
    held = evolve(N[0], state=NodeState.SUSPECT, message="held", held_since_ms=NOW_MS)
    assert _verdicts(decided(view([held]))) == {held.id: (NodeState.READY, "")}


def test_what_is_held_is_given_up_when_the_others_are_back() -> None:
    silent = {"n1": 9_000, "n2": 9_000, "n3": 9_000}
    held = carried_out(view(N[:5]), decided(view(N[:5]), silent=silent))
    at_ms = NOW_MS + 4_000
    back = carried_out(held, decided(held, silent={"n1": 9_500}))
    assert back.nodes[N[0].id].state is NodeState.SUSPECT, "it has time to come back as they did"
    verdicts = _verdicts(decided(back, silent={"n1": 13_500}, now_ms=at_ms))
    assert verdicts[N[0].id][0] is NodeState.DOWN
    assert back.nodes[N[1].id].state is NodeState.READY


def test_half_of_many_nodes_are_given_up() -> None:
    decision = decided(view(N), silent={"n1": 5_000, "n2": 5_000, "n3": 5_000})
    assert len(_verdicts(decision)) == 3


def test_the_tasks_of_a_dead_node_are_lost_and_replaced_in_the_same_pass() -> None:
    web = service("web", replicas=2)
    tasks = [
        task(web, 1, N[0]),
        task(web, 2, N[1]),
        task(web, 2, N[0], TaskState.FAILED, id="history", created_at_ms=1),
        task(web, 3, N[0], id="stops", desired=DesiredState.REMOVE),
    ]
    before = view(N[:2], [web], tasks)
    decision = decided(before, dirty=frozenset(), silent={"n1": 4_000})
    lost = of_kind(decision, LoseTask)
    assert sorted(command.task_id for command in lost) == ["stops", "web-1"]
    assert lost[0].message == "node n1 is down"
    [created] = of_kind(decision, CreateTask)
    assert (created.slot, created.node_id, created.attempt) == (1, N[1].id, 0)
    assert created.desired is DesiredState.RUNNING
    assert decision.cause == "node n1 down; web"


def test_what_was_bound_to_a_node_just_before_it_died_is_lost_as_well() -> None:
    web = service("web")
    before = view([DOWN, N[1]], [web], [task(web, 1, DOWN)])
    decision = decided(before, dirty=frozenset({(Table.TASKS, "web-1")}), silent={"n1": 100_000})
    assert kinds(decision) == [LoseTask, CreateTask]


def test_a_suspect_gets_no_new_task() -> None:
    web = service("web", replicas=2)
    both = of_kind(decided(view(N[:2], [web]), silent={"n1": 2_500}), CreateTask)
    assert [command.node_id for command in both] == [N[1].id, N[1].id]
    alone = of_kind(decided(view(N[:1], [web]), silent={"n1": 2_500}), CreateTask)
    assert {(c.node_id, c.message) for c in alone} == {
        (None, "no suitable node: 1 of 1 is silent, and may be down")
    }


def test_a_broken_connection_makes_a_suspect_and_nothing_worse() -> None:
    web = service("web")
    before = view(N[:2], [web], [task(web, 1, N[0])])
    decision = decided(before, silent={"n1": 300}, doubted={"n1"})
    assert _verdicts(decision) == {N[0].id: (NodeState.SUSPECT, "the connection to it broke")}
    assert decision.suspects == (N[0].id,)
    assert kinds(decision) == [SetNodeState]
    suspect = carried_out(before, decision)
    assert decided(suspect, silent={"n1": 3_999}, doubted={"n1"}).commands == ()
    assert _verdicts(decided(suspect, silent={"n1": 100})) == {N[0].id: (NodeState.READY, "")}


# --- how long a service bears it ------------------------------------------------------------------


def _lost(before: View, silent_ms: int, leading_ms: int = 1_000_000) -> list[TaskId]:
    decision = decided(before, silent={"n1": silent_ms}, leading_ms=leading_ms)
    return [command.task_id for command in of_kind(decision, LoseTask)]


def test_a_service_that_bears_more_is_replaced_later() -> None:
    web, db = service("web"), service("db", lost_after_s=30.0)
    before = view(N[:2], [web, db], [task(web, 1, N[0]), task(db, 1, N[0])])
    first = decided(before, silent={"n1": 4_000})
    assert [command.task_id for command in of_kind(first, LoseTask)] == ["web-1"]
    assert first.revisit == {(Table.TASKS, "db-1")}
    after = carried_out(before, first)
    assert _lost(after, 29_999) == []
    assert kinds(decided(after, dirty=first.revisit, silent={"n1": 30_000})) == [
        LoseTask,
        CreateTask,
    ]


def test_complaint_11_it_goes_on_where_it_was_if_its_node_is_back_before() -> None:
    db = service("db", lost_after_s=30.0)
    before = view([DOWN, N[1]], [db], [task(db, 1, DOWN)])
    assert kinds(decided(before)) == [SetNodeState]


def test_what_fences_itself_is_replaced_only_when_it_must_have_ended() -> None:
    # 20 s to stop and 10 s of grace, a hundredth for the clocks, 4 s for the leaders.
    db = service("db", lost_after_s=25.0, stop_after_s=20.0)
    before = view([DOWN, N[1]], [db], [task(db, 1, DOWN)])
    assert _lost(before, 34_299) == []
    assert _lost(before, 34_300) == ["db-1"]
    longer = service("db", lost_after_s=60.0, stop_after_s=20.0)
    before = view([DOWN, N[1]], [longer], [task(longer, 1, DOWN)])
    assert (_lost(before, 59_999), _lost(before, 60_000)) == ([], ["db-1"])


def test_a_new_leader_does_not_count_silence_before_its_time_for_what_fences_itself() -> None:
    db, web = service("db", stop_after_s=20.0), service("web", lost_after_s=20.0)
    before = view([DOWN, N[1]], [db, web], [task(db, 1, DOWN), task(web, 1, DOWN)])
    assert _lost(before, 100_000, leading_ms=34_299) == ["web-1"]
    assert _lost(before, 100_000, leading_ms=34_300) == ["db-1", "web-1"]


# --- nodes that come and go -----------------------------------------------------------------------


def _flapped(times: int, pause_ms: int) -> tuple[Node, int]:
    """The node after it was down so often, so long after one another, and the instant."""
    now_ms, before = NOW_MS, view(N[:2])
    for _ in range(times):
        now_ms += pause_ms
        before = carried_out(
            before, decided(before, silent={"n1": 4_000}, now_ms=now_ms), now_ms=now_ms
        )
        before = carried_out(before, decided(before, now_ms=now_ms), now_ms=now_ms)
    return before.nodes[N[0].id], now_ms


def test_a_node_that_was_down_twice_is_trusted_at_once() -> None:
    assert _flapped(2, 60_000)[0].state is NodeState.READY
    assert _flapped(12, 400_000)[0].state is NodeState.READY


def test_the_third_time_within_ten_minutes_it_must_stay_up_first_and_ever_longer() -> None:
    waits = {
        n: (one.trusted_at_ms - at_ms) for n in range(3, 12) for one, at_ms in [_flapped(n, 9)]
    }
    assert waits == {
        3: 10_000, 4: 20_000, 5: 40_000, 6: 80_000, 7: 160_000, 8: 320_000,
        9: 600_000, 10: 600_000, 11: 600_000,
    }  # fmt: skip


def test_an_unstable_node_says_so_keeps_its_tasks_and_gets_no_new_one() -> None:
    flapped, now_ms = _flapped(3, 60_000)
    assert flapped.state is NodeState.UNSTABLE
    assert flapped.message == (
        "it was down 3 times within 600 s: nothing new for it before it has stayed up for 10 s"
    )
    web = service("web", replicas=2)
    before = view([flapped], [web], [task(web, 1, flapped)], clock_ms=now_ms)
    decision = decided(before, now_ms=now_ms)
    [created] = of_kind(decision, CreateTask)
    assert (created.node_id, kinds(decision)) == (None, [CreateTask])
    assert "1 of 1 is unstable: down too often of late" in created.message
    assert decided(before, silent={"n1": 1_000}, now_ms=now_ms).wake_at_ms == now_ms + 1_000
    # Whoever leads then finds the instant in the row.
    later = decided(carried_out(before, decision), now_ms=now_ms + 10_000)
    assert kinds(later) == [SetNodeState, AssignTask]


def test_an_unstable_node_that_has_yet_to_register_is_not_looked_at_all_the_time() -> None:
    flapped, now_ms = _flapped(3, 60_000)
    liveness = Liveness(
        silent_ms={flapped.id: 500}, observing_ms=1_000_000, incarnations={flapped.id: 2}
    )
    trusted = view([flapped], clock_ms=now_ms)
    decision = decide(trusted, frozenset(), liveness, LivenessPolicy(), now_ms + 10_001)
    assert (decision.commands, decision.wake_at_ms) == ((), now_ms + 10_001 + 1_500)


def test_suspicion_alone_does_not_prolong_the_wait() -> None:
    flapped, now_ms = _flapped(3, 60_000)
    before = view([flapped], clock_ms=now_ms)
    before = carried_out(before, decided(before, silent={"n1": 2_000}, now_ms=now_ms + 5_000))
    assert before.nodes[flapped.id].state is NodeState.SUSPECT
    [again] = of_kind(decided(before, now_ms=now_ms + 6_000), SetNodeState)
    assert (again.state, again.trusted_at_ms) == (NodeState.UNSTABLE, None)
    [ready] = of_kind(decided(before, now_ms=now_ms + 10_000), SetNodeState)
    assert ready.state is NodeState.READY
