"""The brake: most nodes silent at once are not given up, unless they stay so."""

from meshswarm.control.brake import tell_brake
from meshswarm.control.liveness import LivenessPolicy
from meshswarm.model.node import NodeState
from meshswarm.store.commands import CreateTask, LoseTask, SetNodeState
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service, task, view
from tests.support.deciding import carried_out, decided, of_kind

N = [node(f"n{number}") for number in range(1, 11)]
WEB = service("web", replicas=10)
POLICY = LivenessPolicy()


def _passed(before: View, silent: dict[str, int], at_ms: int) -> View:
    decision = decided(before, silent=silent, now_ms=at_ms)
    return carried_out(before, decision, now_ms=at_ms) if decision.commands else before


def _down(at: View) -> list[str]:
    return [one.name for one in at.sorted_nodes() if one.state is NodeState.DOWN]


def _cut(count: int) -> View:
    """Ten nodes with a task each, so many of them silent for five seconds and held."""
    tasks = [task(WEB, slot, one) for slot, one in enumerate(N, 1)]
    return _passed(view(N, [WEB], tasks), {one.name: 5_000 for one in N[:count]}, NOW_MS)


def test_no_task_is_given_up_while_most_nodes_are_silent() -> None:
    held = _cut(6)
    assert [one.name for one in held.sorted_nodes() if one.held_since_ms] == [
        one.name for one in sorted(N[:6], key=lambda one: one.name)
    ]
    assert {one.node_id for one in held.tasks.values() if one.is_live} == {one.id for one in N}
    for silent_ms in (60_000, 299_999):
        at_ms = NOW_MS + silent_ms - 5_000
        assert _passed(held, {one.name: silent_ms for one in N[:6]}, at_ms) == held


def test_it_is_told_while_it_is_on() -> None:
    assert tell_brake(_cut(6)) == (
        "the brake is on: 6 of 10 nodes fell silent at once, so their tasks are not replaced yet "
        "(n1, n2, n3 and 3 more)"
    )
    assert tell_brake(_cut(5)) == ""
    assert tell_brake(_passed(_cut(6), {}, NOW_MS + 1_000)) == ""


def test_when_they_are_back_nothing_has_happened() -> None:
    back = _passed(_cut(6), {}, NOW_MS + 60_000)
    assert {one.state for one in back.nodes.values()} == {NodeState.READY}
    assert {one.held_since_ms for one in back.nodes.values()} == {0}
    assert len([one for one in back.tasks.values() if one.is_live]) == 10
    assert len(back.tasks) == 10


def test_whoever_is_still_held_when_others_are_back_has_time_to_come_back_too() -> None:
    at = _passed(_cut(6), {"n1": 20_000, "n2": 20_000}, NOW_MS + 15_000)
    assert [] == _down(at)
    decision = decided(at, silent={"n1": 22_000, "n2": 22_000}, now_ms=NOW_MS + 17_000)
    assert (NOW_MS + 19_000, ()) == (decision.wake_at_ms, decision.commands)
    back = _passed(at, {"n2": 22_000}, NOW_MS + 17_000)
    assert ([], NodeState.READY) == (_down(back), back.nodes[N[0].id].state)
    assert [] == _down(_passed(back, {"n2": 25_999}, NOW_MS + 20_999)), "n1 came two seconds later"


def test_what_stays_silent_when_it_is_released_is_given_up() -> None:
    silent = {"n1": 24_000, "n2": 24_000}
    at = _passed(_cut(6), {"n1": 20_000, "n2": 20_000}, NOW_MS + 15_000)
    at = _passed(at, silent, NOW_MS + 19_000)
    assert (_down(at), tell_brake(at)) == (["n1", "n2"], "")


def test_a_majority_that_is_gone_for_good_is_given_up_one_at_a_time() -> None:
    at, downs, at_ms = _cut(6), list[tuple[str, int]](), NOW_MS + 290_000
    while len(downs) < 6:
        at_ms += 1_000
        silent = {one.name: at_ms - NOW_MS + 5_000 for one in N[:6]}
        before, at = at, _passed(at, silent, at_ms)
        downs += [(name, at_ms - NOW_MS) for name in _down(at) if name not in _down(before)]
    waits = [waited_ms for _, waited_ms in downs]
    assert waits == [295_000 + 60_000 * number for number in range(6)]
    assert all(one.status.state.is_terminal for one in at.tasks.values() if not one.is_live)
    # Nobody is silent any more who is not down: it is over, and the next loss is an ordinary one.
    at = _passed(at, dict.fromkeys(["n1", "n2", "n3", "n4", "n5", "n6"], 10**6), at_ms + 1_000)
    assert {one.held_since_ms for one in at.nodes.values()} == {0}
    decision = decided(at, silent={one.name: 4_000 for one in N[:7]}, now_ms=at_ms + 2_000)
    assert [(c.node_id, c.state) for c in of_kind(decision, SetNodeState)] == [
        (N[6].id, NodeState.DOWN)
    ]
    assert of_kind(decision, LoseTask)
    assert of_kind(decision, CreateTask)
