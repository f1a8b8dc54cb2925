"""What an observer of a modelled cluster writes down: what happened when, and who was short.

Tasks serve where they really run and are healthy; so an outage begins when its host dies, not when
the cluster notices it.
"""

from collections.abc import Container, Iterator
from functools import partial

from attrs import define, field, frozen

from meshswarm.agent.card import HeldState
from meshswarm.control.restart import stays_down
from meshswarm.control.slots import slots_of
from meshswarm.control.steps import belongs_on
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.service import Mode, Service
from meshswarm.model.task import DesiredState, Health, Reason, Task, TaskState
from meshswarm.sim.clock import Clock
from meshswarm.sim.hosts import Host
from meshswarm.store.apply import Applied
from meshswarm.store.commands import Command
from meshswarm.store.view import Key, Table, View

MAX_MOMENTS = 10_000
"""Lines of a timeline; later ones are counted, and not kept."""

SERVING = (Health.NONE, Health.HEALTHY)


@frozen(kw_only=True)
class Moment:
    """One thing that happened."""

    at_ms: int
    """Since the beginning."""
    kind: str
    """`node`, `managers`, `rollout`, `service`; of tasks `placed`, `running`, `healthy`,
    `unhealthy`, `waiting`, `stopping`, or the state in which one ended."""
    service: str | None = None
    slot: str | None = None
    """`SERVICE.SLOT`, or `SERVICE.NODE` of a global service."""
    node: str | None = None
    message: str = ""


@define
class Span:
    """The longest time for which something was so, and since when it is."""

    longest_ms: int = 0
    since_ms: int | None = None

    def note(self, is_so: bool, now_ms: int) -> None:
        """From now on it is so, or it is not."""
        if self.since_ms is not None:
            self.longest_ms = max(self.longest_ms, now_ms - self.since_ms)
        if is_so and self.since_ms is None:
            self.since_ms = now_ms
        elif not is_so:
            self.since_ms = None


@define
class Meter:
    """One service's tasks that serve, against those that it should have."""

    serving: set[TaskId] = field(factory=set)
    wanted: int = 0
    out: Span = field(factory=Span)
    """Not one serves."""
    short: Span = field(factory=Span)
    """Fewer serve than should."""

    def note(self, now_ms: int) -> None:
        """Look again."""
        self.out.note(self.wanted > 0 and not self.serving, now_ms)
        self.short.note(len(self.serving) < self.wanted, now_ms)


