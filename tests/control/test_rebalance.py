"""Plans that even a cluster out: what they move, what they leave alone, and that they end."""

from collections import Counter

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshswarm.control.rebalance import is_calm, plan
from meshswarm.ids import NodeId
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.placement import Placement, Strategy
from meshswarm.model.resources import Resources
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.task import TaskState
from meshswarm.store.commands import MoveTasks, PutService, UpdateNode
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service, service_spec, task, view
from tests.support.model_world import ModelWorld

N1, N2, N3 = node("n1"), node("n2"), node("n3")


def moved(planned: View) -> list[tuple[str, NodeId, NodeId]]:
    return [(one.task_id, one.source, one.target) for one in plan(planned, NOW_MS)]


def test_complaint_01_an_empty_node_gets_its_share() -> None:
    web = service("web", replicas=4)
    tasks = [task(web, slot, node) for slot, node in ((1, N1), (2, N1), (3, N2), (4, N2))]
    assert moved(view([N1, N2, N3], [web], tasks)) == [("web-2", N1.id, N3.id)]


def test_services_of_one_task_are_spread_by_what_nodes_bear() -> None:
    services = [service(f"s{number}", replicas=1) for number in range(4)]
    tasks = [task(one, 1, N1) for one in services]
    shifts = moved(view([N1, N2], services, tasks))
    assert [(N1.id, N2.id)] * 2 == [(source, target) for _, source, target in shifts]


def test_what_is_even_stays() -> None:
    web = service("web", replicas=3)
    even = view([N1, N2], [web], [task(web, 1, N1), task(web, 2, N1), task(web, 3, N2)])
    assert moved(even) == []


@pytest.mark.parametrize("memory_mib", [8_192, 24_081, 3_001])
def test_no_task_moves_where_it_would_only_mirror_the_unevenness(memory_mib: int) -> None:
    """Whatever a node's size, and however a task's share of it is rounded."""
    nodes = [node(f"n{n}", cpus=2, memory_mib=memory_mib) for n in range(3)]
    for base in range(30):
        counts = (base, base + 1, base + 1)
        services = [service(f"s{n}", replicas=1) for n in range(sum(counts))]
        placed = [one for one, count in zip(nodes, counts, strict=True) for _ in range(count)]
        tasks = [task(one, 1, where) for one, where in zip(services, placed, strict=True)]
        assert moved(view(nodes, services, tasks)) == [], counts


def test_nothing_moves_to_a_node_where_the_service_failed_of_late() -> None:
    """The scheduler would take it elsewhere, and the next plan move it again."""
    web = service("web", replicas=4)
    tasks = [task(web, slot, N1 if slot < 3 else N2) for slot in range(1, 5)]
    failed = [
        task(web, 1, N3, TaskState.FAILED, id=f"failed-{n}", created_at_ms=NOW_MS - 60_000)
        for n in range(3)
    ]
    assert moved(view([N1, N2, N3], [web], [*tasks, *failed[:2]])) == [("web-2", N1.id, N3.id)]
    assert moved(view([N1, N2, N3], [web], [*tasks, *failed])) == []


def test_labels_are_evened_out_before_nodes() -> None:
    zones = [node(f"n{n}", labels={"zone": zone}) for n, zone in enumerate("aab")]
    placement = Placement(spread_over=("node.labels.zone",))
    web = service("web", replicas=4, placement=placement)
    tasks = [task(web, slot, zones[0 if slot < 3 else 1]) for slot in range(1, 5)]
    found = plan(view(zones, [web], tasks), NOW_MS)
    assert {zones[2].id} == {one.target for one in found}
    assert 2 == len(found)


def test_what_is_packed_global_rolled_out_broken_or_run_once_is_left_alone() -> None:
    once = RestartPolicy(condition=RestartCondition.NONE)
    kinds = [
        service("packed", replicas=4, placement=Placement(strategy=Strategy.BINPACK)),
        service("once", replicas=4, restart=once),
        service("agent", mode=Mode.GLOBAL),
        service("alone", replicas=4, stop_after_s=5.0),
        service("broken", replicas=4),
    ]
    tasks = [task(one, slot, N1) for one in kinds for slot in range(1, 5)]
    tasks[-1] = evolve(tasks[-1], status=evolve(tasks[-1].status, state=TaskState.STARTING))
    assert moved(view([N1, N2], kinds, tasks)) == []


def test_a_node_that_may_not_have_the_task_gets_none() -> None:
    web = service("web", replicas=4)
    tasks = [task(web, slot, N1) for slot in range(1, 5)]
    for availability in (Availability.PAUSE, Availability.DRAIN):
        assert moved(view([N1, evolve(N2, availability=availability)], [web], tasks)) == []


def test_a_task_whose_better_place_is_gone_stays() -> None:
    world = ModelWorld(N1, N2)
    world.propose(PutService(spec=service_spec("web", replicas=2)))
    world.settle()
    (first, _) = world.view.tasks.values()
    world.propose(MoveTasks(task_ids=(first.id,)))
    world.settle()
    assert not any(one.leaves for one in world.view.tasks.values())
    assert first.id in world.view.tasks
    assert world.view.tasks[first.id].is_healthy


services = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([0, 500_000_000, 1_000_000_000]), st.booleans()),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)  # each is a cluster's life
@example(kinds=[(6, 0, True), (1, 0, False)], sizes=[2, 2, 2], away=1)  # even nodes, uneven labels
@given(
    kinds=services,
    sizes=st.lists(st.sampled_from([2, 4, 16]), min_size=3, max_size=4),
    away=st.integers(0, 3),
)
def test_rebalancing_comes_to_rest_and_takes_nothing_away(
    kinds: list[tuple[int, int, bool]], sizes: list[int], away: int
) -> None:
    nodes = [node(f"n{n}", cpus=cpus, labels={"z": f"{n % 2}"}) for n, cpus in enumerate(sizes)]
    world = ModelWorld(*nodes)
    absent = nodes[away % len(nodes)]
    world.propose(UpdateNode(node_id=absent.id, availability=Availability.PAUSE))
    for number, (replicas, nano_cpus, by_label) in enumerate(kinds):
        placement = Placement(spread_over=("node.labels.z",) if by_label else ())
        reserved = Resources(nano_cpus=nano_cpus)
        spec = service_spec(
            f"s{number}", replicas=replicas, placement=placement, reservations=reserved
        )
        world.propose(PutService(spec=spec))
    world.settle()
    world.propose(UpdateNode(node_id=absent.id, availability=Availability.ACTIVE))
    world.settle()
    healthy = Counter(one.service_name for one in world.view.tasks.values() if one.is_healthy)
    for _ in range(20):
        shifts = plan(world.view, world.now_ms)
        if not shifts:
            break
        world.propose(MoveTasks(task_ids=tuple(one.task_id for one in shifts)))
        world.settle()
    assert plan(world.view, world.now_ms) == ()
    assert healthy == Counter(
        one.service_name for one in world.view.tasks.values() if one.is_healthy
    )


def test_complaint_01_tasks_move_unasked_only_in_a_calm_cluster() -> None:
    web = service("web")
    old, new = evolve(N1, since_ms=NOW_MS - 30_000), evolve(N2, since_ms=NOW_MS - 29_999)
    down = evolve(N3, state=NodeState.DOWN)
    runs = task(web, 1, old)
    assert is_calm(view([old, down], [web], [runs]), NOW_MS)
    assert not is_calm(view([old, new], [web], [runs]), NOW_MS)
    assert not is_calm(view([old], [web], [evolve(runs, leaves=True)]), NOW_MS)
