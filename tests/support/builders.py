"""Rows and views for tests, with everything defaulted that a test does not speak of.

A node's id is `id-NAME`, a service's too; a task's is what the test calls it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from meshswarm.ids import Index, NodeId, ServiceId, TaskId, Term, Version
from meshswarm.model.dependency import Dependency
from meshswarm.model.job import Run
from meshswarm.model.node import Availability, Node, NodeDescription, NodeRole, NodeState
from meshswarm.model.resources import DeviceOffer, Resources
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.service import Mode, Revision, RuntimeKind, Service, ServiceSpec, TaskSpec
from meshswarm.model.task import DesiredState, Fencing, Health, Reason, Task, TaskState, TaskStatus
from meshswarm.store.apply import Applied, apply
from meshswarm.store.commands import Command, encode_command
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.slices import decode_view, framed, view_slices
from meshswarm.store.view import Table, View, build_view

PLAIN = UpdatePolicy()

NOW_MS = 1_700_000_000_000
"""The instant at which tests begin."""


def node(
    name: str,
    *,
    state: NodeState = NodeState.READY,
    availability: Availability = Availability.ACTIVE,
    role: NodeRole = NodeRole.MANAGER,
    labels: Mapping[str, str] | None = None,
    runtimes: tuple[RuntimeKind, ...] = (RuntimeKind.DOCKER, RuntimeKind.PROCESS),
    cpus: float = 4,
    memory_mib: int = 8_192,
    devices: tuple[DeviceOffer, ...] = (),
    message: str = "",
    since_ms: int = NOW_MS,
) -> Node:
    """A ready manager with both runtimes, 4 CPUs and 8 GiB."""
    return Node(
        id=NodeId(f"id-{name}"),
        name=name,
        role=role,
        labels=labels or {},
        availability=availability,
        description=NodeDescription(
            hostname=f"host-{name}",
            arch="amd64",
            resources=Resources(nano_cpus=int(cpus * 1e9), memory_bytes=memory_mib << 20),
            runtimes=runtimes,
            devices=devices,
        ),
        incarnation=1,
        state=state,
        message=message,
        since_ms=since_ms,
    )


def task_spec(**fields: Any) -> TaskSpec:
    """A plain process; `fields` are those of `TaskSpec`."""
    return TaskSpec(**{"runtime": RuntimeKind.PROCESS, "command": ("sleep", "1"), **fields})


def service_spec(
    name: str,
    *,
    replicas: int = 1,
    mode: Mode = Mode.REPLICATED,
    stack: str | None = None,
    priority: int = 0,
    max_unavailable: int | None = None,
    max_unavailable_percent: int | None = None,
    update: UpdatePolicy = PLAIN,
    rollback: UpdatePolicy = PLAIN,
    max_concurrent: int = 0,
    active_deadline_s: float | None = None,
    depends_on: tuple[Dependency, ...] = (),
    **fields: Any,
) -> ServiceSpec:
    """A service of plain processes; `fields` are those of its `TaskSpec`."""
    return ServiceSpec(
        name=name,
        stack=stack,
        mode=mode,
        replicas=replicas,
        priority=priority,
        max_unavailable=max_unavailable,
        max_unavailable_percent=max_unavailable_percent,
        update=update,
        rollback=rollback,
        max_concurrent=max_concurrent,
        active_deadline_s=active_deadline_s,
        depends_on=depends_on,
        task=task_spec(**fields),
    )


def service(
    name: str,
    *,
    replicas: int = 1,
    mode: Mode = Mode.REPLICATED,
    stack: str | None = None,
    revision: int = 1,
    **fields: Any,
) -> Service:
    """The row of such a service."""
    return Service(
        id=ServiceId(f"id-{name}"),
        spec=service_spec(name, replicas=replicas, mode=mode, stack=stack, **fields),
        revision=revision,
        version=Version(1),
        created_at_ms=NOW_MS,
        updated_at_ms=NOW_MS,
    )


def task(
    of: Service,
    slot: int = 1,
    on: Node | None = None,
    state: TaskState | None = None,
    *,
    id: str | None = None,
    desired: DesiredState = DesiredState.RUNNING,
    reason: Reason = Reason.NONE,
    message: str = "",
    health: Health = Health.NONE,
    revision: int | None = None,
    attempt: int = 0,
    not_before_ms: int = 0,
    created_at_ms: int = NOW_MS - 3_600_000,
    ran_ms: int | None = None,
    exit_code: int | None = None,
) -> Task:
    """A task, running if it has a node, that began an hour ago; `ran_ms` is how long it ran."""
    if state is None:
        state = TaskState.PENDING if on is None else TaskState.RUNNING
    started_at_ms = created_at_ms if state is TaskState.RUNNING or ran_ms is not None else None
    return Task(
        id=TaskId(id or f"{of.spec.name}-{slot}{f'-{on.name}' if on and not slot else ''}"),
        service_id=of.id,
        service_name=of.spec.name,
        stack=of.spec.stack,
        slot=slot,
        revision=of.revision if revision is None else revision,
        node_id=on.id if on else None,
        desired=desired,
        status=TaskStatus(
            state=state,
            reason=reason,
            message=message,
            health=health,
            since_ms=created_at_ms + (ran_ms or 0),
            started_at_ms=started_at_ms,
            exit_code=exit_code,
        ),
        fencing=Fencing(term=Term(1), index=Index(1)) if on else Fencing(),
        attempt=attempt,
        not_before_ms=not_before_ms,
        created_at_ms=created_at_ms,
    )


def view(
    nodes: Iterable[Node] = (),
    services: Iterable[Service] = (),
    tasks: Iterable[Task] = (),
    *,
    revisions: Iterable[Revision] = (),
    runs: Iterable[Run] = (),
    index: int = 10,
    clock_ms: int = NOW_MS,
) -> View:
    """A view of these rows; each service's current revision is added, and older ones like it, and
    each job's run."""
    services, tasks = tuple(services), tuple(tasks)
    rows = {(row.service_id, row.number): row for row in revisions}
    for one in services:
        for number in range(1, one.revision + 1):
            added = Revision(
                service_id=one.id,
                number=number,
                task=one.spec.task,
                depends_on=one.spec.depends_on,
                created_at_ms=NOW_MS,
            )
            rows.setdefault((one.id, number), added)
    for orphan in tasks:
        added = Revision(
            service_id=orphan.service_id,
            number=orphan.revision,
            task=task_spec(),
            created_at_ms=NOW_MS,
        )
        rows.setdefault((orphan.service_id, orphan.revision), added)
    begun = {
        job.id: Run(service_id=job.id, started_at_ms=NOW_MS) for job in services if _is_job(job)
    }
    return build_view(
        View(index=Index(index), term=Term(1), clock_ms=clock_ms),
        runs=tuple((begun | {run.service_id: run for run in runs}).values()),
        nodes=tuple(nodes),
        services=services,
        tasks=tasks,
        revisions=tuple(rows.values()),
    )


