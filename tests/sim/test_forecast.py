"""What a model of a cluster says would happen, and that it is what happens then."""

import random

import pytest
from attrs import evolve

from meshswarm.errors import Invalid
from meshswarm.ids import NodeId
from meshswarm.model.job import Run, RunPhase
from meshswarm.model.node import Availability, NodeRole, NodeState
from meshswarm.model.rollout import Rollout, RolloutPhase, UpdateOrder, UpdatePolicy
from meshswarm.model.service import (
    Comparison,
    Constraint,
    HealthCheck,
    Mode,
    RestartCondition,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Health, Reason, TaskState
from meshswarm.sim.adopted import Assumed
from meshswarm.sim.forecast import (
    Down,
    Forecast,
    Managers,
    Move,
    Question,
    ServiceForecast,
    forecast,
)
from meshswarm.sim.shape import Shape
from meshswarm.sim.world import World
from meshswarm.store.commands import PutService, PutStack, ScaleService, UpdateNode
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service, service_spec, task, view

A, B, C = (node(name, role=NodeRole.WORKER) for name in "abc")
WEB = service("web", replicas=3)
WEB_TASKS = [task(WEB, slot, on) for slot, on in ((1, A), (2, B), (3, C))]
MINUTE_MS = 60_000


def asked(before: View, **question: object) -> Forecast:
    """The forecast for a minute."""
    fields = {"span_ms": MINUTE_MS, **question}
    return forecast(before, Question(**fields), NOW_MS)  # type: ignore[arg-type]


def told(found: Forecast, name: str = "web") -> ServiceForecast:
    [one] = [one for one in found.services if one.name == name]
    return one


def kinds(found: Forecast) -> list[tuple[int, str, str | None]]:
    """What happened when, to whom."""
    return [(one.at_ms, one.kind, one.slot or one.node) for one in found.timeline]


def test_a_killed_nodes_task_moves_as_soon_as_the_node_counts_as_down() -> None:
    found = asked(view([A, B, C], [WEB], WEB_TASKS), killed=(C.id,))
    [lost_at] = [at for at, kind, _ in kinds(found) if kind == "lost"]
    assert 4_000 <= lost_at < 4_100
    web = told(found)
    assert (Move(slot="web.3", from_node="c", to_node="a"),) == web.moved
    assert (3, 3, 3, 3) == (web.wanted_before, web.serving_before, web.wanted, web.serving)
    assert (0, False, (), False) == (web.longest_outage_ms, web.is_out, web.down, web.is_short)
    assert lost_at + 1_000 <= web.longest_short_ms < lost_at + 1_100


def test_the_outage_begins_with_the_hosts_death_and_lasts_until_the_task_is_healthy() -> None:
    check = HealthCheck(test=("CMD", "true"), interval_s=7)
    one = service("one", healthcheck=check)
    before = view([A, B, C], [one], [task(one, 1, C, health=Health.HEALTHY)])
    assumed = Assumed(start_ms=3_000)
    outage_ms = told(asked(before, killed=(C.id,), assumed=assumed), "one").longest_outage_ms
    assert 14_000 <= outage_ms < 14_200
    assumed = Assumed(start_ms=3_000, healthy_ms=500)
    outage_ms = told(asked(before, killed=(C.id,), assumed=assumed), "one").longest_outage_ms
    assert 7_500 <= outage_ms < 7_700


def test_what_stays_down_says_why_node_by_node() -> None:
    only_c = Constraint(key="node.hostname", comparison=Comparison.EQUAL, value="c")
    db = service("db", constraints=(only_c,))
    found = asked(view([A, B, C], [db], [task(db, 1, C)]), killed=(C.id,))
    [down] = told(found, "db").down
    assert (
        Down(
            slot="db.1",
            was_down=False,
            state="pending",
            reason="no_suitable_node",
            message="no suitable node: 2 of 3 lack node.hostname==c; 1 is down",
            refusals={
                "a": ("lacks node.hostname==c",),
                "b": ("lacks node.hostname==c",),
                "c": ("is down",),
            },
        )
        == down
    )
    assert (MINUTE_MS, True) == (told(found, "db").longest_outage_ms, told(found, "db").is_out)


def test_without_a_quorum_nothing_is_replaced() -> None:
    managers = Managers(voters=frozenset({A.id, B.id, C.id}), leader=A.id)
    before = view([A, B, C], [WEB], WEB_TASKS)
    found = asked(before, killed=(B.id, C.id), managers=managers)
    assert [(0, "node"), (0, "node"), (0, "managers")] == [
        (one.at_ms, one.kind) for one in found.timeline
    ]
    assert "1 of 3 managers are left, a quorum needs 2" in found.timeline[-1].message
    assert ["web.2", "web.3"] == [down.slot for down in told(found).down]
    assert {"unnoticed"} == {down.reason for down in told(found).down}
    assert (1, MINUTE_MS) == (told(found).serving, told(found).longest_short_ms)


def test_the_leaders_death_costs_an_election_and_no_more() -> None:
    managers = Managers(voters=frozenset({A.id, B.id, C.id}), leader=C.id, election_ms=6_000)
    found = asked(view([A, B, C], [WEB], WEB_TASKS), killed=(C.id,), managers=managers)
    [lost_at] = [at for at, kind, _ in kinds(found) if kind == "lost"]
    assert 6_000 <= lost_at < 6_100
    assert 3 == told(found).serving


def test_a_storm_is_told_as_such() -> None:
    found = asked(view([A, B, C], [WEB], WEB_TASKS), killed=(A.id, B.id, C.id))
    assert {"node_down"} == {down.reason for down in told(found).down}
    assert "the network is likelier" in told(found).down[0].message
    assert (0, True) == (told(found).serving, told(found).is_out)


def test_draining_moves_without_an_outage_of_the_whole() -> None:
    drain = UpdateNode(node_id=A.id, availability=Availability.DRAIN)
    web = told(asked(view([A, B, C], [WEB], WEB_TASKS), commands=(drain,)))
    assert ["web.1"] == [move.slot for move in web.moved]
    assert {None, "b", "c"} >= {move.to_node for move in web.moved}
    assert (3, 0, ()) == (web.serving, web.longest_outage_ms, web.down)


def test_what_does_not_fit_is_told_slot_by_slot() -> None:
    scale = ScaleService(service_id=WEB.id, replicas=5)
    big = service("web", replicas=3, reservations=node("x", cpus=2).description.resources)
    tasks = [task(big, slot, on) for slot, on in ((1, A), (2, B), (3, C))]
    small = [node(name, role=NodeRole.WORKER, cpus=3) for name in "abc"]
    web = told(asked(view(small, [big], tasks), commands=(scale,)))
    assert ["web.4", "web.5"] == [down.slot for down in web.down]
    assert {"a", "b", "c"} == set(web.down[0].refusals)
    assert (5, 3, True) == (web.wanted, web.serving, web.is_short)


def test_a_new_stack_is_rolled_out_as_its_policy_says() -> None:
    first = UpdatePolicy(order=UpdateOrder.START_FIRST, min_healthy_s=1.0, monitor_s=1.0)
    stack = StackSpec(
        name="shop",
        services=(
            service_spec("shop_web", stack="shop", replicas=2, command=("new",), update=first),
            service_spec("shop_all", stack="shop", mode=Mode.GLOBAL),
        ),
    )
    web = service("shop_web", stack="shop", replicas=2, update=first)
    before = view([A, B, C], [web], [task(web, 1, A), task(web, 2, B)])
    found = asked(before, commands=(PutStack(spec=stack),))
    rolled = [one.message for one in found.timeline if one.kind == "rollout"]
    assert ["is updating", "is completed"] == [
        text.split("2 ")[1][:12].rstrip(":") for text in rolled
    ]
    assert 0 == told(found, "shop_web").longest_short_ms
    assert (0, 3) == (told(found, "shop_all").wanted_before, told(found, "shop_all").serving)


def test_a_refused_command_is_an_error_and_not_a_forecast() -> None:
    with pytest.raises(Invalid, match="cannot have -1 replicas"):
        asked(
            view([A], [WEB], WEB_TASKS[:1]),
            commands=(ScaleService(service_id=WEB.id, replicas=-1),),
        )


def test_what_fails_now_fails_on() -> None:
    bad = service("bad", restart=RestartPolicy(max_attempts=2))
    ended = task(
        bad, 1, A, TaskState.FAILED, reason=Reason.EXITED, exit_code=3, ran_ms=100, message="code 3"
    )
    before = view([A, B], [bad], [ended])
    drain = UpdateNode(node_id=B.id, availability=Availability.DRAIN)
    one = told(asked(before, commands=(drain,)), "bad")
    [down] = one.down
    assert (True, "exited", 0) == (down.was_down, down.reason, one.serving)
    assert "restarted 2 times, its limit" in down.message


def test_what_is_done_is_neither_down_nor_missed() -> None:
    job = service("job", restart=RestartPolicy(condition=RestartCondition.NONE))
    done = task(job, 1, C, TaskState.COMPLETE, reason=Reason.COMPLETED, exit_code=0, ran_ms=50)
    one = told(asked(view([A, B, C], [job], [done]), killed=(C.id,)), "job")
    assert (0, 0, (), False) == (one.wanted, one.longest_outage_ms, one.down, one.is_short)


def test_a_node_that_is_down_already_stays_so() -> None:
    dead = node("c", role=NodeRole.WORKER, state=NodeState.DOWN)
    found = asked(view([A, B, dead], [WEB], WEB_TASKS[:2]), killed=(dead.id,))
    assert "it is down already" in [one.message for one in found.timeline]
    assert 3 == told(found).serving


def test_a_task_on_its_way_and_one_being_stopped_go_on() -> None:
    tasks = [
        task(WEB, 1, A, TaskState.PREPARING),
        task(WEB, 2, B, TaskState.READY),
        task(WEB, 3, C, desired=DesiredState.SHUTDOWN),
    ]
    found = asked(view([A, B, C], [WEB], tasks), span_ms=MINUTE_MS)
    assert (3, ()) == (told(found).serving, told(found).down)


@pytest.mark.parametrize("phase", [RunPhase.COMPLETE, RunPhase.FAILED])
def test_a_run_that_was_over_before_is_none_of_what_follows(phase: RunPhase) -> None:
    job = service("job", mode=Mode.REPLICATED_JOB)
    state = TaskState.COMPLETE if phase is RunPhase.COMPLETE else TaskState.FAILED
    run = Run(service_id=job.id, phase=phase, started_at_ms=1, ended_at_ms=2)
    before = view([A, B, C], [WEB, job], [*WEB_TASKS, task(job, 1, A, state)], runs=[run])
    assert ["web"] == [one.name for one in asked(before, killed=(C.id,)).services]


def test_only_rollouts_that_have_an_end_before_them_are_told() -> None:
    def summary(phase: RolloutPhase) -> tuple[str, ...]:
        row = Rollout(
            service_id=WEB.id,
            edition=1,
            stable_revision=1,
            revision=1,
            phase=phase,
            message="it failed",
            since_ms=NOW_MS,
            started_at_ms=NOW_MS,
            progressed_at_ms=NOW_MS,
        )
        before = view([A, B, C], [WEB], WEB_TASKS)
        before = evolve(before, rollouts=before.rollouts.set(WEB.id, row))
        return told(asked(before, killed=(C.id,))).summary

    assert () == summary(RolloutPhase.ROLLED_BACK)
    headline, hint = summary(RolloutPhase.PAUSED)
    assert "is paused" in headline
    on, back = "`meshswarm service resume web` goes on with it", "`meshswarm service rollback web`"
    assert hint == f"{on}, {back} back"
    assert "rollback" not in "".join(summary(RolloutPhase.ROLLBACK_PAUSED)[1:])


def test_one_task_is_no_tasks() -> None:
    command = PutService(spec=service_spec("one", replicas=1))
    [created, *_] = asked(view([A, B, C]), commands=(command,)).timeline
    assert "it is created with 1 task" == created.message


def test_a_job_is_carried_on_elsewhere_and_takes_as_long_as_before() -> None:
    job = service("job", replicas=3, mode=Mode.REPLICATED_JOB)
    tasks = [
        task(job, 1, A, TaskState.COMPLETE, reason=Reason.COMPLETED, exit_code=0, ran_ms=7_000),
        task(job, 2, B, created_at_ms=NOW_MS - 1_000),
        task(job, 3, C, created_at_ms=NOW_MS - 1_000),
    ]
    found = asked(view([A, B, C], [job], tasks), killed=(C.id,))
    ended = [(one.slot, one.node) for one in found.timeline if one.kind == "complete"]
    assert [("job.2", "b"), ("job.3", "a")] == sorted(ended)
    one = told(found, "job")
    assert (0, 0, ()) == (one.longest_outage_ms, one.longest_short_ms, one.down)


# --- against a world that does not know of the forecast -------------------------------------------


def stack_of(*replicas: int) -> StackSpec:
    spec = TaskSpec(runtime=RuntimeKind.PROCESS, command=("run",), stop_grace_period_s=1.0)
    services = tuple(
        ServiceSpec(name=f"shop_s{n}", stack="shop", replicas=count, task=spec)
        for n, count in enumerate(replicas)
    )
    return StackSpec(name="shop", services=services)


@pytest.mark.parametrize("victim", ["m1", "m3", "w2"])
def test_the_forecast_is_what_happens_then(victim: str) -> None:
    world = World(random.Random(5), Shape(clients=0, workers=3))
    user = world.caller("c1")

    async def deploy() -> None:
        await user.propose(PutStack(spec=stack_of(5, 2, 1)))

    world.clock.run_until(6_000)
    user.life.spawn(deploy())
    world.clock.run_until(15_000)
    before = world.checkers.states.newest
    leader = next(seat.id for seat in world.seats() if seat.leads)
    voters = frozenset(NodeId(name) for name in world.shape.manager_ids)
    question = Question(
        killed=(NodeId(victim),),
        span_ms=20_000,
        managers=Managers(voters=voters, leader=leader),
    )
    found = forecast(before, question, before.clock_ms)
    world.kill(NodeId(victim), power=True)
    world.clock.run_until(35_000)
    after = world.checkers.states.newest
    world.end()
    assert places(before) != places(after)
    expected = places(before)
    for one in found.services:
        expected |= {move.slot: move.to_node for move in one.moved}
    assert expected == places(after)


def places(of: View) -> dict[str, str | None]:
    """The node of every slot."""
    live = (one for one in of.tasks.values() if one.is_live)
    return {f"{one.service_name}.{one.slot}": one.node_id for one in live}
