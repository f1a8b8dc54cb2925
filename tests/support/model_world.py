"""A cluster as the controllers see it: the real store, `decide`, and agents that are a few lines.

Time is `now_ms` and goes on only when a test says so. `control()` is the leader's loop, and checks
what must hold of it: it rests after one pass, or says that it was cut short, a look at what changed
finds all that a look at everything finds, and no slot has two live or two started tasks, unless its
service starts first.
"""

from collections import Counter
from collections.abc import Mapping

from meshswarm.control.decide import Decision, decide
from meshswarm.control.leaving import is_leaving
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node
from meshswarm.model.rollout import UpdateOrder
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, Health, Reason, Task, TaskState, TaskStatus
from meshswarm.store.commands import (
    Batch,
    Command,
    ExplainTask,
    ReportTasks,
    TaskReport,
)
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Key, View
from tests.support.builders import NOW_MS, commit, view

RUNNING = TaskState.RUNNING

CUT_SHORT = 4
"""Passes at one instant, at most; more than one only if they say so."""

NEXT = {
    TaskState.ASSIGNED: TaskState.ACCEPTED,
    TaskState.ACCEPTED: TaskState.PREPARING,
    TaskState.PREPARING: TaskState.READY,
    TaskState.READY: TaskState.STARTING,
    TaskState.STARTING: TaskState.RUNNING,
}


