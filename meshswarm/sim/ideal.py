"""Managers as one value: each command is committed at once, or not at all. No packets, no disks.

Leaders come and go; each runs the real control loop on what is committed, and loses it at any
moment, also between a decision and its commit. Where consensus itself is in question, a world has
managers of its own (`seat.py`); this is for what is decided, which costs a tenth here.
"""

import random
from collections.abc import Callable

from attrs import evolve, frozen

from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.errors import Unavailable
from meshswarm.ids import Index, NodeId, TaskId, Term
from meshswarm.sim.clock import Clock, Life, Work
from meshswarm.sim.control_loop import ControlLoop
from meshswarm.sim.trace import Trace
from meshswarm.sim.watch import Watch
from meshswarm.store.apply import Applied, advance, apply_command
from meshswarm.store.commands import Batch, Command
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Key, Table, View

Observer = Callable[[View, Command, Applied], None]
"""Is told of each entry: the view before, the command, and what it did."""

Judge = Callable[[View, Batch, int], None]
"""Is told of each decision: the view on which a leader made it, what it wants, and its log time."""


@frozen(kw_only=True)
class Pace:
    """How long things take, in milliseconds, each by chance between two numbers."""

    commit_ms: tuple[int, int] = (2, 40)
    """From a decision to its commit; what others propose meanwhile comes before it."""
    lost_share: float = 0.5
    """Of the decisions that are on their way when a leader falls: nobody ever hears of them."""


class Ideal:
    """What the cluster agreed on, and who leads it."""

    def __init__(
        self,
        clock: Clock,
        trace: Trace,
        rng: random.Random,
        view: View,
        *,
        policy: LivenessPolicy,
        epoch_ms: int,
        pace: Pace = Pace(),
        calm_ms: int | None = None,
    ) -> None:
        self.clock, self.view, self.policy = clock, view, policy
        self.observers: list[Observer] = []
        self.judges: list[Judge] = []
        self._trace, self._rng, self._pace = trace, rng, pace
        self._epoch_ms, self._calm_ms = epoch_ms, calm_ms
        self._term = view.term
        self._life: Life | None = None
        self._watch: Watch | None = None
        self._in_flight: Batch | None = None
        self._wall_ms = self._log_ms = self._log_set_ms = self._crowned_ms = 0
        self._silent_since_ms: dict[NodeId, int | None] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._sessions: dict[NodeId, Work] = {}

    # --- the log ------------------------------------------------------------------------------

    def commit(self, command: Command) -> Outcome:
        """The next entry of the log, here and now; whoever it concerns is told."""
        before = self.view
        base = evolve(
            before,
            index=Index(before.index + 1),
            term=self._term,
            clock_ms=max(before.clock_ms, self.log_time_ms()),
        )
        applied = apply_command(base, command)
        self.view = applied.view
        for observer in self.observers:
            observer(before, command, applied)
        if changed := frozenset(applied.changed):
            if self._watch is not None:
                self._watch.tell(applied.view, changed)
            self._tell_agents(before, changed)
        return applied.outcome

    def submit(self, command: Command) -> Outcome:
        """Commit it, if somebody leads; raises `Unavailable`."""
        if self._life is None:
            raise Unavailable("nobody leads")
        return self.commit(command)

    def log_time_ms(self) -> int:
        """Log time: the leader's wall clock, or the log's where that is ahead; it goes on."""
        now_ms = self.clock.now_ms
        went_on_ms = self._log_ms + now_ms - self._log_set_ms if self._log_ms else 0
        wall_ms = self._epoch_ms + now_ms + self._wall_ms
        self._log_ms = max(went_on_ms, self.view.clock_ms, wall_ms)
        self._log_set_ms = now_ms
        return self._log_ms

    # --- leaders ------------------------------------------------------------------------------

    @property
    def has_leader(self) -> bool:
        """Whether somebody leads."""
        return self._life is not None

    def lead(self, name: str, *, skew_ms: int = 0) -> None:
        """Let the next manager lead: it knows what is committed, and nothing else."""
        assert self._life is None, "two leaders at once"
        self._term = Term(self._term + 1)
        self._wall_ms, self._log_ms, self._crowned_ms = skew_ms, 0, self.clock.now_ms
        # As Raft's leaders do: the first entry of a term says nothing but that.
        self.view = advance(self.view, index=Index(self.view.index + 1), term=self._term)
        life = self._life = Life(self.clock)
        watch = self._watch = Watch(life, self.view)
        self._trace.tell("reign", f"{name} leads term {self._term}")
        loop = ControlLoop(
            name,
            self._trace,
            self.policy,
            log_time_ms=self.log_time_ms,
            liveness=self._liveness,
            propose=self._propose,
            look_again_ms=None,
            calm_ms=self._calm_ms,
        )
        life.spawn(loop.reign(watch, lambda: True, _nothing))
        for ring in self._sessions.values():
            ring()

    def depose(self) -> None:
        """The leader is gone; what it had just decided is in the log of the next, or nowhere."""
        if self._life is None:
            return
        batch, self._in_flight = self._in_flight, None
        self._life.end()
        self._watch = None
        if batch is not None and self._rng.random() >= self._pace.lost_share:
            self.commit(batch)
        self._life = None

    def end(self) -> None:
        """Nothing is decided any more."""
        self._in_flight = None
        self.depose()

    async def _propose(self, batch: Batch) -> None:
        assert self._life is not None, "who does not lead decides nothing"
        for judge in self.judges:
            judge(self.view, batch, self.log_time_ms())
        self._in_flight = batch
        await self._life.sleep(self._rng.randint(*self._pace.commit_ms))
        self._in_flight = None
        self.commit(batch)

    # --- agents -------------------------------------------------------------------------------

    def hears(self, node_id: NodeId, incarnation: int, ring: Work) -> None:
        """A node's session is open from now on; `ring` tells it that its tasks may be others."""
        self._silent_since_ms[node_id] = None
        self._incarnations[node_id] = incarnation
        self._sessions[node_id] = ring
        self._look_at_nodes()

    def loses(self, node_id: NodeId) -> None:
        """Nothing is heard of the node from now on."""
        if self._silent_since_ms.get(node_id, 0) is None:
            self._silent_since_ms[node_id] = self.clock.now_ms
        self._sessions.pop(node_id, None)
        self._look_at_nodes()

    def _look_at_nodes(self) -> None:
        if self._watch is not None:
            self._watch.bell.ring()

    def _liveness(self) -> Liveness:
        now_ms = self.clock.now_ms
        return Liveness(
            silent_ms={
                node_id: 0 if since_ms is None else now_ms - since_ms
                for node_id, since_ms in self._silent_since_ms.items()
            },
            observing_ms=now_ms,
            incarnations=dict(self._incarnations),
            leading_ms=now_ms - self._crowned_ms,
        )

    def _tell_agents(self, before: View, changed: frozenset[Key]) -> None:
        if not self._sessions:
            return
        for node_id in sorted(_nodes_concerned(before, self.view, changed)):
            if node_id in self._sessions:
                self._sessions[node_id]()


def _nodes_concerned(before: View, after: View, changed: frozenset[Key]) -> set[NodeId]:
    """The nodes of which some task is written."""
    found: set[NodeId] = set()
    for table, key in changed:
        if table is Table.TASKS:
            for view in (before, after):
                task = view.tasks.get(TaskId(key))
                if task is not None and task.node_id is not None:
                    found.add(task.node_id)
    return found


async def _nothing() -> None:
    """All that is committed is applied already."""
