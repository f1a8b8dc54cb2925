"""Whatever is drained, moved, rolled out and pushed aside at the same time: on the way no service
lacks more tasks, by our own doing, than it lets be missing.
"""

import pytest
from attrs import evolve, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshswarm.control.rebalance import plan
from meshswarm.ids import ServiceId
from meshswarm.model.node import Availability
from meshswarm.model.resources import Resources
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.commands import (
    MoveTasks,
    PutService,
    ResumeRollout,
    ScaleService,
    UpdateNode,
)
from meshswarm.store.view import View
from tests.support.builders import node, service_spec
from tests.support.model_world import ModelWorld

pytestmark = pytest.mark.timeout(60)

NODES = [node(name, cpus=3) for name in ("n1", "n2", "n3")]


@frozen(kw_only=True)
class Kind:
    """A service that users deploy."""

    policy: UpdatePolicy = UpdatePolicy()
    max_unavailable: int | None = None
    priority: int = 0
    cpus: int = 0

    @property
    def taken_by_rollouts(self) -> int:
        """How many slots a rollout may take away at a time."""
        is_first = self.policy.order is UpdateOrder.START_FIRST
        return 0 if is_first else self.policy.parallelism

    @property
    def taken_by_moves(self) -> int:
        """How many slots may be missing when something else takes one away."""
        if self.max_unavailable is not None:
            return self.max_unavailable
        return 0 if self.policy.order is UpdateOrder.START_FIRST else 1


BESIDE = UpdatePolicy(order=UpdateOrder.START_FIRST)
KINDS = {
    "plain": Kind(),
    "strict": Kind(max_unavailable=1, cpus=1),
    "never": Kind(max_unavailable=0, cpus=1),
    "pairs": Kind(policy=UpdatePolicy(parallelism=2), max_unavailable=2),
    "beside": Kind(policy=BESIDE),
    "careful": Kind(policy=evolve(BESIDE, parallelism=2), max_unavailable=0),
    "boss": Kind(priority=5, cpus=2),
}
"""By the name of the service."""

places = st.integers(0, 20)