class ModelWorld:
    """Nodes that live or not, agents that take tasks on, and the leader's control loop."""

    def __init__(self, *nodes: Node, policy: LivenessPolicy | None = None) -> None:
        self.view: View = view(nodes)
        self.now_ms = NOW_MS
        self.policy = policy or LivenessPolicy()
        self.dead_since: dict[NodeId, int] = {}
        self.dirty: frozenset[Key] | None = None
        self.wake_at_ms: int | None = None
        self._moved: set[tuple[ServiceId, int, NodeId | None]] = set()
        """Slots with a task that was to leave its node: two may have started, until one stopped."""

    # --- the leader -----------------------------------------------------------------------------

    def propose(self, command: Command) -> Outcome:
        """Commit a user's or an agent's command; the change is dirty for the next pass."""
        applied = commit(self.view, command, at_ms=self.now_ms)
        self.view = applied.view
        if self.dirty is not None:
            self.dirty |= applied.changed
        return applied.outcome

    def decide(self, dirty: frozenset[Key] | None) -> Decision:
        """One pass over the present view."""
        return decide(self.view, dirty, self.liveness(), self.policy, self.now_ms)

    def liveness(self) -> Liveness:
        """Living nodes were heard this instant, dead ones not since they died."""
        silent: Mapping[NodeId, int] = {
            node_id: self.now_ms - self.dead_since.get(node_id, self.now_ms)
            for node_id in self.view.nodes
        }
        return Liveness(silent_ms=silent, observing_ms=10_000_000)

    def control(self) -> None:
        """The leader's loop: passes on what changed until one has said all, and one more that finds
        nothing left."""
        for _ in range(CUT_SHORT):
            if not self._pass():
                break
            if self.wake_at_ms is None or self.wake_at_ms > self.now_ms:
                assert not self._pass(), "a second pass at the same instant wanted more"
                break
        else:
            raise AssertionError("every pass is cut short")
        full = self.decide(None)
        kinds = {type(command) for command in full.commands}
        # Only explanations depend on other services' tasks; they are brought up to date at once.
        assert kinds <= {ExplainTask}, f"missed by looking at changes: {full.commands}"
        if full.commands:
            self.propose(Batch(commands=full.commands))
            assert self.decide(None).commands == ()

    def _pass(self) -> bool:
        """Decide and commit; whether there was anything to do."""
        decision = self.decide(self.dirty)
        assert decision.refused == ()
        self.dirty, self.wake_at_ms = decision.revisit, decision.wake_at_ms
        if decision.commands:
            outcome = self.propose(Batch(commands=decision.commands, cause=decision.cause))
            assert outcome.error is None
            assert outcome.effects == (), "the store refuses nothing that was decided on its view"
            self._check_slots()
        return bool(decision.commands)

    def _check_slots(self) -> None:
        live: Counter[tuple[ServiceId, int, NodeId | None]] = Counter()
        started: Counter[tuple[ServiceId, int, NodeId | None]] = Counter()
        moving: set[tuple[ServiceId, int, NodeId | None]] = set()
        for task in self.view.tasks.values():
            slot = (task.service_id, task.slot, None if task.slot else task.node_id)
            live[slot] += task.is_live
            moving.update([slot] if is_leaving(self.view, task) else [])
            started[slot] += TaskState.STARTING <= task.status.state <= TaskState.RUNNING
        self._moved = moving | {slot for slot in self._moved if started[slot] > 1}
        for counted, pairs, what in ((live, moving, "live"), (started, self._moved, "started")):
            beyond = [
                slot
                for slot, n in counted.items()
                if n > max(self._most_in(slot), 2 if slot in pairs else 1)
            ]
            assert not beyond, f"too many {what} tasks in a slot"

    def _most_in(self, slot: tuple[ServiceId, int, NodeId | None]) -> int:
        """How many tasks may be live, or started, in a slot of this service."""
        service = self.view.services.get(slot[0])
        policies = (service.spec.update, service.spec.rollback) if service else ()
        return 2 if any(p.order is UpdateOrder.START_FIRST for p in policies) else 1

    # --- nodes and agents -----------------------------------------------------------------------

    def kill(self, node: Node) -> None:
        """The node falls silent."""
        self.dead_since.setdefault(node.id, self.now_ms)

    def revive(self, node: Node) -> None:
        """The node is heard again."""
        self.dead_since.pop(node.id, None)

    def movable(self) -> list[Task]:
        """Tasks whose agents live and have something to do, in a stable order."""
        return [
            task
            for _, task in sorted(self.view.tasks.items())
            if task.node_id is not None
            and task.node_id not in self.dead_since
            and not task.status.state.is_terminal
            and (
                task.desired > DesiredState.RUNNING
                or task.status.state < TaskState.READY
                or (task.desired is DesiredState.RUNNING and task.status.state in NEXT)
            )
        ]

    def step(self, task: Task) -> None:
        """The agent takes its task one state on."""
        if task.desired > DesiredState.RUNNING:
            self.report(task, TaskState.SHUTDOWN, Reason.STOPPED)
        else:
            self.report(task, NEXT[task.status.state])

    def report(
        self,
        task: Task,
        state: TaskState,
        reason: Reason = Reason.NONE,
        *,
        message: str = "",
        health: Health = Health.NONE,
    ) -> None:
        """The agent says this of its task."""
        assert task.node_id is not None
        started = task.status.started_at_ms
        status = TaskStatus(
            state=state,
            reason=reason,
            message=message,
            since_ms=self.now_ms if state is not task.status.state else task.status.since_ms,
            started_at_ms=self.now_ms if started is None and state is RUNNING else started,
            health=health,
        )
        reports = (TaskReport(task_id=TaskId(task.id), status=status),)
        self.propose(ReportTasks(node_id=task.node_id, reports=reports))

    def settle(self) -> None:
        """Let agents and controllers work and time pass until nothing is left to do."""
        for _ in range(2_000):
            self.control()
            movable = self.movable()
            for task in movable:
                self.step(task)
            if movable:
                continue
            if self.dirty or self.dead_since:
                assert self.wake_at_ms is not None, "something waits, and nothing will wake it"
                self.now_ms = max(self.now_ms + 1, self.wake_at_ms)
                continue
            return
        raise AssertionError("the cluster does not settle")

    def healthy(self, service: Service) -> list[Task]:
        """The service's healthy tasks of its current revision."""
        return [
            task
            for task in self.view.tasks_of(service.id)
            if task.is_live and task.is_healthy and task.revision == service.revision
        ]