class Account:
    """The timeline of a modelled cluster and its services' meters, from `open` on."""

    def __init__(self, clock: Clock, view: View) -> None:
        self.moments: list[Moment] = []
        self.left_out = 0
        """Moments beyond `MAX_MOMENTS`."""
        self.meters: dict[ServiceId, Meter] = {}
        self._clock, self._view = clock, view
        self._dark: set[NodeId] = set()
        self._began_ms: int | None = None

    # --- what is seen -------------------------------------------------------------------------

    def watch(self, host: Host) -> None:
        """Count what serves on this host."""
        host.runtime.board.listen(partial(self._look, host))
        for held in host.runtime.board.all():
            self._look(host, held.task_id)

    def open(self) -> None:
        """The question is asked now: what was before is not told."""
        self._began_ms = self._clock.now_ms
        for service_id in self._view.services:
            self._measure(service_id)

    def now_ms(self) -> int:
        """Since it was opened."""
        return 0 if self._began_ms is None else self._clock.now_ms - self._began_ms

    def darkens(self, host: Host) -> None:
        """Nothing on this host serves any more."""
        self._dark.add(host.id)
        for held in host.runtime.board.all():
            self._look(host, held.task_id)
        for service_id in self._view.services:
            self._measure(service_id)

    def close(self) -> None:
        """Measure a last time."""
        for service_id in self._view.services:
            self._measure(service_id)

    def tell(self, kind: str, message: str, *, node: str | None = None) -> None:
        """Something happened that no row tells."""
        self._add(Moment(at_ms=self.now_ms(), kind=kind, node=node, message=message))

    def _add(self, moment: Moment) -> None:
        if self._began_ms is None:
            return
        if len(self.moments) < MAX_MOMENTS:
            self.moments.append(moment)
        else:
            self.left_out += 1

    def _look(self, host: Host, task_id: TaskId) -> None:
        held = host.runtime.board.look(task_id)
        task = self._view.tasks.get(task_id)
        service_id = held.service_id if held else task.service_id if task else None
        if service_id is None:
            return
        meter = self.meters.setdefault(service_id, Meter())
        is_running = held is not None and held.state is HeldState.RUNNING
        if is_running and host.id not in self._dark and held is not None and held.health in SERVING:
            meter.serving.add(task_id)
        else:
            meter.serving.discard(task_id)
        self._measure(service_id)

    def _measure(self, service_id: ServiceId) -> None:
        meter = self.meters.setdefault(service_id, Meter())
        service = self._view.services.get(service_id)
        meter.wanted = 0 if service is None else wanted(self._view, service, self._dark)
        if self._began_ms is not None:
            meter.note(self.now_ms())

    # --- what is committed --------------------------------------------------------------------

    def entry(self, before: View, command: Command, applied: Applied) -> None:
        """An entry was committed."""
        after = self._view = applied.view
        changed = frozenset(applied.changed)
        for moment in moments(before, after, changed, self.now_ms()):
            self._add(moment)
        for service_id in sorted(_services(before, after, changed)):
            self._measure(service_id)


def wanted(view: View, service: Service, dark: Container[NodeId]) -> int:
    """The tasks that should serve: not those that are done, nor a global one's on dead nodes.

    A job serves nobody, so it cannot be out.
    """
    if service.spec.mode.is_job:
        return 0
    policy = service.spec.task.restart
    done = sum(
        slot.live is None
        and slot.latest is not None
        and slot.latest.status.state is TaskState.COMPLETE
        and stays_down(slot, policy, service.revision) is not None
        for slot in slots_of(view.tasks_of(service.id))
    )
    if service.spec.mode is Mode.REPLICATED:
        return max(0, service.spec.replicas - done)
    nodes = view.nodes.values()
    ready = (node for node in nodes if node.state is not NodeState.DOWN and node.id not in dark)
    return max(0, sum(belongs_on(service, node) for node in ready) - done)


def _services(before: View, after: View, changed: frozenset[Key]) -> set[ServiceId]:
    found: set[ServiceId] = set()
    for table, key in changed:
        if table is Table.SERVICES:
            found.add(ServiceId(key))
        elif table is Table.TASKS:
            task = after.tasks.get(TaskId(key)) or before.tasks.get(TaskId(key))
            found |= {task.service_id} if task else set()
        elif table is Table.NODES:
            found |= {s.id for s in after.services.values() if s.spec.mode.is_global}
    return found


# --- rows in words ------------------------------------------------------------------------------


def moments(before: View, after: View, changed: frozenset[Key], at_ms: int) -> Iterator[Moment]:
    """What these changes of rows mean to a reader: nodes first, then rollouts, then tasks."""
    keys = sorted(changed, key=lambda item: (_ORDER.get(item[0], 9), item[1]))
    tasks: list[tuple[Task | None, Task]] = []
    for table, key in keys:
        if table is Table.NODES:
            yield from _node(before.nodes.get(NodeId(key)), after.nodes[NodeId(key)], at_ms)
        elif table is Table.SERVICES:
            yield from _service(before, after, ServiceId(key), at_ms)
        elif table is Table.ROLLOUTS:
            yield from _rollout(before, after, ServiceId(key), at_ms)
        elif table is Table.TASKS:
            row = after.tasks.get(TaskId(key))
            if row is not None:
                tasks.append((before.tasks.get(TaskId(key)), row))
    for old, new in sorted(tasks, key=_order):
        for kind, message in _task(old, new):
            node = after.nodes.get(new.node_id) if new.node_id else None
            yield Moment(
                at_ms=at_ms,
                kind=kind,
                service=new.service_name,
                slot=slot_name(new, node),
                node=node.name if node else None,
                message=message,
            )


