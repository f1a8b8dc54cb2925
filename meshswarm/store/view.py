"""The state of the cluster at one log index: tables of frozen rows, with secondary indexes.

A view is one immutable value built of persistent maps, so keeping one costs nothing and making the
next one costs only what changed. Iterating a persistent map has no stable order: whatever shows,
or decides, goes through the sorted accessors here.
"""

from collections.abc import Iterator
from enum import Enum
from typing import TypeVar

from attrs import evolve, frozen
from immutables import Map

from meshswarm import codec
from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import ClientId, Index, NodeId, ServiceId, TaskId, Term
from meshswarm.model.node import Node
from meshswarm.model.service import Revision, Service
from meshswarm.model.stack import Stack
from meshswarm.model.task import Task
from meshswarm.store.outcome import ClientSession

Id = TypeVar("Id", bound=str)


class Table(Enum):
    """The tables that change feeds and readers speak of."""

    NODES = "nodes"
    SERVICES = "services"
    REVISIONS = "revisions"
    STACKS = "stacks"
    TASKS = "tasks"


Key = tuple[Table, str]
"""One row in the change feed; a revision's key is `SERVICE_ID/NUMBER`."""

IdSet = Map[Id, None]
"""A persistent set."""


@frozen(kw_only=True)
class View:
    """Everything the cluster has agreed on, up to and including log entry `index`."""

    index: Index = Index(0)
    term: Term = Term(0)
    clock_ms: int = 0
    """Log time: the largest `at_ms` applied so far."""

    nodes: Map[NodeId, Node] = Map()
    services: Map[ServiceId, Service] = Map()
    revisions: Map[ServiceId, Map[int, Revision]] = Map()
    stacks: Map[str, Stack] = Map()
    tasks: Map[TaskId, Task] = Map()
    clients: Map[ClientId, ClientSession] = Map()

    # Derived from the tables above; never encoded.
    node_ids: Map[str, NodeId] = Map()
    service_ids: Map[str, ServiceId] = Map()
    services_by_stack: Map[str, IdSet[ServiceId]] = Map()
    tasks_by_service: Map[ServiceId, IdSet[TaskId]] = Map()
    tasks_by_node: Map[NodeId, IdSet[TaskId]] = Map()
    unplaced: IdSet[TaskId] = Map()
    """Tasks without a node that are meant to run."""

    def node_named(self, name: str) -> Node | None:
        """The node of that name."""
        node_id = self.node_ids.get(name)
        return None if node_id is None else self.nodes[node_id]

    def service_named(self, name: str) -> Service | None:
        """The service of that full name."""
        service_id = self.service_ids.get(name)
        return None if service_id is None else self.services[service_id]

    def spec_of(self, task: Task) -> Revision:
        """The revision that a task runs; every task's revision is kept as long as its row."""
        return self.revisions[task.service_id][task.revision]

    def sorted_nodes(self) -> list[Node]:
        """All nodes, by name."""
        return sorted(self.nodes.values(), key=lambda node: (node.name, node.id))

    def sorted_services(self) -> list[Service]:
        """All services, by full name."""
        return sorted(self.services.values(), key=lambda service: service.spec.name)

    def services_of(self, stack: str) -> list[Service]:
        """The stack's services, by name."""
        ids = self.services_by_stack.get(stack, Map())
        return sorted((self.services[i] for i in ids), key=lambda service: service.spec.name)

    def tasks_of(self, service_id: ServiceId) -> list[Task]:
        """The service's tasks, dead ones included: by slot, then node, then age."""
        return self._tasks(self.tasks_by_service.get(service_id, Map()))

    def tasks_on(self, node_id: NodeId) -> list[Task]:
        """The tasks bound to the node, dead ones included."""
        return self._tasks(self.tasks_by_node.get(node_id, Map()))

    def unplaced_tasks(self) -> list[Task]:
        """The tasks that wait for a node."""
        return self._tasks(self.unplaced)

    def _tasks(self, ids: IdSet[TaskId]) -> list[Task]:
        return sorted((self.tasks[i] for i in ids), key=task_order)

    def find_service(self, text: str) -> Service:
        """The service that a user means: full name, or a unique prefix of its id."""
        named = self.service_named(text)
        if named is not None:
            return named
        found = _by_prefix(text, self.services, "service", "meshswarm service ls")
        return self.services[found]

    def find_node(self, text: str) -> Node:
        """The node that a user means: name, or a unique prefix of its id."""
        named = self.node_named(text)
        if named is not None:
            return named
        return self.nodes[_by_prefix(text, self.nodes, "node", "meshswarm node ls")]

    def find_task(self, text: str) -> Task:
        """The task that a user means: a unique prefix of its id."""
        return self.tasks[_by_prefix(text, self.tasks, "task", "meshswarm service ps SERVICE")]


