"""What holds of any cluster: no rule is broken, nothing counted wrong, nothing left to chance."""

import random
from collections import Counter

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from meshswarm.control.decide import decide
from meshswarm.control.filters import refusals
from meshswarm.control.kept import Kept
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.loads import Load, load_of
from meshswarm.control.schedule import place
from meshswarm.control.whatif import WhatIf
from meshswarm.model.network import Port
from meshswarm.model.node import Availability, Node, NodeState
from meshswarm.model.placement import Affinity, Placement, Strategy
from meshswarm.model.resources import DeviceOffer, DeviceRequest, Resources
from meshswarm.model.service import Comparison, Constraint, Service
from meshswarm.model.task import TaskState
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import AssignTask, Batch
from meshswarm.store.view import View, build_view
from tests.support.builders import NOW_MS, node, service, task, view

NAMES = ("a", "b", "c")
ZONE = Constraint(key="node.labels.zone", comparison=Comparison.EQUAL, value="z1")


def a_node(chance: random.Random, number: int) -> Node:
    return node(
        f"n{number}",
        state=chance.choice((NodeState.READY, NodeState.READY, NodeState.DOWN)),
        availability=chance.choice((Availability.ACTIVE, *Availability)),
        labels={"zone": chance.choice(("z1", "z2", ""))},
        cpus=chance.randint(1, 4),
        devices=(DeviceOffer(kind="gpu", ids=("g1", "g2")),) if chance.random() < 0.5 else (),
    )


def a_rule(chance: random.Random) -> Affinity:
    return Affinity(
        service=chance.choice(NAMES),
        is_apart=chance.random() < 0.5,
        is_required=chance.random() < 0.5,
    )


def a_service(chance: random.Random, name: str) -> Service:
    gpus = chance.choice((None, None, 1, 0))
    return service(
        name,
        replicas=chance.randint(0, 5),
        priority=chance.choice((0, 0, 1)),
        reservations=Resources(nano_cpus=chance.choice((0, 500_000_000, 1_000_000_000))),
        ports=chance.choice(((), (), (Port(target=80, published=80),))),
        constraints=chance.choice(((), (), (ZONE,))),
        devices=() if gpus is None else (DeviceRequest(kind="gpu", count=gpus),),
        placement=Placement(
            strategy=chance.choice(tuple(Strategy)),
            spread_over=chance.choice(((), (), ("node.labels.zone",))),
            max_replicas_per_node=chance.choice((0, 0, 1, 2)),
            affinities=tuple(a_rule(chance) for _ in range(chance.choice((0, 0, 1, 2)))),
        ),
    )


def a_cluster(seed: int, members: int, kinds: int) -> View:
    """A few nodes and services, and tasks that wait for a node.

    Drawn from one seed: hypothesis would take longer to draw each part than the test to look at it.
    """
    chance = random.Random(seed)
    asked = [a_service(chance, name) for name in NAMES[:kinds]]
    waiting = [task(one, slot) for one in asked for slot in range(1, one.spec.replicas + 1)]
    return view([a_node(chance, number) for number in range(members)], asked, waiting)


clusters = st.builds(a_cluster, st.integers(0, 1 << 32), st.integers(0, 5), st.integers(1, 3))


def placed(before: View) -> WhatIf:
    """Every service's tasks placed, one after the other."""
    whatif = WhatIf(before, NOW_MS)
    for service_id in sorted(before.services):
        place(whatif, service_id, ())
    return whatif


def in_order(load: Load) -> Load:
    """The load with an order where there is none."""
    devices = sorted(load.devices, key=lambda grant: (grant.kind, grant.ids, grant.count))
    return evolve(load, devices=tuple(devices), ports=tuple(sorted(load.ports, key=repr)))


@given(clusters)
def test_no_placement_violates_a_filter(before: View) -> None:
    now = before
    for command in placed(before).commands:
        if isinstance(command, AssignTask):
            one, to = now.tasks[command.task_id], now.nodes[command.node_id]
            spec, load = now.spec_of(one).task, load_of(now, to.id)
            assert refusals(to, spec, load, one.service_name) == ()
            free = {
                device
                for offer in to.description.devices
                for device in offer.ids
                if device not in {held for grant in load.devices for held in grant.ids}
            }
            assert {device for grant in command.devices for device in grant.ids} <= free
        now = apply_command(now, command).view


