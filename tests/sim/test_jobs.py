"""A schedule fires once a minute, whoever leads, and whenever that changes."""

import random

import pytest
from attrs import evolve
from immutables import Map

from meshswarm.control import jobs
from meshswarm.ids import Index, JobId, NodeId, ServiceId
from meshswarm.model.job import Concurrency, JobSpec, Run, RunPhase, Schedule
from meshswarm.model.service import (
    Mode,
    RestartCondition,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.sim.fires import MINUTE_MS, Fires
from meshswarm.sim.hosts import WORK
from meshswarm.sim.shape import EPOCH_MS, Shape
from meshswarm.sim.trace import Violation
from meshswarm.sim.world import World
from meshswarm.store.commands import PutStack
from meshswarm.store.view import Table, View

FIRST_MS = MINUTE_MS - EPOCH_MS % MINUTE_MS
"""From the beginning of the world to the first full minute."""

DARK_MS = 1_500
"""How long a killed leader stays away."""


def _tick() -> JobSpec:
    once = RestartPolicy(condition=RestartCondition.NONE)
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=(WORK,), restart=once)
    run = ServiceSpec(name="s_tick", stack="s", mode=Mode.REPLICATED_JOB, task=task)
    schedule = Schedule(cron="* * * * *", concurrency=Concurrency.ALLOW)
    return JobSpec(
        name="s_tick", stack="s", service=run, schedule=schedule, keep_complete=9, keep_failed=9
    )


def _world() -> World:
    world = World(random.Random(5), Shape(clients=0, workers=1))
    user = world.caller("c1")

    async def deploy() -> None:
        await user.propose(PutStack(spec=StackSpec(name="s", services=(), jobs=(_tick(),))))

    user.life.spawn(deploy())
    return world


def _leader(world: World) -> NodeId | None:
    return next((seat.id for seat in world.seats() if seat.leads), None)


@pytest.mark.slow
def test_leaders_die_around_every_fire_and_none_is_lost_or_repeated() -> None:
    world = _world()
    for number, offset_ms in enumerate((-20, 10, 120)):
        world.clock.run_until(FIRST_MS + number * MINUTE_MS + offset_ms)
        leader = _leader(world)
        assert leader is not None, "somebody leads before the fire"
        world.kill(leader)
        world.clock.run_until(world.clock.now_ms + DARK_MS)
        world.start(leader)
    world.clock.run_until(world.clock.now_ms + 15_000)
    view = world.checkers.states.newest
    job = view.job_named("s_tick")
    assert job is not None
    runs = view.runs_of(job.id)
    fires = [EPOCH_MS + FIRST_MS + number * MINUTE_MS for number in range(3)]
    assert fires == [run.scheduled_ms for run in runs]
    assert 3 == world.checkers.fires.begun
    assert all(run.phase is not RunPhase.RUNNING for run in runs)
    assert 3 == len(view.tasks), "each ran once, whatever came of it"
    world.end()


# --- the checker bites --------------------------------------------------------------------------


def _begun(scheduled_ms: int, clock_ms: int = 10 * MINUTE_MS) -> View:
    service_id = ServiceId("r")
    run = Run(service_id=service_id, started_at_ms=0, job_id=JobId("j"), scheduled_ms=scheduled_ms)
    return evolve(View(index=Index(1), clock_ms=clock_ms), runs=Map({service_id: run}))


CHANGED = frozenset({(Table.RUNS, "r")})


def test_a_fire_that_happens_twice_is_a_violation() -> None:
    fires = Fires()
    fires.applied(View(), _begun(MINUTE_MS), CHANGED)
    with pytest.raises(Violation, match="a second time"):
        fires.applied(View(), _begun(MINUTE_MS), CHANGED)


@pytest.mark.parametrize(
    ("scheduled_ms", "words"), [(MINUTE_MS + 1, "no fire"), (11 * MINUTE_MS, "early")]
)
def test_a_fire_at_another_time_is_a_violation(scheduled_ms: int, words: str) -> None:
    with pytest.raises(Violation, match=words):
        Fires().applied(View(), _begun(scheduled_ms), CHANGED)


@pytest.mark.slow
def test_a_leader_that_writes_its_own_clock_for_the_fire_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "_last_due", lambda schedule, job, now_ms: (now_ms + 1, True))
    world = _world()
    with pytest.raises(Violation, match=r"no fire of the schedule|early"):
        world.clock.run_until(FIRST_MS + 5_000)
    world.end()
