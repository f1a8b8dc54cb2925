"""What users' commands do: stacks, services, scale, node settings."""

from attrs import evolve

from meshswarm.errors import Conflict, Invalid, NotFound
from meshswarm.ids import ServiceId, Version, digest_id
from meshswarm.model.service import Service, ServiceSpec
from meshswarm.model.stack import Stack, StackSpec
from meshswarm.store import files, jobs, runs
from meshswarm.store.commands import (
    MoveTasks,
    PutService,
    PutStack,
    RemoveService,
    RemoveStack,
    ScaleService,
    UpdateNode,
    UseNewest,
)
from meshswarm.store.job_commands import RemoveJob
from meshswarm.store.order import refuse_circle
from meshswarm.store.revisions import note_dependencies, put_revision
from meshswarm.store.rollouts import reload, restart_dependents, roll_out
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View

Effects = tuple[tuple[str, str], ...]

MAX_SERVICES = 10_000
"""Services in the cluster; creating one more is refused."""

MAX_DRAIN_S = 30 * 86_400
"""The longest deadline of a drain."""

MAX_REPLICAS = 100_000
"""Replicas of one service; more are refused."""


def put_stack(transaction: Transaction, command: PutStack) -> Effects:
    """Create or update the stack's services and drop those that are no longer in it."""
    spec = command.spec
    names = [service.name for service in spec.services]
    if len(set(names)) != len(names):
        raise Invalid(f"stack {spec.name} names a service twice")
    strays = [service.name for service in spec.services if service.stack != spec.name]
    if strays:
        raise Invalid(f"stack {spec.name} holds services of another stack: {', '.join(strays)}")
    files.check_own(transaction.view, spec)
    effects: list[tuple[str, str]] = []
    for service in transaction.view.services_of(spec.name):
        if service.spec.name not in names and not _is_of_job(transaction.view, service):
            transaction.drop_service(service)
            effects.append((service.spec.name, "removed"))
    before = transaction.view.services
    put = {wanted.name: _put(transaction, wanted) for wanted in spec.services}
    refuse_circle(transaction.view, names)
    effects += jobs.put_jobs(transaction, spec)
    effects += (put | dict(restart_dependents(transaction, before))).items()
    if (present := transaction.view.stacks.get(spec.name)) is not None:
        files.drop_own(transaction, present, spec)
    changed = any(what != "unchanged" for _, what in effects)
    _touch_stack(transaction, spec.name, changed=changed, spec=spec)
    return tuple(sorted(effects))


def remove_stack(transaction: Transaction, command: RemoveStack) -> Effects:
    """Drop the stack and its services."""
    stack = transaction.view.stacks.get(command.name)
    if stack is None:
        raise NotFound(f"there is no stack {command.name!r}", hint="meshswarm stack ls")
    services = transaction.view.services_of(command.name)
    of_stack = jobs.jobs_of(transaction.view, command.name)
    for service in services:
        transaction.drop_service(service)
    for job in of_stack:
        transaction.drop_job(job.id)
    files.drop_own(transaction, stack, None)
    transaction.drop_stack(command.name)
    names = [service.spec.name for service in services] + [job.spec.name for job in of_stack]
    return tuple((name, "removed") for name in names)


def _is_of_job(view: View, service: Service) -> bool:
    """Whether the service is a job's run: made and forgotten with that."""
    run = view.runs.get(service.id)
    return run is not None and run.job_id is not None


def put_service(transaction: Transaction, command: PutService) -> Effects:
    """Create or update one service."""
    present = transaction.view.service_named(command.spec.name)
    if command.version is not None and (present is None or present.version != command.version):
        found = "is gone" if present is None else f"is at version {present.version}"
        raise Conflict(f"service {command.spec.name} {found}, not at {command.version}")
    before = transaction.view.services
    effect = _put(transaction, command.spec)
    refuse_circle(transaction.view, [command.spec.name])
    if command.spec.stack is not None:
        _touch_stack(transaction, command.spec.stack, changed=effect != "unchanged")
    return ((command.spec.name, effect), *restart_dependents(transaction, before))


def scale_service(transaction: Transaction, command: ScaleService) -> Effects:
    """Set the replica count."""
    service = _service(transaction, command.service_id)
    if service.spec.mode.is_global:
        raise Invalid(
            f"service {service.spec.name} is global: it has one task on every node that fits",
            hint="only replicated services can be scaled",
        )
    if command.replicas < 0:
        raise Invalid(f"service {service.spec.name} cannot have {command.replicas} replicas")
    return (
        (service.spec.name, _put(transaction, evolve(service.spec, replicas=command.replicas))),
    )


def remove_service(transaction: Transaction, command: RemoveService) -> Effects:
    """Drop one service, and its stack's row with the last one."""
    service = _service(transaction, command.service_id)
    transaction.drop_service(service)
    _drop_if_empty(transaction, service.spec.stack)
    return ((service.spec.name, "removed"),)


def remove_job(transaction: Transaction, command: RemoveJob) -> Effects:
    """Drop one job and its runs, and its stack's row with the last part of it."""
    job = transaction.view.jobs.get(command.job_id)
    if job is None:
        raise NotFound(f"there is no job {command.job_id!r}", hint="meshswarm job ls")
    jobs.drop_job(transaction, job)
    _drop_if_empty(transaction, job.spec.stack)
    return ((job.spec.name, "removed"),)


def _drop_if_empty(transaction: Transaction, stack: str | None) -> None:
    row = transaction.view.stacks.get(stack) if stack is not None else None
    if row is not None and not _has_parts(transaction.view, row.name):
        files.drop_own(transaction, row, None)
        transaction.drop_stack(row.name)


