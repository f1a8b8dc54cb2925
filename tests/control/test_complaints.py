"""What users of Docker Swarm complain about, where it is a matter of what controllers decide.

The number in each name is that of `tests/complaints.txt`; there stand the tests of other rooms too.
"""

import random

import pytest

from meshswarm.ids import NodeId
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.service import Comparison, Constraint, Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState
from meshswarm.sim.ideal_world import IdealShape, IdealWorld
from meshswarm.store.commands import PutService, PutStack, RegisterNode, UpdateNode
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service_spec
from tests.support.model_world import ModelWorld
from tests.support.shop import NODES, Shop

SSD = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")


class Calm(IdealWorld):
    """A cluster of four nodes that runs a service of as many tasks."""

    def __init__(self, replicas: int = 4) -> None:
        super().__init__(random.Random(1), IdealShape(nodes=4))
        self.run_for(3_000)
        spec = service_spec("shop_web", stack="shop", replicas=replicas)
        self.later(1, PutStack(spec=StackSpec(name="shop", services=(spec,))))
        self.run_for(10_000)

    def live(self) -> set[str]:
        """The tasks that are meant to run and do."""
        tasks = self.view.tasks.values()
        return {task.id for task in tasks if task.is_live and task.is_healthy}


@pytest.mark.parametrize("cut_ms", [500, 1_900, 3_500])
def test_complaint_11_a_short_break_of_the_network_replaces_nothing(cut_ms: int) -> None:
    world = Calm()
    before = world.live()
    assert 4 == len(before)
    for name in ("n1", "n2"):
        world.link(NodeId(name), False)
    world.run_for(cut_ms)
    for name in ("n1", "n2"):
        world.link(NodeId(name), True)
    world.run_for(30_000)
    assert (before, before) == (world.live(), set(world.view.tasks))
    world.end()


def test_complaint_11_while_most_nodes_are_silent_at_once_nothing_is_replaced() -> None:
    world = Calm()
    before = world.live()
    for name in ("n1", "n2", "n3"):
        world.link(NodeId(name), False)
    world.run_for(120_000)
    assert (before, before) == (world.live(), set(world.view.tasks))
    world.end()


def test_complaint_12_a_dead_host_is_replaced_in_seconds() -> None:
    world = Calm()
    world.kill(NodeId("n1"), power=True)
    world.run_for(6_000)
    assert 4 == len(world.live())
    world.end()


def test_complaint_13_no_task_waits_without_saying_for_what() -> None:
    world = ModelWorld(*NODES)
    spec = service_spec("web", replicas=3, constraints=(SSD,))
    assert world.propose(PutService(spec=spec)).error is None
    world.control()
    waiting = [task for task in world.view.tasks.values() if task.node_id is None]
    assert 3 == len(waiting)
    assert {"no suitable node: 3 of 3 lack node.labels.disk==ssd"} == {
        task.status.message for task in waiting
    }


def test_complaint_14_a_waiting_task_is_placed_though_its_labels_changed_meanwhile() -> None:
    world = ModelWorld(*NODES)
    spec = service_spec("web", constraints=(SSD,))
    assert world.propose(PutService(spec=spec)).error is None
    world.control()
    labelled = ServiceSpec(name="web", labels={"team": "blue"}, task=spec.task)
    assert world.propose(PutService(spec=labelled)).error is None
    world.control()
    assert [TaskState.PENDING] == [task.status.state for task in world.view.tasks.values()]
    assert world.propose(UpdateNode(node_id=NODES[1].id, labels={"disk": "ssd"})).error is None
    world.settle()
    assert [NODES[1].id] == [task.node_id for task in world.view.tasks.values()]


def test_complaint_15_a_global_update_does_not_wait_for_a_dead_node_for_ever() -> None:
    shop = Shop(1)
    shop.mode = Mode.GLOBAL
    shop.begins()
    shop.deploy("b")
    shop.kill(NODES[2])
    shop.ends()
    assert not shop.rollout.phase.is_active
    assert [2, 2] == shop.running()


def test_complaint_25_a_node_that_comes_back_is_the_node_that_it_was() -> None:
    world = ModelWorld(*NODES)
    back = RegisterNode(
        node_id=NODES[0].id,
        name=NODES[0].name,
        role=NODES[0].role,
        address="10.9.9.9:4747",
        incarnation=2,
        labels={},
        description=NODES[0].description,
    )
    assert world.propose(back).error is None
    assert 3 == len(world.view.nodes)
    assert "10.9.9.9:4747" == world.view.nodes[NODES[0].id].address


def test_complaint_30_deploying_the_same_again_restarts_nothing() -> None:
    world = Calm()
    before, revisions = world.live(), _revisions(world.view)
    spec = service_spec("shop_web", stack="shop", replicas=4)
    world.later(1, PutStack(spec=StackSpec(name="shop", services=(spec,))))
    world.run_for(30_000)
    assert (before, revisions) == (world.live(), _revisions(world.view))
    world.end()


def _revisions(view: View) -> list[int]:
    return [service.revision for service in view.sorted_services()]


def test_complaint_40_a_manager_whose_address_changed_is_still_itself() -> None:
    before = node("n1")
    world = ModelWorld(before)
    again = RegisterNode(
        node_id=before.id,
        name=before.name,
        role=before.role,
        address="10.0.0.99:4747",
        incarnation=before.incarnation + 1,
        labels={},
        description=before.description,
    )
    assert world.propose(again).error is None
    row = world.view.nodes[before.id]
    assert (before.id, "10.0.0.99:4747") == (row.id, row.address)
    assert Availability.ACTIVE is row.availability
    assert NodeState.DOWN is not row.state
    assert row.since_ms >= NOW_MS
