"""A host as a cluster's view has it: what runs there runs on, and what fails goes on failing.

What is not in a view is assumed: images are there, a task starts after a stated time and passes its
health check after another. A job's task takes as long as the last one that completed, or for ever
if none did. A revision of which nothing is healthy and something failed fails on, as it did last;
so a model does not heal what the cluster cannot.
"""

import random
from collections.abc import Callable
from functools import partial

from attrs import field, frozen
from attrs.validators import ge

from meshswarm.agent import probes
from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.ids import ServiceId, TaskId
from meshswarm.model.node import Node
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Health, Reason, Task, TaskState
from meshswarm.sim.clock import Clock
from meshswarm.sim.disk import Disk
from meshswarm.sim.hosts import Host
from meshswarm.sim.shape import EPOCH_MS
from meshswarm.store.assignments import assignments_of
from meshswarm.store.view import View


@frozen(kw_only=True)
class Assumed:
    """What a model takes for granted, in milliseconds."""

    start_ms: int = field(default=1_000, validator=ge(0))
    """From a task's arrival at its node until it runs; stopping takes half of that."""
    healthy_ms: int | None = None
    """From a task's start until its check passes; None: when the check first looks."""


@frozen(kw_only=True)
class Habit:
    """How tasks of a revision end, as the last one did."""

    after_ms: int
    """From the start."""
    exit: Exit | None
    """None: they run on, and are unhealthy."""
    message: str = ""


def adopted(
    view: View, node: Node, clock: Clock, start_ms: int, assumed: Assumed, rng: random.Random
) -> Host:
    """The node's host at the instant `start_ms` of the wall clock, its agent not running yet."""
    host = Host(
        id=node.id,
        role=node.role,
        clock=clock,
        rng=rng,
        disk=Disk(rng),
        skew_ms=start_ms - EPOCH_MS - clock.now_ms,
        incarnation=node.incarnation,
        # A verb takes effect after half of it: making ready is one, starting is the other.
        verb_ms=(assumed.start_ms, assumed.start_ms),
        returns_at_once=True,
    )
    assignments = assignments_of(view, node.id)
    host.memory = tuple((one, one.task.status) for _, one in sorted(assignments.items()))
    for one in assignments.values():
        held = _held(one.task, one.spec)
        if held is not None:
            host.runtime.board.put(held)
    return host


def _held(task: Task, spec: TaskSpec) -> Held | None:
    """What the runtime has of the task, going by what its agent said last."""
    status = task.status
    if not TaskState.READY <= status.state <= TaskState.RUNNING:
        return None
    is_running = status.state is TaskState.RUNNING
    return Held(
        task_id=task.id,
        service_id=task.service_id,
        slot=task.slot,
        fencing=task.fencing,
        runtime=spec.runtime,
        runtime_id=status.runtime_id or f"model-{task.id}",
        state=HeldState.RUNNING if is_running else HeldState.CREATED,
        started_at_ms=status.started_at_ms if is_running else None,
        health=status.health if is_running else Health.NONE,
        health_message="",
        published=status.published,
        grace_s=spec.stop_grace_period_s,
    )


# --- what tasks do by themselves ----------------------------------------------------------------


class Programs:
    """What runs on the hosts: each becomes healthy in time, or ends as its like did."""

    def __init__(self, view: Callable[[], View], clock: Clock, assumed: Assumed) -> None:
        self._view, self._clock, self._assumed = view, clock, assumed
        self._habits = habits(view())
        self._started: set[TaskId] = set()

    def watch(self, host: Host) -> None:
        """Let what runs on this host live its life."""
        host.runtime.board.listen(partial(self._look, host))
        for held in host.runtime.board.all():
            self._look(host, held.task_id)

    def _look(self, host: Host, task_id: TaskId) -> None:
        held = host.runtime.board.look(task_id)
        task = self._view().tasks.get(task_id)
        if held is None or held.state is not HeldState.RUNNING or task is None:
            return
        if task_id in self._started:
            return
        self._started.add(task_id)
        habit = self._habits.get((task.service_id, task.revision))
        if habit is not None:
            self._clock.after(habit.after_ms + 1, partial(_act, host, task_id, habit))
        elif held.health is Health.STARTING:
            delay_ms = self._healthy_ms(self._view().spec_of(task).task)
            self._clock.after(delay_ms + 1, partial(_feel, host, task_id, Health.HEALTHY, ""))

    def _healthy_ms(self, spec: TaskSpec) -> int:
        if self._assumed.healthy_ms is not None:
            return self._assumed.healthy_ms
        return round(1_000 * probes.well_after_s(spec))


def habits(view: View) -> dict[tuple[ServiceId, int], Habit]:
    """The revisions of which nothing is healthy and whose last task failed, and how it did; and
    those of jobs of which a task completed, and when."""
    last: dict[tuple[ServiceId, int], Task] = {}
    well: set[tuple[ServiceId, int]] = set()
    done: set[tuple[ServiceId, int]] = set()
    for task in sorted(view.tasks.values(), key=lambda one: (one.created_at_ms, one.id)):
        key = task.service_id, task.revision
        if task.is_live and task.is_healthy:
            well.add(key)
        if task.status.state in (TaskState.FAILED, TaskState.REJECTED):
            last[key] = task
        service = view.services.get(task.service_id)
        if service and service.spec.mode.is_job and task.status.state is TaskState.COMPLETE:
            last[key], done = task, {*done, key}
    return {key: _habit(task) for key, task in last.items() if key not in well - done}


def _habit(task: Task) -> Habit:
    status = task.status
    began_ms = status.since_ms if status.started_at_ms is None else status.started_at_ms
    after_ms = max(0, status.since_ms - began_ms)
    if status.state is TaskState.REJECTED:
        failure = Exit(code=None, failure=status.reason, message=status.message)
        return Habit(after_ms=0, exit=failure)
    if status.state is TaskState.COMPLETE:
        return Habit(after_ms=after_ms, exit=Exit(code=0))
    if status.reason is Reason.UNHEALTHY:
        return Habit(after_ms=after_ms, exit=None, message=status.message)
    out_of_memory = status.reason is Reason.OUT_OF_MEMORY
    end = Exit(code=status.exit_code, out_of_memory=out_of_memory, message=status.message)
    return Habit(after_ms=after_ms, exit=end)


def _act(host: Host, task_id: TaskId, habit: Habit) -> None:
    if habit.exit is None:
        _feel(host, task_id, Health.UNHEALTHY, habit.message)
    elif task_id in host.running():
        host.runtime.end(task_id, habit.exit)


def _feel(host: Host, task_id: TaskId, health: Health, message: str) -> None:
    if task_id in host.running():
        host.runtime.feel(task_id, health, message)