def _has_parts(view: View, stack: str) -> bool:
    return bool(view.services_of(stack) or jobs.jobs_of(view, stack))


def update_node(transaction: Transaction, command: UpdateNode) -> Effects:
    """Set a node's availability and labels."""
    node = transaction.view.nodes.get(command.node_id)
    if node is None:
        raise NotFound(f"there is no node {command.node_id!r}", hint="meshswarm node ls")
    if not 0 <= command.drain_s <= MAX_DRAIN_S:
        raise Invalid(f"a node is drained within 0 to {MAX_DRAIN_S} s, not {command.drain_s:g} s")
    by_ms = transaction.view.clock_ms + round(1_000 * command.drain_s) if command.drain_s else 0
    updated = evolve(
        node,
        availability=command.availability or node.availability,
        drain_by_ms=node.drain_by_ms if command.availability is None else by_ms,
        labels=node.labels if command.labels is None else command.labels,
    )
    if updated == node:
        return ((node.name, "unchanged"),)
    transaction.put_node(updated)
    return ((node.name, "updated"),)


def move_tasks(transaction: Transaction, command: MoveTasks) -> Effects:
    """Note which tasks are to be replaced elsewhere."""
    moved = 0
    for task_id in command.task_ids:
        task = transaction.view.tasks.get(task_id)
        if task is None or not task.is_live or task.node_id is None:
            continue
        if task.leaves is not command.leaves:
            transaction.put_task(evolve(task, leaves=command.leaves))
            moved += 1
    return (("tasks", f"{moved} to move" if command.leaves else f"{moved} to stay"),)


def use_newest(transaction: Transaction, command: UseNewest) -> Effects:
    """Give the services that use it the newest content: rolled out, or under their tasks."""
    view = transaction.view
    if view.file(command.kind, command.name) is None:
        kind = command.kind.value
        raise NotFound(f"there is no {kind} {command.name!r}", hint=f"meshswarm {kind} ls")
    effects: list[tuple[str, str]] = []
    for service_id in files.services_using(view, command.kind, command.name):
        spec = view.services[service_id].spec
        asking = files.unpinned(spec, command.kind, command.name)
        if asking is not None:
            effects.append((spec.name, _put(transaction, asking)))
    return tuple(sorted(effects))


def _service(transaction: Transaction, service_id: ServiceId) -> Service:
    service = transaction.view.services.get(service_id)
    if service is None:
        raise NotFound(f"there is no service {service_id!r}", hint="meshswarm service ls")
    return service


def _put(transaction: Transaction, spec: ServiceSpec) -> str:
    """Write the spec; the word for what that changed. A new `TaskSpec` is a new revision."""
    view = transaction.view
    if spec.replicas > MAX_REPLICAS:
        raise Invalid(
            f"service {spec.name} asks for {spec.replicas} replicas; at most {MAX_REPLICAS}"
        )
    present = view.service_named(spec.name)
    if present is None:
        if len(view.services) >= MAX_SERVICES:
            raise Invalid(f"the cluster has {MAX_SERVICES} services, its limit")
        _create(transaction, files.pinned(view, spec, None))
        return "created"
    if _is_of_job(view, present):
        raise Conflict(f"{spec.name} is a run of a job", hint="choose another name")
    if present.spec.stack != spec.stack:
        owner = present.spec.stack or "no stack"
        raise Conflict(f"service {spec.name} belongs to {owner}", hint="choose another name")
    spec = files.pinned(view, spec, present.spec)
    if present.spec == spec:
        return "unchanged"
    effect = _change(transaction, present, spec)
    note_dependencies(transaction, present.id)
    return effect


def _change(transaction: Transaction, present: Service, spec: ServiceSpec) -> str:
    """Write another spec of a service; the word for what that changed."""
    if spec.mode.is_job:
        return runs.change(transaction, present, spec)
    transaction.drop_run(present.id)
    if present.spec.task != spec.task and reload(transaction, present, spec):
        return "reloaded"
    if present.spec.task != spec.task:
        roll_out(transaction, present, spec)
        return "updated"
    clock_ms = transaction.view.clock_ms
    transaction.put_service(evolve(present, spec=spec, updated_at_ms=clock_ms))
    return "scaled" if present.spec.replicas != spec.replicas else "updated"


def _create(transaction: Transaction, spec: ServiceSpec) -> None:
    view = transaction.view
    # A node's id, which follows from its key, tells clusters apart: they may share an engine, where
    # containers are named by ids that follow from this one.
    ours = min(view.nodes, default="")
    service_id = ServiceId(digest_id("service", spec.name, view.index, ours))
    transaction.put_service(
        Service(
            id=service_id,
            spec=spec,
            revision=1,
            version=Version(view.index),
            created_at_ms=view.clock_ms,
            updated_at_ms=view.clock_ms,
        )
    )
    if spec.mode.is_job:
        runs.begin(transaction, service_id)
    put_revision(transaction, service_id, 1)


def _touch_stack(
    transaction: Transaction, name: str, *, changed: bool, spec: StackSpec | None = None
) -> None:
    view = transaction.view
    present = view.stacks.get(name)
    if present is None:
        present = Stack(
            name=name,
            version=Version(view.index),
            created_at_ms=view.clock_ms,
            updated_at_ms=view.clock_ms,
        )
        changed = True
    if spec is not None and (present.configs, present.secrets) != (spec.configs, spec.secrets):
        present, changed = evolve(present, configs=spec.configs, secrets=spec.secrets), True
    if changed:
        transaction.put_stack(evolve(present, updated_at_ms=view.clock_ms))
