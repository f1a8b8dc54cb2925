"""Which slots of a service need no look, as long as none of their rows has changed.

A slot is *at rest* while its one task is meant to run, has a node that it may keep, and is of the
current revision: without a rollout no controller has anything to say about it. A few that are over
may lie beside it, as they do in every slot after a node was lost. So a pass builds and judges the
other slots alone, and what it costs follows the change, not the number of replicas.
"""

from collections.abc import Iterable, Mapping

from meshswarm.control.slots import Slot, slots_of
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Availability
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.view import Key as Changed
from meshswarm.store.view import Table, View

HISTORY = 5
"""Ended tasks kept of each slot, for people to see; more if the restart policy counts further."""

Key = tuple[int, str]
"""A slot's number, and its node in a global service."""


class ServiceSlots:
    """One service's slots: those at rest, and the others."""

    def __init__(
        self, revision: int, drained: frozenset[NodeId], rows: dict[TaskId, Task] | None = None
    ) -> None:
        self.revision, self.drained = revision, drained
        """What it depends on besides the rows: of another revision, all of it is made anew."""
        self._rows = {} if rows is None else rows
        """The service's tasks, and maybe those of others."""
        self._slots: dict[Key, set[TaskId]] = {}
        self._restless: set[Key] = set()

    @property
    def numbers(self) -> Mapping[Key, object]:
        """The slots that have a task, dead or alive."""
        return self._slots

    @property
    def at_rest(self) -> int:
        """How many slots are at rest."""
        return len(self._slots) - len(self._restless)

    def others(self) -> list[Slot]:
        """The slots that are not at rest, in order."""
        return slots_of(self.restless_rows())

    def restless_rows(self) -> list[Task]:
        """The tasks of the slots that are not at rest, in no order."""
        return [self._rows[task_id] for key in self._restless for task_id in self._slots[key]]

    def everyone(self) -> list[Slot]:
        """All slots, in order."""
        return slots_of(self._rows[i] for members in self._slots.values() for i in members)

    def look_first(self, view: View, service_id: ServiceId) -> None:
        """Take in every row of the service, where none was seen before."""
        tasks, slots = view.tasks, self._slots
        rows = {i: tasks[i] for i in view.tasks_by_service.get(service_id, ())}
        self._rows.update(rows)
        for task_id, task in rows.items():
            key = (task.slot, "") if task.slot else _key_of(task)
            if key in slots:
                slots[key].add(task_id)
            else:
                slots[key] = {task_id}
        rests = self._is_at_rest
        self._restless = {key for key, members in slots.items() if not rests(key, members)}

    def look_at(self, view: View, task_ids: Iterable[TaskId]) -> None:
        """Take in these rows of the service as they are in the view."""
        touched: set[Key] = set()
        for task_id in task_ids:
            before, task = self._rows.get(task_id), view.tasks.get(task_id)
            if before is not None and (task is None or _key_of(task) != _key_of(before)):
                self._slots[_key_of(before)].discard(task_id)
                touched.add(_key_of(before))
            if task is None:
                self._rows.pop(task_id, None)
                continue
            self._rows[task_id] = task
            self._slots.setdefault(_key_of(task), set()).add(task_id)
            touched.add(_key_of(task))
        for key in touched:
            members = self._slots[key]
            if not members:
                del self._slots[key]
            if members and not self._is_at_rest(key, members):
                self._restless.add(key)
            else:
                self._restless.discard(key)

    def forget(self) -> None:
        """Drop the rows: nobody asks any more."""
        for members in self._slots.values():
            for task_id in members:
                self._rows.pop(task_id, None)

    def _is_at_rest(self, key: Key, members: set[TaskId]) -> bool:
        if key[0] == 0:
            return False
        tasks = [self._rows[task_id] for task_id in members]
        if len(tasks) > 1:
            left = [task for task in tasks if not _is_history(task)]
            if len(left) != 1 or len(tasks) - 1 > HISTORY:
                return False
            tasks = left
        task = tasks[0]
        return (
            task.node_id is not None
            and task.desired is DesiredState.RUNNING
            and task.revision == self.revision
            and task.status.state < TaskState.COMPLETE
            and task.node_id not in self.drained
            and not task.leaves
        )


class Resting:
    """The services' slots as last seen; of a service that is gone nothing is kept.

    What a pass costs must not grow with the tasks of the services that it looks at, so only rows
    are looked at again that somebody says may be others by now.
    """

    def __init__(self) -> None:
        self._rows: dict[TaskId, Task] = {}
        self._known: dict[ServiceId, ServiceSlots] = {}
        self._unsure: dict[ServiceId, set[TaskId]] = {}
        """Rows that may be others by now, of services of which something is known."""

    def note_changes(self, view: View, changed: frozenset[Changed] | None) -> None:
        """The view is a newer one: these rows may be others; None: all may."""
        if changed is None:
            self._rows, self._known, self._unsure = {}, {}, {}
            return
        for table, name in changed:
            task_id = TaskId(name)
            if table is Table.TASKS:
                task = view.tasks.get(task_id) or self._rows.get(task_id)
                if task is not None:
                    self.doubt(task.service_id, (task_id,))

    def doubt(self, service_id: ServiceId, task_ids: Iterable[TaskId]) -> None:
        """Look at these rows of the service again when it is asked for next."""
        if service_id in self._known:
            self._unsure.setdefault(service_id, set()).update(task_ids)

    def of(self, view: View, service_id: ServiceId, drained: frozenset[NodeId]) -> ServiceSlots:
        """The service's slots as they are in the view; `drained` are the nodes to be left."""
        service = view.services.get(service_id)
        revision = service.revision if service is not None else 0
        known = self._known.pop(service_id, None)
        unsure = self._unsure.pop(service_id, ())
        if known is not None and (known.revision, known.drained) == (revision, drained):
            known.look_at(view, unsure)
        else:
            if known is not None:
                known.forget()
            known = ServiceSlots(revision, drained, self._rows if service is not None else None)
            known.look_first(view, service_id)
        if service is not None:
            self._known[service_id] = known
        return known


def drained_nodes(view: View) -> frozenset[NodeId]:
    """The nodes that are to be left."""
    nodes = view.nodes.values()
    return frozenset(node.id for node in nodes if node.availability is Availability.DRAIN)


def _key_of(task: Task) -> Key:
    return (task.slot, "" if task.slot else task.node_id or "")


def _is_history(task: Task) -> bool:
    """Whether the task is over and nobody asks about it any more: of those that failed, placement
    does."""
    state = task.status.state
    is_failure = state in (TaskState.FAILED, TaskState.REJECTED)
    return state.is_terminal and not is_failure and task.desired is not DesiredState.REMOVE
