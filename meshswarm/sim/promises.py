"""What the controllers promise of every entry of the log, judged by its rows before and after.

Only rows are looked at, by rules that know nothing of how controllers decide.
"""

from collections import Counter
from collections.abc import Iterable

from attrs import define, field

from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.job import RunPhase
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.rollout import RolloutReason, UpdateOrder
from meshswarm.model.service import Service, TaskSpec
from meshswarm.model.task import Task
from meshswarm.sim.trace import Violation
from meshswarm.store.view import Key, Table, View

GIVEN_UP = (RolloutReason.TASKS_FAILED, RolloutReason.NO_PROGRESS)
"""Why controllers, and not users, turn a rollout back."""


@define(eq=False)
class Promises:
    """The books of one cluster's log."""

    _specs: dict[tuple[ServiceId, int], TaskSpec] = field(factory=dict)
    """What each revision was when it was first seen."""

    def entry(self, before: View, after: View, changed: frozenset[Key]) -> None:
        """An entry was committed; raises `Violation`."""
        touched: set[ServiceId] = set()
        for table, key in sorted(changed, key=lambda item: (item[0].value, item[1])):
            if table is Table.TASKS:
                old, new = before.tasks.get(TaskId(key)), after.tasks.get(TaskId(key))
                touched |= {task.service_id for task in (old, new) if task is not None}
                if old is not None and new is not None:
                    _goes_forward(old, new)
            elif table is Table.SERVICES:
                touched.add(ServiceId(key))
            elif table is Table.REVISIONS:
                self._keeps(after, key)
            elif table is Table.ROLLOUTS:
                self._restores(before, after, ServiceId(key))
        for service_id in sorted(touched):
            self._is_its_revision(after, service_id)
            _check_slots(after, service_id)
            _check_surge(before, after, service_id)

    # --- revisions ----------------------------------------------------------------------------

    def _keeps(self, after: View, key: str) -> None:
        """A revision never becomes another."""
        owner, _, number = key.partition("/")
        numbered = after.revisions.get(ServiceId(owner))
        row = numbered.get(int(number)) if numbered else None
        if row is not None:
            known = self._specs.setdefault((row.service_id, row.number), row.task)
            if known != row.task:
                raise Violation(f"revision {number} of {owner} was {known}, and is {row.task}")

    def _is_its_revision(self, after: View, service_id: ServiceId) -> None:
        """A service's spec is what its revision was from the beginning."""
        service = after.services.get(service_id)
        if service is None:
            return
        known = self._specs.get((service_id, service.revision))
        if known != service.spec.task:
            raise Violation(
                f"{service.spec.name} is at revision {service.revision}, which was {known}, "
                f"and asks for {service.spec.task}"
            )

    def _restores(self, before: View, after: View, service_id: ServiceId) -> None:
        """What controllers give up goes back to the last revision that was known to be good."""
        old, new = before.rollouts.get(service_id), after.rollouts.get(service_id)
        if old is None or new is None or old.phase.goes_back or not new.phase.goes_back:
            return
        revision = after.services[service_id].revision
        if new.reason in GIVEN_UP and revision != old.stable_revision:
            raise Violation(
                f"{service_id} goes back to revision {revision}, stable was {old.stable_revision}"
            )

    def runs(self, task: Task, spec: TaskSpec) -> None:
        """An agent makes this ready for the task: no other spec than that of its revision."""
        known = self._specs.get((task.service_id, task.revision))
        if known is not None and known != spec:
            raise Violation(f"{task.name} is made ready as {spec}, its revision is {known}")


# --- tasks --------------------------------------------------------------------------------------


def _goes_forward(old: Task, new: Task) -> None:
    """States and wishes only move forward, and a task keeps the node that it has."""
    if new.status.state < old.status.state or new.desired < old.desired:
        raise Violation(
            f"{new.name} goes back from {old.status.state.label} to {new.status.state.label}, "
            f"{old.desired.label} to {new.desired.label}"
        )
    if old.node_id is not None and new.node_id != old.node_id:
        raise Violation(f"{new.name} moves from {old.node_id} to {new.node_id}")


def _places(tasks: Iterable[Task]) -> Counter[tuple[int, str]]:
    """How many live tasks each slot has; that of a global service is its node."""
    live = (task for task in tasks if task.is_live)
    return Counter((task.slot, "" if task.slot else task.node_id or "") for task in live)


def _check_slots(after: View, service_id: ServiceId) -> None:
    """No slot has two tasks that are meant to run, but for the old and the new one of a service
    that starts first, or of a move."""
    tasks = after.tasks_of(service_id)
    places = _places(tasks)
    may_be_two = starts_first(after, service_id) or _is_moving(after, service_id)
    # Its moves start first, and one may be committed when its node is no longer to be left.
    may_be_two |= _lets_nothing_be_missing(after, service_id)
    most = 2 if may_be_two else 1
    if places and max(places.values()) > most:
        names = " ".join(task.name for task in tasks if task.is_live)
        raise Violation(f"too many live tasks in a slot at index {after.index}: {names}")


def _lets_nothing_be_missing(view: View, service_id: ServiceId) -> bool:
    service = view.services.get(service_id)
    return service is not None and service.spec.max_unavailable == 0


def _is_moving(view: View, service_id: ServiceId) -> bool:
    """Whether some task of the service is to leave its node, which may be start-first."""
    return any(task.is_live and leaves(view, task) for task in view.tasks_of(service_id))


def leaves(view: View, task: Task) -> bool:
    """Whether the task is to leave its node: that is drained, or the task is moved."""
    node = view.nodes.get(task.node_id) if task.node_id is not None else None
    return task.leaves or (node is not None and node.availability is Availability.DRAIN)


