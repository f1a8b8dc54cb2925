"""However hosts are cut off and come back with what they ran: a slot has one running task at last,
and at every moment where its service says so.
"""

import pytest
from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.rollout import UpdateOrder, UpdatePolicy
from meshswarm.model.service import Mode
from meshswarm.store.commands import PutService, RemoveService, ScaleService
from tests.support.agents_world import AgentsWorld, Host
from tests.support.builders import node, service_spec

pytestmark = pytest.mark.timeout(60)

NODES = [node(name) for name in ("n1", "n2", "n3")]


@frozen(kw_only=True)
class Kind:
    """A service that users deploy."""

    stop_after_s: float | None = None
    order: UpdateOrder = UpdateOrder.STOP_FIRST
    mode: Mode = Mode.REPLICATED


KINDS = {
    "web": Kind(),
    "beside": Kind(order=UpdateOrder.START_FIRST),
    "agent": Kind(mode=Mode.GLOBAL),
    "db": Kind(stop_after_s=6.0),
}
"""By the name of the service; `db` has at most one task of a slot running, whatever is cut off."""

places = st.integers(0, 20)
hosts = st.integers(0, 2)


class SlotsHold(RuleBasedStateMachine):
    """Hosts are cut off, join, lose power; agents start anew, hear late and work late; services
    are deployed, updated, scaled and removed meanwhile, and leaders change."""

    def __init__(self) -> None:
        super().__init__()
        self.world = AgentsWorld(*NODES)
        self.astray: set[NodeId] = set()
        """Hosts that were cut off: what they run may have been replaced."""
        self.world.control()
        self.deploy("web", 2, "a")
        self.deploy("db", 2, "a")
        self.world.settle()

    @rule(
        name=st.sampled_from(sorted(KINDS)),
        replicas=st.integers(1, 3),
        content=st.sampled_from("ab"),
    )
    def deploy(self, name: str, replicas: int, content: str) -> None:
        kind = KINDS[name]
        policy = UpdatePolicy(order=kind.order)
        spec = service_spec(
            name,
            mode=kind.mode,
            replicas=1 if kind.mode is Mode.GLOBAL else replicas,
            update=policy,
            rollback=policy,
            environment={"CONTENT": content},
            stop_after_s=kind.stop_after_s,
            stop_grace_period_s=1.0,
        )
        assert self.world.propose(PutService(spec=spec)).error is None

    @rule(place=places, replicas=st.integers(0, 3))
    def scale(self, place: int, replicas: int) -> None:
        services = self.world.view.sorted_services()
        fixed = [service for service in services if service.spec.mode is Mode.REPLICATED]
        if fixed:
            service = fixed[place % len(fixed)]
            self.world.propose(ScaleService(service_id=service.id, replicas=replicas))

    @rule(place=places)
    def remove(self, place: int) -> None:
        services = self.world.view.sorted_services()
        if services:
            self.world.propose(RemoveService(service_id=services[place % len(services)].id))

    @rule(place=hosts)
    def cut(self, place: int) -> None:
        self.world.cut(NODES[place])
        self.astray.add(NODES[place].id)

    @rule(place=hosts, ms=st.sampled_from([5_000, 12_000, 20_000]))
    def cut_for_long(self, place: int, ms: int) -> None:
        """Long enough that what it runs is replaced elsewhere, or not."""
        self.cut(place)
        for _ in range(ms // 1_000):
            self.goes_on(1_000)
            self.work(1)

    @rule(place=hosts)
    def join(self, place: int) -> None:
        self.world.join(NODES[place])

    @rule(place=hosts, is_power=st.booleans())
    def begin_anew(self, place: int, is_power: bool) -> None:
        restart = self.world.lose_power if is_power else self.world.restart_agent
        restart(NODES[place])

    @rule(name=st.sampled_from(["web", "db"]), rounds=st.integers(1, 6))
    def update(self, name: str, rounds: int) -> None:
        """Another version, whose tasks are made and started while old ones stop."""
        self.deploy(name, 2, f"c{self.world.view.index}")
        self.work(rounds)

    @rule(place=places, is_stubborn=st.booleans())
    def trouble(self, place: int, is_stubborn: bool) -> None:
        """A container ends, or will not end when it is asked to."""
        running = sorted(one.task_id for host in self._hosts() for one in host.running())
        if running and is_stubborn:
            self.world.stubborn.add(running[place % len(running)])
        elif running:
            self.world.ends(running[place % len(running)])

    @rule(place=hosts)
    def hear(self, place: int) -> None:
        """One agent is told; the others are not yet."""
        self.world.hear(self._hosts()[place])

    @rule(place=hosts)
    def act(self, place: int) -> None:
        self.world.act(self._hosts()[place])

    @rule(rounds=st.integers(1, 6))
    def work(self, rounds: int) -> None:
        """All agents that can be reached hear and act."""
        for _ in range(rounds):
            for host in self._hosts():
                self.world.hear(host)
                self.world.act(host)
                self.one_runs_where_only_one_may()
                self.one_runs_where_hosts_are_heard()
            self.world.control()

    @rule(ms=st.sampled_from([250, 2_500, 5_000]))
    def goes_on(self, ms: int) -> None:
        for _ in range(ms // 250):
            self.world.wait(250)
            self.world.control()
            self.one_runs_where_only_one_may()

    @rule()
    def elect(self) -> None:
        """A new leader knows nothing but the view."""
        self.world.dirty = None

    @rule()
    def heal(self) -> None:
        """Every host is linked, and all come to rest: what runs is what is wanted."""
        for one in NODES:
            self.world.join(one)
        self.world.settle()
        self.astray.clear()
        self._check_what_runs()

    @invariant()
    def controllers_rest(self) -> None:
        self.world.control()

    @invariant()
    def one_runs_where_only_one_may(self) -> None:
        """Of a service with `stop_after` no slot has two running tasks, whoever knows of them."""
        seen: set[tuple[ServiceId, int]] = set()
        for host in self._hosts():
            for held in host.running():
                if held.stop_after_s is not None:
                    slot = (held.service_id, held.slot)
                    assert slot not in seen, f"two tasks of {slot} run"
                    seen.add(slot)

    @invariant()
    def one_runs_where_hosts_are_heard(self) -> None:
        """A slot's next task starts once the last has stopped, wherever that was, if it is not to
        run beside it and its host was never given up."""
        seen: set[tuple[ServiceId, int, NodeId | None]] = set()
        for host in self._hosts():
            for held in host.running() if host.id not in self.astray else ():
                row = self.world.view.tasks.get(held.task_id)
                if row is not None and KINDS[row.service_name].order is UpdateOrder.STOP_FIRST:
                    slot = (held.service_id, held.slot, None if held.slot else host.id)
                    assert slot not in seen, f"two tasks of {row.name} run"
                    seen.add(slot)

    def teardown(self) -> None:
        self.heal()

    def _check_what_runs(self) -> None:
        """What hosts run is what rows want, no more and no less, one in each slot."""
        view = self.world.view
        runs = {(host.id, one.task_id) for host in self._hosts() for one in host.running()}
        wanted: dict[tuple[str, int, NodeId | None], tuple[NodeId | None, TaskId]] = {}
        live = [task for task in view.tasks.values() if task.is_live]
        for task in live:
            wanted[task.service_name, task.slot, None if task.slot else task.node_id] = (
                task.node_id,
                task.id,
            )
        assert runs == set(wanted.values())
        assert len(live) == len(wanted)
        held = {one for host in self._hosts() for one in host.held}
        assert held <= set(view.tasks), "what no row tells of is cleared away"

    def _hosts(self) -> list[Host]:
        return list(self.world.hosts.values())


TestSlotsHold = SlotsHold.TestCase
# Short lives, and many: whoever breaks a promise is mostly found by a dozen of them.
TestSlotsHold.settings = settings(
    max_examples=min(2 * settings().max_examples, 200), stateful_step_count=20
)
