"""What an agent is told: the tasks bound to its node, each with the spec that it runs."""

from collections.abc import Iterable

from attrs import frozen

from meshswarm.ids import Index, NodeId, TaskId
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Task, TaskState
from meshswarm.store.commands import RegisterNode
from meshswarm.store.view import Key, Table, View


@frozen(kw_only=True)
class SessionHello:
    """How an agent opens its session."""

    registration: RegisterNode


@frozen(kw_only=True)
class Assignment:
    """One task of a node, and what to run for it."""

    task: Task
    spec: TaskSpec


@frozen(kw_only=True)
class AssignmentChange:
    """The next message of a session: the full set first (`full`), then what changed since.

    Whatever the agent holds and a full set lacks, or `removed` names, is no longer the node's:
    stop it and clear its remains away.
    """

    full: bool
    index: Index
    """The state's log index that this reflects."""
    upserts: tuple[Assignment, ...] = ()
    removed: tuple[TaskId, ...] = ()


def assignments_of(view: View, node_id: NodeId) -> dict[TaskId, Assignment]:
    """The node's assignments, dead tasks included as long as their row is kept as history.

    LOST tasks are not among them: a node that returns no longer owns those.
    """
    return {
        task.id: Assignment(task=task, spec=view.spec_of(task).task)
        for task in view.tasks_on(node_id)
        if task.status.state is not TaskState.LOST
    }


def change_between(
    before: dict[TaskId, Assignment], after: dict[TaskId, Assignment], index: Index
) -> AssignmentChange | None:
    """What an agent that knows `before` must hear to know `after`; None if nothing.

    A change of the observed status alone is not told: the agent wrote it.
    """
    upserts = tuple(
        assignment
        for task_id, assignment in sorted(after.items())
        if task_id not in before or _is_news(before[task_id].task, assignment.task)
    )
    removed = tuple(sorted(before.keys() - after.keys()))
    if not upserts and not removed:
        return None
    return AssignmentChange(full=False, index=index, upserts=upserts, removed=removed)


def _is_news(before: Task, after: Task) -> bool:
    return (before.desired, before.revision) != (after.desired, after.revision)


def concerns(node_id: NodeId, keys: Iterable[Key], before: View, after: View) -> bool:
    """Whether one of the changed rows is, or was, a task of the node."""
    tasks = (TaskId(key) for table, key in keys if table is Table.TASKS)
    return any(
        row is not None and row.node_id == node_id
        for task_id in tasks
        for row in (before.tasks.get(task_id), after.tasks.get(task_id))
    )
