"""Which slots of a service need no look, found again as long as their rows are the same rows.

A slot is *at rest* while its one task is meant to run, has a node that it may keep, and is of the
current revision: without a rollout no controller has anything to say about it. So a pass builds and
judges the other slots alone, and what it costs follows the change, not the number of replicas.
"""

from collections.abc import Iterable, Mapping

from meshswarm.control.slots import Slot, slots_of
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Availability
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.view import View

Key = tuple[int, str]
"""A slot's number, and its node in a global service."""


class ServiceSlots:
    """One service's slots: those at rest, and the others."""

    def __init__(self, revision: int, drained: frozenset[NodeId]) -> None:
        self.revision, self.drained = revision, drained
        """What it depends on besides the rows: of another revision, all of it is made anew."""
        self._rows: dict[TaskId, Task] = {}
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
        return slots_of(self._rows.values())

    def look_at_all(self, view: View, service_id: ServiceId) -> None:
        """Take in every row of the service that is another one by now."""
        tasks, rows = view.tasks, self._rows
        ids = view.tasks_by_service.get(service_id, ())
        if not rows:
            self._look_first(view, ids)
            return
        found = [task_id for task_id in ids if tasks[task_id] is not rows.get(task_id)]
        if len(ids) - sum(task_id not in rows for task_id in found) < len(rows):
            found += [task_id for task_id in rows if task_id not in tasks]
        self.look_at(view, found)

    def _look_first(self, view: View, ids: Iterable[TaskId]) -> None:
        """As `look_at`, where nothing was seen before: at half the cost."""
        tasks, slots = view.tasks, self._slots
        self._rows = {task_id: tasks[task_id] for task_id in ids}
        for task_id, task in self._rows.items():
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

    def _is_at_rest(self, key: Key, members: set[TaskId]) -> bool:
        if len(members) > 1 or key[0] == 0:
            return False
        (task_id,) = members
        task = self._rows[task_id]
        return (
            task.node_id is not None
            and task.desired is DesiredState.RUNNING
            and task.revision == self.revision
            and task.status.state < TaskState.COMPLETE
            and task.node_id not in self.drained
            and not task.leaves
        )


class Resting:
    """The services' slots as last seen; of a service that is gone nothing is kept."""

    def __init__(self) -> None:
        self._known: dict[ServiceId, ServiceSlots] = {}

    def of(self, view: View, service_id: ServiceId, drained: frozenset[NodeId]) -> ServiceSlots:
        """The service's slots as they are in the view; `drained` are the nodes to be left."""
        service = view.services.get(service_id)
        revision = service.revision if service is not None else 0
        known = self._known.get(service_id)
        if known is None or (known.revision, known.drained) != (revision, drained):
            known = ServiceSlots(revision, drained)
        if service is not None:
            self._known[service_id] = known
        else:
            self._known.pop(service_id, None)
        known.look_at_all(view, service_id)
        return known


def drained_nodes(view: View) -> frozenset[NodeId]:
    """The nodes that are to be left."""
    nodes = view.nodes.values()
    return frozenset(node.id for node in nodes if node.availability is Availability.DRAIN)


def _key_of(task: Task) -> Key:
    return (task.slot, "" if task.slot else task.node_id or "")
