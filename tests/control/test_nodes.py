"""Verdicts on nodes, and what becomes of a dead node's tasks."""

from attrs import evolve

from meshswarm.control.decide import Decision, decide
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.ids import NodeId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import CreateTask, LoseTask, SetNodeState
from meshswarm.store.view import Table
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


def test_a_node_is_down_after_four_seconds_of_silence() -> None:
    assert _verdicts(_judged(N[0], silent_ms=3_999)) == {}
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
    assert _verdicts(_judged(N[0], silent_ms=None, observing_ms=3_000)) == {}
    assert N[0].id in _verdicts(_judged(N[0], silent_ms=None, observing_ms=4_000))


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
    assert sorted(verdicts) == [N[0].id, N[1].id]
    state, message = verdicts[N[0].id]
    assert state is NodeState.READY
    assert message.startswith("silent, as 3 of 5 nodes are at once: held")
    assert decision.suspects == (N[0].id, N[1].id, N[2].id)


def test_a_held_node_that_is_heard_again_loses_its_message() -> None:
    held = evolve(N[0], message="silent, as 3 of 5 nodes are at once: held")
    assert _verdicts(decided(view([held]))) == {held.id: (NodeState.READY, "")}


def test_what_is_held_is_given_up_when_the_others_are_back() -> None:
    silent = {"n1": 9_000, "n2": 9_000, "n3": 9_000}
    held = carried_out(view(N[:5]), decided(view(N[:5]), silent=silent))
    verdicts = _verdicts(decided(held, silent={"n1": 9_500}))
    assert verdicts[N[0].id][0] is NodeState.DOWN
    assert verdicts[N[1].id] == (NodeState.READY, "")


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


def test_no_task_is_placed_on_a_silent_node_if_another_will_do() -> None:
    web = service("web", replicas=2)
    both = of_kind(decided(view(N[:2], [web]), silent={"n1": 2_500}), CreateTask)
    assert [command.node_id for command in both] == [N[1].id, N[1].id]
    alone = of_kind(decided(view(N[:1], [web]), silent={"n1": 2_500}), CreateTask)
    assert [command.node_id for command in alone] == [N[0].id, N[0].id]
