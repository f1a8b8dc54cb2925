"""Silence of all kinds in small worlds: what is cut off is ended, kept, or given up, as it should.

The world's own checkers watch all along that of what has a `stop_after` nothing runs twice.
"""

import random
from collections.abc import Callable, Iterable

import pytest

from meshswarm.cluster.vouching import Vouching
from meshswarm.control import losses
from meshswarm.control.brake import tell_brake
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeState
from meshswarm.model.service import Comparison, Constraint, RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import Reason, Task, TaskState
from meshswarm.sim.hearing import Hearing
from meshswarm.sim.hosts import DISTURBED_MS
from meshswarm.sim.shape import BEAT_MS, Shape
from meshswarm.sim.trace import Violation
from meshswarm.sim.world import World
from meshswarm.store.commands import PutStack
from meshswarm.store.view import View

STEP_MS = 50
LONGEST_MS = 120_000
ON_WORKERS = Constraint(key="node.role", comparison=Comparison.EQUAL, value="worker")


class Small:
    """A world of three managers and some workers with one service, on the workers alone."""

    def __init__(self, workers: int, replicas: int, **fields: object) -> None:
        self.world = World(random.Random(7), Shape(clients=0, workers=workers))
        task = TaskSpec(
            runtime=RuntimeKind.PROCESS,
            command=("run",),
            constraints=(ON_WORKERS,),
            stop_grace_period_s=1.0,
            **fields,  # type: ignore[arg-type]  # tests name real fields
        )
        self.spec = ServiceSpec(name="shop_db", stack="shop", replicas=replicas, task=task)
        self.user = self.world.caller("c1")
        nodes = self.world.hosts
        self.until(lambda: set(nodes) == set(self.view.nodes) and self.all_ready(nodes))
        self.user.life.spawn(self._deploy())
        self.until(lambda: sum(one.is_healthy for one in self.live) == replicas)
        self.run(DISTURBED_MS)  # now every agent can be held to its deadlines

    async def _deploy(self) -> None:
        await self.user.propose(PutStack(spec=StackSpec(name="shop", services=(self.spec,))))

    @property
    def view(self) -> View:
        return self.world.checkers.states.newest

    @property
    def live(self) -> list[Task]:
        return [one for one in self.view.tasks.values() if one.is_live]

    def state(self, node: str) -> NodeState:
        return self.view.nodes[NodeId(node)].state

    def all_ready(self, nodes: Iterable[str]) -> bool:
        return all(self.state(node) is NodeState.READY for node in nodes)

    def run(self, ms: int) -> None:
        self.world.clock.run_until(self.world.clock.now_ms + ms)

    def until(self, is_so: Callable[[], bool]) -> int:
        """Wait for it; how long that took."""
        began_ms = self.world.clock.now_ms
        while not is_so():
            self.run(STEP_MS)
            assert self.world.clock.now_ms < began_ms + LONGEST_MS, "it never came"
        return self.world.clock.now_ms - began_ms

    def cut(
        self, inside: set[str], outside: set[str] | None = None, *, one_way: bool = False
    ) -> None:
        """Cut these off from those, or from everybody; `one_way`: only what they send."""
        everybody = {*map(str, self.world.hosts), self.user.id}
        pairs = {(a, b) for a in inside for b in (outside or everybody) if a != b}
        self.world.network.cuts |= pairs
        if not one_way:
            self.world.network.cuts |= {(b, a) for a, b in pairs}

    def heal(self) -> None:
        self.world.network.cuts.clear()

    def serving(self, node: str) -> str:
        """The manager that serves the node's session."""
        return next(s.id for s in self.world.seats() if NodeId(node) in s._serving)

    def leader(self) -> str:
        return next(seat.id for seat in self.world.seats() if seat.leads)


# --- most nodes at once -------------------------------------------------------------------------


def test_a_cut_that_silences_most_nodes_is_waited_out() -> None:
    small = Small(workers=8, replicas=8)
    workers = {f"w{number}" for number in range(1, 9)}
    before = {one.id for one in small.live}
    small.cut(workers)
    small.run(12_000)
    assert {small.state(node) for node in workers} == {NodeState.SUSPECT}
    assert tell_brake(small.view).startswith("the brake is on: 8 of 11 nodes")
    small.heal()
    small.until(lambda: small.all_ready(workers))
    assert (before, "") == ({one.id for one in small.live}, tell_brake(small.view))


def test_a_majority_that_is_gone_for_good_is_given_up_in_the_end() -> None:
    small = Small(workers=8, replicas=8)
    dead = {f"w{number}" for number in range(1, 8)}
    for node in dead:
        small.world.kill(NodeId(node), power=True)
    took_ms = small.until(lambda: all(one.node_id == "w8" for one in small.live))
    policy = small.world.shape.policy
    assert took_ms > policy.storm_after_ms + 6 * policy.storm_pause_ms - BEAT_MS
    small.until(lambda: sum(one.is_healthy for one in small.live) == 8)


