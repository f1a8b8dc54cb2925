"""Which slots are renewed next: for a new revision, or to leave a node (`leaving`).

Of the slots that have the current revision some are *well*: they run, are healthy and have lasted a
while. The others are *busy*, and at most `parallelism` slots are so at a time by a rollout's doing;
so a revision that keeps failing leaves the other slots as they are. Broken slots come first:
renewing them costs nothing.
"""

from collections.abc import Sequence

from attrs import frozen

from meshswarm.control.dependencies import unmet
from meshswarm.control.leaving import is_leaving, leaves, moves
from meshswarm.control.restart import stays_down
from meshswarm.control.schedule import why_nowhere
from meshswarm.control.slots import Slot, is_outdated
from meshswarm.control.whatif import WhatIf
from meshswarm.model.node import NodeState
from meshswarm.model.rollout import Rollout, UpdateOrder, UpdatePolicy
from meshswarm.model.service import Service
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.store.view import View

SETTLE_MS = 2_000
"""How long a task must have run to count as well, if neither its service nor a health check tells;
doubled with every failure that led to it, so that a slow crash is not taken for success."""

MAX_DOUBLINGS = 6

MAX_OBSTACLES = 100
"""Slots that are looked at in vain for one whose new task has a node; the others are alike."""


@frozen(kw_only=True)
class Turn:
    """A slot whose turn it is, and the revision that it gets."""

    slot: Slot
    revision: int
    start_first: bool = False
    """Whether its old task goes on running until the new one is well."""


@frozen(kw_only=True)
class Standing:
    """How a service's slots stand to its current revision."""

    well: tuple[Slot, ...]
    busy: tuple[Slot, ...]
    """On their way, or broken; those that a rollout has given up are not among them."""
    outdated: tuple[Slot, ...]
    """In the order in which they should be renewed."""


def policy_of(view: View, service: Service) -> UpdatePolicy:
    """How the service is rolled out now: onward, or back."""
    rollout = view.rollouts.get(service.id)
    return service.spec.rollback if rollout and rollout.phase.goes_back else service.spec.update


def key_of(slot: Slot) -> str:
    """The slot's name within its service, as `Rollout.failed` has it."""
    return str(slot.number) if slot.number else slot.node_id or ""


