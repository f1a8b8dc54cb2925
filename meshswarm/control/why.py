"""Why a service is not whole: slot by slot, and node by node, from a view alone.

Nothing is remembered for this: the same filters and rules that decide are asked again.
"""

from collections.abc import Mapping

from attrs import frozen

from meshswarm.control.brake import tell_brake
from meshswarm.control.dependencies import unmet
from meshswarm.control.filters import refusals
from meshswarm.control.leaving import tell_leaving
from meshswarm.control.loads import load_of
from meshswarm.control.restart import restart_of, stays_down
from meshswarm.control.runs import is_complete
from meshswarm.control.skew import Skew, skew_of
from meshswarm.control.slots import Slot
from meshswarm.control.spans import span
from meshswarm.control.steps import slots_wanted
from meshswarm.control.telling import tell_rollout, tell_run
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.service import Service, TaskSpec
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.view import View

MAX_EXITS = 5
"""Earlier tasks of a slot that are told."""


@frozen(kw_only=True)
class Exit:
    """How an earlier task of the slot ended."""

    task_id: TaskId
    revision: int
    node: str | None
    state: TaskState
    reason: Reason
    message: str
    exit_code: int | None
    at_ms: int
    """By its agent's clock."""


@frozen(kw_only=True)
class SlotReport:
    """One slot that is missing or not healthy, and what keeps it from being so."""

    slot: int
    """0 in a global service, whose slots are nodes."""
    node: str | None
    """The task's node, or the global slot's."""
    task_id: TaskId | None
    """The live task, else the last one; None if there was none."""
    revision: int | None
    state: TaskState | None
    reason: Reason
    message: str
    since_ms: int | None
    refusals: Mapping[str, tuple[str, ...]]
    """What speaks against each node, by name; empty for a task that has a node."""
    exits: tuple[Exit, ...]
    """The last ends in this slot, the latest first."""


@frozen(kw_only=True)
class WhyReport:
    """The state of a service in sentences, and each slot that is not as it should be."""

    service: str
    desired: int
    healthy: int
    summary: tuple[str, ...]
    slots: tuple[SlotReport, ...]


def why(view: View, service: Service, now_ms: int) -> WhyReport:
    """What keeps the service from being whole; no slots if it is.

    The view needs the tables of nodes, services, revisions, rollouts, runs and tasks.
    """
    slots = slots_wanted(view, service)
    broken = [slot for slot in slots if not _needs_nothing(view, service, slot)]
    return WhyReport(
        service=service.spec.name,
        desired=len(slots),
        healthy=len(slots) - len(broken),
        summary=tuple(_summary(view, service, slots, broken, now_ms)),
        slots=tuple(_report(view, service, slot, now_ms) for slot in broken),
    )


def _needs_nothing(view: View, service: Service, slot: Slot) -> bool:
    if service.spec.mode.is_job and is_complete(slot, service):
        return True
    return slot.live is not None and _is_well(view, slot.live)


def _is_well(view: View, task: Task) -> bool:
    """Whether it runs and is healthy, and that is known."""
    is_known = task.status.reason is not Reason.RUNTIME_UNAVAILABLE
    return task.is_healthy and is_known and _silent_node(view, task) is None


def _silent_node(view: View, task: Task) -> Node | None:
    """The task's node, if nobody hears it."""
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    return node if node and node.state in (NodeState.SUSPECT, NodeState.DOWN) else None


def _summary(
    view: View, service: Service, slots: list[Slot], broken: list[Slot], now_ms: int
) -> list[str]:
    """The whole in sentences: how many are well, whether a rollout is under way, or held up."""
    name, well = service.spec.name, len(slots) - len(broken)
    if not slots:
        return [f"{name} wants no task: {_none_wanted(service)}"]
    if service.spec.mode.is_job:
        lines = list(tell_run(view, service, slots, now_ms))
    else:
        lines = [f"{well} of {len(slots)} tasks of {name} run and are healthy"]
        lines += tell_rollout(view, service, slots, now_ms)
    lines += tell_leaving(view, service, now_ms)
    if not any(node.state is NodeState.READY for node in view.nodes.values()):
        lines.append("no node of the cluster is ready")
    if broken and (brake := tell_brake(view)):
        lines.append(brake)
    return lines


def _none_wanted(service: Service) -> str:
    if service.spec.mode.is_global:
        return "it is global, and no node meets its constraints and is not drained"
    return "it is scaled to 0"


