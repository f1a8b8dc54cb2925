"""Whoever leads, and whenever that changes: a rollout ends as it would have without."""

import random
from functools import partial

import pytest
from attrs import frozen

from meshswarm.agent.card import Exit
from meshswarm.ids import NodeId
from meshswarm.model.rollout import (
    FailureAction,
    Rollout,
    RolloutPhase,
    UpdateOrder,
    UpdatePolicy,
)
from meshswarm.model.service import RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.model.stack import StackSpec
from meshswarm.sim.shape import Shape
from meshswarm.sim.world import World
from meshswarm.store.commands import PutStack
from meshswarm.store.view import View

REPLICAS = 3
LOOK_MS = 5
DARK_MS = 1_500
"""How long the killed leader stays away: not so long that its tasks are given up."""
LONGEST_MS = 120_000
REST_MS = 3_000


@frozen(kw_only=True)
class End:
    """How a rollout ended."""

    moments: int
    """How often it was seen to be anywhere else than before."""
    phase: RolloutPhase
    revision: int
    running: tuple[int, ...]
    """The revision of what runs in each slot."""
    kept: int
    """Slots whose first task still runs."""


def spec_of(version: str, policy: UpdatePolicy) -> ServiceSpec:
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=(version,), stop_grace_period_s=1.0)
    return ServiceSpec(
        name="shop_web", stack="shop", replicas=REPLICAS, update=policy, rollback=policy, task=task
    )


class Rolling:
    """A world with one service of which version `b` is rolled out, crashing if it is `bad`."""

    def __init__(self, policy: UpdatePolicy, *, bad: bool) -> None:
        self.world = World(random.Random(7), Shape(clients=0, workers=2))
        self.policy, self.bad = policy, bad
        self.user = self.world.caller("c1")
        self.user.life.spawn(self._deploy("a"))
        self._run_until_healthy()
        self.first = {task.id for task in self.view.tasks.values()}
        self.user.life.spawn(self._deploy("b"))

    async def _deploy(self, version: str) -> None:
        spec = StackSpec(name="shop", services=(spec_of(version, self.policy),))
        await self.user.propose(PutStack(spec=spec))

    @property
    def view(self) -> View:
        """All that is committed."""
        return self.world.checkers.states.newest

    def _run_until_healthy(self) -> None:
        while self.world.clock.now_ms < LONGEST_MS:
            self.step()
            if sum(task.is_healthy for task in self.view.tasks.values()) == REPLICAS:
                return
        raise AssertionError("the first version never ran")

    def step(self) -> None:
        """A moment passes; what is bad crashes in it."""
        self.world.clock.run_until(self.world.clock.now_ms + LOOK_MS)
        for host in self.world.hosts.values():
            for task_id in host.running():
                task = self.view.tasks.get(task_id)
                is_new = task is not None and self.view.spec_of(task).task.command == ("b",)
                if self.bad and is_new:
                    host.runtime.end(task_id, Exit(code=3))

    def rollout(self) -> Rollout | None:
        return next(iter(self.view.rollouts.values()), None)

    def kill_leader(self) -> None:
        """The leader's process dies, and comes back after a while."""
        seat = next(seat for seat in self.world.seats() if seat.leads)
        self.world.kill(seat.id)
        self.world.clock.after(DARK_MS, partial(self.world.start, NodeId(seat.id)))

    def end(self, kill_at: int | None) -> End:
        """Let it come to its end; the leader dies at this moment of the rollout."""
        moments, seen, rested_ms = 0, None, 0
        while rested_ms < REST_MS:
            assert self.world.clock.now_ms < LONGEST_MS, f"it never ends: {self.rollout()}"
            self.step()
            rollout = self.rollout()
            if rollout is None:
                continue
            rested_ms = 0 if rollout.phase.is_active else rested_ms + LOOK_MS
            mark = (
                rollout.edition,
                rollout.phase,
                rollout.well,
                rollout.failed,
                tuple(
                    (task_id, task.desired, task.status.state)
                    for task_id, task in sorted(self.view.tasks.items())
                ),
            )
            if mark != seen and rollout.phase.is_active:
                seen, moments = mark, moments + 1
                if moments == kill_at:
                    self.kill_leader()
        return self._told(moments)

    def _told(self, moments: int) -> End:
        rollout = self.rollout()
        assert rollout is not None
        [service] = self.view.sorted_services()
        live = [task for task in self.view.tasks_of(service.id) if task.is_live]
        self.world.end()
        return End(
            moments=moments,
            phase=rollout.phase,
            revision=service.revision,
            running=tuple(task.revision for task in live),
            kept=len(self.first & {task.id for task in live}),
        )


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize("action", [FailureAction.PAUSE, FailureAction.ROLLBACK])
@pytest.mark.parametrize("order", list(UpdateOrder))
def test_a_leader_lost_at_any_moment_of_a_rollout_changes_nothing_of_its_end(
    order: UpdateOrder, action: FailureAction, bad: bool
) -> None:
    policy = UpdatePolicy(order=order, failure_action=action, min_healthy_s=0.5, monitor_s=1.0)
    calm = Rolling(policy, bad=bad).end(None)
    assert calm.moments > 2
    for moment in range(1, calm.moments + 1):
        end = Rolling(policy, bad=bad).end(moment)
        told = (end.phase, end.revision, end.running, end.kept)
        assert told == (calm.phase, calm.revision, calm.running, calm.kept), f"at {moment}"
