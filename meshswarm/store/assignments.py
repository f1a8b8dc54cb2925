"""What an agent is told: the tasks bound to its node, each with the spec that it runs."""

from collections.abc import Iterable

from attrs import frozen

from meshswarm.ids import Index, NodeId, TaskId
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import DesiredState, Task, TaskState
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
        if _is_of(node_id, task)
    }


class Told:
    """What the agent of one node has been told, as far as it matters to what is told it next.

    A change of the observed status alone is not told: the agent wrote it.
    """

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self._told: dict[TaskId, tuple[DesiredState, int]] = {}

    def all(self, view: View) -> AssignmentChange:
        """The full set, as a session's first message."""
        found = assignments_of(view, self._node_id)
        self._told = {task_id: _told_of(one.task) for task_id, one in found.items()}
        return AssignmentChange(full=True, index=view.index, upserts=tuple(found.values()))

    def next(self, view: View, keys: Iterable[Key] | None) -> AssignmentChange | None:
        """What is new in a later view, in which these rows differ (None: any); None if nothing."""
        upserts: list[Assignment] = []
        removed: list[TaskId] = []
        for task_id in sorted(self._may_differ(view, keys)):
            task = view.tasks.get(task_id)
            if task is not None and _is_of(self._node_id, task):
                if self._told.get(task_id) != _told_of(task):
                    self._told[task_id] = _told_of(task)
                    upserts.append(Assignment(task=task, spec=view.spec_of(task).task))
            elif self._told.pop(task_id, None) is not None:
                removed.append(task_id)
        if not upserts and not removed:
            return None
        return AssignmentChange(
            full=False, index=view.index, upserts=tuple(upserts), removed=tuple(removed)
        )

    def _may_differ(self, view: View, keys: Iterable[Key] | None) -> set[TaskId]:
        if keys is None:
            return {*self._told, *view.tasks_by_node.get(self._node_id, ())}
        return {TaskId(key) for table, key in keys if table is Table.TASKS}


def _is_of(node_id: NodeId, task: Task) -> bool:
    """Whether the node is to know of the task; it no longer owns what was lost with it."""
    return task.node_id == node_id and task.status.state is not TaskState.LOST


def _told_of(task: Task) -> tuple[DesiredState, int]:
    """What an agent must know anew when it changes."""
    return task.desired, task.revision
