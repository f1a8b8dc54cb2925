"""One pass's commands, each carried out on a copy of the view as soon as it is decided."""

from collections.abc import Container

from attrs import evolve

from meshswarm.control.filters import Load, fixed_ports
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import AssignTask, CreateTask, LoseTask, RevertService, Simple
from meshswarm.store.view import Key, Table, View

MAX_COMMANDS = 1_000
"""Commands of one pass; the rest follows in the next one, at once."""

MAX_REFUSED = 10
"""Refusals of the store that a pass reports; more are alike."""


class WhatIf:
    """The view as it will be, and the commands that make it so.

    A full pass declines further commands and says so (`is_full`); whoever was at work is then to
    be looked at again. What the store refuses is not proposed, but reported.
    """

    def __init__(self, view: View, now_ms: int) -> None:
        # Log time is that of the last entry, and what is decided now will be written now.
        self.view = evolve(view, clock_ms=max(view.clock_ms, now_ms))
        self.now_ms = now_ms
        self.commands: list[Simple] = []
        self.refused: list[str] = []
        self.changed: set[Key] = set()
        self.silent: frozenset[NodeId] = frozenset()
        """Nodes that are not to be relied on, though they are not down."""
        self.is_full = False
        self.wake_at_ms: int | None = None
        self.revisit: set[Key] = set()
        self.reverted: set[ServiceId] = set()
        """Services with another spec than the view they are decided on: the next pass's."""
        self._loads: dict[NodeId, Load] = {}

    def do(self, command: Simple) -> None:
        """Decide this command."""
        if len(self.commands) >= MAX_COMMANDS:
            self.is_full = True
            return
        before = self.view
        applied = apply_command(before, command)
        if applied.outcome.error is not None:
            if len(self.refused) < MAX_REFUSED:
                self.refused.append(applied.outcome.error.message)
            return
        self.view = applied.view
        self.changed |= applied.changed
        self.commands.append(command)
        self._follow_load(before, command)

    def revert(self, command: RevertService) -> None:
        """Decide that a service goes back; what follows is for the next pass, at once.

        A task is created for a version of its service, which is known once this is committed.
        """
        self.do(command)
        self.reverted.add(command.service_id)
        self.look_again(command.service_id, self.now_ms)

    def wake(self, at_ms: int) -> None:
        """Time alone may change the answer at this instant."""
        self.wake_at_ms = at_ms if self.wake_at_ms is None else min(self.wake_at_ms, at_ms)

    def look_again(self, service_id: ServiceId, at_ms: int) -> None:
        """Time alone may change what this service needs, at this instant."""
        self.wake(at_ms)
        self.revisit.add((Table.SERVICES, service_id))

    def load_of(self, node_id: NodeId) -> Load:
        """What the node's tasks have taken of it."""
        load = self._loads.get(node_id)
        if load is None:
            load = self._loads[node_id] = load_of(self.view, node_id)
        return load

    def _follow_load(self, before: View, command: Simple) -> None:
        """Keep the loads in step with a command; only these place tasks or end placed ones."""
        match command:
            case CreateTask() | AssignTask():
                task = self.view.tasks[command.task_id]
                if task.node_id is not None and task.node_id in self._loads:
                    load = self._loads[task.node_id]
                    self._loads[task.node_id] = load.plus(self.view.spec_of(task).task)
            case LoseTask():
                lost_on = before.tasks[command.task_id].node_id
                if lost_on is not None:
                    self._loads.pop(lost_on, None)
            case _:
                return


def load_of(view: View, node_id: NodeId, *, without: Container[TaskId] = ()) -> Load:
    """What the tasks on the node, those that stop included, have taken; `without` some of them."""
    specs = [
        view.spec_of(task).task
        for task_id in view.tasks_by_node.get(node_id, ())
        if not (task := view.tasks[task_id]).status.state.is_terminal and task_id not in without
    ]
    return Load(
        tasks=len(specs),
        nano_cpus=sum(spec.reservations.nano_cpus for spec in specs),
        memory_bytes=sum(spec.reservations.memory_bytes for spec in specs),
        ports=tuple(port for spec in specs for port in fixed_ports(spec)),
    )
