"""How far zones may be apart is a limit: nobody gets ahead of a zone that is full."""

import random
from collections import Counter

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.control.filters import refusals
from meshswarm.control.loads import load_of
from meshswarm.control.rebalance import plan
from meshswarm.control.schedule import place
from meshswarm.control.skew import skew_of
from meshswarm.control.whatif import WhatIf
from meshswarm.control.why import why
from meshswarm.model.node import Availability, Node, NodeState
from meshswarm.model.placement import Placement
from meshswarm.model.resources import Resources
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import Comparison, Constraint, Service
from meshswarm.model.task import Task
from meshswarm.store.commands import CreateTask, MoveTasks, PutService, SetDesired
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service, service_spec, task, view
from tests.support.deciding import carried_out, decided, of_kind
from tests.support.model_world import ModelWorld

CPU = Resources(nano_cpus=1_000_000_000)
ONLY_A = Constraint(key="node.labels.zone", comparison=Comparison.EQUAL, value="a")


def even(most: int = 1, *, max_replicas_per_node: int = 0) -> Placement:
    return Placement(
        spread_over=("node.labels.zone",),
        max_skew=most,
        max_replicas_per_node=max_replicas_per_node,
    )


def zoned(*zones: str, cpus: float = 4) -> list[Node]:
    return [node(f"n{n}", cpus=cpus, labels={"zone": zone}) for n, zone in enumerate(zones)]


def placed(before: View, of: Service) -> Counter[str]:
    """The names of the nodes that new tasks of the service get; empty: none."""
    created = [c for c in of_kind(decided(before), CreateTask) if c.service_id == of.id]
    return Counter(before.nodes[c.node_id].name if c.node_id else "" for c in created)


def test_a_full_zone_keeps_the_others_from_getting_far_ahead_and_that_is_told() -> None:
    web = service("web", replicas=6, placement=even(max_replicas_per_node=1))
    nodes = zoned("a", "a", "a", "b")
    before = view(nodes, [web])
    assert {"n0": 1, "n1": 1, "n3": 1, "": 3} == placed(before, web)
    [message] = {c.message for c in of_kind(decided(before), CreateTask) if c.node_id is None}
    assert (
        "no suitable node: 3 of 4 have 1 task of web, its limit on a node; "
        "1 is in node.labels.zone=a, which has 2 of web's tasks where node.labels.zone=b has 1: "
        "max_skew is 1"
    ) == message
    wide = service("web", replicas=6, placement=even(2, max_replicas_per_node=1))
    assert {"n0": 1, "n1": 1, "n2": 1, "n3": 1, "": 2} == placed(view(nodes, [wide]), wide)


def test_why_tells_of_each_node_which_zone_is_behind() -> None:
    web = service("web", replicas=4, placement=even(max_replicas_per_node=1))
    nodes = zoned("a", "a", "a", "b")
    running = [task(web, slot, nodes[n]) for slot, n in ((1, 0), (2, 1), (3, 3))]
    report = why(view(nodes, [web], [*running, task(web, 4)]), web, NOW_MS)
    [slot] = report.slots
    ahead = "is in node.labels.zone=a, which has 2 of web's tasks where node.labels.zone=b has 1"
    limit = "has 1 task of web, its limit on a node"
    assert (f"{ahead}: max_skew is 1",) == slot.refusals["n2"]
    assert (limit, f"{ahead}: max_skew is 1") == slot.refusals["n0"]
    assert (limit,) == slot.refusals["n3"]


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [(7, {"n1": 2, "n2": 2}), (10, {"n0": 1, "n1": 3, "n2": 3}), (5, {"n1": 1, "n2": 1})],
)
def test_a_zone_that_is_ahead_waits_until_the_others_have_caught_up(
    replicas: int, expected: dict[str, int]
) -> None:
    web = service("web", replicas=replicas, placement=even())
    nodes = zoned("a", "b", "c")
    before = view(nodes, [web], [task(web, slot, nodes[0]) for slot in (1, 2, 3)])
    assert expected == placed(before, web)


def test_a_zone_that_is_silent_or_drained_or_not_for_the_service_does_not_count() -> None:
    web = service("web", replicas=4, placement=even())
    here, there = zoned("a", "b")
    silent = decided(view([here, there], [web]), silent={"n1": 2_500})
    assert [here.id] * 4 == [c.node_id for c in of_kind(silent, CreateTask)]
    for availability in (Availability.DRAIN, Availability.PAUSE):
        gone = evolve(there, availability=availability)
        assert {"n0": 4} == placed(view([here, gone], [web]), web)
    narrow = service("web", replicas=4, placement=even(), constraints=(ONLY_A,))
    assert {"n0": 4} == placed(view([here, there], [narrow]), narrow)


def test_what_is_thought_away_counts_nowhere() -> None:
    web = service("web", replicas=3, placement=even())
    here, there = zoned("a", "b")
    gone = evolve(there, availability=Availability.DRAIN)
    running = [task(web, 1, here), task(web, 2, here), task(web, 3, gone)]
    whatif = WhatIf(view([here, gone], [web], running), NOW_MS)
    for without, count in (((), 2), ((running[0].id, running[2].id), 1)):
        skew = skew_of(whatif, web.spec.task, "web", without)
        assert skew is not None
        assert {"a": count} == skew.tasks


