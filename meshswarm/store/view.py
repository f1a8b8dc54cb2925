"""The state of the cluster at one log index: tables of frozen rows, with secondary indexes.

A view is one immutable value built of persistent maps, so keeping one costs nothing and making the
next one costs only what changed. Iterating a persistent map has no stable order: whatever shows,
or decides, goes through the sorted accessors here.
"""

from collections.abc import Iterable
from enum import Enum
from itertools import chain
from typing import TypeVar, assert_never

from attrs import evolve, frozen
from immutables import Map

from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import ClientId, Index, JobId, NodeId, ServiceId, TaskId, Term, Version
from meshswarm.model.config import Config
from meshswarm.model.file import FileKind, FileUse, KeptFile, Secret, SecretsKey, pin_key
from meshswarm.model.job import Job, Run
from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout
from meshswarm.model.service import Revision, Service
from meshswarm.model.stack import Stack
from meshswarm.model.task import Task
from meshswarm.store.config_table import Configs, packed
from meshswarm.store.outcome import ClientSession

Id = TypeVar("Id", bound=str)


class Table(Enum):
    """The tables that change feeds and readers speak of."""

    NODES = "nodes"
    SERVICES = "services"
    REVISIONS = "revisions"
    STACKS = "stacks"
    TASKS = "tasks"
    CONFIGS = "configs"
    ROLLOUTS = "rollouts"
    SECRETS = "secrets"
    KEPT_FILES = "kept_files"
    SECRETS_KEYS = "secrets_keys"
    RUNS = "runs"
    JOBS = "jobs"

    __hash__ = object.__hash__
    """By identity: `Enum` hashes the name in Python, once for each key of the change feed."""


Key = tuple[Table, str]
"""One row in the change feed; a revision's key is `SERVICE_ID/NUMBER`, a rollout's
and a run's its service's id, a kept file's `KIND/NAME/VERSION`."""

IdSet = Map[Id, None]
"""A persistent set."""


def revision_key(service_id: ServiceId, number: int) -> str:
    """A revision's key in the change feed."""
    return f"{service_id}/{number}"


@frozen(kw_only=True, weakref_slot=False)
class View:
    """Everything the cluster has agreed on, up to and including log entry `index`."""

    index: Index = Index(0)
    term: Term = Term(0)
    clock_ms: int = 0
    """Log time: the largest `at_ms` applied so far."""
    forgotten_at: Index = Index(0)
    """The last use of the client sessions that were forgotten: the newest of them."""

    nodes: Map[NodeId, Node] = Map()
    services: Map[ServiceId, Service] = Map()
    revisions: Map[ServiceId, Map[int, Revision]] = Map()
    stacks: Map[str, Stack] = Map()
    tasks: Map[TaskId, Task] = Map()
    clients: Map[ClientId, ClientSession] = Map()
    configs: Configs = Configs()
    rollouts: Map[ServiceId, Rollout] = Map()
    secrets: Map[str, Secret] = Map()
    kept_files: Map[str, KeptFile] = Map()
    """By their keys."""
    secrets_keys: Map[str, SecretsKey] = Map()
    """None, or one."""
    runs: Map[ServiceId, Run] = Map()
    jobs: Map[JobId, Job] = Map()

    # Derived from the tables above; never encoded.
    node_ids: Map[str, NodeId] = Map()
    service_ids: Map[str, ServiceId] = Map()
    services_by_stack: Map[str, IdSet[ServiceId]] = Map()
    job_ids: Map[str, JobId] = Map()
    runs_by_job: Map[JobId, IdSet[ServiceId]] = Map()
    dependents: Map[str, IdSet[ServiceId]] = Map()
    """By a service's full name: those that depend on it."""
    tasks_by_service: Map[ServiceId, IdSet[TaskId]] = Map()
    tasks_by_node: Map[NodeId, IdSet[TaskId]] = Map()
    unplaced: IdSet[TaskId] = Map()
    """Tasks without a node that are meant to run."""
    pins: Map[str, Map[Version, IdSet[str]]] = Map()
    """By `KIND/NAME` and version: the keys of the revisions that use that content."""

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

    def file(self, kind: FileKind, name: str) -> Config | Secret | None:
        """The config or secret of that name."""
        return self.configs.get(name) if kind is FileKind.CONFIG else self.secrets.get(name)

    def content(self, use: FileUse) -> Config | Secret | KeptFile | None:
        """What holds the content that a task uses; None if that was removed."""
        newest = self.file(use.kind, use.source)
        if newest is not None and newest.version == use.version:
            return newest
        return self.kept_files.get(f"{use.kind.value}/{use.source}/{use.version}")

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
        return self.services[_by_prefix(text, self.services, "service", self.no_service(text))]

    def no_service(self, text: str) -> str:
        """The hint for a name that no service has: whose it is, or which ones are like it."""
        if text in self.job_ids:
            return f"{text} is a job: meshswarm job inspect {text}"
        if any(service.spec.stack == text for service in self.services.values()):
            return f"{text} is a stack: meshswarm stack ps {text}"
        return _meant(text, self.service_ids, "meshswarm service ls")

    def job_named(self, name: str) -> Job | None:
        """The job of that full name."""
        job_id = self.job_ids.get(name)
        return None if job_id is None else self.jobs[job_id]

    def sorted_jobs(self) -> list[Job]:
        """All jobs, by full name."""
        return sorted(self.jobs.values(), key=lambda job: job.spec.name)

    def runs_of(self, job_id: JobId) -> list[Run]:
        """The job's runs that are kept, the oldest first."""
        ids = self.runs_by_job.get(job_id, Map())
        return sorted((self.runs[i] for i in ids), key=lambda run: run.number)

    def find_job(self, text: str) -> Job:
        """The job that a user means: full name, or a unique prefix of its id."""
        named = self.job_named(text)
        if named is not None:
            return named
        hint = _meant(text, self.job_ids, "meshswarm job ls")
        if self.service_named(text) is not None:
            hint = f"{text} is a service: meshswarm service inspect {text}"
        return self.jobs[_by_prefix(text, self.jobs, "job", hint)]

    def find_node(self, text: str) -> Node:
        """The node that a user means: name, or a unique prefix of its id."""
        named = self.node_named(text)
        if named is not None:
            return named
        hint = _meant(text, self.node_ids, "meshswarm node ls")
        return self.nodes[_by_prefix(text, self.nodes, "node", hint)]

    def find_task(self, text: str) -> Task:
        """The task that a user means: a unique prefix of its id."""
        return self.tasks[_by_prefix(text, self.tasks, "task", "meshswarm service ps SERVICE")]