# --- what fences itself -------------------------------------------------------------------------


def test_what_is_cut_off_is_ended_there_before_it_begins_elsewhere() -> None:
    small = Small(workers=2, replicas=1, stop_after_s=10.0)
    [old] = small.live
    assert old.node_id is not None
    small.cut({old.node_id})
    ended_ms = small.until(lambda: not small.world.hosts[NodeId(str(old.node_id))].running())
    begun_ms = small.until(lambda: any(one.id != old.id and one.is_healthy for one in small.live))
    assert 7_000 <= ended_ms <= 12_000
    assert begun_ms > 0
    small.heal()
    small.until(lambda: small.view.tasks[old.id].status.state is TaskState.LOST)
    small.run(10_000)
    [new] = small.live
    # What it reports once it is back is no failure of the service.
    assert (0, Reason.NODE_RETURNED) == (new.attempt, small.view.tasks[old.id].status.reason)


def _heard_in_one_direction(small: Small) -> None:
    """A manager that hears the leader, and is not heard by it, serves the task's node alone.

    It learns of the loss when all do, and has the task stopped: which takes its grace period.
    """
    [old] = small.live
    node = str(old.node_id)
    small.world.hosts[NodeId(node)].runtime.stubborn.add(old.id)
    if small.serving(node) == small.leader():
        small.cut({node}, {small.leader()})
        small.until(
            lambda: any(NodeId(node) in s._serving and not s.leads for s in small.world.seats())
        )
    server = small.serving(node)
    small.cut({node}, {"m1", "m2", "m3"} - {server})
    small.cut({server}, {"m1", "m2", "m3"} - {server}, one_way=True)
    small.until(lambda: any(one.id != old.id and one.is_healthy for one in small.live))


def test_a_manager_vouches_for_nothing_that_the_leader_does_not_know() -> None:
    small = Small(workers=2, replicas=1, stop_after_s=10.0)
    [old] = small.live
    _heard_in_one_direction(small)
    assert small.world.hosts[NodeId(str(old.node_id))].running() == []


def test_the_checker_sees_a_manager_that_vouches_for_what_it_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def vouched(self: Vouching, node_id: NodeId, leader: NodeId | None) -> int:
        return max((number for number, _ in self._beats.get(node_id, ())), default=0)

    monkeypatch.setattr(Vouching, "vouched", vouched)
    with pytest.raises(Violation, match="whose agent should have ended it"):
        _heard_in_one_direction(Small(workers=2, replicas=1, stop_after_s=10.0))


def test_the_checker_sees_a_leader_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "borne_ms", lambda spec, policy: policy.down_ms)
    small = Small(workers=2, replicas=1, stop_after_s=10.0)
    small.cut({str(small.live[0].node_id)})
    with pytest.raises(Violation, match="whose agent should have ended it"):
        small.run(20_000)


def test_a_new_leader_waits_as_if_it_had_heard_of_the_node_just_now() -> None:
    """A follower that never heard of it, elected, knows nothing of what was vouched for."""
    small = Small(workers=2, replicas=1, stop_after_s=10.0)
    [old] = small.live
    node, leader = str(old.node_id), small.leader()
    others = {"m1", "m2", "m3"} - {leader}
    # The leader alone hears the node, and tells nobody who will lead.
    small.cut({node}, others)
    small.until(lambda: small.serving(node) == leader)
    for seat in small.world.seats():
        if seat.id != leader:
            seat._hearing = Hearing(NodeId(seat.id), 0)
    small.cut({node}, {leader})
    small.world.kill(NodeId(leader))
    small.until(lambda: any(one.id != old.id and one.is_healthy for one in small.live))
    assert small.world.hosts[NodeId(node)].running() == []


# --- nodes that come and go ---------------------------------------------------------------------


def test_a_flapping_node_stays_unstable_whoever_leads() -> None:
    small = Small(workers=2, replicas=2)
    for _ in range(3):
        small.cut({"w1"})
        small.until(lambda: small.state("w1") is NodeState.DOWN)
        small.heal()
        small.until(lambda: small.state("w1") in (NodeState.READY, NodeState.UNSTABLE))
    assert small.state("w1") is NodeState.UNSTABLE
    trusted_at_ms = small.view.nodes[NodeId("w1")].trusted_at_ms
    small.world.kill(NodeId(small.leader()))
    small.until(lambda: small.state("w1") is NodeState.READY)
    assert trusted_at_ms <= small.view.clock_ms
    assert all(one.node_id == "w2" for one in small.live if one.created_at_ms < trusted_at_ms)
