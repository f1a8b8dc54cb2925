"""Which slot is renewed next: for a new revision, or to leave a drained node.

Stop-first, one slot of a service at a time. The next slot follows only when every slot that has
the new revision runs, is healthy and has lasted a while; so a revision that keeps failing leaves
the other slots as they are. Broken slots come first: renewing them costs nothing.
Draining is an order: it goes on as soon as what it moved last has started, failed or found no node.
"""

from collections.abc import Sequence

from attrs import frozen

from meshswarm.control.restart import stays_down
from meshswarm.control.schedule import why_nowhere
from meshswarm.control.slots import Slot
from meshswarm.control.whatif import WhatIf
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.service import Service
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.store.view import View

SETTLE_MS = 2_000
"""How long a task must have run before the next slot is renewed, if no health check vouches for
it; doubled with every failure that led to it, so that a slow crash is not taken for success."""

MAX_DOUBLINGS = 6


@frozen(kw_only=True)
class Turn:
    """A slot whose turn it is, and the revision that it gets."""

    slot: Slot
    revision: int


def next_turn(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> Turn | None:
    """The slot to renew now, if any; looks again when time alone may tell."""
    outdated = sorted((s for s in slots if is_outdated(s, service)), key=_least_missed)
    if outdated and _all_settled(whatif, service, slots):
        for slot in outdated:
            if not obstacle(whatif, service, slot):
                return Turn(slot=slot, revision=service.revision)
    drained = [slot for slot in slots if is_drained(whatif.view, slot)]
    if drained and not any(_is_moving(whatif, slot) for slot in slots):
        slot = min(drained, key=_least_missed)
        assert slot.live is not None, "only a live task can be on a drained node"
        return Turn(slot=slot, revision=slot.live.revision)
    return None


def is_outdated(slot: Slot, service: Service) -> bool:
    """Whether the slot's task is of an older revision."""
    return slot.latest is not None and slot.latest.revision != service.revision


def is_drained(view: View, slot: Slot) -> bool:
    """Whether the slot's live task must leave its node."""
    if slot.live is None or slot.live.node_id is None:
        return False
    node = view.nodes.get(slot.live.node_id)
    return node is not None and node.availability is Availability.DRAIN


def obstacle(whatif: WhatIf, service: Service, slot: Slot) -> str:
    """Why the slot must not be renewed: it works, and the new task had no node; else empty."""
    works = slot.live is not None and slot.live.is_healthy
    if not works and slot.node_id is None:
        return ""
    without = frozenset(task.id for task in slot.tasks)
    return why_nowhere(whatif, service.spec.task, without, only=slot.node_id)


def settles_at_ms(task: Task, now_ms: int) -> int | None:
    """From when on the task counts as well; None while it does not run or is not healthy."""
    if not task.is_healthy:
        return None
    status = task.status
    if status.health is Health.HEALTHY and task.attempt == 0:
        return 0
    # An agent's clock that contradicts the log's is not believed.
    is_plausible = task.created_at_ms <= status.since_ms <= now_ms
    began_ms = status.since_ms if is_plausible else task.created_at_ms
    return began_ms + (SETTLE_MS << min(task.attempt, MAX_DOUBLINGS))


def _all_settled(whatif: WhatIf, service: Service, slots: Sequence[Slot]) -> bool:
    """Whether every slot of the new revision is well, at its proper end, or out of reach."""
    current = [slot for slot in slots if slot.latest and slot.latest.revision == service.revision]
    return all(_is_settled(whatif, service, slot) for slot in current)


def _is_settled(whatif: WhatIf, service: Service, slot: Slot) -> bool:
    if slot.node_id is not None and whatif.view.nodes[slot.node_id].state is not NodeState.READY:
        return True
    task = slot.live
    if task is None:
        latest, policy = slot.latest, service.spec.task.restart
        is_over = stays_down(slot, policy, service.revision) is not None
        return latest is not None and is_over and latest.status.state is TaskState.COMPLETE
    if task.node_id is None:
        return True  # It says nothing of its revision; `obstacle` keeps others from following it.
    at_ms = settles_at_ms(task, whatif.now_ms)
    if at_ms is None:
        return False
    if at_ms > whatif.now_ms:
        whatif.look_again(service.id, at_ms)
        return False
    return True


def _is_moving(whatif: WhatIf, slot: Slot) -> bool:
    """Whether the slot's task is on its way up for the first time, on a node that it may keep."""
    task = slot.live
    if task is None or task.node_id is None or task.attempt or is_drained(whatif.view, slot):
        return False
    return not task.is_healthy


def _least_missed(slot: Slot) -> tuple[bool, bool, int, str]:
    """Dead slots first, then those that do not work, then by number."""
    task = slot.live
    return (task is not None, task is not None and task.is_healthy, slot.number, slot.node_id or "")
