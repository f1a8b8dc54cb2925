"""Tasks make way for such as matter more: no more than it takes, and within the budgets."""

from collections.abc import Iterable
from typing import Any

import pytest
from attrs import evolve

from meshswarm.control.decide import Decision
from meshswarm.control.preempt import most_missing
from meshswarm.control.why import why
from meshswarm.model.node import Node
from meshswarm.model.placement import Placement
from meshswarm.model.resources import Resources
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy, Service
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.commands import CreateTask, PutService, SetDesired
from tests.support.builders import NOW_MS, node, service, service_spec, task, view
from tests.support.deciding import carried_out, decided, of_kind
from tests.support.model_world import ModelWorld

CPU = Resources(nano_cpus=1_000_000_000)
TWO = Resources(nano_cpus=2_000_000_000)
N1, N2 = node("n1", cpus=2), node("n2", cpus=2)


def low(name: str = "low", *, replicas: int, **fields: Any) -> Service:
    return service(name, replicas=replicas, reservations=CPU, **fields)


def high(*, reservations: Resources = CPU, **fields: Any) -> Service:
    return service("high", priority=10, reservations=reservations, **fields)


def stopped(decision: Decision) -> list[str]:
    return sorted(c.task_id for c in of_kind(decision, SetDesired) if c.reason is Reason.PREEMPTED)


def on(where: Node, of: Service, *slots: int) -> list[Task]:
    return [task(of, slot, where) for slot in slots]


def pass_on(nodes: Iterable[Node], services: Iterable[Service], tasks: Iterable[Task]) -> Decision:
    return decided(view(nodes, services, tasks))


def test_nobody_makes_way_where_there_is_room() -> None:
    small = low(replicas=2)
    decision = pass_on([N1, N2], [small, high()], on(N1, small, 1, 2))
    assert stopped(decision) == []
    assert [c.node_id for c in of_kind(decision, CreateTask)] == [N2.id]


def test_as_many_make_way_as_it_takes_and_on_one_node() -> None:
    small = low(replicas=4)
    tasks = [*on(N1, small, 1, 2), *on(N2, small, 3, 4)]
    assert len(stopped(pass_on([N1, N2], [small, high()], tasks))) == 1
    assert stopped(pass_on([N1, N2], [small, high(reservations=TWO)], tasks)) == ["low-1", "low-2"]


def test_the_least_important_make_way_first() -> None:
    least, less = low("least", replicas=1, priority=-5), low("less", replicas=3)
    tasks = [*on(N1, less, 1, 2), *on(N2, less, 3), *on(N2, least, 1)]
    assert stopped(pass_on([N1, N2], [least, less, high()], tasks)) == ["least-1"]


def test_equals_and_betters_do_not_make_way() -> None:
    equal = low(replicas=2, priority=10)
    decision = pass_on([N1], [equal, high()], on(N1, equal, 1, 2))
    assert stopped(decision) == []
    [created] = of_kind(decision, CreateTask)
    assert created.message == "no suitable node: 1 of 1 has fewer than 1 CPUs unreserved"


def test_a_budget_bounds_how_many_make_way() -> None:
    small = low(replicas=4, max_unavailable=1)
    tasks = [*on(N1, small, 1, 2), *on(N2, small, 3, 4)]
    assert len(stopped(pass_on([N1, N2], [small, high(replicas=3)], tasks))) == 1
    sick = [*on(N1, small, 1, 2), *on(N2, small, 3), task(small, 4, N2, TaskState.STARTING)]
    assert stopped(pass_on([N1, N2], [small, high()], sick)) == [], "one is missing already"


@pytest.mark.parametrize(
    ("percent", "wanted", "most"),
    [
        (25, 4, 1),
        (25, 7, 1),
        (25, 8, 2),
        (99, 2, 1),
        (1, 10, 1),
        (10, 0, 1),
        (0, 50, 0),
        (100, 3, 3),
    ],
)
def test_a_share_is_rounded_down_and_lets_at_least_one_go(
    percent: int, wanted: int, most: int
) -> None:
    assert most == most_missing(service_spec("web", max_unavailable_percent=percent), wanted)


def test_a_share_bounds_how_many_make_way_too() -> None:
    small = low(replicas=4, max_unavailable_percent=50)
    tasks = [*on(N1, small, 1, 2), *on(N2, small, 3, 4)]
    assert 2 == len(stopped(pass_on([N1, N2], [small, high(replicas=3)], tasks)))
    never = low(replicas=4, max_unavailable_percent=0)
    assert [] == stopped(pass_on([N1, N2], [never, high(replicas=3)], on(N1, never, 1, 2, 3, 4)))


