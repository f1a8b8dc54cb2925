"""Whatever users, agents and hosts do, the controllers come to rest, and in the right place."""

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshswarm.ids import NodeId
from meshswarm.model.network import Port
from meshswarm.model.node import Availability
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy, Service
from meshswarm.model.task import TaskState
from meshswarm.store.commands import PutService, RemoveService, ScaleService, UpdateNode
from tests.support.builders import node, service_spec
from tests.support.model_world import ModelWorld

NODES = [node(name, cpus=2) for name in ("n1", "n2", "n3", "n4")]
NAMES = ("web", "db", "agent")
PORTS = {"web": 80, "db": 0, "agent": 0}

places = st.integers(0, 20)


class ControllersSettle(RuleBasedStateMachine):
    """Users deploy, scale, remove, drain; agents start, fail, finish; hosts die and return."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ModelWorld(*NODES)
        self.world.control()

    @rule(
        name=st.sampled_from(NAMES),
        replicas=st.integers(0, 4),
        content=st.sampled_from("abc"),
        condition=st.sampled_from(RestartCondition),
        attempts=st.sampled_from([0, 0, 2]),
    )
    def deploy(
        self,
        name: str,
        replicas: int,
        content: str,
        condition: RestartCondition,
        attempts: int,
    ) -> None:
        published = PORTS[name]
        spec = service_spec(
            name,
            mode=Mode.GLOBAL if name == "agent" else Mode.REPLICATED,
            replicas=1 if name == "agent" else replicas,
            environment={"CONTENT": content},
            ports=(Port(target=80, published=published),) if published else (),
            restart=RestartPolicy(condition=condition, max_attempts=attempts),
        )
        self.world.propose(PutService(spec=spec))

    @rule(place=places, replicas=st.integers(0, 6))
    def scale(self, place: int, replicas: int) -> None:
        service = self._service(place)
        if service is not None and service.spec.mode is Mode.REPLICATED:
            self.world.propose(ScaleService(service_id=service.id, replicas=replicas))

    @rule(place=places)
    def remove(self, place: int) -> None:
        service = self._service(place)
        if service is not None:
            self.world.propose(RemoveService(service_id=service.id))

    @rule(node=st.sampled_from(NODES), availability=st.sampled_from(Availability))
    def set_availability(self, node: object, availability: Availability) -> None:
        node_id = getattr(node, "id", NodeId(""))
        self.world.propose(UpdateNode(node_id=node_id, availability=availability))

    @rule(place=st.integers(0, 3))
    def kill(self, place: int) -> None:
        self.world.kill(NODES[place])

    @rule(place=st.integers(0, 3))
    def revive(self, place: int) -> None:
        self.world.revive(NODES[place])

    @rule(ms=st.sampled_from([1, 600, 2_500, 5_000, 400_000]))
    def wait(self, ms: int) -> None:
        self.world.now_ms += ms

    @precondition(lambda self: self.world.movable())
    @rule(place=places, steps=st.integers(1, 8))
    def agents_work(self, place: int, steps: int) -> None:
        for _ in range(steps):
            movable = self.world.movable()
            if movable:
                self.world.step(movable[place % len(movable)])

    @precondition(lambda self: self.world.movable())
    @rule(
        place=places,
        state=st.sampled_from([TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE]),
    )
    def end(self, place: int, state: TaskState) -> None:
        tasks = [
            task
            for _, task in sorted(self.world.view.tasks.items())
            if task.node_id is not None and task.node_id not in self.world.dead_since
        ]
        self.world.report(tasks[place % len(tasks)], state)

    @rule()
    def elect(self) -> None:
        """A new leader knows nothing but the view."""
        self.world.dirty = None

    @invariant()
    def controllers_rest(self) -> None:
        self.world.control()

    def teardown(self) -> None:
        """Hosts are healed, and everything is redeployed so as to run: it all does."""
        world = self.world
        for one in NODES:
            world.revive(one)
            world.propose(UpdateNode(node_id=one.id, availability=Availability.ACTIVE))
        for service in world.view.sorted_services():
            task = evolve(
                service.spec.task, environment={"CONTENT": "well"}, restart=RestartPolicy()
            )
            world.propose(PutService(spec=evolve(service.spec, task=task)))
        world.settle()
        for service in world.view.sorted_services():
            assert len(world.healthy(service)) == _wanted(service)
        known = {service.id for service in world.view.services.values()}
        assert {task.service_id for task in world.view.tasks.values()} <= known
        assert set(world.view.revisions) == known

    def _service(self, place: int) -> Service | None:
        services = self.world.view.sorted_services()
        return services[place % len(services)] if services else None


def _wanted(service: Service) -> int:
    """How many tasks can run: one a node if it is global, or takes a port of its node."""
    if service.spec.mode is Mode.GLOBAL:
        return len(NODES)
    has_port = bool(service.spec.task.ports)
    return min(service.spec.replicas, len(NODES)) if has_port else service.spec.replicas


TestControllersSettle = ControllersSettle.TestCase
TestControllersSettle.settings = settings(stateful_step_count=30)
