"""A service's tasks are made what its spec says: missing slots filled, extra ones removed, each
slot's task replaced, renewed or released as its time comes.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from attrs import evolve

from meshswarm.control.filters import holds, refusal
from meshswarm.control.restart import Successor, successor
from meshswarm.control.rollout import Turn, next_turn
from meshswarm.control.slots import Slot, slots_of
from meshswarm.control.whatif import WhatIf, load_of
from meshswarm.ids import NodeId, ServiceId, TaskId, digest_id
from meshswarm.model.node import Availability, Node
from meshswarm.model.service import Mode, RestartCondition, Service
from meshswarm.model.task import DesiredState, Reason, TaskState
from meshswarm.store.commands import CreateTask, ForgetTask, SetDesired


def reconcile(whatif: WhatIf, service_id: ServiceId) -> list[CreateTask]:
    """Decide what the service's tasks need; returns the tasks to create that still want a node."""
    service = whatif.view.services.get(service_id)
    slots = slots_of(whatif.view.tasks_of(service_id))
    if service is None:
        for slot in slots:
            _remove(whatif, slot)
        return []
    is_global = service.spec.mode is Mode.GLOBAL
    wanted, unwanted = _global(whatif, service, slots) if is_global else _replicated(service, slots)
    for slot in unwanted:
        _remove(whatif, slot)
    turn = next_turn(whatif, service, wanted)
    drafts: list[CreateTask] = []
    for slot in wanted:
        if turn is not None and turn.slot is slot:
            draft = _renew(whatif, service, turn)
        else:
            draft = _keep(whatif, service, slot)
        if draft is not None and draft.node_id is not None:
            whatif.do(draft)
        elif draft is not None:
            drafts.append(draft)
    return drafts


# --- which slots ------------------------------------------------------------------------------


def _replicated(service: Service, slots: Sequence[Slot]) -> tuple[list[Slot], list[Slot]]:
    """The slots that the service should have, new ones included, and those that it should not."""
    strays = [slot for slot in slots if slot.number == 0]
    taken = [slot for slot in slots if slot.number > 0 and not slot.is_left]
    left = {slot.number: slot for slot in slots if slot.number > 0 and slot.is_left}
    surplus = len(taken) - service.spec.replicas
    if surplus > 0:
        extra = sorted(taken, key=_worth(taken))[:surplus]
        return [slot for slot in taken if slot not in extra], strays + extra
    numbers = {slot.number for slot in taken}
    free = (n for n in range(1, service.spec.replicas + 1) if n not in numbers)
    missing = [left.get(n, Slot(number=n)) for n, _ in zip(free, range(-surplus), strict=False)]
    return sorted(taken + missing, key=lambda slot: slot.number), strays


def _worth(slots: Sequence[Slot]) -> Callable[[Slot], tuple[bool, int, int]]:
    """The order in which slots are given up: what does not run, then where most of them run.

    Taking from the fullest node each time is taking the last-numbered of each node first: a
    slot's rank is the number of lower ones that run beside it.
    """
    beside: Counter[NodeId] = Counter()
    rank: dict[int, int] = {}
    for slot in slots:
        task = slot.live
        if task is not None and task.node_id and task.status.state is TaskState.RUNNING:
            rank[slot.number] = beside[task.node_id]
            beside[task.node_id] += 1
    return lambda slot: (slot.number in rank, -rank.get(slot.number, 0), -slot.number)


def _global(
    whatif: WhatIf, service: Service, slots: Sequence[Slot]
) -> tuple[list[Slot], list[Slot]]:
    """A slot for every node that the service's constraints name and that is not drained."""
    wanted_on = {node.id for node in whatif.view.sorted_nodes() if belongs_on(service, node)}
    present = {slot.node_id: slot for slot in slots if slot.number == 0 and slot.node_id}
    unwanted = [slot for slot in slots if slot.number or slot.node_id not in wanted_on]
    wanted = [
        present.get(node_id, Slot(number=0, node_id=node_id)) for node_id in sorted(wanted_on)
    ]
    return wanted, unwanted


def belongs_on(service: Service, node: Node) -> bool:
    """Whether a global service has a slot on the node, be it up or not."""
    return node.availability is not Availability.DRAIN and all(
        holds(constraint, node) for constraint in service.spec.task.constraints
    )


# --- one slot ---------------------------------------------------------------------------------


def _remove(whatif: WhatIf, slot: Slot) -> None:
    """Stop what runs in the slot, and forget it."""
    for task in slot.tasks:
        if task.status.state.is_terminal:
            whatif.do(ForgetTask(task_id=task.id))
        elif task.desired < DesiredState.REMOVE:
            whatif.do(SetDesired(task_id=task.id, desired=DesiredState.REMOVE))


def _keep(whatif: WhatIf, service: Service, slot: Slot) -> CreateTask | None:
    """Let the slot's task start when it may, or draft the one that follows it."""
    for task in slot.surplus:
        whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))
    live, latest = slot.live, slot.latest
    if live is None:
        spec = whatif.view.spec_of(latest).task if latest else service.spec.task
        following = successor(slot, spec.restart, service.revision, whatif.now_ms)
        return None if following is None else _draft(whatif, service, slot, following)
    if live.desired < DesiredState.RUNNING and not slot.stopping and not slot.surplus:
        if live.not_before_ms > whatif.now_ms:
            whatif.look_again(service.id, live.not_before_ms)
        else:
            whatif.do(SetDesired(task_id=live.id, desired=DesiredState.RUNNING))
    return None


def _renew(whatif: WhatIf, service: Service, turn: Turn) -> CreateTask | None:
    """Stop the slot's task and draft the one that takes over."""
    live = turn.slot.live
    if live is not None:
        whatif.do(SetDesired(task_id=live.id, desired=DesiredState.SHUTDOWN))
        condition = whatif.view.spec_of(live).task.restart.condition
        if live.revision == turn.revision and condition is RestartCondition.NONE:
            return None
    now = [whatif.view.tasks[task.id] for task in turn.slot.tasks]
    slot = evolve(turn.slot, tasks=tuple(now))
    return _draft(whatif, service, slot, Successor(revision=turn.revision))


def _draft(whatif: WhatIf, service: Service, slot: Slot, following: Successor) -> CreateTask | None:
    """The slot's next task; without a node yet, unless the slot is one. None: its node is unfit."""
    view, before = whatif.view, slot.stopping
    if slot.node_id is not None:
        spec = view.revisions[service.id][following.revision].task
        load = load_of(view, slot.node_id, without=[task.id for task in before])
        if refusal(view.nodes[slot.node_id], spec, load) is not None:
            return None
    latest = slot.latest.id if slot.latest else ""
    reason, message = following.reason, following.message
    if before and not message:
        reason = Reason.WAITS_FOR_PREDECESSOR
        message = f"waits until {before[-1].name} has stopped"
    return CreateTask(
        task_id=TaskId(digest_id(service.id, slot.number, slot.node_id or "", view.index, latest)),
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
    )
