"""A service's tasks are made what its spec says: missing slots filled, extra ones removed, each
slot's task replaced, renewed or released as its time comes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import islice

from attrs import evolve

from meshswarm.control.filters import granted, holds, refusal
from meshswarm.control.leaving import is_leaving, is_overdue, leaves
from meshswarm.control.loads import load_of
from meshswarm.control.preempt import make_room
from meshswarm.control.restart import Successor, successor
from meshswarm.control.rollout import carry_on, spend_turns
from meshswarm.control.slots import Slot, slots_of
from meshswarm.control.turns import (
    Turn,
    has_proved_itself,
    is_outdated,
    key_of,
    next_turns,
    policy_of,
)
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId, TaskId, digest_id
from meshswarm.model.node import Availability, Node
from meshswarm.model.resources import DeviceGrant
from meshswarm.model.rollout import UpdateOrder
from meshswarm.model.service import Mode, RestartCondition, Service
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.commands import CreateTask, ForgetTask, SetDesired
from meshswarm.store.users import MAX_REPLICAS


def reconcile(whatif: WhatIf, service_id: ServiceId) -> list[CreateTask]:
    """Decide what the service's tasks need; returns the tasks to create that still want a node."""
    service = whatif.view.services.get(service_id)
    if service is None:
        for slot in slots_of(whatif.view.tasks_of(service_id)):
            _remove(whatif, slot)
        return []
    if service_id in whatif.reverted:
        return []
    wanted, unwanted = _slots_to_look_at(whatif, service)
    for slot in unwanted:
        _remove(whatif, slot)
    wanted = [_thinned(whatif, service, slot) for slot in wanted]
    carry_on(whatif, service, wanted)
    if service_id in whatif.reverted:
        return []
    turns = {key_of(turn.slot): turn for turn in next_turns(whatif, service, wanted)}
    spend_turns(whatif, service, sum(t.revision == service.revision for t in turns.values()))
    drafts: list[CreateTask] = []
    for slot in wanted:
        if len(drafts) > whatif.room:
            break  # The pass is full when these are placed; the next one sees to the rest.
        turn = turns.get(key_of(slot)) if turns else None
        draft = _renew(whatif, service, turn) if turn else _keep(whatif, service, slot)
        if draft is not None and draft.node_id is not None:
            whatif.do(draft)
        elif draft is not None:
            drafts.append(draft)
    return drafts


# --- which slots ------------------------------------------------------------------------------


def _slots_to_look_at(whatif: WhatIf, service: Service) -> tuple[list[Slot], list[Slot]]:
    """The slots that the service should have, new ones included, and those that it should not.

    Those at rest are left out, unless there are too many slots, or a rollout counts them all.
    """
    slots = whatif.slots_of(service.id)
    if service.spec.mode is Mode.GLOBAL:
        return _global(whatif, service, slots.everyone())
    others = slots.others()
    rollout = whatif.view.rollouts.get(service.id)
    is_rolled_out = rollout is not None and rollout.phase.is_active
    moves = (slot for slot in others if is_outdated(slot, service) or leaves(whatif.view, slot))
    if is_rolled_out or any(moves) or len(slots.numbers) > service.spec.replicas:
        return _replicated(service, slots.everyone())
    looked_at = {slot.number for slot in others}
    at_rest = {number for number, _ in slots.numbers if number not in looked_at}
    return _replicated(service, others, at_rest, most=whatif.room + 1)


def _replicated(
    service: Service,
    slots: Sequence[Slot],
    at_rest: Collection[int] = (),
    most: int = MAX_REPLICAS,
) -> tuple[list[Slot], list[Slot]]:
    """The same of a replicated service that has these slots and, to be left alone, others; of the
    missing ones so many at most: a pass has no room for more."""
    strays = [slot for slot in slots if slot.number == 0]
    taken = [slot for slot in slots if slot.number > 0 and not slot.is_left]
    left = {slot.number: slot for slot in slots if slot.number > 0 and slot.is_left}
    surplus = len(taken) + len(at_rest) - service.spec.replicas
    if surplus > 0:
        extra = sorted(taken, key=_worth(taken))[:surplus]
        numbers = {slot.number for slot in extra}
        return [slot for slot in taken if slot.number not in numbers], strays + extra
    numbers = {slot.number for slot in taken} | set(at_rest)
    free = (n for n in range(1, service.spec.replicas + 1) if n not in numbers)
    missing = [left.get(n, Slot(number=n)) for n in islice(free, min(most, -surplus))]
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


def belongs_on(service: Service, node: Node) -> bool:
    """Whether a global service has a slot on the node, be it up or not."""
    return node.availability is not Availability.DRAIN and _fits(service, node)