def task_order(task: Task) -> tuple[int, str, int, str]:
    """The order in which tasks are shown and considered."""
    return (task.slot, "" if task.slot else task.node_id or "", task.created_at_ms, task.id)


def _by_prefix(text: str, table: Map[Id, object], noun: str, listing: str) -> Id:
    found = sorted(key for key in table if text and key.startswith(text))
    if len(found) == 1:
        return found[0]
    if found:
        raise Conflict(
            f"{len(found)} {noun}s have ids that begin with {text!r}: {', '.join(found[:5])}",
            hint="type more of the id",
        )
    raise NotFound(f"there is no {noun} {text!r}", hint=f"{listing}")


@frozen(kw_only=True)
class _Tables:
    """The shape of an encoded view: every table as rows in key order."""

    index: Index
    term: Term
    clock_ms: int
    nodes: tuple[Node, ...]
    services: tuple[Service, ...]
    revisions: tuple[Revision, ...]
    stacks: tuple[Stack, ...]
    tasks: tuple[Task, ...]
    clients: tuple[ClientSession, ...]


def encode_view(view: View) -> bytes:
    """The view as canonical bytes: equal views, equal bytes."""
    return codec.encode(
        _Tables(
            index=view.index,
            term=view.term,
            clock_ms=view.clock_ms,
            nodes=tuple(_rows(view.nodes)),
            services=tuple(_rows(view.services)),
            revisions=tuple(row for numbered in _rows(view.revisions) for row in _rows(numbered)),
            stacks=tuple(_rows(view.stacks)),
            tasks=tuple(_rows(view.tasks)),
            clients=tuple(_rows(view.clients)),
        )
    )


K = TypeVar("K")
V = TypeVar("V")


def _rows(table: Map[K, V]) -> Iterator[V]:
    return (table[key] for key in sorted(table))  # type: ignore[type-var]  # ids and pairs of them


def decode_view(data: bytes) -> View:
    """The view that these bytes hold, its indexes rebuilt; raises `Undecodable`."""
    tables = codec.decode(data, _Tables)
    return build_view(
        View(index=tables.index, term=tables.term, clock_ms=tables.clock_ms),
        nodes=tables.nodes,
        services=tables.services,
        revisions=tables.revisions,
        stacks=tables.stacks,
        tasks=tables.tasks,
        clients=tables.clients,
    )


def build_view(
    base: View,
    *,
    nodes: tuple[Node, ...] = (),
    services: tuple[Service, ...] = (),
    revisions: tuple[Revision, ...] = (),
    stacks: tuple[Stack, ...] = (),
    tasks: tuple[Task, ...] = (),
    clients: tuple[ClientSession, ...] = (),
) -> View:
    """A view of these rows alone, indexed; `base` gives index, term and clock."""
    by_number: dict[ServiceId, dict[int, Revision]] = {}
    by_stack: dict[str, dict[ServiceId, None]] = {}
    by_service: dict[ServiceId, dict[TaskId, None]] = {}
    by_node: dict[NodeId, dict[TaskId, None]] = {}
    unplaced: dict[TaskId, None] = {}
    for revision in revisions:
        by_number.setdefault(revision.service_id, {})[revision.number] = revision
    for service in services:
        if service.spec.stack is not None:
            by_stack.setdefault(service.spec.stack, {})[service.id] = None
    for task in tasks:
        by_service.setdefault(task.service_id, {})[task.id] = None
        if task.node_id is not None:
            by_node.setdefault(task.node_id, {})[task.id] = None
        elif task.is_live:
            unplaced[task.id] = None
    return evolve(
        base,
        nodes=Map((node.id, node) for node in nodes),
        services=Map((service.id, service) for service in services),
        revisions=Map((key, Map(rows)) for key, rows in by_number.items()),
        stacks=Map((stack.name, stack) for stack in stacks),
        tasks=Map((task.id, task) for task in tasks),
        clients=Map((client.id, client) for client in clients),
        node_ids=Map((node.name, node.id) for node in nodes),
        service_ids=Map((service.spec.name, service.id) for service in services),
        services_by_stack=Map((key, Map(ids)) for key, ids in by_stack.items()),
        tasks_by_service=Map((key, Map(ids)) for key, ids in by_service.items()),
        tasks_by_node=Map((key, Map(ids)) for key, ids in by_node.items()),
        unplaced=Map(unplaced),
    )