class BudgetsHold(RuleBasedStateMachine):
    """Users deploy and scale, drain nodes and have tasks moved; what matters more comes in between;
    tasks fail and nodes fall silent."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld(*NODES)
        self.ours: dict[ServiceId, set[int]] = {}
        """Slots that lack a healthy task because it was taken away, and nothing else happened."""
        self.world.control()
        for name in ("never", "plain", "strict"):
            self.deploy(name, 3, "a")
        self.world.settle()

    @rule(
        name=st.sampled_from(sorted(KINDS)),
        replicas=st.integers(1, 4),
        content=st.sampled_from("ab"),
    )
    def deploy(self, name: str, replicas: int, content: str) -> None:
        kind = KINDS[name]
        spec = service_spec(
            name,
            replicas=replicas,
            priority=kind.priority,
            max_unavailable=kind.max_unavailable,
            update=kind.policy,
            rollback=kind.policy,
            environment={"CONTENT": content},
            reservations=Resources(nano_cpus=kind.cpus * 1_000_000_000),
        )
        assert self.world.propose(PutService(spec=spec)).error is None

    @rule(replicas=st.integers(1, 3))
    def push_in(self, replicas: int) -> None:
        """What matters more than all others wants two thirds of a node."""
        self.deploy("boss", replicas, "a")

    @rule(place=places, replicas=st.integers(0, 5))
    def scale(self, place: int, replicas: int) -> None:
        services = self.world.view.sorted_services()
        service = services[place % len(services)]
        self.world.propose(ScaleService(service_id=service.id, replicas=replicas))

    @rule(
        place=st.integers(0, 2),
        availability=st.sampled_from([*Availability, Availability.DRAIN]),
        drain_s=st.sampled_from([0.0, 0.0, 20.0]),
    )
    def set_availability(self, place: int, availability: Availability, drain_s: float) -> None:
        drain_s = drain_s if availability is Availability.DRAIN else 0.0
        command = UpdateNode(node_id=NODES[place].id, availability=availability, drain_s=drain_s)
        assert self.world.propose(command).error is None

    @rule()
    def rebalance(self) -> None:
        shifts = plan(self.world.view, self.world.now_ms)
        if shifts:
            self.world.propose(MoveTasks(task_ids=tuple(shift.task_id for shift in shifts)))

    @rule(of=st.integers(1, 3), place=places)
    def move(self, of: int, place: int) -> None:
        """A plan may be old by the time at which it is carried out."""
        tasks = sorted(task.id for task in self._running() if task.is_live)
        chosen = tasks[place % of :: of]
        if chosen:
            self.world.propose(MoveTasks(task_ids=tuple(chosen)))

    @rule(place=st.integers(0, 2), is_alive=st.booleans())
    def kill_or_revive(self, place: int, is_alive: bool) -> None:
        (self.world.revive if is_alive else self.world.kill)(NODES[place])

    @rule(ms=st.sampled_from([1, 700, 2_500, 9_000, 30_000]))
    def wait(self, ms: int) -> None:
        self.world.now_ms += ms

    @precondition(lambda self: self.world.movable())
    @rule(steps=st.integers(1, 12), place=places)
    def agents_work(self, steps: int, place: int) -> None:
        for _ in range(steps):
            movable = self.world.movable()
            if movable:
                self.world.step(movable[place % len(movable)])
                self._control()

    @rule()
    def everything_settles(self) -> None:
        """Mostly there is peace before the next trouble."""
        for _ in range(40):
            movable = self.world.movable()
            if not movable:
                return
            for task in movable:
                self.world.step(task)
            self._control()

    @precondition(lambda self: self._running())
    @rule(place=places)
    def fail(self, place: int) -> None:
        running = self._running()
        self.world.report(running[place % len(running)], TaskState.FAILED)

    @rule()
    def elect(self) -> None:
        """A new leader knows nothing but the view."""
        self.world.dirty = None

    @invariant()
    def controllers_rest(self) -> None:
        self._control()

    # --- what must hold ---------------------------------------------------------------------------

    def _control(self) -> None:
        before = self.world.view
        self.world.control()
        for service in self.world.view.sorted_services():
            self._judge(before, service)

    def _judge(self, before: View, service: Service) -> None:
        kind, view = KINDS[service.spec.name], self.world.view
        slots: dict[int, list[Task]] = {}
        for task in view.tasks_of(service.id):
            slots.setdefault(task.slot, []).append(task)
        works = {slot for slot, tasks in slots.items() if any(map(_works, tasks))}
        taken = {
            task.slot: task
            for tasks in slots.values()
            for task in tasks
            if task.slot not in works and _was_taken(before.tasks.get(task.id), task)
        }
        ours = self.ours.setdefault(service.id, set())
        ours |= taken.keys()
        ours -= works | {slot for slot in ours if _has_trouble(slots.get(slot, []))}
        most = max(kind.taken_by_rollouts, kind.taken_by_moves)
        if kind.max_unavailable is None and kind.priority == 0:
            ours -= {slot for slot in ours if _made_way(slots[slot])}
        regardless = {slot for slot, task in taken.items() if self._is_overdue(task)}
        ours -= regardless
        assert len(ours) <= most, f"{service.spec.name} lacks {sorted(ours)}, {most} may be missing"
        moved = {
            slot
            for slot, task in taken.items()
            if _made_way([task]) or _newest(slots[slot]).revision == task.revision
        }
        if moved - regardless and kind.max_unavailable is not None:
            missing = service.spec.replicas - len(works) - len(regardless)
            assert missing <= most, f"{service.spec.name} lacks {missing} when {moved} are moved"

    def _is_overdue(self, task: Task) -> bool:
        at = self.world.view.nodes[task.node_id] if task.node_id else None
        if at is None or at.availability is not Availability.DRAIN:
            return False
        return 0 < at.drain_by_ms <= self.world.now_ms

    def teardown(self) -> None:
        """With all nodes there and nobody above them, all services are whole again."""
        world = self.world
        for one in NODES:
            world.revive(one)
            world.propose(UpdateNode(node_id=one.id, availability=Availability.ACTIVE))
        boss = world.view.service_named("boss")
        if boss is not None:
            world.propose(ScaleService(service_id=boss.id, replicas=0))
        for _ in range(10):
            world.settle()
            paused = [one for one in world.view.rollouts.values() if one.phase.is_paused]
            world.now_ms += 1
            for rollout in paused:
                world.propose(ResumeRollout(service_id=rollout.service_id))
        for service in world.view.sorted_services():
            whole = service.spec.replicas == len(world.healthy(service))
            assert whole or KINDS[service.spec.name].cpus, f"{service.spec.name} is not whole"

    def _running(self) -> list[Task]:
        """Running tasks whose agents live, in a stable order."""
        return [
            task
            for _, task in sorted(self.world.view.tasks.items())
            if task.status.state is TaskState.RUNNING and task.node_id not in self.world.dead_since
        ]


def _works(task: Task) -> bool:
    return task.is_live and task.is_healthy


def _was_taken(earlier: Task | None, task: Task) -> bool:
    """Whether it was well, and the last passes told it to stop."""
    return task.desired is DesiredState.SHUTDOWN and earlier is not None and _works(earlier)


def _made_way(tasks: list[Task]) -> bool:
    """Whether the slot's last that ran did so for what matters more."""
    return any(task.ending is Reason.PREEMPTED for task in tasks)


def _has_trouble(tasks: list[Task]) -> bool:
    """Whether something else than our doing has to do with what the slot lacks."""
    if not tasks:
        return True
    newest = _newest(tasks)
    failed = newest.status.state in (TaskState.FAILED, TaskState.LOST)
    return failed or newest.attempt > 0


def _newest(tasks: list[Task]) -> Task:
    return max(tasks, key=lambda task: (task.created_at_ms, task.is_live, task.attempt))


TestBudgetsHold = BudgetsHold.TestCase
# Short lives, and many: whoever breaks a promise is mostly found by a dozen of them.
TestBudgetsHold.settings = settings(
    max_examples=min(2 * settings().max_examples, 200), stateful_step_count=25
)
