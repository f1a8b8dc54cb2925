"""A world of an ideal cluster: nodes with agents, leaders that change, and nothing of consensus.

Control loop, `apply`, `agent.plan` and runtimes are those of a whole world, so are their checkers;
managers are one value (`ideal.py`). It costs a tenth, and everything in it concerns control.
"""

import random
from collections.abc import Iterable
from functools import partial

from attrs import frozen

from meshswarm.agent.card import Prepare
from meshswarm.control.liveness import LivenessPolicy
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import NodeRole, NodeState
from meshswarm.sim.checkers import Tasks
from meshswarm.sim.clock import Clock, Life
from meshswarm.sim.direct import DirectAgent
from meshswarm.sim.disk import Disk
from meshswarm.sim.hosts import Host
from meshswarm.sim.ideal import Ideal, Pace
from meshswarm.sim.promises import Promises, slot_faults
from meshswarm.sim.shape import EPOCH_MS
from meshswarm.sim.supervisor import Verb
from meshswarm.sim.takings import judge
from meshswarm.sim.trace import Listener, Trace
from meshswarm.store.apply import Applied
from meshswarm.store.commands import Command
from meshswarm.store.view import View


@frozen(kw_only=True)
class IdealShape:
    """One world's constants."""

    nodes: int = 4
    users: int = 2
    think_ms: int = 3_000
    """The longest that a user pauses between two requests."""
    delay_ms: tuple[int, int] = (1, 30)
    """How long a word takes between an agent and the managers."""
    verb_ms: tuple[int, int] = (5, 300)
    """How long runtimes take for what they are told."""
    skew_ms: int = 0
    """Wall clocks are wrong by at most so much, leaders' too."""
    pace: Pace = Pace()
    calm_ms: int | None = None
    """How long nodes are ready before leaders move tasks to them unasked; None: they never do."""
    policy: LivenessPolicy = LivenessPolicy(flap_first_ms=2_000, flap_max_ms=20_000)

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """All nodes' ids."""
        return tuple(NodeId(f"n{number}") for number in range(1, self.nodes + 1))


class IdealWorld:
    """Everything, and the one source of chance."""

    def __init__(
        self, rng: random.Random, shape: IdealShape, listener: Listener | None = None
    ) -> None:
        self.rng, self.shape = rng, shape
        self.clock = Clock()
        self.trace = Trace(self.clock, listener)
        self.changes = 0
        """How many entries changed a row."""
        self.ideal = Ideal(
            self.clock,
            self.trace,
            rng,
            View(),
            policy=shape.policy,
            epoch_ms=EPOCH_MS,
            pace=shape.pace,
            calm_ms=shape.calm_ms,
        )
        self.ideal.judges.append(judge)
        self.ideal.observers.append(self._entry)
        self.hosts = {node_id: self._host(node_id) for node_id in shape.node_ids}
        self.promises = Promises()
        self.tasks = Tasks(self.hosts, lambda: self.ideal.view)
        self._agents: dict[NodeId, DirectAgent] = {}
        self._reigns = 0
        for node_id in self.hosts:
            self.start(node_id)
        self.crown()

    def _host(self, node_id: NodeId) -> Host:
        skew_ms = self.shape.skew_ms
        return Host(
            id=node_id,
            role=NodeRole.WORKER,
            clock=self.clock,
            rng=self.rng,
            disk=Disk(self.rng),
            skew_ms=self.rng.randint(-skew_ms, skew_ms),
            verb_ms=self.shape.verb_ms,
        )

    def _entry(self, before: View, command: Command, applied: Applied) -> None:
        self.changes += bool(applied.changed)
        name = type(command).__name__
        self.trace.passes("log", name, f"{applied.view.index} {len(applied.changed)}")
        self.promises.entry(before, applied.view, frozenset(applied.changed))

    # --- what can be done ---------------------------------------------------------------------

    def crown(self) -> None:
        """Let somebody lead, if nobody does."""
        if not self.ideal.has_leader:
            self._reigns += 1
            skew_ms = self.shape.skew_ms
            self.ideal.lead(f"leader {self._reigns}", skew_ms=self.rng.randint(-skew_ms, skew_ms))

    def start(self, node_id: NodeId) -> None:
        """Start the node's agent."""
        host = self.hosts[node_id]
        assert host.life is None, f"{node_id} runs already"
        host.life = Life(self.clock)
        host.incarnation += 1
        watcher = self._carrying_out
        agent = DirectAgent(host, host.life, self.ideal, watcher, self.shape.delay_ms)
        self._agents[node_id] = agent

    def kill(self, node_id: NodeId, *, power: bool = False) -> None:
        """End the node's agent, as kill -9 does; with the host's `power` goes all it ran."""
        host = self.hosts[node_id]
        assert host.life is not None, f"{node_id} does not run"
        host.life.end(silently=power)
        host.life = None
        del self._agents[node_id]
        self.ideal.loses(node_id)
        if power:
            host.lose_power()

    def link(self, node_id: NodeId, is_linked: bool) -> None:
        """Cut the host off from the managers, or join it again."""
        self.hosts[node_id].is_linked = is_linked
        if node_id in self._agents:
            self._agents[node_id].link_changed()

    def _carrying_out(self, node: NodeId, task_id: TaskId, step: Verb) -> None:
        if isinstance(step, Prepare):
            self.promises.runs(step.assignment.task, step.assignment.spec)
        self.tasks.carrying_out(node, task_id, step)

    def run_for(self, ms: int) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now_ms + ms)

    def later(self, delay_ms: int, command: Command) -> None:
        """Have a user ask for this, again until somebody leads."""
        self.clock.after(delay_ms, partial(self._ask, command))

    def _ask(self, command: Command) -> None:
        if not self.ideal.has_leader:
            self.later(50, command)
            return
        outcome = self.ideal.commit(command)
        assert outcome.error is None, f"{command}: {outcome.error}"

    def end(self) -> None:
        """Nothing happens any more."""
        self.ideal.end()
        for host in self.hosts.values():
            if host.life is not None:
                host.life.end(silently=True)

    # --- what can be seen ---------------------------------------------------------------------

    @property
    def view(self) -> View:
        """All that is committed."""
        return self.ideal.view

    def unsettled(self, dead: Iterable[NodeId] = ()) -> list[str]:
        """Why the cluster is not whole; empty if it is. Of the `dead` nothing is expected."""
        gone = set(dead)
        alive = [node for node in self.hosts if node not in gone]
        found: list[str] = []
        for node in self.hosts:
            row = self.view.nodes.get(node)
            wanted = NodeState.DOWN if node in gone else NodeState.READY
            if row is None or row.state is not wanted:
                found.append(f"{node} is {row.state.value if row else 'not known'}")
        return found or [*slot_faults(self.view, alive), *self.tasks.leftovers(alive)]
