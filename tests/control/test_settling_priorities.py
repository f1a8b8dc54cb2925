"""Whatever happens to services that push each other aside, the controllers come to rest."""

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from meshswarm.control.filters import refusal
from meshswarm.control.loads import load_of
from meshswarm.model.node import Availability, Node
from meshswarm.model.placement import Affinity, Placement
from meshswarm.model.resources import Resources
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.task import Task
from meshswarm.store.commands import ExplainTask, PutService, UpdateNode
from tests.control.test_settling import NODES, ControllersSettle
from tests.support.builders import service_spec
from tests.support.model_world import ModelWorld

PRIORITIES = {"web": 0, "db": 1, "agent": 2}


MAX_PASSES = 4
"""Within so many the explanations are what they stay."""


class PatientWorld(ModelWorld):
    """A world in which further passes at the same instant may explain, and do nothing else.

    Who of those that outrank others is promised the next room can depend on whom a pass, or the
    one before, has looked at first.
    """

    def control(self) -> None:
        """The leader's loop, until it rests."""
        self._pass()
        for _ in range(MAX_PASSES):
            kinds = {type(command) for command in self.decide(self.dirty).commands}
            assert kinds <= {ExplainTask}, "a second pass at the same instant wanted more"
            if not self._pass():
                break
        else:
            raise AssertionError("the explanations do not come to rest")
        kinds = {type(command) for command in self.decide(None).commands}
        assert kinds <= {ExplainTask}, "missed by looking at changes"


class PrioritiesSettle(ControllersSettle):
    """As the others, with too few processors for all, and rules about who may be where."""

    def __init__(self) -> None:
        super().__init__()
        self.world = PatientWorld(*NODES)
        self.world.control()

    @rule(
        name=st.sampled_from(tuple(PRIORITIES)),
        replicas=st.integers(0, 6),
        content=st.sampled_from("ab"),
        cpus=st.integers(0, 2),
        limit=st.sampled_from([0, 0, 1]),
        budget=st.sampled_from([None, None, 0, 1]),
        apart=st.sampled_from([None, None, "web", "db"]),
    )
    def deploy(
        self,
        name: str,
        replicas: int,
        content: str,
        cpus: int,
        limit: int,
        budget: int | None,
        apart: str | None,
    ) -> None:
        rules = (Affinity(service=apart, is_apart=True),) if apart else ()
        spec = service_spec(
            name,
            mode=Mode.GLOBAL if name == "agent" else Mode.REPLICATED,
            replicas=1 if name == "agent" else replicas,
            priority=PRIORITIES[name],
            max_unavailable=budget,
            environment={"CONTENT": content},
            reservations=Resources(nano_cpus=cpus * 1_000_000_000),
            placement=Placement(max_replicas_per_node=limit, affinities=rules),
        )
        self.world.propose(PutService(spec=spec))

    @invariant()
    def no_node_is_promised_away_twice(self) -> None:
        for node in self.world.view.nodes.values():
            live = [one for one in self.world.view.tasks_on(node.id) if one.is_live]
            specs = [self.world.view.spec_of(one).task for one in live]
            assert sum(spec.reservations.nano_cpus for spec in specs) <= 2_000_000_000

    def teardown(self) -> None:
        """Hosts are healed and budgets lifted: nobody waits whom lesser ones keep out."""
        world = self.world
        for one in NODES:
            world.revive(one)
            world.propose(UpdateNode(node_id=one.id, availability=Availability.ACTIVE))
        for service in world.view.sorted_services():
            task = evolve(service.spec.task, restart=RestartPolicy())
            world.propose(PutService(spec=evolve(service.spec, task=task, max_unavailable=None)))
        world.settle()
        for waiting in world.view.unplaced_tasks():
            for one in world.view.sorted_nodes():
                assert self._refuses(one, waiting), f"{one.name} would take {waiting.name}"

    def _refuses(self, node: Node, waiting: Task) -> bool:
        """Whether the node has no place for the task even without all that matters less."""
        view = self.world.view
        rank = view.services[waiting.service_id].spec.priority
        lesser = {
            task.id
            for task in view.tasks_on(node.id)
            if view.services[task.service_id].spec.priority < rank
            and view.spec_of(task).task.restart.condition is not RestartCondition.NONE
        }
        load = load_of(view, node.id, without=lesser)
        spec = view.spec_of(waiting).task
        return refusal(node, spec, load, waiting.service_name) is not None


TestPrioritiesSettle = PrioritiesSettle.TestCase
TestPrioritiesSettle.settings = settings(stateful_step_count=15, max_examples=60)