def test_nothing_makes_way_where_the_limit_would_keep_the_task_out() -> None:
    web = service("web", replicas=3, priority=5, reservations=CPU, placement=even())
    low = service("low", replicas=2, reservations=CPU)
    a, b = node("a", cpus=3, labels={"zone": "a"}), node("b", cpus=1, labels={"zone": "b"})
    running = [task(web, 1, a), task(web, 2, a), task(low, 1, a), task(low, 2, b)]
    decision = decided(view([a, b], [web, low], running))
    assert ["low-2"] == [c.task_id for c in of_kind(decision, SetDesired)], "low-1 is on a"


def crooked() -> tuple[Service, list[Node], list[Task]]:
    """Nine tasks in three zones, of which the emptiest is full."""
    web = service("web", replicas=9, reservations=CPU, placement=even())
    nodes = [node(f"n{zone}", cpus=8, labels={"zone": zone}) for zone in "ab"]
    nodes.append(node("nc", cpus=1, labels={"zone": "c"}))
    on = [nodes[0]] * 5 + [nodes[1]] * 3 + [nodes[2]]
    return web, nodes, [task(web, slot, where) for slot, where in enumerate(on, 1)]


def test_nothing_is_moved_to_where_the_limit_would_keep_it_out() -> None:
    web, nodes, running = crooked()
    before = view(nodes, [web], running)
    assert () == plan(before, NOW_MS)
    marked = view(nodes, [web], [evolve(running[0], leaves=True), *running[1:]])
    assert (MoveTasks(task_ids=(running[0].id,), leaves=False),) == decided(marked).commands
    wider = evolve(web, spec=evolve(web.spec, task=evolve(web.spec.task, placement=even(3))))
    assert 1 == len(plan(view(nodes, [wider], running), NOW_MS))


@pytest.mark.parametrize("order", UpdateOrder)
def test_a_rollout_gets_through_whatever_its_order(order: UpdateOrder) -> None:
    nodes = zoned("a", "a", "b")
    world = ModelWorld(*nodes)
    policy = UpdatePolicy(order=order, parallelism=2, monitor_s=1.0)
    spec = service_spec("web", replicas=5, update=policy, placement=even())
    world.propose(PutService(spec=spec))
    world.settle()
    world.propose(PutService(spec=evolve(spec, task=evolve(spec.task, command=("other",)))))
    world.settle()
    row = world.view.find_service("web")
    live = [one for one in world.view.tasks_of(row.id) if one.is_live]
    zones = Counter(world.view.nodes[one.node_id].labels["zone"] for one in live if one.node_id)
    assert {2} == {one.revision for one in live}
    assert 5 == len(live)
    assert 1 >= abs(zones["a"] - zones["b"])


def a_cluster(seed: int, members: int) -> View:
    """Nodes in a few zones, some of them full, and a service whose tasks are there or wait."""
    chance = random.Random(seed)
    nodes = [
        node(
            f"n{number}",
            cpus=chance.randint(1, 3),
            labels={"zone": chance.choice("abc")},
            state=chance.choice((NodeState.READY, NodeState.READY, NodeState.DOWN)),
        )
        for number in range(members)
    ]
    web = service("web", replicas=8, reservations=CPU, placement=even(chance.randint(1, 3)))
    tasks = [
        task(web, slot, chance.choice((None, *(n for n in nodes if n.state is NodeState.READY))))
        for slot in range(1, 9)
    ]
    return view(nodes, [web], tasks)


def standing(now: View, web: Service) -> Counter[str]:
    """The service's tasks by the zones that have a ready node."""
    zones = Counter({n.labels["zone"]: 0 for n in now.nodes.values() if n.state is NodeState.READY})
    for one in now.tasks_of(web.id):
        if one.node_id is not None and (zone := now.nodes[one.node_id].labels["zone"]) in zones:
            zones[zone] += 1
    return zones


@given(st.builds(a_cluster, st.integers(0, 1 << 32), st.integers(1, 7)))
def test_no_task_makes_a_zone_get_further_ahead_and_none_waits_without_need(before: View) -> None:
    [web] = before.services.values()
    whatif = WhatIf(before, NOW_MS)
    place(whatif, web.id, ())
    after, most = whatif.view, web.spec.task.placement.max_skew
    was, now = standing(before, web), standing(after, web)
    for zone, count in now.items():
        assert count == was[zone] or count - min(now.values()) <= most
    if not any(True for _ in after.unplaced_tasks()):
        return
    for one in after.nodes.values():
        against = refusals(one, web.spec.task, load_of(after, one.id), "web")
        zone = one.labels["zone"]
        assert against or now[zone] + 1 - min(now.values()) > most


@given(st.builds(a_cluster, st.integers(0, 1 << 32), st.integers(1, 7)))
def test_what_is_decided_and_carried_out_leaves_nothing_to_decide(before: View) -> None:
    now = before
    for _ in range(3):
        now = carried_out(now, decided(now))
    assert () == decided(now).commands
