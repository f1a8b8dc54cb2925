"""What happened to the objects of a cluster: read off rows, and off what changed between two views.

Pure. Rows tell the past as far as they are kept: of tasks some ended ones a slot, of services their
last ten revisions. The feed tells each change from now on; a reader that lags sees several as one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from attrs import evolve, frozen

from meshswarm.cli.rows import instant, node_name
from meshswarm.cli.show import Row
from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.view import View

K = TypeVar("K")
R = TypeVar("R")


@frozen(kw_only=True)
class Event:
    """One thing that happened to one object."""

    at_ms: int
    kind: str
    """task, service, rollout, node, stack, config, secret; or user, for what somebody asked for."""
    name: str
    """`SERVICE.SLOT` of a task; who asked."""
    event: str
    node: str | None = None
    reason: str = ""
    """In one word, for programs."""
    message: str = ""
    id: str = ""
    service: str | None = None
    stack: str | None = None

    def row(self) -> Row:
        """The event as JSON has it; the keys stay."""
        return {
            "at": instant(self.at_ms),
            "kind": self.kind,
            "name": self.name,
            "event": self.event,
            "node": self.node,
            "reason": self.reason,
            "message": self.message,
            "id": self.id,
            "service": self.service,
            "stack": self.stack,
        }

    def __str__(self) -> str:
        where = f" on {self.node}" if self.node and self.kind == "task" else ""
        why = self.message or self.reason.replace("_", " ")
        words = f"{self.event}{where}" + (f": {why}" if why else "")
        return f"{instant(self.at_ms) or '-':24}  {self.kind:8}  {self.name:24}  {words}"


def past(view: View) -> list[Event]:
    """What the rows tell of the past, oldest first."""
    found: list[Event] = []
    for task in view.tasks.values():
        found += _task_past(view, task)
    for service in view.services.values():
        found += _service_past(view, service)
    for node in view.nodes.values():
        found.append(_node(node, node.state.value, node.since_ms, node.message))
    for name, table in _plain_tables(view):
        found += _plain_past(name, table)
    return sorted(found, key=_order)


def changes(before: View, after: View) -> list[Event]:
    """What happened between two views, in the order of time."""
    found: list[Event] = []
    for task in _differing(before.tasks, after.tasks):
        found += _task_changes(after, before.tasks.get(task.id), task)
    for task in _gone(before.tasks, after.tasks):
        found.append(_task(before, task, "forgotten", after.clock_ms))
    for service in _differing(before.services, after.services):
        found += _service_changes(before.services.get(service.id), service, after.clock_ms)
    for service in _gone(before.services, after.services):
        found.append(_service(service, "removed", after.clock_ms))
    for rollout in _differing(before.rollouts, after.rollouts):
        known = before.rollouts.get(rollout.service_id)
        if known is None or (known.phase, known.edition) != (rollout.phase, rollout.edition):
            found.append(_rollout(after, rollout))
    for node in _differing(before.nodes, after.nodes):
        found += _node_changes(before.nodes.get(node.id), node, after.clock_ms)
    for node in _gone(before.nodes, after.nodes):
        found.append(_node(node, "removed", after.clock_ms))
    tables = zip(_plain_tables(before), _plain_tables(after), strict=True)
    for (name, old), (_, new) in tables:
        found += _plain_changes(name, old, new, after.clock_ms)
    return sorted(found, key=_order)


_ENDINGS = frozenset(state.label for state in TaskState if state.is_terminal)


def _order(event: Event) -> tuple[int, int]:
    """By time; what one entry of the log did, cause before effect: a node is lost, so its tasks
    are, so they get successors."""
    kinds = ("node", "config", "secret", "service", "stack", "rollout", "task")
    later = 0
    if event.kind == "task" and event.event not in _ENDINGS:
        later = 2 if event.event == "forgotten" else 1
    return event.at_ms, kinds.index(event.kind) + later


def asked(at_ms: int, by: str, words: str) -> Event:
    """What a user asked for, as the log tells it; whether it was refused, the objects tell."""
    return Event(at_ms=at_ms, kind="user", name=by, event="asked", message=words)


def concerns(event: Event, service: Service) -> bool:
    """Whether the event is one of this service's, or asked for it or its stack."""
    if event.kind != "user":
        return event.service == service.spec.name
    words = event.message.replace(":", " ").replace(";", " ").split()
    names = {service.spec.name, service.id}
    is_stack = service.spec.stack is not None and "stack" in words and service.spec.stack in words
    return bool(names.intersection(words)) or is_stack


# --- tasks ----------------------------------------------------------------------------------------


def _task(view: View, task: Task, event: str, at_ms: int, *, why: bool = False) -> Event:
    node = node_name(view, task.node_id)
    return Event(
        at_ms=at_ms,
        kind="task",
        name=f"{task.service_name}.{task.slot or node or '-'}",
        event=event,
        node=node,
        reason=task.status.reason.value if why else "",
        message=task.status.message if why else "",
        id=task.id,
        service=task.service_name,
        stack=task.stack,
    )


def _task_past(view: View, task: Task) -> Iterator[Event]:
    status = task.status
    yield _task(view, task, "created", task.created_at_ms)
    has_begun = status.started_at_ms is not None
    if status.started_at_ms is not None:
        yield _task(view, task, "running", status.started_at_ms)
    if status.state > TaskState.PENDING and not (has_begun and status.state is TaskState.RUNNING):
        yield _task(view, task, status.state.label, status.since_ms or task.created_at_ms, why=True)