def standing_of(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> Standing:
    """How the slots stand; looks again when time alone may tell."""
    rollout = whatif.view.rollouts.get(service.id)
    failed = frozenset(rollout.failed if rollout else ())
    is_first = policy_of(whatif.view, service).order is UpdateOrder.START_FIRST
    well: list[Slot] = []
    busy: list[Slot] = []
    outdated: list[Slot] = []
    for slot in slots:
        if is_outdated(slot, service):
            outdated.append(slot)
            if is_first and slot.live is not None and slot.stopping:
                busy.append(slot)  # a task beside the old one was taken back, and may still run
        elif slot.latest is None or (is_out_of_reach(whatif, service, slot) and not slot.surplus):
            continue
        elif is_well(whatif, service, slot):
            well.append(slot)
        elif key_of(slot) not in failed or slot.surplus:
            busy.append(slot)
    outdated.sort(key=lambda slot: (key_of(slot) in failed, _least_missed(slot)))
    return Standing(well=tuple(well), busy=tuple(busy), outdated=tuple(outdated))


def next_turns(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> list[Turn]:
    """The slots to renew now, if any; looks again when time alone may tell."""
    found = _rollout_turns(whatif, service, slots)
    if not any(leaves(whatif.view, slot) for slot in slots):
        return found
    taken = {key_of(turn.slot) for turn in found}
    under_way = len(found) + sum(_is_moving(whatif, slot) for slot in slots)
    rest = [slot for slot in slots if key_of(slot) not in taken]
    for move in moves(whatif, service, rest, policy_of(whatif.view, service), under_way):
        task = move.slot.live
        assert task is not None, "only a live task can leave"
        turn = Turn(slot=move.slot, revision=task.revision, start_first=move.start_first)
        found.append(turn)
    return found


def _rollout_turns(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> list[Turn]:
    rollout = whatif.view.rollouts.get(service.id)
    if rollout is not None and rollout.phase.is_paused:
        return []
    if not any(is_outdated(slot, service) for slot in slots):
        return []
    if unmet(whatif.view, service, for_rollout=True) is not None:
        return []
    standing = standing_of(whatif, service, slots)
    room = _room(whatif, service, rollout, standing)
    found: list[Turn] = []
    in_vain = 0
    for slot in standing.outdated:
        if len(found) >= room or in_vain >= MAX_OBSTACLES:
            break
        if obstacle(whatif, service, slot):
            in_vain += 1
            continue
        start_first = starts_first(whatif.view, service, slot)
        found.append(Turn(slot=slot, revision=service.revision, start_first=start_first))
    return found


def _room(whatif: WhatIf, service: Service, rollout: Rollout | None, standing: Standing) -> int:
    """How many slots may have their turn now."""
    parallelism = policy_of(whatif.view, service).parallelism or len(standing.outdated)
    room = parallelism - len(standing.busy)
    if rollout is None:
        return room
    if room > 0 and rollout.not_before_ms > whatif.now_ms:
        whatif.look_again(service.id, rollout.not_before_ms)
        return 0
    return room if rollout.slots_left is None else min(room, rollout.slots_left)


# --- one slot ---------------------------------------------------------------------------------


def starts_first(view: View, service: Service, slot: Slot) -> bool:
    """Whether the slot's new task starts beside the old one: only one that works is worth it."""
    order = policy_of(view, service).order
    return order is UpdateOrder.START_FIRST and slot.live is not None and slot.live.is_healthy


def obstacle(whatif: WhatIf, service: Service, slot: Slot) -> str:
    """Why the slot must not be renewed: it works, and the new task had no node; else empty."""
    works = slot.live is not None and slot.live.is_healthy
    if not works and slot.node_id is None:
        return ""
    beside = slot.live if starts_first(whatif.view, service, slot) else None
    without = frozenset(task.id for task in slot.tasks if task is not beside)
    return why_nowhere(whatif, service.spec.task, service.spec.name, without, only=slot.node_id)


def is_out_of_reach(whatif: WhatIf, service: Service, slot: Slot) -> bool:
    """Whether the slot says nothing of the revision: its node is not ready, or no node took its
    task, and no rollout took its old one away."""
    if slot.node_id is not None:
        return whatif.view.nodes[slot.node_id].state is not NodeState.READY
    task = slot.live
    if task is None or task.node_id is not None:
        return False
    return all(one.revision == service.revision or one.node_id is None for one in slot.tasks)


def is_well(whatif: WhatIf, service: Service, slot: Slot) -> bool:
    """Whether the slot's task has proved itself, alone; or came to its proper end."""
    task = slot.live
    if task is None:
        latest, policy = slot.latest, service.spec.task.restart
        is_over = stays_down(slot, policy, service.revision) is not None
        return latest is not None and is_over and latest.status.state is TaskState.COMPLETE
    if not has_proved_itself(whatif, service, task):
        return False
    order = policy_of(whatif.view, service).order
    return order is UpdateOrder.STOP_FIRST or not (slot.stopping or slot.surplus)


def has_proved_itself(whatif: WhatIf, service: Service, task: Task) -> bool:
    """Whether the task has been running and healthy for long enough; else looks again then."""
    at_ms = settles_at_ms(task, policy_of(whatif.view, service), whatif.now_ms)
    if at_ms is None:
        return False
    if at_ms > whatif.now_ms:
        whatif.look_again(service.id, at_ms)
        return False
    return True


def settles_at_ms(task: Task, policy: UpdatePolicy, now_ms: int) -> int | None:
    """From when on the task counts as well; None while it does not run or is not healthy."""
    if not task.is_healthy:
        return None
    least_ms = SETTLE_MS
    if policy.min_healthy_s is not None:
        least_ms = round(policy.min_healthy_s * 1_000)
    elif task.status.health is Health.HEALTHY and task.attempt == 0:
        return 0
    return began_ms(task, now_ms) + (least_ms << min(task.attempt, MAX_DOUBLINGS))


def began_ms(task: Task, now_ms: int) -> int:
    """Since when a running task runs; an agent's clock that contradicts the log's is not
    believed."""
    since_ms = task.status.since_ms
    return since_ms if task.created_at_ms <= since_ms <= now_ms else task.created_at_ms


def _is_moving(whatif: WhatIf, slot: Slot) -> bool:
    """Whether the slot's task is on its way up for the first time, on a node that it may keep, or
    has one beside it that leaves."""
    task = slot.live
    if task is None or task.node_id is None:
        return False
    if any(is_leaving(whatif.view, one) for one in slot.surplus):
        return True
    if is_leaving(whatif.view, task):
        return False
    return not task.attempt and not task.is_healthy


def _least_missed(slot: Slot) -> tuple[bool, bool, int, str]:
    """Dead slots first, then those that do not work, then by number."""
    task = slot.live
    return (task is not None, task is not None and task.is_healthy, slot.number, slot.node_id or "")
