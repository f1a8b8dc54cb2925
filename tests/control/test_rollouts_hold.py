"""Whatever happens during rollouts: enough runs, not too much, and the way back is exact."""

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshswarm.ids import ServiceId, TaskId
from meshswarm.model.rollout import (
    FailureAction,
    Rollout,
    RolloutPhase,
    UpdateOrder,
    UpdatePolicy,
)
from meshswarm.model.service import Mode, Service, TaskSpec
from meshswarm.model.task import DesiredState, Health, Task, TaskState
from meshswarm.store.commands import (
    PauseRollout,
    PutService,
    RestartService,
    ResumeRollout,
    RollBackService,
    ScaleService,
)
from tests.support.builders import node, service_spec
from tests.support.model_world import ModelWorld

pytestmark = pytest.mark.timeout(60)

NODES = [node(name) for name in ("n1", "n2", "n3")]
CAREFUL = UpdatePolicy(order=UpdateOrder.START_FIRST, failure_action=FailureAction.ROLLBACK)
POLICIES = {
    "one": UpdatePolicy(),
    "two": UpdatePolicy(parallelism=2, failure_action=FailureAction.ROLLBACK, monitor_s=8.0),
    "beside": CAREFUL,
    "pairs": evolve(CAREFUL, parallelism=2, max_failure_ratio=0.5, delay_s=3.0),
    "going": UpdatePolicy(failure_action=FailureAction.CONTINUE, progress_deadline_s=20.0),
    "anyway": UpdatePolicy(
        order=UpdateOrder.START_FIRST, failure_action=FailureAction.CONTINUE, healthy_deadline_s=5.0
    ),
    "steps": UpdatePolicy(step=True, healthy_deadline_s=15.0, min_healthy_s=1.0),
    "agent": UpdatePolicy(failure_action=FailureAction.ROLLBACK),
}
"""By the name of the service that has it, for updates and for the way back."""

places = st.integers(0, 20)


