"""Tasks get the best node, or say why they have none."""

from collections import Counter

import pytest

from meshswarm.control.loads import Load
from meshswarm.control.score import Score, Standing
from meshswarm.ids import NodeId
from meshswarm.model.network import Port
from meshswarm.model.node import Node, NodeState
from meshswarm.model.resources import Resources
from meshswarm.model.service import Comparison, Constraint, RuntimeKind, Service
from meshswarm.model.task import DesiredState, Reason, TaskState
from meshswarm.store.commands import AssignTask, CreateTask, ExplainTask
from meshswarm.store.view import Table, View
from tests.support.builders import node, service, task, view
from tests.support.deciding import carried_out, decided, of_kind

N1, N2, N3 = node("n1"), node("n2"), node("n3")
WEB = service("web")


def _placed(before: View) -> Counter[NodeId | None]:
    return Counter(c.node_id for c in of_kind(decided(before), CreateTask))


def test_the_tasks_of_a_service_are_spread_first_then_all_tasks() -> None:
    busy = service("busy", replicas=4)
    tasks = [task(busy, slot, N1) for slot in (1, 2, 3)] + [task(busy, 4, N2)]
    web = service("web", replicas=4)
    found = _placed(view([N1, N2, N3], [busy, web], tasks))
    assert found == {N3.id: 2, N2.id: 1, N1.id: 1}


def test_dead_tasks_weigh_nothing() -> None:
    dead = [task(WEB, 9, N1, TaskState.FAILED, id=f"t{n}", created_at_ms=1) for n in range(9)]
    web = service("web", replicas=2)
    assert _placed(view([N1, N2], [web], [*dead, task(web, 1, N2)])) == {N1.id: 1}


def test_reservations_fill_nodes_and_the_rest_waits() -> None:
    web = service("web", replicas=5, reservations=Resources(memory_bytes=400 << 20))
    nodes = [node("n1", memory_mib=1_000), node("n2", memory_mib=500)]
    assert _placed(view(nodes, [web])) == {"id-n1": 2, "id-n2": 1, None: 2}


def test_what_stops_still_holds_its_reservation_and_its_port() -> None:
    port = (Port(target=80, published=80),)
    old, new = service("old", replicas=0, ports=port), service("new", ports=port)
    stopping = task(old, 1, N1, desired=DesiredState.REMOVE)
    assert _placed(view([N1], [old, new], [stopping])) == {None: 1}
    stopped = task(old, 1, N1, TaskState.SHUTDOWN, desired=DesiredState.REMOVE)
    assert _placed(view([N1], [old, new], [stopped])) == {N1.id: 1}


def test_a_published_port_is_taken_once_a_node() -> None:
    web = service("web", replicas=3, ports=(Port(target=80, published=80),))
    decision = decided(view([N1, N2], [web]))
    assert Counter(c.node_id for c in of_kind(decision, CreateTask)) == {
        N1.id: 1,
        N2.id: 1,
        None: 1,
    }
    [left] = [c for c in of_kind(decision, CreateTask) if c.node_id is None]
    assert left.reason is Reason.NO_SUITABLE_NODE
    assert left.message == "no suitable node: 2 of 2 have port 80/tcp taken"


def test_a_waiting_task_says_why_and_is_not_explained_twice() -> None:
    ssd = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")
    web = service("web", runtime=RuntimeKind.DOCKER, constraints=(ssd,))
    nodes = [N1, N2, node("n3", runtimes=())]
    before = view(nodes, [web])
    [created] = of_kind(decided(before), CreateTask)
    assert created.message == (
        "no suitable node: 2 of 3 lack node.labels.disk==ssd; 1 does not offer the docker runtime"
    )
    assert decided(carried_out(before, decided(before))).commands == ()


def test_an_explanation_follows_the_nodes() -> None:
    waiting = task(WEB, 1, message="no suitable node: the cluster has no nodes")
    down = node("n1", state=NodeState.DOWN)
    before = view([down], [WEB], [waiting])
    decision = decided(before, dirty=frozenset({(Table.NODES, down.id)}), silent={"n1": 9_000})
    assert decision.commands == (
        ExplainTask(
            task_id=waiting.id,
            reason=Reason.NO_SUITABLE_NODE,
            message="no suitable node: 1 of 1 is down",
        ),
    )


def test_a_waiting_task_gets_a_node_when_one_appears_or_is_freed() -> None:
    waiting = task(WEB, 1)
    assign = AssignTask(task_id=waiting.id, node_id=N1.id)
    for key in ((Table.NODES, str(N1.id)), (Table.TASKS, "over")):
        over = task(service("other"), 1, N1, TaskState.SHUTDOWN, id="over")
        before = view([N1], [WEB, service("other", replicas=0)], [waiting, over])
        assert assign in decided(before, dirty=frozenset({key})).commands


@pytest.mark.parametrize("replicas", [1, 100])
def test_a_group_judges_each_node_once_and_then_only_those_taken(
    replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []

    def counted(standing: Standing, one: Node, load: Load, placed: int = 0) -> Score:
        judged.append(one.name)
        return real_score(standing, one, load, placed)

    real_score = Standing.score
    monkeypatch.setattr(Standing, "score", counted)
    nodes = [node(f"n{number}", cpus=100) for number in range(50)]
    web: Service = service("web", replicas=replicas)
    assert len(of_kind(decided(view(nodes, [web])), CreateTask)) == replicas
    assert len(judged) == len(nodes) + replicas