def _fits(service: Service, node: Node) -> bool:
    return all(holds(constraint, node) for constraint in service.spec.task.constraints)


# --- one slot ---------------------------------------------------------------------------------


def _remove(whatif: WhatIf, slot: Slot) -> None:
    """Stop what runs in the slot, and forget it."""
    for task in slot.tasks:
        if task.status.state.is_terminal:
            whatif.do(ForgetTask(task_id=task.id))
        elif task.desired < DesiredState.REMOVE:
            whatif.do(SetDesired(task_id=task.id, desired=DesiredState.REMOVE))


def _thinned(whatif: WhatIf, service: Service, slot: Slot) -> Slot:
    """The slot with one live task; or two, while the newer one proves itself (start-first).

    The one that stays is of the current revision if there is one, need not leave its node, and
    works, in this order: going back, or elsewhere, in the middle of a step stops the new task and
    leaves the old one alone.
    """
    live = [task for task in slot.tasks if task.is_live]
    if len(live) < 2:
        return slot
    left = [task for task in live if task.revision == service.revision] or live
    left = [task for task in left if not is_leaving(whatif.view, task)] or left
    kept = ([task for task in left if task.is_healthy] or left)[-1]
    beside = _beside(whatif, service, kept, live)
    for task in live:
        if task is not kept and task is not beside:
            whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))
    others = [whatif.view.tasks[task.id] for task in slot.tasks if task is not kept]
    return evolve(slot, tasks=(*others, kept))


def _beside(whatif: WhatIf, service: Service, kept: Task, live: Sequence[Task]) -> Task | None:
    """The task that goes on running until `kept`, which is to follow it, has proved itself."""
    view, now_ms = whatif.view, whatif.now_ms
    is_first = policy_of(view, service).order is UpdateOrder.START_FIRST
    is_rolled_out = is_first and kept.revision == service.revision
    # What is younger than `kept` was on its way to a revision that has been left since.
    olds = [
        task
        for task in live
        if task is not kept
        and task.is_healthy
        and task.created_at_ms <= kept.created_at_ms
        and (
            (is_rolled_out and task.revision != kept.revision)
            or (is_leaving(view, task) and not is_overdue(view, task, now_ms))
        )
    ]
    if not olds or has_proved_itself(whatif, service, kept):
        return None
    return olds[-1]


def _keep(whatif: WhatIf, service: Service, slot: Slot) -> CreateTask | None:
    """Let the slot's task start when it may, or draft the one that follows it."""
    live, latest = slot.live, slot.latest
    if live is None:
        spec = whatif.view.spec_of(latest).task if latest else service.spec.task
        following = successor(slot, spec.restart, service.revision, whatif.now_ms)
        return None if following is None else _draft(whatif, service, slot, following)
    if live.desired < DesiredState.RUNNING and not slot.stopping:
        if live.not_before_ms > whatif.now_ms:
            whatif.look_again(service.id, live.not_before_ms)
        else:
            whatif.do(SetDesired(task_id=live.id, desired=DesiredState.RUNNING))
    return None


def _renew(whatif: WhatIf, service: Service, turn: Turn) -> CreateTask | None:
    """Draft the task that takes over, and stop the slot's present one, unless it stays so long."""
    if turn.start_first:
        return _add(whatif, service, turn)
    live = turn.slot.live
    if live is not None:
        whatif.do(SetDesired(task_id=live.id, desired=DesiredState.SHUTDOWN))
        condition = whatif.view.spec_of(live).task.restart.condition
        if live.revision == turn.revision and condition is RestartCondition.NONE:
            return None
    now = [whatif.view.tasks[task.id] for task in turn.slot.tasks]
    slot = evolve(turn.slot, tasks=tuple(now))
    return _draft(whatif, service, slot, Successor(revision=turn.revision))


def _add(whatif: WhatIf, service: Service, turn: Turn) -> CreateTask | None:
    """Draft a task beside the slot's present one; after a failure as a restart would."""
    slot = turn.slot
    since_ms = slot.live.created_at_ms if slot.live else 0
    before = [
        task
        for task in slot.dead
        if task.revision == turn.revision and task.created_at_ms >= since_ms
    ]
    following: Successor | None = Successor(revision=turn.revision)
    if before:
        tried = evolve(slot, tasks=tuple(before))
        restart = service.spec.task.restart
        following = successor(tried, restart, turn.revision, whatif.now_ms)
    return None if following is None else _draft(whatif, service, slot, following)


def _draft(whatif: WhatIf, service: Service, slot: Slot, following: Successor) -> CreateTask | None:
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