def test_what_made_way_of_a_global_service_is_missing_as_long_as_it_has_no_room() -> None:
    small = low(replicas=1, mode=Mode.GLOBAL, max_unavailable=1)
    gone = task(small, 0, N1, TaskState.SHUTDOWN, desired=DesiredState.SHUTDOWN)
    gone = evolve(gone, ending=Reason.PREEMPTED)
    first = task(high(), 1, N1)
    wide = evolve(high(replicas=2), spec=evolve(high().spec, replicas=2))
    tasks = [gone, task(small, 0, N2), first]
    ones = [node("n1", cpus=1), node("n2", cpus=1)]
    assert [] == stopped(pass_on(ones, [small, wide], tasks))
    more = evolve(small, spec=evolve(small.spec, max_unavailable=2))
    assert ["low-0-n2"] == stopped(pass_on(ones, [more, wide], tasks))


def test_what_nothing_would_replace_does_not_make_way() -> None:
    once = low(replicas=2, restart=RestartPolicy(condition=RestartCondition.NONE))
    assert stopped(pass_on([N1], [once, high()], on(N1, once, 1, 2))) == []


def test_nobody_makes_way_in_vain() -> None:
    small = low(replicas=2)
    large = high(reservations=Resources(nano_cpus=3_000_000_000))
    assert stopped(pass_on([N1], [small, large], on(N1, small, 1, 2))) == []


def test_who_waits_for_room_says_so_and_stops_nobody_twice() -> None:
    small = low(replicas=2)
    before = view([N1], [small, high()], on(N1, small, 1, 2))
    after = carried_out(before, decided(before))
    [waiting] = [t for t in after.tasks.values() if t.service_name == "high"]
    assert waiting.status.reason is Reason.WAITS_FOR_ROOM
    assert waiting.status.message == "tasks that stop on a node will leave it room"
    assert decided(after).commands == ()
    [victim] = [t for t in after.tasks.values() if t.ending is Reason.PREEMPTED]
    assert victim.desired is DesiredState.SHUTDOWN


def test_a_global_service_gets_its_node_too() -> None:
    small = low(replicas=2)
    agent = service("agent", mode=Mode.GLOBAL, priority=10, reservations=CPU)
    decision = pass_on([N1], [small, agent], on(N1, small, 1, 2))
    assert len(stopped(decision)) == 1


def test_a_port_and_a_limit_of_replicas_are_room_too() -> None:
    limited = service("low", replicas=2, placement=Placement(max_replicas_per_node=2))
    own = service("high", priority=1, placement=Placement(max_replicas_per_node=1))
    decision = pass_on([N1], [limited, own], on(N1, limited, 1, 2))
    assert stopped(decision) == [], "their limits do not concern each other"


def test_in_the_end_the_important_run_and_the_others_wait() -> None:
    world = ModelWorld(N1, N2)
    world.propose(PutService(spec=service_spec("low", replicas=4, reservations=CPU)))
    world.settle()
    spec = service_spec("high", replicas=3, priority=10, reservations=CPU)
    world.propose(PutService(spec=spec))
    world.settle()
    after = world.view
    running = [t.service_name for t in after.tasks.values() if t.status.state is TaskState.RUNNING]
    assert sorted(running) == ["high"] * 3 + ["low"]
    waiting = [t.service_name for t in after.tasks.values() if t.node_id is None and t.is_live]
    assert waiting == ["low"] * 3
    preempted = [t for t in after.tasks.values() if t.ending is Reason.PREEMPTED]
    assert len(preempted) == 3, "each of the three took one task's place, and kept it"


def test_why_says_who_made_way_and_what_each_node_lacks() -> None:
    small = low(replicas=2)
    made_way = evolve(
        task(small, 2, N1, TaskState.SHUTDOWN, id="gone", desired=DesiredState.SHUTDOWN),
        ending=Reason.PREEMPTED,
    )
    tasks = [*on(N1, small, 1), made_way, task(small, 2, created_at_ms=NOW_MS)]
    before = view([N1], [small, high()], [*tasks, *on(N1, high(), 1)])
    [report] = why(before, small, NOW_MS).slots
    assert report.refusals == {"n1": ("has fewer than 1 CPUs unreserved",)}
    [exit_] = report.exits
    assert (exit_.reason, exit_.message) == (
        Reason.PREEMPTED,
        "it made way for a task of greater priority",
    )
