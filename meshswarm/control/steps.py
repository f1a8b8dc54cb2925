"""What is done to one slot at a time, be its service a job or not: removed, let go on, filled."""

from collections.abc import Sequence

from meshswarm.control.filters import granted, holds, refusal
from meshswarm.control.leaving import is_overdue
from meshswarm.control.loads import load_of
from meshswarm.control.preempt import make_room
from meshswarm.control.restart import Successor, restart_of, successor
from meshswarm.control.slots import Slot, slots_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, TaskId, digest_id
from meshswarm.model.node import Availability, Node
from meshswarm.model.resources import DeviceGrant
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, Reason, Task
from meshswarm.store.commands import CreateTask, ForgetTask, SetDesired
from meshswarm.store.view import View


def slots_by_node(
    whatif: WhatIf, service: Service, slots: Sequence[Slot]
) -> tuple[list[Slot], list[Slot]]:
    """A slot for every node that the service's constraints name and that is not drained.

    What runs on a drained node goes last, or at its deadline: the others may have need of it.
    """
    wanted_on = {node.id for node in whatif.view.sorted_nodes() if belongs_on(service, node)}
    present = {slot.node_id: slot for slot in slots if slot.number == 0 and slot.node_id}
    wanted_on |= {
        node_id
        for node_id, slot in present.items()
        if node_id not in wanted_on
        and slot.live is not None
        and _is_needed(whatif, service, slot.live)
    }
    unwanted = [slot for slot in slots if slot.number or slot.node_id not in wanted_on]
    wanted = [
        present.get(node_id, Slot(number=0, node_id=node_id)) for node_id in sorted(wanted_on)
    ]
    return wanted, unwanted


def _is_needed(whatif: WhatIf, service: Service, task: Task) -> bool:
    """Whether others have not left the drained node yet where a global service's task runs."""
    view, node = whatif.view, whatif.view.nodes.get(task.node_id or NodeId(""))
    if node is None or node.availability is not Availability.DRAIN:
        return False
    if not _fits(service, node) or is_overdue(view, task, whatif.now_ms):
        return False
    if node.drain_by_ms:
        whatif.look_again(service.id, node.drain_by_ms)
    rows = (view.tasks[task_id] for task_id in view.tasks_by_node.get(node.id, ()))
    return any(row.slot and not row.status.state.is_terminal for row in rows)


def slots_wanted(view: View, service: Service) -> list[Slot]:
    """The slots that the service should have, those without a task included."""
    present = [slot for slot in slots_of(view.tasks_of(service.id)) if not slot.is_left]
    if service.spec.mode.is_global:
        by_node = {slot.node_id: slot for slot in present if slot.number == 0}
        return [
            by_node.get(node.id, Slot(number=0, node_id=node.id))
            for node in view.sorted_nodes()
            if belongs_on(service, node)
        ]
    taken = {slot.number: slot for slot in present if slot.number}
    missing = service.spec.replicas - len(taken)
    free = [n for n in range(1, service.spec.replicas + 1) if n not in taken][: max(0, missing)]
    return sorted([*taken.values(), *(Slot(number=n) for n in free)], key=lambda slot: slot.number)[
        : service.spec.replicas
    ]


def belongs_on(service: Service, node: Node) -> bool:
    """Whether a global service has a slot on the node, be it up or not."""
    return node.availability is not Availability.DRAIN and _fits(service, node)


def _fits(service: Service, node: Node) -> bool:
    return all(holds(constraint, node) for constraint in service.spec.task.constraints)


def remove(whatif: WhatIf, slot: Slot) -> None:
    """Stop what runs in the slot, and forget it."""
    for task in slot.tasks:
        if task.status.state.is_terminal:
            whatif.do(ForgetTask(task_id=task.id))
        elif task.desired < DesiredState.REMOVE:
            whatif.do(SetDesired(task_id=task.id, desired=DesiredState.REMOVE))


def keep(whatif: WhatIf, service: Service, slot: Slot) -> CreateTask | None:
    """Let the slot's task start when it may, or draft the one that follows it."""
    live, latest = slot.live, slot.latest
    if live is None:
        spec = whatif.view.spec_of(latest).task if latest else service.spec.task
        following = successor(slot, restart_of(service, spec), service.revision, whatif.now_ms)
        return None if following is None else draft(whatif, service, slot, following)
    if live.desired < DesiredState.RUNNING and not slot.stopping:
        if live.not_before_ms > whatif.now_ms:
            whatif.look_again(service.id, live.not_before_ms)
        else:
            whatif.do(SetDesired(task_id=live.id, desired=DesiredState.RUNNING))
    return None


def draft(whatif: WhatIf, service: Service, slot: Slot, following: Successor) -> CreateTask | None:
    """The slot's next task; without a node yet, unless the slot is one. None: its node is unfit."""
    view, before = whatif.view, slot.stopping
    latest = slot.latest.id if slot.latest else ""
    task_id = TaskId(digest_id(service.id, slot.number, slot.node_id or "", view.index, latest))
    devices: tuple[DeviceGrant, ...] = ()
    if slot.node_id is not None:
        spec, node = view.revisions[service.id][following.revision].task, view.nodes[slot.node_id]
        leaving = [task.id for task in before if task.ending is not Reason.PREEMPTED]
        load = load_of(view, node.id, without=leaving)
        if refusal(node, spec, load, service.spec.name) is not None:
            make_room(whatif, service, spec, [task_id], only=node.id)
            return None
        devices = granted(node, spec, load)
    reason, message = following.reason, following.message
    if before and not message:
        reason = Reason.WAITS_FOR_PREDECESSOR
        message = f"waits until {before[-1].name} has stopped"
    return CreateTask(
        task_id=task_id,
        service_id=service.id,
        service_version=service.version,
        slot=slot.number,
        revision=following.revision,
        node_id=slot.node_id,
        desired=DesiredState.READY if message else DesiredState.RUNNING,
        attempt=following.attempt,
        not_before_ms=following.not_before_ms,
        reason=reason,
        message=message,
        devices=devices,
    )