@given(clusters)
def test_who_is_left_waiting_is_refused_by_every_node(before: View) -> None:
    whatif = placed(before)
    after = whatif.view
    last = max(before.services)
    for one in after.unplaced_tasks():
        if one.service_id != last:
            continue  # what is placed after it may have made the company that it missed
        spec = after.spec_of(one).task
        for other in after.nodes.values():
            assert refusals(other, spec, load_of(after, other.id), one.service_name)


@given(clusters, st.integers(0, 1 << 32))
def test_the_same_cluster_gives_the_same_placements_however_it_is_stored(
    before: View, seed: int
) -> None:
    rows = {name: list(getattr(before, name).values()) for name in ("nodes", "services", "tasks")}
    for table in rows.values():
        random.Random(seed).shuffle(table)
    shuffled = build_view(
        evolve(View(), index=before.index, term=before.term, clock_ms=before.clock_ms),
        revisions=(row for numbered in before.revisions.values() for row in numbered.values()),
        **rows,
    )
    assert placed(shuffled).commands == placed(before).commands


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 10))
def test_spread_differs_by_at_most_one_where_nothing_else_decides(
    replicas: int, count: int, elsewhere: int
) -> None:
    web, other = service("web", replicas=replicas), service("other", replicas=elsewhere)
    members = [node(f"n{number}") for number in range(count)]
    busy = [task(other, slot, members[0]) for slot in range(1, elsewhere + 1)]
    waiting = [task(web, slot) for slot in range(1, replicas + 1)]
    after = placed(view(members, [web, other], [*busy, *waiting])).view
    on = Counter(one.node_id for one in after.tasks_of(web.id))
    each = [on[member.id] for member in members]
    assert sum(each) == replicas
    assert max(each) - min(each) <= 1


@example(a_cluster(3252, 4, 3), [TaskState.NEW])  # room is kept for one that waits
@given(clusters, st.lists(st.sampled_from(TaskState), max_size=2))
def test_what_is_kept_of_loads_is_what_counting_gives(
    before: View, states: list[TaskState]
) -> None:
    kept = Kept()
    now = before
    for state in states:
        whatif = WhatIf(now, NOW_MS, kept=kept)
        for service_id in sorted(now.services):
            place(whatif, service_id, ())
        for node_id in now.nodes:
            taken = load_of(whatif.view, node_id)
            for more in whatif.held_on(node_id):
                taken = taken.plus(more)
            assert in_order(whatif.load_of(node_id)) == in_order(taken)
        bound = [one for one in whatif.view.tasks.values() if one.node_id is not None]
        moved = [evolve(t, status=evolve(t.status, state=state)) for t in bound[::2]]
        rows = {one.id: one for one in (*whatif.view.tasks.values(), *moved)}
        now = build_view(
            evolve(View(), index=now.index, term=now.term, clock_ms=now.clock_ms),
            nodes=now.nodes.values(),
            services=now.services.values(),
            revisions=(row for numbered in now.revisions.values() for row in numbered.values()),
            tasks=rows.values(),
        )
        for node_id in now.nodes:
            assert in_order(kept.loads.of(now, node_id)) == in_order(load_of(now, node_id))


@given(clusters)
def test_what_is_carried_out_together_is_what_one_by_one_gives(before: View) -> None:
    whatif = placed(before)
    one_by_one = before
    for command in whatif.commands:
        applied = apply_command(one_by_one, command)
        assert applied.outcome.error is None
        one_by_one = applied.view
    assert one_by_one == whatif.view


@given(clusters)
def test_a_second_pass_finds_nothing_left(before: View) -> None:
    heard = Liveness(silent_ms=dict.fromkeys(before.nodes, 0), observing_ms=1_000_000)
    now, kept = before, Kept()
    left: object = ()
    for _ in range(3):
        decision = decide(now, None, heard, LivenessPolicy(), NOW_MS, kept)
        again = decide(now, None, heard, LivenessPolicy(), NOW_MS)
        assert decision == again, "what is kept alters no decision"
        left = decision.commands
        now = apply_command(now, Batch(commands=decision.commands)).view
    assert left == ()
