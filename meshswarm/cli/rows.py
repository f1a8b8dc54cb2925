"""What listings show: a view becomes rows. Pure; the keys of rows are the JSON contract.

`service ls`: name, stack, mode, desired, running, healthy. `service ps`: id, slot, node, desired,
state, reason, message, runtime_id. `stack ls`: name, services. `node ls`: id, name, role, state,
availability, runtimes, leader. Those of `cluster status` stand in `cli.managers`. All have more
keys; none is ever renamed or removed.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import Enum

import attrs

from meshswarm.cli.show import Column, Listing, Row
from meshswarm.cli.talk import age
from meshswarm.control.filters import addresses_of
from meshswarm.ids import NodeId
from meshswarm.model.job import Run, RunPhase
from meshswarm.model.node import Node, NodeState
from meshswarm.model.rollout import Rollout, RolloutPhase
from meshswarm.model.service import Revision, Service, ServiceSpec
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.view import View

UNDER_WAY = frozenset(one.value for one in RolloutPhase if one.is_active or one.is_paused)
"""Phases of a rollout that a listing shows."""


def services(view: View, stack: str | None = None) -> Listing:
    """The services, or those of one stack, but for the runs of jobs."""
    chosen = view.sorted_services() if stack is None else view.services_of(stack)
    # A job's runs are listed with it.
    chosen = [row for row in chosen if row.id not in view.runs or not view.runs[row.id].job_id]
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("MODE", "mode"),
            Column("RUNNING", _running),
            Column("HEALTHY", "healthy"),
            Column("RUNTIME", "runtime", is_wide=True),
            Column("IMAGE", "image"),
            Column("PORTS", "ports"),
            Column("ID", "id", is_wide=True),
            Column("REVISION", "revision", is_wide=True),
            Column("ROLLOUT", "rollout_phase", is_wide=True),
        ),
        rows=[service_row(view, service) for service in chosen],
    )


def _running(row: Row) -> str:
    """How many tasks run of how many, and whether they are being changed; of a job also how many
    are complete."""
    if row["run_phase"] is None:
        phase = row["rollout_phase"]
        under_way = f" ({str(phase).replace('_', ' ')})" if phase in UNDER_WAY else ""
        return f"{row['running']}/{row['desired']}{under_way}"
    over = ", over" if row["run_phase"] == RunPhase.FAILED.value else ""
    failed = f", {row['failed']} failed" if row["failed"] else ""
    return f"{row['running']} ({row['completed']}/{row['desired']} complete{failed}{over})"


def service_row(view: View, service: Service) -> Row:
    """One service with its counts; a global service desires as many tasks as it was given."""
    spec, run = service.spec, view.runs.get(service.id)
    live = [task for task in view.tasks_of(service.id) if task.is_live]
    rollout = view.rollouts.get(service.id)
    running = [task for task in live if task.status.state is TaskState.RUNNING]
    return {
        "name": spec.name,
        "stack": spec.stack,
        "labels": dict(spec.labels),
        "mode": spec.mode.value,
        "desired": _desired(spec, run, len(live)),
        "running": len(running),
        "healthy": sum(task.is_healthy for task in running),
        "id": service.id,
        "revision": service.revision,
        "rollout_phase": rollout.phase.value if rollout else None,
        "run_phase": run.phase.value if run else None,
        "completed": run.completed if run else None,
        "failed": run.failed if run else None,
        "runtime": spec.task.runtime.value,
        "image": spec.task.image,
        "ports": [f"{port.published}:{port.target}" for port in spec.task.ports],
        "created_at": instant(service.created_at_ms),
        "updated_at": instant(service.updated_at_ms),
    }


def _desired(spec: ServiceSpec, run: Run | None, live: int) -> int:
    if not spec.mode.is_global:
        return spec.replicas
    return live if run is None else live + run.completed + run.failed


def service_document(view: View, service: Service) -> Row:
    """All that is known of a service."""
    rollout = view.rollouts.get(service.id)
    numbered = view.revisions.get(service.id)
    revisions = [numbered[number] for number in sorted(numbered)] if numbered else []
    return {
        **service_row(view, service),
        "spec": plain(service.spec),
        "rollout": None if rollout is None else _rollout_row(rollout),
        "run": None if service.id not in view.runs else run_row(view.runs[service.id]),
        "revisions": [_revision_row(revision) for revision in revisions],
        "tasks": [dict(task_row(view, task)) for task in view.tasks_of(service.id)],
    }


def _rollout_row(rollout: Rollout) -> Row:
    """A rollout, instants as texts."""
    return {
        "phase": rollout.phase.value,
        "reason": rollout.reason.value,
        "message": rollout.message,
        "revision": rollout.revision,
        "stable_revision": rollout.stable_revision,
        "well": rollout.well,
        "failed": list(rollout.failed),
        "slots_left": rollout.slots_left,
        "started_at": instant(rollout.started_at_ms),
        "since": instant(rollout.since_ms),
        "progressed_at": instant(rollout.progressed_at_ms),
        "not_before": instant(rollout.not_before_ms),
    }


def run_row(run: Run) -> Row:
    """A job's run, instants as texts."""
    return {
        "phase": run.phase.value,
        "reason": run.reason.value,
        "message": run.message,
        "completed": run.completed,
        "failed": run.failed,
        "started_at": instant(run.started_at_ms),
        "ended_at": instant(run.ended_at_ms or 0),
    }


def _revision_row(revision: Revision) -> Row:
    return {
        "number": revision.number,
        "created_at": instant(revision.created_at_ms),
        "image": revision.task.image,
        "command": plain(revision.task.command),
    }


