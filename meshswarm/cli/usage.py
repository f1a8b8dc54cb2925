"""What nodes, services and tasks use: two measures of each node become rows. Pure.

Processor time is in percent of one processor, as `docker stats` has it; a node's in percent of all
that it has.
"""

from collections.abc import Mapping

from attrs import frozen

from meshswarm.answers import NodeStats
from meshswarm.cli.managers import size
from meshswarm.cli.rows import node_name
from meshswarm.cli.show import Column, Listing, Row
from meshswarm.ids import NodeId
from meshswarm.model.service import Mode
from meshswarm.model.task import Task
from meshswarm.store.view import View

Measures = Mapping[NodeId, NodeStats]
"""What each node that answered said."""


@frozen(kw_only=True)
class Usage:
    """One look at the cluster."""

    nodes: Listing
    services: Listing
    tasks: Listing

    def document(self) -> dict[str, object]:
        """All of it for programs; the keys of rows stay."""
        return {
            "nodes": [dict(row) for row in self.nodes.rows],
            "services": [dict(row) for row in self.services.rows],
            "tasks": [dict(row) for row in self.tasks.rows],
        }


def usage(view: View, before: Measures, after: Measures, sort: str = "cpu") -> Usage:
    """The rows, the greediest first; what was not measured twice has no processor time yet."""
    live = [task for task in view.tasks.values() if task.is_live]
    tasks = sorted(
        (_task_row(view, task, before, after) for task in live),
        key=lambda row: str(row["name"]),
    )
    services = [_service_row(view, name, tasks) for name in sorted(view.service_ids)]
    nodes = [
        _node_row(view, node.id, before.get(node.id), after.get(node.id))
        for node in view.sorted_nodes()
    ]
    return Usage(
        nodes=Listing(columns=NODE_COLUMNS, rows=nodes),
        services=Listing(columns=SERVICE_COLUMNS, rows=_sorted(services, sort)),
        tasks=Listing(columns=TASK_COLUMNS, rows=_sorted(tasks, sort), id_key="id"),
    )


def _percent(row: Row) -> str:
    value = row["cpu_percent"]
    return f"{value:.1f}%" if isinstance(value, float) else "-"


def _memory(row: Row) -> str:
    value = row["memory_bytes"]
    return size(value) if isinstance(value, int) else "-"


def _of_total(row: Row) -> str:
    total = row["memory_total_bytes"]
    return f"{_memory(row)} / {size(total)}" if isinstance(total, int) else "-"


NODE_COLUMNS = (
    Column("NODE", "name"),
    Column("STATE", "state"),
    Column("CPU", _percent),
    Column("CPUS", "cpus"),
    Column("MEMORY", _of_total),
    Column("TASKS", "tasks"),
)
SERVICE_COLUMNS = (
    Column("SERVICE", "name"),
    Column("RUNNING", lambda row: f"{row['running']}/{row['desired']}"),
    Column("CPU", _percent),
    Column("MEMORY", _memory),
)
TASK_COLUMNS = (
    Column("TASK", "name"),
    Column("NODE", "node"),
    Column("STATE", "state"),
    Column("CPU", _percent),
    Column("MEMORY", _memory),
    Column("PIDS", "pids"),
    Column("ID", "id"),
)


def _sorted(rows: list[Row], sort: str) -> list[Row]:
    """By a number, largest first and unknown ones last; else by name."""
    if sort == "name":
        return sorted(rows, key=lambda row: str(row["name"]))
    key = "cpu_percent" if sort == "cpu" else "memory_bytes"

    def rank(row: Row) -> float:
        value = row[key]
        return -float(value) if isinstance(value, int | float) else 1.0

    return sorted(rows, key=rank)


def _node_row(
    view: View, node_id: NodeId, before: NodeStats | None, after: NodeStats | None
) -> Row:
    node = view.nodes[node_id]
    busy = None
    if before is not None and after is not None and after.at_ns > before.at_ns:
        busy = 100.0 * (after.busy_ns - before.busy_ns) / (after.at_ns - before.at_ns) / after.cpus
    return {
        "name": node.name,
        "id": node.id,
        "state": node.state.value,
        "cpu_percent": None if busy is None else _rounded(busy),
        "cpus": after.cpus if after else None,
        "memory_bytes": after.memory_used_bytes if after else None,
        "memory_total_bytes": after.memory_bytes if after else None,
        "tasks": sum(task.is_live for task in view.tasks_on(node_id)),
    }


def _task_row(view: View, task: Task, before: Measures, after: Measures) -> Row:
    node_id = task.node_id
    first = before.get(node_id) if node_id else None
    last = after.get(node_id) if node_id else None
    used = last.tasks.get(task.id) if last else None
    known = first.tasks.get(task.id) if first else None
    share = None
    if used and known and last and first and last.at_ns > first.at_ns:
        share = 100.0 * (used.cpu_ns - known.cpu_ns) / (last.at_ns - first.at_ns)
    node = node_name(view, node_id)
    return {
        "name": f"{task.service_name}.{task.slot or node or '-'}",
        "id": task.id,
        "service": task.service_name,
        "node": node,
        "state": task.status.state.label,
        "cpu_percent": None if share is None else _rounded(share),
        "memory_bytes": used.memory_bytes if used else None,
        "pids": used.pids if used else None,
    }


def _service_row(view: View, name: str, tasks: list[Row]) -> Row:
    service = view.services[view.service_ids[name]]
    mine = [row for row in tasks if row["service"] == name]
    replicated = service.spec.mode is Mode.REPLICATED
    return {
        "name": name,
        "running": sum(row["state"] == "running" for row in mine),
        "desired": service.spec.replicas if replicated else len(mine),
        "cpu_percent": _sum([row["cpu_percent"] for row in mine]),
        "memory_bytes": _sum([row["memory_bytes"] for row in mine]),
    }


def _sum(values: list[object]) -> int | float | None:
    known = [value for value in values if isinstance(value, int | float)]
    return round(sum(known), 1) if known else None


def _rounded(percent: float) -> float:
    """One place is enough; a counter that began anew counts as nothing."""
    return round(max(0.0, percent), 1)