def task_order(task: Task) -> tuple[int, str, int, str]:
    """The order in which tasks are shown and considered."""
    return (task.slot, "" if task.slot else task.node_id or "", task.created_at_ms, task.id)


def _meant(text: str, names: Iterable[str], listing: str) -> str:
    """The hint that asks for the names like the one that there is not, if there are some."""
    from difflib import get_close_matches  # only for errors

    known = sorted(names)
    near = [name for name in known if name.endswith(f"_{text}")][:3]
    near = near or get_close_matches(text, known, n=3, cutoff=0.75)
    return f"did you mean {' or '.join(near)}? {listing}" if near and text else listing


def _by_prefix(text: str, table: Map[Id, object], noun: str, hint: str) -> Id:
    found = sorted(key for key in table if text and key.startswith(text))
    if len(found) == 1:
        return found[0]
    if found:
        raise Conflict(
            f"{len(found)} {noun}s have ids that begin with {text!r}: {', '.join(found[:5])}",
            hint="type more of the id",
        )
    raise NotFound(f"there is no {noun} {text!r}", hint=hint)


# --- from rows ----------------------------------------------------------------------------------

Row = (
    Node
    | Service
    | Revision
    | Stack
    | Task
    | ClientSession
    | Config
    | Rollout
    | Secret
    | KeptFile
    | SecretsKey
    | Run
    | Job
)
"""What the tables hold."""


