"""Runs of ideal worlds: users and trouble by chance, and rollouts whose end nothing may change.

*Wild*: users deploy, scale, restart, pause, turn back; nodes, tasks and leaders fall. Nothing may
break, and once all is calm everything must become whole and rest.

*Rollouts*: one is played twice, once in peace, once with leaders that fall in the midst of it and
nodes that vanish and return. It must end the same: in the same phase for the same reason, at the
same revision, with the same spec, and every slot as it should be.
"""

import random
from collections.abc import Callable

from attrs import evolve, frozen

from meshswarm.agent.card import Exit, HeldState
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.rollout import (
    FailureAction,
    RolloutPhase,
    RolloutReason,
    UpdateOrder,
    UpdatePolicy,
)
from meshswarm.model.service import (
    HealthCheck,
    Mode,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import Health, Reason
from meshswarm.sim import ideal_faults
from meshswarm.sim.clients import Wishes
from meshswarm.sim.clock import Life
from meshswarm.sim.hosts import Host
from meshswarm.sim.ideal import Pace
from meshswarm.sim.ideal_faults import GENTLE, Woe, Woes
from meshswarm.sim.ideal_world import IdealShape, IdealWorld
from meshswarm.sim.run import Result, told
from meshswarm.sim.trace import Listener, Violation
from meshswarm.store.commands import PutStack
from meshswarm.store.view import View

WILD_SHARE = 0.5

CALMS_MS = (None, None, 1_000, 10_000)
"""How long nodes have been ready when leaders move tasks to them unasked; None: they never do."""

DRAINABLE = 2
"""Nodes that users may drain, and that may stay dark: the others always have room."""

DEAD_SHARE = 0.3
"""Of those: how many stay dark after the trouble."""

SAFETY_MS = 60_000
"""How long the trouble of a wild run lasts, unless told otherwise."""

LIVENESS_MS = 180_000
"""Within this after the trouble the cluster must be whole, and a rollout over."""

REST_MS = 10_000
"""For so long everything must stay as it is."""

AFTERWARDS_MS = 60_000
"""How long after the end of a rollout and its trouble it is looked what came of it: nodes that
were away are trusted again, and have what they missed."""

STEP_MS = 500


def wild(world: IdealWorld, kinds: list[Woe], safety_ms: int) -> int:
    """Trouble, then calm; how long the cluster took to become whole. Raises `Violation`."""
    users = [_User(world) for _ in range(world.shape.users)]
    trouble = Woes(world, kinds, world.rng.choice((300, 1_000, 2_500)))
    world.run_for(safety_ms)
    for user in users:
        user.life.end()
    trouble.calm()
    dead = [node for node in [*world.hosts][-DRAINABLE:] if world.rng.random() < DEAD_SHARE]
    for node in dead:
        world.kill(node, power=True)
    world.trace.tell("calm", f"for good down: {' '.join(dead) or 'nobody'}")
    return _await_rest(world, dead)


def _await_rest(world: IdealWorld, dead: list[NodeId]) -> int:
    """Wait until the cluster is whole and changes nothing any more; how long that took."""
    began_ms, changes, rested_ms, took_ms = world.clock.now_ms, -1, 0, 0
    while rested_ms < REST_MS:
        world.run_for(STEP_MS)
        waited_ms = world.clock.now_ms - began_ms
        reasons = world.unsettled(dead)
        if not reasons and world.changes == changes:
            rested_ms += STEP_MS
            continue
        if waited_ms >= LIVENESS_MS:
            what = "; ".join(reasons[:8]) or "it goes on changing"
            raise Violation(f"not whole after {waited_ms} ms of calm: {what}")
        changes, rested_ms, took_ms = world.changes, 0, waited_ms
    world.trace.tell("whole", f"after {took_ms} ms")
    return took_ms


class _User:
    """Asks for this and that, going by a view that may be old by then."""

    def __init__(self, world: IdealWorld) -> None:
        self.life = Life(world.clock)
        self._world, self._rng = world, random.Random(world.rng.getrandbits(64))
        self._wishes = Wishes(self._rng, [*world.hosts][-DRAINABLE:])
        self.life.spawn(self._use())

    async def _use(self) -> None:
        world, rng = self._world, self._rng
        while True:
            await self.life.sleep(rng.randrange(100, world.shape.think_ms))
            wish = self._wishes.next(world.view)
            await self.life.sleep(rng.randrange(200))
            if world.ideal.has_leader:
                outcome = world.ideal.commit(wish)
                world.trace.tell("ack", f"{type(wish).__name__} at {outcome.index}")


# --- rollouts -----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Nature:
    """How the tasks of the new version fare, all alike."""

    exit: Exit | None = None
    """How they end; None: they do not."""
    health: Health | None = None
    """What their check says in the end; None: it never says anything."""
    after_ms: int = 0
    """How long after its start a task ends, or its check says that."""

    @property
    def is_good(self) -> bool:
        """Whether they come to be well."""
        return self.exit is None and self.health in (Health.NONE, Health.HEALTHY)


NATURES = (
    Nature(health=Health.HEALTHY, after_ms=200),
    Nature(health=Health.HEALTHY, after_ms=4_000),
    Nature(health=Health.NONE),
    Nature(exit=Exit(code=3)),
    Nature(exit=Exit(code=1), after_ms=700),
    Nature(exit=Exit(code=None, failure=Reason.IMAGE_NOT_FOUND, message="no such image")),
    Nature(health=Health.UNHEALTHY, after_ms=300),
    Nature(health=None),
)


@frozen(kw_only=True)
class Play:
    """One rollout: a service of so many tasks, from a version that is well to another one."""

    replicas: int
    """0: one on every node."""
    policy: UpdatePolicy
    nature: Nature

    def spec(self, version: str) -> StackSpec:
        """The stack at a version, with a neighbour that nobody touches."""
        has_check = self.nature.health is not Health.NONE and self.nature.exit is None
        check = HealthCheck(test=("CMD", "true")) if has_check else None
        task = TaskSpec(
            runtime=RuntimeKind.PROCESS,
            command=(version,),
            stop_grace_period_s=1.0,
            healthcheck=check,
            restart=RestartPolicy(max_delay_s=2.0),
        )
        web = ServiceSpec(
            name="shop_web",
            stack="shop",
            mode=Mode.REPLICATED if self.replicas else Mode.GLOBAL,
            replicas=self.replicas or 1,
            update=self.policy,
            rollback=evolve(self.policy, failure_action=FailureAction.PAUSE),
            task=task,
        )
        neighbour = evolve(task, command=("db",), healthcheck=None)
        db = ServiceSpec(name="shop_db", stack="shop", replicas=2, task=neighbour)
        return StackSpec(name="shop", services=(web, db))


def drawn(rng: random.Random) -> Play:
    """A rollout by chance. Its deadlines outlast whatever may happen to a node."""
    nature = rng.choice(NATURES)
    return Play(
        replicas=rng.choice((0, 1, 2, 3, 5)),
        nature=nature,
        policy=UpdatePolicy(
            parallelism=rng.choice((0, 1, 1, 2)),
            delay_s=rng.choice((0.0, 0.0, 1.5)),
            order=rng.choice(tuple(UpdateOrder)),
            failure_action=rng.choice(tuple(FailureAction)),
            monitor_s=rng.choice((1.0, 4.0)),
            max_failure_ratio=rng.choice((0.0, 0.0, 0.5)),
            healthy_deadline_s=40.0,
            progress_deadline_s=240.0,
        ),
    )


@frozen(kw_only=True)
class End:
    """How a rollout ended."""

    phase: RolloutPhase
    reason: RolloutReason
    version: tuple[str, ...] | None
    """What the service asks for now."""
    revision: int
    slots: tuple[tuple[int, bool], ...]
    """The revision of what lives in each slot, and whether it is healthy; of a rollout that is
    whole, for of one that was given up or goes on failing it is a matter of luck."""
    neighbours: int
    """Slots of the service that nobody touched, with a healthy task."""


def compare(world: IdealWorld, play: Play, kinds: list[Woe], expected: End) -> None:
    """Play it in trouble; raises `Violation` if it does not end as it did in peace."""
    actual = played(world, play, kinds)
    if expected != actual:
        words = f"{[kind.value for kind in kinds]}: {actual}, in peace {expected}"
        raise Violation(f"a rollout ends otherwise with {words}; it is {play}")


def played(world: IdealWorld, play: Play, kinds: list[Woe]) -> End:
    """How it ends."""
    for host in world.hosts.values():
        _Programs(world, host, play.nature)
    world.run_for(3_000)
    world.later(1, PutStack(spec=play.spec("old")))
    _run_until(world, lambda: _is_there(world.view, play), "the first version runs")
    world.run_for(5_000)
    world.later(1, PutStack(spec=play.spec("new")))
    trouble = None
    if kinds:
        pause_ms = world.rng.choice((150, 700, 2_000))
        trouble = Woes(world, kinds, pause_ms, most_away=1, most_blows=4)
    _run_until(world, lambda: _is_over(world.view), "the rollout is over")
    if trouble is not None:
        trouble.calm()
    world.run_for(AFTERWARDS_MS)
    _run_until(world, lambda: _is_over(world.view), "the rollout is over again")
    return _end(world.view, play)


def _run_until(world: IdealWorld, holds: Callable[[], bool], what: str) -> None:
    until_ms = world.clock.now_ms + LIVENESS_MS + 400_000
    while not holds():
        if world.clock.now_ms >= until_ms:
            rollouts = list(world.view.rollouts.values())
            raise Violation(f"in vain it was waited that {what}: {rollouts}")
        world.run_for(100)


def _is_there(view: View, play: Play) -> bool:
    """Whether the first version and its neighbour run, everywhere."""
    wanted = (play.replicas or len(view.nodes)) + 2
    return sum(task.is_healthy and task.is_live for task in view.tasks.values()) == wanted


def _is_over(view: View) -> bool:
    service = view.service_named("shop_web")
    rollout = view.rollouts.get(service.id) if service else None
    return rollout is not None and not rollout.phase.is_active


def _end(view: View, play: Play) -> End:
    web, db = view.service_named("shop_web"), view.service_named("shop_db")
    assert web is not None, "nobody removes it"
    assert db is not None, "nobody removes it"
    rollout = view.rollouts[web.id]
    is_whole = rollout.phase is RolloutPhase.ROLLED_BACK or (
        rollout.phase is RolloutPhase.COMPLETED and play.nature.is_good
    )
    live = [task for task in view.tasks_of(web.id) if task.is_live] if is_whole else []
    return End(
        phase=rollout.phase,
        reason=rollout.reason,
        version=web.spec.task.command,
        revision=web.revision,
        slots=tuple((task.revision, task.is_healthy) for task in live),
        neighbours=len({t.slot for t in view.tasks_of(db.id) if t.is_live and t.is_healthy}),
    )


class _Programs:
    """What runs on a host: the old version is well, the new one as is its nature."""

    def __init__(self, world: IdealWorld, host: Host, nature: Nature) -> None:
        self._world, self._host, self._nature = world, host, nature
        self._seen: set[TaskId] = set()
        host.runtime.board.listen(self._look)

    def _look(self, task_id: TaskId) -> None:
        held = self._host.runtime.board.look(task_id)
        task = self._world.view.tasks.get(task_id)
        if task is None or held is None or held.state is not HeldState.RUNNING:
            return
        if task_id in self._seen:
            return
        self._seen.add(task_id)
        is_new = self._world.view.spec_of(task).task.command == ("new",)
        nature = self._nature if is_new else Nature(health=Health.HEALTHY, after_ms=100)
        self._world.clock.after(nature.after_ms + 1, lambda: self._act(task_id, nature))

    def _act(self, task_id: TaskId, nature: Nature) -> None:
        held = self._host.runtime.board.look(task_id)
        if held is None or held.state is not HeldState.RUNNING:
            return
        if nature.exit is not None:
            self._host.runtime.end(task_id, nature.exit)
        elif nature.health is not None and held.health is not Health.NONE:
            self._host.runtime.feel(task_id, nature.health, "as is its nature")


# --- a seed -------------------------------------------------------------------------------------


def shape_of(rng: random.Random, *, is_wild: bool) -> IdealShape:
    """A shape by chance; clocks are wrong in wild worlds only, for deadlines are compared."""
    return IdealShape(
        nodes=rng.randrange(3, 7),
        users=rng.randrange(1, 4),
        think_ms=rng.choice((500, 2_000, 4_000)),
        delay_ms=rng.choice(((1, 5), (1, 30), (20, 400))),
        verb_ms=rng.choice(((1, 10), (5, 300), (200, 1_500))),
        skew_ms=rng.choice((0, 50, 1_000, 3_600_000)) if is_wild else 0,
        pace=Pace(commit_ms=rng.choice(((1, 2), (2, 40), (50, 500)))),
    )


def run(
    seed: int,
    *,
    safety_ms: int = SAFETY_MS,
    kinds: tuple[Woe, ...] | None = None,
    is_wild: bool | None = None,
    listener: Listener | None = None,
) -> Result:
    """The run that these arguments determine; `kinds` are the faults that may happen, `is_wild`
    is the kind of run, None: by chance."""
    rng = random.Random(f"ideal {seed}")
    wild_by_chance = rng.random() < WILD_SHARE
    is_wild = wild_by_chance if is_wild is None else is_wild
    calm_ms = random.Random(f"rebalance {seed}").choice(CALMS_MS)
    shape = evolve(shape_of(rng, is_wild=is_wild), calm_ms=calm_ms)
    chosen = ideal_faults.drawn(rng) if kinds is None else list(kinds)
    play, world_seed = drawn(rng), rng.getrandbits(64)
    world = IdealWorld(random.Random(world_seed), shape, listener)
    violation, whole_after_ms = None, 0
    try:
        if is_wild:
            whole_after_ms = wild(world, chosen, safety_ms)
        else:
            calm = IdealWorld(random.Random(world_seed), shape)
            expected = played(calm, play, [])
            calm.end()
            compare(world, play, [kind for kind in chosen if kind in GENTLE], expected)
    except (Violation, AssertionError) as broken:
        violation = told(broken)
        world.trace.tell("violation", violation)
    world.end()
    return Result(
        seed=seed,
        world="ideal",
        violation=violation,
        digest=world.trace.digest,
        simulated_ms=world.clock.now_ms,
        whole_after_ms=whole_after_ms,
        counts=dict(world.trace.counts),
    )