def _task_changes(view: View, known: Task | None, task: Task) -> Iterator[Event]:
    now_ms = view.clock_ms
    if known is None:
        yield _task(view, task, "created", task.created_at_ms or now_ms, why=True)
        return
    if known.node_id is None and task.node_id is not None:
        yield _task(view, task, "assigned", now_ms)
    if known.desired < task.desired and task.desired > DesiredState.RUNNING:
        event = _task(view, task, "asked to stop", now_ms)
        yield evolve(event, reason=task.ending.value)
    if known.status.state is not task.status.state:
        if task.status.state is not TaskState.ASSIGNED:
            at_ms = task.status.since_ms or now_ms
            yield _task(view, task, task.status.state.label, at_ms, why=True)
    elif known.status.health is not task.status.health:
        yield _task(view, task, task.status.health.value, now_ms, why=True)
    elif known.status.message != task.status.message and task.status.message:
        yield _task(view, task, task.status.state.label, now_ms, why=True)


# --- services and rollouts ------------------------------------------------------------------------


def _service(service: Service, event: str, at_ms: int, message: str = "") -> Event:
    return Event(
        at_ms=at_ms,
        kind="service",
        name=service.spec.name,
        event=event,
        message=message,
        id=service.id,
        service=service.spec.name,
        stack=service.spec.stack,
    )


def _service_past(view: View, service: Service) -> Iterator[Event]:
    yield _service(service, "created", service.created_at_ms)
    for number, revision in view.revisions.get(service.id, {}).items():
        if number > 1:
            yield _service(service, "changed", revision.created_at_ms, f"revision {number}")
    rollout = view.rollouts.get(service.id)
    if rollout is not None:
        yield _rollout(view, rollout)


def _service_changes(known: Service | None, service: Service, now_ms: int) -> Iterator[Event]:
    if known is None:
        yield _service(service, "created", now_ms)
        return
    if known.spec.replicas != service.spec.replicas:
        words = f"from {known.spec.replicas} to {service.spec.replicas}"
        yield _service(service, "scaled", now_ms, words)
    if known.revision != service.revision:
        yield _service(service, "changed", now_ms, f"revision {service.revision}")
    elif known.spec.replicas == service.spec.replicas and known.spec != service.spec:
        yield _service(service, "changed", now_ms, "nothing that its tasks are made of")


def _rollout(view: View, rollout: Rollout) -> Event:
    service = view.services.get(rollout.service_id)
    name = service.spec.name if service else rollout.service_id
    return Event(
        at_ms=rollout.since_ms,
        kind="rollout",
        name=name,
        event=rollout.phase.value.replace("_", " "),
        reason=rollout.reason.value,
        message=rollout.message or f"revision {rollout.revision}",
        id=rollout.service_id,
        service=name,
        stack=service.spec.stack if service else None,
    )


# --- nodes, and what has no states ----------------------------------------------------------------


def _node(node: Node, event: str, at_ms: int, message: str = "") -> Event:
    return Event(
        at_ms=at_ms,
        kind="node",
        name=node.name,
        event=event,
        node=node.name,
        message=message,
        id=node.id,
    )


def _node_changes(known: Node | None, node: Node, now_ms: int) -> Iterator[Event]:
    if known is None:
        yield _node(node, "joined", now_ms, f"as {node.role.value}")
        return
    if known.state is not node.state:
        yield _node(node, node.state.value, node.since_ms or now_ms, node.message)
    if known.incarnation != node.incarnation:
        yield _node(node, "restarted", now_ms)
    if known.availability is not node.availability:
        yield _node(node, f"availability {node.availability.value}", now_ms)
    if known.labels != node.labels:
        words = ", ".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
        yield _node(node, "labelled", now_ms, words or "no labels any more")


def _plain_tables(view: View) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The tables whose rows only come, change and go."""
    yield "stack", view.stacks
    yield "config", view.configs
    yield "secret", view.secrets


def _plain_past(kind: str, table: Mapping[str, object]) -> Iterator[Event]:
    for name, row in table.items():
        stack = name if kind == "stack" else None
        created_ms, updated_ms = _times(row)
        yield Event(at_ms=created_ms, kind=kind, name=name, event="created", stack=stack)
        if updated_ms != created_ms:
            yield Event(at_ms=updated_ms, kind=kind, name=name, event="changed", stack=stack)


def _plain_changes(
    kind: str, before: Mapping[str, object], after: Mapping[str, object], now_ms: int
) -> Iterator[Event]:
    if before is after:
        return
    for name in sorted({*before, *after}):
        known, row = before.get(name), after.get(name)
        if known is row or known == row:
            continue
        event = "created" if known is None else "removed" if row is None else "changed"
        stack = name if kind == "stack" else None
        yield Event(at_ms=now_ms, kind=kind, name=name, event=event, stack=stack)


def _times(row: object) -> tuple[int, int]:
    created: int = getattr(row, "created_at_ms", 0)
    updated: int = getattr(row, "updated_at_ms", created)
    return created, updated


# --- tables ---------------------------------------------------------------------------------------


def _differing(before: Mapping[K, R], after: Mapping[K, R]) -> Iterable[R]:
    """The rows that are new, or not what they were."""
    return [row for key, row in after.items() if before.get(key) is not row]


def _gone(before: Mapping[K, R], after: Mapping[K, R]) -> Iterable[R]:
    return [row for key, row in before.items() if key not in after]
