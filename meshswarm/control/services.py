"""A service's tasks are made what its spec says: missing slots filled, extra ones removed, each
slot's task replaced, renewed or released as its time comes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice

from attrs import evolve

from meshswarm.control.dependencies import is_still_needed, unmet
from meshswarm.control.leaving import goes_by_ms, is_leaving, is_overdue, leaves
from meshswarm.control.restart import Successor, successor
from meshswarm.control.rollout import carry_on, spend_turns
from meshswarm.control.runs import reconcile_run
from meshswarm.control.slots import Slot, is_outdated, slots_of
from meshswarm.control.steps import draft, keep, remove, slots_by_node
from meshswarm.control.turns import (
    Turn,
    has_proved_itself,
    key_of,
    next_turns,
    policy_of,
)
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId
from meshswarm.model.rollout import UpdateOrder
from meshswarm.model.service import RestartCondition, Service
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.commands import CreateTask, SetDesired
from meshswarm.store.users import MAX_REPLICAS

STOP_ORDER_MS = 200
"""How often a removed service is looked at that others must leave first."""


def reconcile(whatif: WhatIf, service_id: ServiceId) -> list[CreateTask]:
    """Decide what the service's tasks need; returns the tasks to create that still want a node."""
    service = whatif.view.services.get(service_id)
    if service is None:
        slots = slots_of(whatif.view.tasks_of(service_id))
        names = {task.service_name for slot in slots for task in slot.tasks}
        if any(is_still_needed(whatif, service_id, name) for name in names):
            whatif.look_again(service_id, whatif.now_ms + STOP_ORDER_MS)
            return []
        for slot in slots:
            remove(whatif, slot)
        return []
    if service_id in whatif.reverted:
        return []
    if service.spec.mode.is_job:
        return reconcile_run(whatif, service)
    wanted, unwanted = _slots_to_look_at(whatif, service)
    for slot in unwanted:
        remove(whatif, slot)
    wanted = [_thinned(whatif, service, slot) for slot in wanted]
    carry_on(whatif, service, wanted)
    if service_id in whatif.reverted:
        return []
    turns = {key_of(turn.slot): turn for turn in next_turns(whatif, service, wanted)}
    spend_turns(whatif, service, sum(t.revision == service.revision for t in turns.values()))
    return _drafts(whatif, service, wanted, turns)


def _drafts(
    whatif: WhatIf, service: Service, wanted: Sequence[Slot], turns: Mapping[str, Turn]
) -> list[CreateTask]:
    """Let each slot go on, or be renewed if it has its turn; the tasks that still want a node."""
    drafts: list[CreateTask] = []
    held = unmet(whatif.view, service)
    for slot in wanted:
        if held is not None and slot.latest is None:
            continue
        if len(drafts) > whatif.room:
            break  # The pass is full when these are placed; the next one sees to the rest.
        turn = turns.get(key_of(slot)) if turns else None
        made = _renew(whatif, service, turn) if turn else keep(whatif, service, slot)
        if made is not None and made.node_id is not None:
            whatif.do(made)
        elif made is not None:
            drafts.append(made)
    return drafts


# --- which slots ------------------------------------------------------------------------------


def _slots_to_look_at(whatif: WhatIf, service: Service) -> tuple[list[Slot], list[Slot]]:
    """The slots that the service should have, new ones included, and those that it should not.

    Those at rest are left out, unless there are too many slots, or a rollout counts them all.
    """
    slots = whatif.slots_of(service.id)
    if service.spec.mode.is_global:
        return slots_by_node(whatif, service, slots.everyone())
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


# --- one slot ---------------------------------------------------------------------------------


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
    by_ms = goes_by_ms(view, olds[-1])
    if by_ms is not None and by_ms > now_ms:
        whatif.look_again(service.id, by_ms)
    return olds[-1]


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
    return draft(whatif, service, slot, Successor(revision=turn.revision))


def _add(whatif: WhatIf, service: Service, turn: Turn) -> CreateTask | None:
    """Draft a task beside the slot's present one; after a failure as a restart would.

    In the middle of a move there are two: the older one goes, and the new one waits for that.
    """
    slot = turn.slot
    for task in slot.surplus:
        whatif.do(SetDesired(task_id=task.id, desired=DesiredState.SHUTDOWN))
    slot = evolve(slot, tasks=tuple(whatif.view.tasks[task.id] for task in slot.tasks))
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
    return None if following is None else draft(whatif, service, slot, following)