def _report(view: View, service: Service, slot: Slot, now_ms: int) -> SlotReport:
    task = slot.live or slot.latest
    node_id = slot.node_id or (task.node_id if task else None)
    reason, message = _now(view, service, slot, now_ms)
    return SlotReport(
        slot=slot.number,
        node=_node_name(view, node_id),
        task_id=task.id if task else None,
        revision=task.revision if task else None,
        state=task.status.state if task else None,
        reason=reason,
        message=message,
        since_ms=task.status.since_ms if task else None,
        refusals=_refusals(view, service, slot),
        exits=tuple(_exit(view, dead) for dead in reversed(slot.dead[-MAX_EXITS:])),
    )


def _now(view: View, service: Service, slot: Slot, now_ms: int) -> tuple[Reason, str]:
    """What the slot is waiting for."""
    task = slot.live
    if task is None:
        return _nothing_lives(view, service, slot)
    if (node := _silent_node(view, task)) is not None:
        return Reason.NODE_DOWN, _while_silent(node, view.spec_of(task).task)
    if task.node_id is not None and task.desired is DesiredState.READY:
        if slot.stopping:
            return Reason.WAITS_FOR_PREDECESSOR, f"waits until {slot.stopping[-1].name} has stopped"
        if task.not_before_ms > now_ms:
            wait = span(task.not_before_ms - now_ms)
            return Reason.BACKOFF, f"starts in {wait}, as attempt {task.attempt + 1}"
    if task.status.state is TaskState.RUNNING:
        return (
            task.status.reason,
            task.status.message or f"its health is {task.status.health.value}",
        )
    return task.status.reason, task.status.message


def _while_silent(node: Node, spec: TaskSpec) -> str:
    """What is to come of a task on a node that nobody hears."""
    said = f"its node is {node.state.value}: {node.message}"
    if spec.stop_after_s is not None:
        return (
            f"{said}; its agent stops it after {spec.stop_after_s:g} s without a manager, and it "
            f"is replaced once that, and {spec.stop_grace_period_s:g} s of grace, are surely over"
        )
    if spec.lost_after_s is not None:
        return f"{said}; it is replaced after {spec.lost_after_s:g} s of silence"
    return said


def _nothing_lives(view: View, service: Service, slot: Slot) -> tuple[Reason, str]:
    latest = slot.latest
    if latest is None:
        held = unmet(view, service)
        if held is not None:
            message = f"no task was created for this slot yet: it {held.message}"
            return Reason.WAITS_FOR_DEPENDENCY, message
        most = service.spec.max_concurrent
        turn = f": at most {most} run at a time" if most else ""
        return Reason.NONE, f"no task was created for this slot yet{turn}"
    final = _stays_down(view, service, slot)
    if final is not None:
        return latest.status.reason, f"not replaced: {final}"
    return latest.status.reason, latest.status.message or "it will be replaced"


def _stays_down(view: View, service: Service, slot: Slot) -> str | None:
    """Why nothing replaces what last ended in the slot; None if something does, or lives there."""
    if slot.live is not None or slot.latest is None:
        return None
    policy = restart_of(service, view.spec_of(slot.latest).task)
    return stays_down(slot, policy, service.revision)


def _refusals(view: View, service: Service, slot: Slot) -> dict[str, tuple[str, ...]]:
    """What speaks against each node that the slot could have, if it has none that it may keep."""
    task = slot.live
    if (task is not None and task.node_id is not None) or _stays_down(view, service, slot):
        return {}
    spec = view.spec_of(task).task if task else service.spec.task
    if slot.node_id is not None:
        node = view.nodes[slot.node_id]
        return {node.name: _against(view, service, slot, spec, node, None)}
    skew = skew_of(WhatIf(view, view.clock_ms), spec, service.spec.name)
    return {
        node.name: _against(view, service, slot, spec, node, skew) for node in view.sorted_nodes()
    }


def _against(
    view: View, service: Service, slot: Slot, spec: TaskSpec, node: Node, skew: Skew | None
) -> tuple[str, ...]:
    load = load_of(view, node.id, without=[task.id for task in slot.stopping])
    found = [*refusals(node, spec, load, service.spec.name)]
    if skew is not None and (ahead := skew.against(node)) is not None:
        found.append(ahead)
    return tuple(str(refusal) for refusal in found)


def _exit(view: View, task: Task) -> Exit:
    status = task.status
    made_way = task.ending is Reason.PREEMPTED
    return Exit(
        task_id=task.id,
        revision=task.revision,
        node=_node_name(view, task.node_id),
        state=status.state,
        reason=task.ending if made_way else status.reason,
        message="it made way for a task of greater priority" if made_way else status.message,
        exit_code=status.exit_code,
        at_ms=status.since_ms,
    )


def _node_name(view: View, node_id: NodeId | None) -> str | None:
    node = view.nodes.get(node_id) if node_id is not None else None
    return node.name if node else node_id