_ORDER = {Table.NODES: 0, Table.SERVICES: 1, Table.ROLLOUTS: 2, Table.TASKS: 3}


def _order(pair: tuple[Task | None, Task]) -> tuple[str, int, bool]:
    """By slot; within one, what ended comes before what takes its place."""
    task = pair[1]
    return task.service_name, task.slot, not task.status.state.is_terminal


def slot_name(task: Task, node: Node | None) -> str:
    """The task's slot as users call it."""
    return f"{task.service_name}.{task.slot or (node.name if node else task.node_id)}"


def _node(before: Node | None, after: Node, at_ms: int) -> Iterator[Moment]:
    is_same = before is not None and before.state is after.state
    if before is not None and is_same and before.availability is not after.availability:
        message = f"its availability is {after.availability.value}"
        yield Moment(at_ms=at_ms, kind="node", node=after.name, message=message)
    if not is_same or (before is not None and after.message and before.message != after.message):
        said = f": {after.message}" if after.message else ""
        message = f"it is {after.state.value}{said}"
        yield Moment(at_ms=at_ms, kind="node", node=after.name, message=message)


def _service(before: View, after: View, key: ServiceId, at_ms: int) -> Iterator[Moment]:
    old, new = before.services.get(key), after.services.get(key)
    if new is None and old is not None:
        yield Moment(at_ms=at_ms, kind="service", service=old.spec.name, message="it is removed")
    elif new is not None and old is None:
        replicas = new.spec.replicas
        message = f"it is created with {replicas} {'task' if replicas == 1 else 'tasks'}"
        if new.spec.mode.is_global:
            message = "it is created, with a task on every node that fits"
        yield Moment(at_ms=at_ms, kind="service", service=new.spec.name, message=message)
    elif new is not None and old is not None and new.spec.replicas != old.spec.replicas:
        message = f"it is scaled from {old.spec.replicas} to {new.spec.replicas}"
        yield Moment(at_ms=at_ms, kind="service", service=new.spec.name, message=message)


def _rollout(before: View, after: View, key: ServiceId, at_ms: int) -> Iterator[Moment]:
    old, new = before.rollouts.get(key), after.rollouts.get(key)
    service = after.services.get(key)
    if new is None or service is None or (old is not None and old.phase is new.phase):
        return
    said = f": {new.message}" if new.message else ""
    message = f"the rollout of revision {new.revision} is {new.phase.value}{said}"
    yield Moment(at_ms=at_ms, kind="rollout", service=service.spec.name, message=message)


def _task(before: Task | None, after: Task) -> Iterator[tuple[str, str]]:
    status, old = after.status, before.status if before else None
    if after.node_id is not None and (before is None or before.node_id is None):
        yield "placed", ""
    if status.state.is_terminal:
        if old is None or old.state is not status.state:
            is_lost = status.state is TaskState.LOST
            yield status.state.label, "" if is_lost else status.message
        return
    told_to_stop = after.desired >= DesiredState.SHUTDOWN
    if told_to_stop and (before is None or before.desired < DesiredState.SHUTDOWN):
        made_way = after.ending is Reason.PREEMPTED
        yield "stopping", "it makes way for a task of greater priority" if made_way else ""
    if status.state is TaskState.RUNNING and not told_to_stop:
        if old is None or old.state is not TaskState.RUNNING:
            yield (
                "running",
                "its health is not known yet" if status.health is Health.STARTING else "",
            )
        elif old.health is not status.health:
            yield status.health.value, status.message
    if after.node_id is None and status.message and (old is None or old.message != status.message):
        yield "waiting", status.message
