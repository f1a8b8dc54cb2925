"""What controllers' commands do: node verdicts, and the life of task rows."""

from collections.abc import Sequence

from attrs import evolve

from meshswarm.errors import Conflict, Invalid, MeshswarmError, NotFound
from meshswarm.ids import NodeId, TaskId, Version
from meshswarm.model.node import MAX_DOWNS, NodeState
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
from meshswarm.store.view import View

Effects = tuple[tuple[str, str], ...]

MAX_TASKS = 500_000
"""Task rows in the cluster, dead ones included; one more is refused."""


def set_node_state(transaction: Transaction, command: SetNodeState) -> Effects:
    """Write the leader's verdict."""
    node = transaction.view.nodes.get(command.node_id)
    if node is None:
        raise NotFound(f"there is no node {command.node_id!r}")
    clock_ms = transaction.view.clock_ms
    is_news = command.state is not node.state
    downs_ms, trusted_at_ms = node.downs_ms, command.trusted_at_ms
    if is_news and command.state is NodeState.DOWN:
        downs_ms = (*downs_ms, clock_ms)[-MAX_DOWNS:]
    transaction.put_node(
        evolve(
            node,
            state=command.state,
            message=command.message,
            since_ms=clock_ms if is_news else node.since_ms,
            held_since_ms=(node.held_since_ms or clock_ms) if command.is_held else 0,
            downs_ms=downs_ms,
            trusted_at_ms=node.trusted_at_ms if trusted_at_ms is None else trusted_at_ms,
        )
    )
    return ((node.name, command.state.value),)


def create_task(transaction: Transaction, command: CreateTask) -> Effects:
    """A new task row, placed or pending."""
    transaction.put_task(_created(transaction.view, command))
    return ()


def assign_task(transaction: Transaction, command: AssignTask) -> Effects:
    """Bind a pending task to its node."""
    view = transaction.view
    transaction.put_task(_assigned(view, command, _fencing(view), _just_assigned(view)))
    return ()


def place_tasks(
    transaction: Transaction, commands: Sequence[CreateTask | AssignTask]
) -> list[MeshswarmError | None]:
    """What these commands do one after the other, no two of the same task, at a third of the cost;
    returns what each is refused for."""
    view = transaction.view
    left = MAX_TASKS - len(view.tasks)
    fencing, status = _fencing(view), _just_assigned(view)
    rows: list[Task] = []
    errors: list[MeshswarmError | None] = []
    for command in commands:
        try:
            if isinstance(command, CreateTask):
                rows.append(_created(view, command, room=left))
                left -= 1
            else:
                rows.append(_assigned(view, command, fencing, status))
        except MeshswarmError as error:
            errors.append(error)
        else:
            errors.append(None)
    assert len({row.id for row in rows}) == len(rows), "a task is placed twice"
    transaction.put_tasks(rows)
    return errors


def _created(view: View, command: CreateTask, room: int | None = None) -> Task:
    """The row that the command makes; `room` is for so many more rows, None: to be counted."""
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
    if (MAX_TASKS - len(view.tasks) if room is None else room) <= 0:
        raise Invalid(f"the cluster has {MAX_TASKS} tasks, its limit")
    if command.revision not in view.revisions[command.service_id]:
        raise NotFound(f"service {service.spec.name} has no revision {command.revision}")
    if command.node_id is not None:
        _require_node(view, command.node_id)
    return Task(
        id=command.task_id,
        service_id=command.service_id,
        service_name=service.spec.name,
        stack=service.spec.stack,
        slot=command.slot,
        revision=command.revision,
        node_id=command.node_id,
        devices=command.devices,
        desired=command.desired,
        status=TaskStatus(
            state=TaskState.ASSIGNED if command.node_id else TaskState.PENDING,
            reason=command.reason,
            message=command.message,
            since_ms=view.clock_ms,
        ),
        fencing=_fencing(view) if command.node_id else Fencing(),
        attempt=command.attempt,
        not_before_ms=command.not_before_ms,
        created_at_ms=view.clock_ms,
        version=Version(view.index),
    )


def _assigned(view: View, command: AssignTask, fencing: Fencing, status: TaskStatus) -> Task:
    """The row as the command binds it."""
    # Written out: calls and `evolve` take three times as long, and a deploy does this thousands of
    # times.
    task, nodes = view.tasks.get(command.task_id), view.nodes
    if task is None or task.node_id is not None or command.node_id not in nodes:
        task = _unplaced(view, command.task_id)
        _require_node(view, command.node_id)
    return Task(
        id=task.id,
        service_id=task.service_id,
        service_name=task.service_name,
        stack=task.stack,
        slot=task.slot,
        revision=task.revision,
        node_id=command.node_id,
        devices=command.devices,
        desired=task.desired,
        ending=task.ending,
        status=status,
        fencing=fencing,
        attempt=task.attempt,
        not_before_ms=task.not_before_ms,
        created_at_ms=task.created_at_ms,
        version=Version(view.index),
    )


def explain_task(transaction: Transaction, command: ExplainTask) -> Effects:
    """Say why a task waits."""
    task = _unplaced(transaction.view, command.task_id)
    status = evolve(task.status, reason=command.reason, message=command.message)
    transaction.put_task(evolve(task, status=status))
    return ()


def set_desired(transaction: Transaction, command: SetDesired) -> Effects:
    """Move the desired state forward; a task that never got a node is over at once."""
    task = _task(transaction.view, command.task_id)
    if command.desired <= task.desired:
        raise Conflict(f"task {task.id} is desired {task.desired.label} already")
    ending = task.ending if command.reason is Reason.NONE else command.reason
    task = evolve(task, desired=command.desired, ending=ending)
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
    task = _task(transaction.view, command.task_id)
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
    task = _task(transaction.view, command.task_id)
    if not task.status.state.is_terminal:
        raise Conflict(f"task {task.id} is still {task.status.state.label}")
    transaction.drop_task(task)
    if task.service_id not in transaction.view.services:
        transaction.prune_revisions(task.service_id, keep=0)
    return ()


def _just_assigned(view: View) -> TaskStatus:
    return TaskStatus(state=TaskState.ASSIGNED, since_ms=view.clock_ms)


def _fencing(view: View) -> Fencing:
    return Fencing(term=view.term, index=view.index)


def _task(view: View, task_id: TaskId) -> Task:
    task = view.tasks.get(task_id)
    if task is None:
        raise NotFound(f"task {task_id} is gone")
    return task


def _unplaced(view: View, task_id: TaskId) -> Task:
    task = _task(view, task_id)
    if task.node_id is not None:
        raise Conflict(f"task {task_id} is bound to node {task.node_id}")
    return task


def _require_node(view: View, node_id: NodeId) -> None:
    if node_id not in view.nodes:
        raise NotFound(f"node {node_id} is gone")