def tasks(view: View, chosen: Iterable[Task], now_ms: int) -> Listing:
    """These tasks: by service and slot, in each the newest first."""
    ordered = sorted(chosen, key=lambda t: (t.service_name, t.slot, _home(t), -t.created_at_ms))
    return Listing(
        columns=(
            Column("ID", "id"),
            Column("NAME", "name"),
            Column("NODE", "node"),
            Column("DESIRED", "desired"),
            Column("STATE", _state_of),
            Column("HEALTH", "health", is_wide=True),
            Column("SINCE", lambda row: age(_int(row["since_ms"]), now_ms)),
            Column("REASON", "reason", is_wide=True),
            Column("MESSAGE", "message"),
            Column("RUNTIME ID", "runtime_id", is_wide=True),
            Column("PORTS", "ports", is_wide=True),
        ),
        rows=[task_row(view, task) for task in ordered],
        name_key="id",
    )


def _state_of(row: Row) -> str:
    """The state, and what keeps a running task from being of use."""
    if row["state"] != TaskState.RUNNING.label or row["health"] in ("none", "healthy"):
        return str(row["state"])
    return f"running, {str(row['health']).replace('_', ' ')}"


def _home(task: Task) -> str:
    """A global service's slot is its node."""
    return "" if task.slot else task.node_id or ""


def task_row(view: View, task: Task) -> Row:
    """One task, dead or alive."""
    status = task.status
    node = node_name(view, task.node_id)
    return {
        "id": task.id,
        "name": f"{task.service_name}.{task.slot or node or '-'}",
        "service": task.service_name,
        "slot": task.slot,
        "node": node,
        "desired": task.desired.label,
        "state": status.state.label,
        "reason": status.reason.value,
        "message": status.message or _of_its_node(view, task),
        "runtime_id": status.runtime_id,
        "health": status.health.value,
        "exit_code": status.exit_code,
        "revision": task.revision,
        "attempt": task.attempt,
        "ports": list(status.published),
        "since_ms": status.since_ms or task.created_at_ms,
        "since": instant(status.since_ms or task.created_at_ms),
        "created_at": instant(task.created_at_ms),
    }


def _of_its_node(view: View, task: Task) -> str:
    """What is to be said of a task on a node that nobody hears."""
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    is_silent = node is not None and node.state in (NodeState.SUSPECT, NodeState.DOWN)
    return f"its node is {node.state.value}" if node and is_silent and task.is_live else ""


def nodes(view: View, leader: NodeId | None) -> Listing:
    """The nodes that ever registered."""
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("ID", "id", is_wide=True),
            Column("ROLE", lambda row: "leader" if row["leader"] else row["role"]),
            Column("STATE", "state"),
            Column("AVAILABILITY", "availability"),
            Column("TASKS", "tasks"),
            Column("RUNTIMES", "runtimes"),
            Column("ADDRESS", "address"),
            Column("IP", "ip", is_wide=True),
            Column("LABELS", "labels", is_wide=True),
            Column("ENGINE", "engine_version", is_wide=True),
            Column("MESSAGE", "message"),
        ),
        rows=[node_row(view, node, leader) for node in view.sorted_nodes()],
    )


def node_row(view: View, node: Node, leader: NodeId | None) -> Row:
    """One node."""
    return {
        "id": node.id,
        "name": node.name,
        "role": node.role.value,
        "state": node.state.value,
        "availability": node.availability.value,
        "runtimes": [runtime.value for runtime in node.description.runtimes],
        "leader": node.id == leader,
        "address": node.address,
        "ip": [str(address) for address in addresses_of(node)],
        "tasks": sum(task.is_live for task in view.tasks_on(node.id)),
        "labels": dict(node.labels),
        "engine_version": node.description.engine_version,
        "message": node.message,
        "since": instant(node.since_ms),
        "held_since": instant(node.held_since_ms),
        "downs": [instant(at_ms) for at_ms in node.downs_ms],
        "trusted_at": instant(node.trusted_at_ms),
    }


def node_name(view: View, node_id: NodeId | None) -> str | None:
    """The node's name, or its id if it is not in the view."""
    node = view.nodes.get(node_id) if node_id is not None else None
    return node.name if node is not None else node_id


def stacks(view: View) -> Listing:
    """The stacks and how many services each has."""
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("SERVICES", "services"),
            Column("CREATED", "created_at", is_wide=True),
            Column("UPDATED", "updated_at", is_wide=True),
        ),
        rows=[
            {
                "name": name,
                "services": len(view.services_of(name)),
                "created_at": instant(view.stacks[name].created_at_ms),
                "updated_at": instant(view.stacks[name].updated_at_ms),
            }
            for name in sorted(view.stacks)
        ],
    )


def effects(done: Sequence[tuple[str, str]]) -> Listing:
    """What a command did to each object."""
    return Listing(
        columns=(Column("NAME", "name"), Column("EFFECT", "effect")),
        rows=[{"name": name, "effect": effect} for name, effect in done],
    )


# --- plain values ---------------------------------------------------------------------------------


def instant(at_ms: int) -> str | None:
    """An instant as ISO 8601 in UTC; None for 0, "never"."""
    if at_ms == 0:
        return None
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: object) -> object:
    """A frozen value as JSON has it: every attribute by its name, states by their words."""
    match value:
        case DesiredState() | TaskState():
            return value.label
        case Enum():
            return value.value
        case tuple() | list():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case _ if attrs.has(type(value)):
            names = [field.name for field in attrs.fields(type(value))]  # type: ignore[arg-type]
            return {name: plain(getattr(value, name)) for name in names}
        case _:
            return value


def _int(value: object) -> int:
    assert isinstance(value, int), f"an instant in ms, not {value!r}"
    return value