def starts_first(view: View, service_id: ServiceId) -> bool:
    """Whether a slot of the service may have an old task beside the new one; users never change
    that of a service, and of one that is gone nobody knows."""
    service = view.services.get(service_id)
    return service is None or service.spec.update.order is UpdateOrder.START_FIRST


def _check_surge(before: View, after: View, service_id: ServiceId) -> None:
    """Nobody makes tasks of more slots than are wanted, nor of more of them two than may be under
    way at once.

    More than that there may be for a while, after a user wanted less: then none is added.
    """
    service = after.services.get(service_id)
    if service is None:
        return
    old, new = _places(before.tasks_of(service_id)), _places(after.tasks_of(service_id))
    wanted, surge = _wanted(after, service), _surge(after, service)
    if len(new) > max(wanted, len(old)):
        raise Violation(
            f"{len(new)} slots of {service.spec.name} have tasks at index {after.index}, wanted "
            f"are {wanted}: {dict(new)}"
        )
    pairs = sum(count > 1 for count in new.values())
    if pairs > max(surge, sum(count > 1 for count in old.values())):
        raise Violation(
            f"{pairs} slots of {service.spec.name} have two tasks at index {after.index}, "
            f"{surge} may"
        )


def _wanted(view: View, service: Service) -> int:
    if service.spec.mode.is_global:
        return len(view.nodes)
    return service.spec.replicas


def _surge(view: View, service: Service) -> int:
    """Slots that may have two tasks at a time. Moves that were under way when a rollout began count
    apart from its turns: else a move that gets stuck could keep out the revision that helps."""
    policies = service.spec.update, service.spec.rollback
    first = [one for one in policies if one.order is UpdateOrder.START_FIRST]
    turns = max((one.parallelism or 1_000_000 for one in first), default=0)
    moves = max(one.parallelism or 1_000_000 for one in policies)
    # One may be committed when its node is no longer to be left.
    is_moving = _is_moving(view, service.id) or _lets_nothing_be_missing(view, service.id)
    return turns + (moves if is_moving else 0)


# --- when all is calm ---------------------------------------------------------------------------


def slot_faults(view: View, alive: Iterable[NodeId]) -> list[str]:
    """Services that have not the tasks that they should, one healthy task in each slot."""
    found: list[str] = []
    nodes = [view.nodes[node] for node in alive if node in view.nodes]
    by_node = {node.id: node.availability for node in nodes if node.state is NodeState.READY}
    for service in view.sorted_services():
        live = [task for task in view.tasks_of(service.id) if task.is_live]
        if service.spec.mode.is_job:
            found += _run_faults(view, service, live)
            continue
        wanted = service.spec.replicas
        if service.spec.mode.is_global:
            wanted = sum(what is Availability.ACTIVE for what in by_node.values())
            # A paused node keeps what it has, and gets nothing new.
            live = [
                task
                for task in live
                if task.node_id
                and by_node.get(task.node_id) is not Availability.PAUSE
                and not _stays_drained(view, task.node_id)
            ]
        rollout = view.rollouts.get(service.id)
        is_held = _waits_for_a_user(view, service)
        if rollout is not None and rollout.phase.is_active and not is_held:
            found.append(f"{service.spec.name} is {rollout.phase.value}")
        # A rollout that is paused, or waits for a user, leaves what it did not reach alone.
        any_revision = is_held or (rollout is not None and rollout.phase.is_paused)
        good = [
            task
            for task in live
            if task.is_healthy and (any_revision or task.revision == service.revision)
        ]
        places = {(task.slot, None if task.slot else task.node_id) for task in good}
        if is_held and len(live) == len(good) == len(places) <= wanted:
            continue
        if not len(live) == len(good) == len(places) == wanted:
            found.append(
                f"{service.spec.name}: {len(good)} good of {len(live)} tasks, wanted {wanted}"
            )
    return found


def _stays_drained(view: View, node_id: NodeId) -> bool:
    """Whether a drained node is never left: something on it may neither be missing nor run twice,
    and there is no deadline. What a global service has there goes last."""
    node = view.nodes[node_id]
    if node.availability is not Availability.DRAIN or node.drain_by_ms:
        return False
    for task in view.tasks_on(node_id):
        service = view.services.get(task.service_id)
        if service is None or not task.is_live or view.spec_of(task).task.stop_after_s is None:
            continue
        if 0 in (service.spec.max_unavailable, service.spec.max_unavailable_percent):
            return True
    return False


def _waits_for_a_user(view: View, service: Service) -> bool:
    """Whether something that it depends on will not come to be so by itself: it is gone, it failed,
    or its rollout is paused. New tasks wait for that, and a rollout up to its progress deadline."""
    for one in service.spec.depends_on:
        other = view.service_named(one.service)
        if other is None:
            return True
        run, rollout = view.runs.get(other.id), view.rollouts.get(other.id)
        if run is not None and run.phase is RunPhase.FAILED:
            return True
        if rollout is not None and rollout.phase.is_paused:
            return True
        if _waits_for_a_user(view, other):
            return True
    return False


def _run_faults(view: View, service: Service, live: list[Task]) -> list[str]:
    """A job that has not come to its end, unless a node that takes nothing holds it up."""
    nodes = view.nodes.values()
    is_held = service.spec.mode.is_global and any(
        node.availability is Availability.PAUSE for node in nodes
    )
    is_held |= _waits_for_a_user(view, service)
    if view.runs[service.id].phase.is_over or (is_held and not live):
        return []
    return [f"the job {service.spec.name} has not ended"]