class ViewBuilder:
    """Rows to a view, one by one, indexed; `base` gives index, term and clock."""

    def __init__(self, base: View) -> None:
        self._base = base
        self._nodes = Map[NodeId, Node]().mutate()
        self._services = Map[ServiceId, Service]().mutate()
        self._stacks = Map[str, Stack]().mutate()
        self._tasks = Map[TaskId, Task]().mutate()
        self._clients = Map[ClientId, ClientSession]().mutate()
        self._configs = Map[str, bytes]().mutate()
        self._rollouts = Map[ServiceId, Rollout]().mutate()
        self._secrets = Map[str, Secret]().mutate()
        self._kept_files = Map[str, KeptFile]().mutate()
        self._secrets_keys = Map[str, SecretsKey]().mutate()
        self._runs = Map[ServiceId, Run]().mutate()
        self._jobs = Map[JobId, Job]().mutate()
        self._job_ids = Map[str, JobId]().mutate()
        self._by_job: dict[JobId, dict[ServiceId, None]] = {}
        self._node_ids = Map[str, NodeId]().mutate()
        self._service_ids = Map[str, ServiceId]().mutate()
        self._unplaced = Map[TaskId, None]().mutate()
        self._revisions: dict[ServiceId, dict[int, Revision]] = {}
        self._dependents: dict[str, dict[ServiceId, None]] = {}
        self._by_stack: dict[str, dict[ServiceId, None]] = {}
        self._by_service: dict[ServiceId, dict[TaskId, None]] = {}
        self._by_node: dict[NodeId, dict[TaskId, None]] = {}
        self._pins: dict[str, dict[Version, dict[str, None]]] = {}

    def put(self, row: Row) -> None:  # noqa: C901, PLR0912 -- a table
        """Add a row; its key must be a new one."""
        match row:
            case Task():
                self._put_task(row)
            case Revision():
                self._put_revision(row)
            case Service():
                self._services[row.id] = row
                self._service_ids[row.spec.name] = row.id
                if row.spec.stack is not None:
                    self._by_stack.setdefault(row.spec.stack, {})[row.id] = None
                for dependency in row.spec.depends_on:
                    self._dependents.setdefault(dependency.service, {})[row.id] = None
            case ClientSession():
                self._clients[row.id] = row
            case Node():
                self._nodes[row.id] = row
                self._node_ids[row.name] = row.id
            case Stack():
                self._stacks[row.name] = row
            case Config():
                self._configs[row.name] = packed(row)
            case Rollout():
                self._rollouts[row.service_id] = row
            case Secret():
                self._secrets[row.name] = row
            case KeptFile():
                self._kept_files[row.key] = row
            case SecretsKey():
                self._secrets_keys[row.id] = row
            case Run():
                self._runs[row.service_id] = row
                if row.job_id is not None:
                    self._by_job.setdefault(row.job_id, {})[row.service_id] = None
            case Job():
                self._jobs[row.id] = row
                self._job_ids[row.spec.name] = row.id
            case _:
                assert_never(row)

    def put_configs(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Add packed rows of configs, by their names, which must be new ones."""
        self._configs.update(rows)

    def _put_task(self, task: Task) -> None:
        self._tasks[task.id] = task
        self._by_service.setdefault(task.service_id, {})[task.id] = None
        if task.node_id is not None:
            self._by_node.setdefault(task.node_id, {})[task.id] = None
        elif task.is_live:
            self._unplaced[task.id] = None

    def _put_revision(self, row: Revision) -> None:
        self._revisions.setdefault(row.service_id, {})[row.number] = row
        for use in row.task.files:
            pinned = self._pins.setdefault(pin_key(use.kind, use.source), {})
            pinned.setdefault(use.version, {})[revision_key(row.service_id, row.number)] = None

    def view(self) -> View:
        """The view of the rows so far; the builder is used up."""
        return evolve(
            self._base,
            nodes=self._nodes.finish(),
            services=self._services.finish(),
            revisions=_mapped(self._revisions),
            stacks=self._stacks.finish(),
            tasks=self._tasks.finish(),
            clients=self._clients.finish(),
            configs=Configs(self._configs.finish()),
            rollouts=self._rollouts.finish(),
            secrets=self._secrets.finish(),
            kept_files=self._kept_files.finish(),
            secrets_keys=self._secrets_keys.finish(),
            runs=self._runs.finish(),
            jobs=self._jobs.finish(),
            job_ids=self._job_ids.finish(),
            runs_by_job=_mapped(self._by_job),
            node_ids=self._node_ids.finish(),
            service_ids=self._service_ids.finish(),
            services_by_stack=_mapped(self._by_stack),
            dependents=_mapped(self._dependents),
            tasks_by_service=_mapped(self._by_service),
            tasks_by_node=_mapped(self._by_node),
            unplaced=self._unplaced.finish(),
            pins=Map({name: _mapped(pinned) for name, pinned in self._pins.items()}),
        )


J = TypeVar("J")
K = TypeVar("K")
V = TypeVar("V")


def _mapped(nested: dict[J, dict[K, V]]) -> Map[J, Map[K, V]]:
    outer = Map[J, Map[K, V]]().mutate()
    for key, rows in nested.items():
        outer[key] = Map(rows)
    return outer.finish()


def build_view(
    base: View,
    *,
    nodes: Iterable[Node] = (),
    services: Iterable[Service] = (),
    revisions: Iterable[Revision] = (),
    stacks: Iterable[Stack] = (),
    tasks: Iterable[Task] = (),
    clients: Iterable[ClientSession] = (),
    configs: Iterable[Config] = (),
    rollouts: Iterable[Rollout] = (),
    secrets: Iterable[Secret] = (),
    kept_files: Iterable[KeptFile] = (),
    secrets_keys: Iterable[SecretsKey] = (),
    runs: Iterable[Run] = (),
    jobs: Iterable[Job] = (),
) -> View:
    """A view of these rows alone, indexed; `base` gives index, term and clock."""
    builder = ViewBuilder(base)
    tables: tuple[Iterable[Row], ...] = (
        nodes,
        services,
        revisions,
        stacks,
        tasks,
        clients,
        configs,
        rollouts,
        secrets,
        kept_files,
        secrets_keys,
        runs,
        jobs,
    )
    for row in chain.from_iterable(tables):
        builder.put(row)
    return builder.view()
