"""What agents' commands do: nodes register, tasks' observed states move forward."""

import attrs
from attrs import evolve

from meshswarm.errors import Conflict, Invalid
from meshswarm.ids import Version
from meshswarm.model.node import Node, NodeState
from meshswarm.model.task import Reason, Task, TaskState, TaskStatus
from meshswarm.store.commands import RegisterNode, ReportTasks
from meshswarm.store.transaction import Transaction

Effects = tuple[tuple[str, str], ...]

MAX_NODES = 10_000
"""Nodes in the cluster; one more is refused."""

MAX_MESSAGE = 1_000
"""Characters of a status message; a longer one is cut."""


def register_node(transaction: Transaction, command: RegisterNode) -> Effects:
    """Create or refresh a node's row; its name belongs to the key that took it first."""
    view = transaction.view
    namesake = view.node_named(command.name)
    if namesake is not None and namesake.id != command.node_id:
        raise Conflict(
            f"a node named {command.name!r} exists already, with another key ({namesake.id})",
            hint=f"choose another [node] name, or use the key of {command.name!r}",
        )
    present = view.nodes.get(command.node_id)
    if present is None:
        if len(view.nodes) >= MAX_NODES:
            raise Invalid(f"the cluster has {MAX_NODES} nodes, its limit")
        present = Node(
            id=command.node_id,
            name=command.name,
            role=command.role,
            labels=command.labels,
            state=NodeState.UNKNOWN,
            since_ms=view.clock_ms,
        )
    if command.incarnation < present.incarnation:
        raise Conflict(
            f"a newer process of node {present.name} has registered already",
            hint="two processes run with the same key: stop one of them",
        )
    if present.name != command.name:
        raise Conflict(f"this key belongs to node {present.name!r}, not {command.name!r}")
    updated = evolve(
        present,
        role=command.role,
        address=command.address,
        incarnation=command.incarnation,
        description=command.description,
    )
    if updated == view.nodes.get(command.node_id):
        return ((command.name, "unchanged"),)
    transaction.put_node(updated)
    return ((command.name, "registered"),)


def report_tasks(transaction: Transaction, command: ReportTasks) -> Effects:
    """Write the reported statuses that move their task forward, of tasks that are this node's."""
    for report in command.reports:
        task = transaction.view.tasks.get(report.task_id)
        if task is None or task.node_id != command.node_id:
            continue
        status = _forward(task, report.status)
        if status != task.status:
            transaction.put_task(_with_status(task, status, Version(transaction.view.index)))
    return ()


def _with_status(task: Task, status: TaskStatus, version: Version) -> Task:
    """The row with this status. As all agents report all the time it is not `evolve`, which takes
    three times as long."""
    row: Task = object.__new__(Task)
    for name in _TASK_FIELDS:
        _write(row, name, getattr(task, name))
    _write(row, "status", status)
    _write(row, "version", version)
    return row


_TASK_FIELDS = tuple(attribute.name for attribute in attrs.fields(Task))
_write = object.__setattr__


def _forward(task: Task, reported: TaskStatus) -> TaskStatus:
    """The status after a report: never back to an earlier state, and a terminal one stands.

    A LOST task's agent may still say what it did with it, which is kept as the message.
    """
    present = task.status
    if len(reported.message) > MAX_MESSAGE:
        reported = evolve(reported, message=reported.message[:MAX_MESSAGE])
    if present.state is TaskState.LOST and reported.state.is_terminal:
        return evolve(present, reason=Reason.NODE_RETURNED, message=reported.message)
    if present.state.is_terminal or reported.state < present.state:
        return present
    return reported
