"""One pass's commands, each carried out on a copy of the view as soon as it is decided."""

from collections.abc import Collection, Mapping, Sequence

from attrs import evolve
from immutables import Map

from meshswarm.control.filters import BY_RUNTIME, first_refusal
from meshswarm.control.kept import Kept
from meshswarm.control.loads import Load, Loads, More, more_of
from meshswarm.control.resting import ServiceSlots, drained_nodes
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.job import FireVerdict
from meshswarm.model.node import Node
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.store.apply import carry_out
from meshswarm.store.commands import (
    AssignTask,
    CreateTask,
    LoseTask,
    RevertService,
    SetDesired,
    Simple,
)
from meshswarm.store.job_commands import DecideFire
from meshswarm.store.placements import place_tasks
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import Key, Table, View

MAX_COMMANDS = 2_000
"""Commands of one pass; the rest follows in the next one, at once. Deciding so many takes a fifth
of a second, applying them a fifth of that."""

MAX_REFUSED = 10
"""Refusals of the store that a pass reports; more are alike."""


class WhatIf:
    """The view as it will be, and the commands that make it so.

    A full pass declines further commands and says so (`is_full`); whoever was at work is then to
    be looked at again. What the store refuses is not proposed, but reported.
    `view` is written in place: what is read off it is true until the next command.
    """

    def __init__(
        self, view: View, now_ms: int, *, kept: Kept | None = None, most: int = MAX_COMMANDS
    ) -> None:
        self.now_ms = now_ms
        self.commands: list[Simple] = []
        self.refused: list[str] = []
        self.is_full = False
        self.wake_at_ms: int | None = None
        self.revisit: set[Key] = set()
        self.promised: set[TaskId] = set()
        """Waiting tasks for which room is made, and which know so."""
        self.disturbed: set[ServiceId] = set()
        """Services of which tasks make way."""
        self.reverted: set[ServiceId] = set()
        """Services with another spec than the view they are decided on: the next pass's."""
        self.leaving: Mapping[str, Collection[ServiceId]] | None = None
        """Removed services that still have tasks, by the names of what they depend on; None: not
        looked for yet."""
        self._before = view
        self._transaction = Transaction(view, view.index, view.term, now_ms)
        # Log time is that of the last entry, and what is decided now will be written now.
        self._most = most
        self._kept = Kept() if kept is None else kept
        self._slots: dict[ServiceId, tuple[ServiceSlots, int]] = {}
        self._drained_in: Map[NodeId, Node] | None = None
        self._drained: frozenset[NodeId] = frozenset()
        self.loads: dict[NodeId, Load] = {}
        """What is known of the nodes' loads; `load_of` counts the others."""
        self._ready_in: Map[NodeId, Node] | None = None
        self._ready: dict[RuntimeKind, list[Node]] = {}
        self._held: dict[NodeId, dict[TaskId, More]] = {}

    @property
    def view(self) -> View:
        """The view as it will be."""
        return self._transaction.view

    @property
    def changed(self) -> frozenset[Key]:
        """The rows that the commands change."""
        return frozenset(self._transaction.changed)

    def do(self, command: Simple) -> None:
        """Decide this command; a refusal of the store is noted."""
        refusal = self._try(command)
        if refusal and len(self.refused) < MAX_REFUSED:
            self.refused.append(refusal)

    def _try(self, command: Simple) -> str:
        """Decide this command; why the store refuses it, empty if it does not."""
        if self.room <= 0:
            self.is_full = True
            return ""
        outcome = carry_out(self._transaction, command)
        if outcome.error is not None:
            return outcome.error.message
        self.commands.append(command)
        self._follow_load(command)
        return ""

    def do_all(
        self, commands: Sequence[CreateTask | AssignTask], loads: Mapping[NodeId, Load]
    ) -> None:
        """Decide these commands, which place as many tasks; there must be room for them.

        `loads` are the nodes' loads after them; those of other nodes are counted anew.
        """
        assert len(commands) <= self.room, f"{len(commands)} commands, room for {self.room}"
        errors = place_tasks(self._transaction, commands)
        for error in errors:
            if error is not None and len(self.refused) < MAX_REFUSED:
                self.refused.append(error.message)
        done = [one for one, error in zip(commands, errors, strict=True) if error is None]
        self.commands += done
        for command in commands:
            if command.node_id is not None:
                self.loads.pop(command.node_id, None)
        if len(done) == len(commands):
            self.loads.update(loads)

    @property
    def room(self) -> int:
        """How many more commands this pass takes."""
        return self._most - len(self.commands)

    def revert(self, command: RevertService) -> None:
        """Decide that a service goes back; what follows is for the next pass, at once.

        A task is created for a version of its service, which is known once this is committed.
        """
        self.do(command)
        self.reverted.add(command.service_id)
        self.look_again(command.service_id, self.now_ms)

    def decide_fire(self, command: DecideFire) -> None:
        """Decide a job's fire; the tasks of a run that it begins are for the next pass, at once.

        One whose run the store refuses is skipped: undecided it would be due for ever.
        """
        before = self.view.services
        refusal = self._try(command)
        if refusal:
            self.do(evolve(command, verdict=FireVerdict.SKIP, message=refusal))
        for run in self.view.runs_of(command.job_id):
            if run.service_id not in before:
                self.reverted.add(run.service_id)
                self.look_again(run.service_id, self.now_ms)

    def wake(self, at_ms: int) -> None:
        """Time alone may change the answer at this instant."""
        self.wake_at_ms = at_ms if self.wake_at_ms is None else min(self.wake_at_ms, at_ms)

    def look_again(self, service_id: ServiceId, at_ms: int) -> None:
        """Time alone may change what this service needs, at this instant."""
        self.wake(at_ms)
        self.revisit.add((Table.SERVICES, service_id))

    def load_of(self, node_id: NodeId) -> Load:
        """What the node's tasks have taken of it."""
        load = self.loads.get(node_id)
        if load is None:
            # What was counted of rows that this pass made is of no use to the next one.
            is_new = self.view.tasks_by_node.get(node_id) is not self._before.tasks_by_node.get(
                node_id
            )
            load = (Loads() if is_new else self._kept.loads).of(self.view, node_id)
            for more in self.held_on(node_id):
                load = load.plus(more)
            self.loads[node_id] = load
        return load

    def slots_of(self, service_id: ServiceId) -> ServiceSlots:
        """The service's slots as they are now."""
        nodes, touched = self.view.nodes, self._transaction.touched
        if self._drained_in is not nodes:
            drained = drained_nodes(self.view)
            if drained != self._drained:
                self._slots.clear()
            self._drained_in, self._drained = nodes, drained
        known = self._slots.get(service_id)
        service = self.view.services.get(service_id)
        is_new = known is None or service is None or known[0].revision != service.revision
        seen = 0 if is_new or known is None else known[1]
        ids = [TaskId(key) for table, key in touched[seen:] if table is Table.TASKS]
        ids = [task_id for task_id in ids if self._is_of(service_id, task_id)]
        if is_new or known is None:
            self._kept.resting.doubt(service_id, ids)
            slots = self._kept.resting.of(self.view, service_id, self._drained)
        else:
            slots = known[0]
            slots.look_at(self.view, ids)
        # What this pass makes of a row may not come true.
        self._kept.resting.doubt(service_id, ids)
        self._slots[service_id] = (slots, len(touched))
        return slots

    def _is_of(self, service_id: ServiceId, task_id: TaskId) -> bool:
        task = self.view.tasks.get(task_id) or self._before.tasks.get(task_id)
        return task is not None and task.service_id == service_id

    def candidates(self, spec: TaskSpec) -> Sequence[Node]:
        """The nodes that are ready for tasks of this kind, in no order."""
        nodes = self.view.nodes
        if self._ready_in is not nodes:
            self._ready_in, self._ready = nodes, {}
        if spec.runtime not in self._ready:
            nothing = Load()
            self._ready[spec.runtime] = [
                node
                for node in nodes.values()
                if first_refusal(BY_RUNTIME, node, spec, nothing, "") is None
            ]
        return self._ready[spec.runtime]

    def hold(self, node_id: NodeId, task_id: TaskId, more: More) -> None:
        """Keep room on the node for a task that waits until it is free: for the rest of the pass
        it counts as taken."""
        self._held.setdefault(node_id, {})[task_id] = more
        self.loads.pop(node_id, None)

    def held_on(self, node_id: NodeId) -> Collection[More]:
        """What is kept free on the node."""
        return self._held.get(node_id, {}).values()

    def release(self, task_ids: Collection[TaskId]) -> None:
        """Keep no room for these any more."""
        for node_id, held in self._held.items():
            for task_id in held.keys() & set(task_ids):
                del held[task_id]
                self.loads.pop(node_id, None)

    def _follow_load(self, command: Simple) -> None:
        """Keep the loads in step with a command; only these place tasks, or end placed ones."""
        match command:
            case CreateTask() | AssignTask():
                if command.node_id is not None and command.node_id in self.loads:
                    task = self.view.tasks[command.task_id]
                    more = more_of(self.view.spec_of(task).task, task.service_name)
                    load = self.loads[command.node_id]
                    self.loads[command.node_id] = load.plus(more, command.devices)
            case LoseTask() | SetDesired():
                self.release((command.task_id,))
                node_id = self.view.tasks[command.task_id].node_id
                if node_id is not None:
                    self.loads.pop(node_id, None)
            case _:
                return
