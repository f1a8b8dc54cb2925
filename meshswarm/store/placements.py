"""What controllers' commands do: node verdicts, and the life of task rows."""

from attrs import evolve

from meshswarm.errors import Conflict, Invalid, NotFound
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import Fencing, Reason, Task, TaskState, TaskStatus
from meshswarm.store.commands import (
    AssignTask,
    CreateTask,
    ExplainTask,
    ForgetTask,
    LoseTask,
    SetDesired,
    SetNodeState,
)
from meshswarm.store.transaction import Transaction

Effects = tuple[tuple[str, str], ...]

MAX_TASKS = 500_000
"""Task rows in the cluster, dead ones included; one more is refused."""


def set_node_state(transaction: Transaction, command: SetNodeState) -> Effects:
    """Write the leader's verdict."""
    node = transaction.view.nodes.get(command.node_id)
    if node is None:
        raise NotFound(f"there is no node {command.node_id!r}")
    since_ms = node.since_ms if command.state is node.state else transaction.view.clock_ms
    transaction.put_node(
        evolve(node, state=command.state, message=command.message, since_ms=since_ms)
    )
    return ((node.name, command.state.value),)


def create_task(transaction: Transaction, command: CreateTask) -> Effects:
    """A new task row, placed or pending."""
    view = transaction.view
    service = view.services.get(command.service_id)
    if service is None:
        raise NotFound(f"service {command.service_id} is gone")
    if service.version != command.service_version:
        raise Conflict(
            f"service {service.spec.name} is at version {service.version}, "
            f"not {command.service_version}"
        )
    if command.task_id in view.tasks:
        raise Conflict(f"task {command.task_id} exists")
    if len(view.tasks) >= MAX_TASKS:
        raise Invalid(f"the cluster has {MAX_TASKS} tasks, its limit")
    if command.revision not in view.revisions[command.service_id]:
        raise NotFound(f"service {service.spec.name} has no revision {command.revision}")
    if command.node_id is not None:
        _require_node(transaction, command.node_id)
    transaction.put_task(
        Task(
            id=command.task_id,
            service_id=command.service_id,
            service_name=service.spec.name,
            stack=service.spec.stack,
            slot=command.slot,
            revision=command.revision,
            node_id=command.node_id,
            desired=command.desired,
            status=TaskStatus(
                state=TaskState.ASSIGNED if command.node_id else TaskState.PENDING,
                reason=command.reason,
                message=command.message,
                since_ms=view.clock_ms,
            ),
            fencing=_fencing(transaction) if command.node_id else Fencing(),
            attempt=command.attempt,
            not_before_ms=command.not_before_ms,
            created_at_ms=view.clock_ms,
        )
    )
    return ()


def assign_task(transaction: Transaction, command: AssignTask) -> Effects:
    """Bind a pending task to its node."""
    task = _unplaced(transaction, command.task_id)
    _require_node(transaction, command.node_id)
    transaction.put_task(
        evolve(
            task,
            node_id=command.node_id,
            fencing=_fencing(transaction),
            status=TaskStatus(state=TaskState.ASSIGNED, since_ms=transaction.view.clock_ms),
        )
    )
    return ()


def explain_task(transaction: Transaction, command: ExplainTask) -> Effects:
    """Say why a task waits."""
    task = _unplaced(transaction, command.task_id)
    status = evolve(task.status, reason=command.reason, message=command.message)
    transaction.put_task(evolve(task, status=status))
    return ()


def set_desired(transaction: Transaction, command: SetDesired) -> Effects:
    """Move the desired state forward; a task that never got a node is over at once."""
    task = _task(transaction, command.task_id)
    if command.desired <= task.desired:
        raise Conflict(f"task {task.id} is desired {task.desired.label} already")
    task = evolve(task, desired=command.desired)
    if task.node_id is None and not task.is_live:
        task = evolve(
            task,
            status=TaskStatus(
                state=TaskState.SHUTDOWN,
                reason=Reason.STOPPED,
                message="it was no longer wanted before it had a node",
                since_ms=transaction.view.clock_ms,
            ),
        )
    transaction.put_task(task)
    return ()


def lose_task(transaction: Transaction, command: LoseTask) -> Effects:
    """Give a task up with its node."""
    task = _task(transaction, command.task_id)
    if task.status.state.is_terminal:
        raise Conflict(f"task {task.id} is {task.status.state.label} already")
    status = evolve(
        task.status,
        state=TaskState.LOST,
        reason=Reason.NODE_DOWN,
        message=command.message,
        since_ms=transaction.view.clock_ms,
    )
    transaction.put_task(evolve(task, status=status))
    return ()


def forget_task(transaction: Transaction, command: ForgetTask) -> Effects:
    """Delete the row of a task that is over."""
    task = _task(transaction, command.task_id)
    if not task.status.state.is_terminal:
        raise Conflict(f"task {task.id} is still {task.status.state.label}")
    transaction.drop_task(task)
    if task.service_id not in transaction.view.services:
        transaction.prune_revisions(task.service_id, keep=0)
    return ()


def _fencing(transaction: Transaction) -> Fencing:
    return Fencing(term=transaction.view.term, index=transaction.view.index)


def _task(transaction: Transaction, task_id: TaskId) -> Task:
    task = transaction.view.tasks.get(task_id)
    if task is None:
        raise NotFound(f"task {task_id} is gone")
    return task


def _unplaced(transaction: Transaction, task_id: TaskId) -> Task:
    task = _task(transaction, task_id)
    if task.node_id is not None:
        raise Conflict(f"task {task_id} is bound to node {task.node_id}")
    return task


def _require_node(transaction: Transaction, node_id: NodeId) -> None:
    if node_id not in transaction.view.nodes:
        raise NotFound(f"node {node_id} is gone")