class RolloutsHold(RuleBasedStateMachine):
    """Services are updated, paused, resumed and turned back while tasks start, fail and lose
    their nodes, and leaders change."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld(*NODES)
        self.specs: dict[tuple[ServiceId, int], TaskSpec] = {}
        self.taken: dict[ServiceId, set[str]] = {}
        """Slots whose healthy task a rollout took away, and that nothing else has happened to."""
        self.whole: dict[ServiceId, int] = {}
        """The revision of each service that was rolled out whole last."""
        self.world.control()
        for content in "ab":
            self.deploy("two", 2, content)
            self.world.settle()

    @rule(
        name=st.sampled_from(sorted(POLICIES)),
        replicas=st.integers(1, 4),
        content=st.sampled_from("abc"),
    )
    def deploy(self, name: str, replicas: int, content: str) -> None:
        policy = POLICIES[name]
        spec = service_spec(
            name,
            mode=Mode.GLOBAL if name == "agent" else Mode.REPLICATED,
            replicas=1 if name == "agent" else replicas,
            environment={"CONTENT": content},
            update=policy,
            rollback=policy,
        )
        assert self.world.propose(PutService(spec=spec)).error is None

    @rule(place=places, content=st.sampled_from("abcd"), goes_well=st.none() | st.booleans())
    def update(self, place: int, content: str, goes_well: bool | None) -> None:
        """A service gets another version, which is left alone for a while, or crashes at once."""
        service = self._service(place)
        if service is None:
            return
        self.deploy(service.spec.name, service.spec.replicas or 1, content)
        for _ in range(0 if goes_well is None else 40):
            self._control()
            for task in self.world.movable():
                self.world.step(task)
            if goes_well:
                self.world.now_ms += 3_000
                continue
            for task in self._fresh():
                if task.service_id == service.id:
                    self.world.report(task, TaskState.FAILED)

    @rule(place=places, replicas=st.integers(0, 5))
    def scale(self, place: int, replicas: int) -> None:
        service = self._service(place)
        if service is not None and service.spec.mode is Mode.REPLICATED:
            self.world.propose(ScaleService(service_id=service.id, replicas=replicas))

    @rule(place=places, what=st.sampled_from([PauseRollout, ResumeRollout, RestartService]))
    def command(
        self, place: int, what: type[PauseRollout | ResumeRollout | RestartService]
    ) -> None:
        service = self._service(place)
        if service is not None:
            self.world.propose(what(service_id=service.id))

    @rule(place=places, which=places)
    def go_back_to(self, place: int, which: int) -> None:
        self.go_back(place, which)

    @rule(place=places)
    def go_back(self, place: int, which: int | None = None) -> None:
        service = self._service(place)
        if service is None:
            return
        kept = sorted(self.world.view.revisions[service.id])
        target = None if which is None else kept[which % len(kept)]
        outcome = self.world.propose(RollBackService(service_id=service.id, revision=target))
        after = self.world.view.services[service.id]
        if target is not None:
            assert (outcome.error is None) == (target != service.revision)
            assert (target, self.specs[service.id, target]) == (after.revision, after.spec.task)

    @rule(place=st.integers(0, 2))
    def kill(self, place: int) -> None:
        self.world.kill(NODES[place])

    @rule(place=st.integers(0, 2))
    def revive(self, place: int) -> None:
        self.world.revive(NODES[place])

    @rule(ms=st.sampled_from([1, 700, 2_500, 9_000, 30_000, 700_000]))
    def wait(self, ms: int) -> None:
        self.world.now_ms += ms

    @precondition(lambda self: self.world.movable())
    @rule(steps=st.integers(1, 12))
    def agents_work(self, steps: int) -> None:
        for _ in range(steps):
            movable = self.world.movable()
            if movable:
                self.world.step(movable[0])
                self._control()

    @precondition(lambda self: self._running())
    @rule(place=places, health=st.sampled_from(Health))
    def feel(self, place: int, health: Health) -> None:
        running = self._running()
        self.world.report(running[place % len(running)], TaskState.RUNNING, health=health)

    @precondition(lambda self: self._running())
    @rule(place=places, state=st.sampled_from([TaskState.FAILED, TaskState.COMPLETE]))
    def end(self, place: int, state: TaskState) -> None:
        running = self._running()
        self.world.report(running[place % len(running)], state)

    @rule()
    def elect(self) -> None:
        """A new leader knows nothing but the view."""
        self.world.dirty = None

    @invariant()
    def controllers_rest(self) -> None:
        self._control()

    # --- what must hold ---------------------------------------------------------------------------

    def _control(self) -> None:
        """The leader's loop; what it takes away and what it adds is within what the user allows."""
        before, rollouts = dict(self.world.view.tasks), self.world.view.rollouts
        self.world.control()
        for service in self.world.view.services.values():
            self._check_revisions(service)
            self._check_way_back(service, rollouts.get(service.id))
            self._check_taken(service, before)
            self._check_surge(service)

    def _check_revisions(self, service: Service) -> None:
        """A number means one spec for ever, and the service has that of its number."""
        for number, revision in self.world.view.revisions[service.id].items():
            known = self.specs.setdefault((service.id, number), revision.task)
            assert known == revision.task
        assert self.specs[service.id, service.revision] == service.spec.task

    def _check_way_back(self, service: Service, before: Rollout | None) -> None:
        """What controllers give up goes back to what was whole last, exactly."""
        whole = self.whole.setdefault(service.id, service.revision)
        after = self.world.view.rollouts.get(service.id)
        if before is None or after is None:
            return
        if after.phase.goes_back and not before.phase.goes_back:
            assert (whole, self.specs[service.id, whole]) == (service.revision, service.spec.task)
        if after.phase in (RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK):
            self.whole[service.id] = service.revision

    def _check_taken(self, service: Service, before: dict[TaskId, Task]) -> None:
        """Never below desired less the slots that may be under way, by the rollout's own doing."""
        taken = self.taken.setdefault(service.id, set())
        by_slot: dict[str, list[Task]] = {}
        for task in self.world.view.tasks_of(service.id):
            by_slot.setdefault(_slot(task), []).append(task)
        for slot, tasks in by_slot.items():
            stopped = [task for task in tasks if _was_taken(task, before)]
            if any(task.is_live and task.is_healthy for task in tasks):
                taken.discard(slot)
            elif stopped:
                taken.add(slot)
            if _has_trouble(tasks) or all(task.desired is DesiredState.REMOVE for task in tasks):
                taken.discard(slot)
        taken &= by_slot.keys()
        policy = POLICIES[service.spec.name]
        allowed = 0 if policy.order is UpdateOrder.START_FIRST else policy.parallelism
        assert len(taken) <= allowed, f"{service.spec.name} took {sorted(taken)} away"

    def _check_surge(self, service: Service) -> None:
        """At most so many slots have two started tasks as may be under way."""
        started: dict[str, int] = {}
        for task in self.world.view.tasks_of(service.id):
            if TaskState.STARTING <= task.status.state <= TaskState.RUNNING:
                started[_slot(task)] = started.get(_slot(task), 0) + 1
        doubled = [slot for slot, number in started.items() if number > 1]
        policy = POLICIES[service.spec.name]
        allowed = policy.parallelism if policy.order is UpdateOrder.START_FIRST else 0
        assert len(doubled) <= allowed, f"{service.spec.name} doubled {doubled}"

    def teardown(self) -> None:
        """Hosts are healed and rollouts resumed: each comes to its end, and everything runs."""
        world = self.world
        for one in NODES:
            world.revive(one)
        for _ in range(20):
            for task in self._running():
                self.world.report(task, TaskState.RUNNING, health=Health.HEALTHY)
            world.settle()
            paused = [one for one in world.view.rollouts.values() if one.phase.is_paused]
            if not paused:
                break
            world.now_ms += 1
            for rollout in paused:
                world.propose(ResumeRollout(service_id=rollout.service_id))
        assert not [one for one in world.view.rollouts.values() if not _is_over(one)]
        for service in world.view.sorted_services():
            wanted = len(NODES) if service.spec.mode is Mode.GLOBAL else service.spec.replicas
            assert len(world.healthy(service)) == wanted

    def _service(self, place: int) -> Service | None:
        services = self.world.view.sorted_services()
        return services[place % len(services)] if services else None

    def _fresh(self) -> list[Task]:
        """Running tasks of versions that are being rolled out onward."""
        view = self.world.view
        updating = {
            rollout.service_id: rollout.revision
            for rollout in view.rollouts.values()
            if rollout.phase is RolloutPhase.UPDATING
        }
        return [task for task in self._running() if updating.get(task.service_id) == task.revision]

    def _running(self) -> list[Task]:
        """Running tasks whose agents live, in a stable order."""
        return [
            task
            for _, task in sorted(self.world.view.tasks.items())
            if task.status.state is TaskState.RUNNING and task.node_id not in self.world.dead_since
        ]


def _slot(task: Task) -> str:
    return str(task.slot or task.node_id)


def _is_over(rollout: object) -> bool:
    phase = getattr(rollout, "phase", None)
    return phase is not None and not phase.is_active and not phase.is_paused


def _was_taken(task: Task, before: dict[TaskId, Task]) -> bool:
    """Whether it was well, and the last passes told it to stop."""
    earlier = before.get(task.id)
    return (
        task.desired is DesiredState.SHUTDOWN
        and earlier is not None
        and earlier.is_live
        and earlier.is_healthy
    )


def _has_trouble(tasks: list[Task]) -> bool:
    """Whether something else than a rollout has to do with what the slot lacks."""
    newest = max(tasks, key=lambda task: (task.created_at_ms, task.is_live, task.attempt))
    failed = newest.status.state in (TaskState.FAILED, TaskState.LOST, TaskState.COMPLETE)
    return failed or newest.attempt > 0 or newest.status.health is Health.UNHEALTHY


TestRolloutsHold = RolloutsHold.TestCase
# Short lives, and many: whoever breaks a promise is mostly found by a dozen of them.
TestRolloutsHold.settings = settings(
    max_examples=min(2 * settings().max_examples, 200), stateful_step_count=25
)