def _is_job(row: Service) -> bool:
    return row.spec.mode.is_job


def with_rows(before: View, *tasks: Task) -> View:
    """The view with these tasks instead of those with their ids."""
    kept = {one.id: one for one in before.tasks.values()} | {one.id: one for one in tasks}
    return build_view(
        evolve(before, index=Index(before.index + 1)),
        nodes=tuple(before.nodes.values()),
        services=tuple(before.services.values()),
        tasks=tuple(kept.values()),
        revisions=tuple(r for rows in before.revisions.values() for r in rows.values()),
        stacks=tuple(before.stacks.values()),
        runs=tuple(before.runs.values()),
    )


def commit(
    before: View,
    command: Command,
    *,
    at_ms: int | None = None,
    by: str = "test",
    request: Request | None = None,
) -> Applied:
    """What the next log entry does, on the same way that a node takes: encoded, then applied."""
    entry = LogEntry(
        at_ms=before.clock_ms if at_ms is None else at_ms,
        by=by,
        request=request,
        command=encode_command(command),
    )
    index = Index(before.index + 1)
    return apply(before, index=index, term=Term(max(1, before.term)), data=entry.encoded())


def only(view: View, tables: frozenset[Table]) -> View:
    """What a reader who asked for these tables is sent."""
    return decode_view(b"".join(map(framed, view_slices(view, tables))))
