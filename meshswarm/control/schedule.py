"""The scheduler: gives tasks their nodes, for life, or says why no node will do.

Identical tasks are placed as one group: every node is judged once and kept in a heap, so k tasks
on n nodes cost n + k log n.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import evolve, frozen

from meshswarm.control.branches import Path, branches
from meshswarm.control.filters import (
    Refusal,
    filters_by_load,
    filters_by_more,
    first_refusal,
    granted,
    in_one_sentence,
    is_let_in,
    refusal,
    suits,
    value_of,
)
from meshswarm.control.loads import Load, load_of, more_of
from meshswarm.control.preempt import make_room
from meshswarm.control.score import Score, Standing, recent_failures
from meshswarm.control.skew import skew_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node
from meshswarm.model.resources import DeviceGrant
from meshswarm.model.service import Service, TaskSpec
from meshswarm.model.task import DesiredState, Reason, Task, TaskState
from meshswarm.store.commands import AssignTask, CreateTask, ExplainTask
from meshswarm.store.view import task_order

MAX_MESSAGE = 1_000
"""Characters of an explanation (the limit of `TaskStatus.message`)."""

WAITS_FOR_ROOM = "tasks that stop on a node will leave it room"
"""Said of a task for which others make way."""

Waiting = CreateTask | Task
"""What wants a node: a task not yet created, or one that has waited before."""


@frozen(kw_only=True)
class Group:
    """Tasks of one service that any node suits as well as another."""

    service: Service
    revision: int
    spec: TaskSpec
    members: Sequence[Waiting]
    predecessors: frozenset[TaskId]
    """What these hold is free before the members start."""

    @property
    def name(self) -> str:
        """The service's full name."""
        return self.service.spec.name


def place(whatif: WhatIf, service_id: ServiceId, drafts: Sequence[CreateTask]) -> None:
    """Create the drafts, and give them and the service's waiting tasks nodes if any will do."""
    service = whatif.view.services.get(service_id)
    if service is None or not (drafts or whatif.view.unplaced):
        return
    tasks = whatif.slots_of(service_id).restless_rows()  # those at rest want nothing
    left: list[tuple[Group, Sequence[Waiting]]] = []
    for group in _groups(whatif, service, tasks, drafts):
        failures = recent_failures(tasks, group.revision, whatif.now_ms)
        left.append((group, _place_group(whatif, group, failures)))
    for group, members in left:
        if members:
            _leave_waiting(whatif, group, members)


def explain_waiting(whatif: WhatIf, service_id: ServiceId) -> None:
    """Say why each waiting task of the service has no node, where that has changed."""
    told: dict[int, str] = {}
    for task in _unplaced(whatif, service_id):
        reason, message = Reason.WAITS_FOR_ROOM, WAITS_FOR_ROOM
        if task.id not in whatif.promised:
            if task.revision not in told:
                spec = whatif.view.spec_of(task).task
                told[task.revision] = why_nowhere(whatif, spec, task.service_name)
            reason, message = Reason.NO_SUITABLE_NODE, told[task.revision]
        if message and message != task.status.message:
            whatif.do(ExplainTask(task_id=task.id, reason=reason, message=message))


def why_nowhere(
    whatif: WhatIf,
    spec: TaskSpec,
    name: str,
    without: Collection[TaskId] = (),
    only: NodeId | None = None,
) -> str:
    """Why no node (or not the `only` one) takes the task of the service of that name, some tasks
    thought away; empty if one does."""
    nodes = whatif.view.sorted_nodes() if only is None else [whatif.view.nodes[only]]
    aside = _nodes_of(whatif, without)
    skew = skew_of(whatif, spec, name, without) if only is None else None
    found: list[Refusal] = []
    for node in nodes:
        against = refusal(node, spec, _load(whatif, node.id, without, aside), name)
        if against is None and skew is not None:
            against = skew.against(node)
        if against is None:
            return ""
        found.append(against)
    return in_one_sentence(found)[:MAX_MESSAGE]


# --- groups -----------------------------------------------------------------------------------


def _groups(
    whatif: WhatIf, service: Service, tasks: Sequence[Task], drafts: Sequence[CreateTask]
) -> list[Group]:
    stopping: dict[int, list[TaskId]] = {}
    waiting: list[Task] = []
    for task in tasks:
        if task.status.state >= TaskState.COMPLETE:
            continue
        if task.desired > DesiredState.RUNNING:
            if task.ending is not Reason.PREEMPTED:
                stopping.setdefault(task.slot, []).append(task.id)
        elif task.node_id is None:
            waiting.append(task)
    members: dict[tuple[int, frozenset[TaskId]], list[Waiting]] = {}
    everyone: list[Waiting] = [*_by_claim(whatif, waiting), *drafts]
    for one in everyone:
        leaving = stopping.get(one.slot) if stopping else None
        predecessors = frozenset(leaving) if leaving else _NOBODY
        members.setdefault((one.revision, predecessors), []).append(one)
    return [
        Group(
            service=service,
            revision=revision,
            spec=whatif.view.revisions[service.id][revision].task,
            members=group,
            predecessors=predecessors,
        )
        for (revision, predecessors), group in members.items()
    ]


_NOBODY: frozenset[TaskId] = frozenset()


def _by_claim(whatif: WhatIf, tasks: Sequence[Task]) -> list[Task]:
    """The tasks in order, but first whom room is promised, lest the promise goes round."""
    told, promised = Reason.WAITS_FOR_ROOM, whatif.promised
    ordered = sorted(tasks, key=_waiting_order)
    first = [t for t in ordered if t.status.reason is told or t.id in promised]
    if not first:
        return ordered
    claims = {task.id for task in first}
    return first + [task for task in ordered if task.id not in claims]


def _waiting_order(task: Task) -> tuple[int, int, str]:
    """`task_order` of tasks that have no node, which is quicker to tell."""
    return (task.slot, task.created_at_ms, task.id)


def _place_group(whatif: WhatIf, group: Group, failures: Counter[NodeId]) -> Sequence[Waiting]:
    """Give the group's tasks the best nodes; returns those that no node takes.

    The commands are carried out together at the end.
    """
    spec, name = group.spec, group.name
    standing = Standing(spec, name, failures)
    aside = _nodes_of(whatif, group.predecessors)
    suited, by_load = suits(spec), filters_by_load(spec)
    follow = _Following(whatif, group, standing, aside)
    skew = skew_of(whatif, spec, name)
    tree = branches(_counts(whatif, group), None if skew is None else (skew.tasks, skew.most))

    add, score, known = tree.add, standing.score, whatif.loads
    path_of = _path_of(spec)
    asks_only_to_be_let_in = by_load == (is_let_in,)
    # Thousands of nodes for each of thousands of groups: what need not be called is not.
    for node in whatif.candidates(spec):
        if suited is not None and not suited(node):
            continue
        load = known.get(node.id)
        if load is None or aside:
            load = _load(whatif, node.id, group.predecessors, aside)
        is_let_in_by_all = asks_only_to_be_let_in and not load.shunned
        if is_let_in_by_all or first_refusal(by_load, node, spec, load, name) is None:
            add(path_of(node) if path_of else (), score(node, load))

    most, bound = min(whatif.room, len(group.members)), follow.bound
    take = follow.take_like if follow.is_plain else follow.take
    while tree and len(bound) < most:
        tree.take(take)
    whatif.do_all(bound, {n: load for n, load in follow.loads().items() if n not in aside})
    whatif.is_full |= bool(tree) and len(bound) < len(group.members)
    return group.members[len(bound) :]


class _Following:
    """A group's members as they are bound to nodes, and what that makes of the nodes' loads."""

    def __init__(
        self, whatif: WhatIf, group: Group, standing: Standing, aside: Collection[NodeId | None]
    ) -> None:
        spec, name = group.spec, group.name
        self.bound: list[CreateTask | AssignTask] = []
        self._whatif, self._group, self._aside = whatif, group, aside
        self._nodes, self._score = whatif.view.nodes, standing.score
        self._by_more, self._more = filters_by_more(spec, name), more_of(spec, name)
        self._loads: dict[NodeId, Load] = {}
        self._placed: dict[NodeId, int] = {}
        self.is_plain = not (self._by_more or spec.devices or spec.placement.affinities)
        """Whether no member stands in the way of the next: then a node's load need not be followed
        from one to the other, but is counted once, at the end."""

    def loads(self) -> dict[NodeId, Load]:
        """The loads of the nodes that were given members."""
        for node_id, times in self._placed.items():
            self._loads[node_id] = self._loads[node_id].plus(self._more, times=times)
        self._placed.clear()
        return self._loads

    def take_like(self, node_id: NodeId) -> Score | None:
        """Give the node a member of a plain group; its score for the next one."""
        load = self._loads.get(node_id)
        if load is None:
            load = self._loads[node_id] = self._load(node_id)
        members, bound = self._group.members, self.bound
        bound.append(_bound(members[len(bound)], node_id, ()))
        self._placed[node_id] = times = self._placed.get(node_id, 0) + 1
        return self._score(self._nodes[node_id], load, times)

    def take(self, node_id: NodeId) -> Score | None:
        """Give the node a member; its score for the next one, None if it takes no more."""
        spec, name = self._group.spec, self._group.name
        node, load = self._nodes[node_id], self._loads.get(node_id)
        if load is None:
            load = self._load(node_id)
        devices = granted(node, spec, load) if spec.devices else ()
        self.bound.append(_bound(self._group.members[len(self.bound)], node_id, devices))
        load = self._loads[node_id] = load.plus(self._more, devices)
        if first_refusal(self._by_more, node, spec, load, name) is not None:
            return None
        return self._score(node, load)

    def _load(self, node_id: NodeId) -> Load:
        return _load(self._whatif, node_id, self._group.predecessors, self._aside)


def _counts(whatif: WhatIf, group: Group) -> list[Mapping[Path, int]]:
    """For each depth of the preferences: the service's tasks by the nodes' values."""
    found: list[Counter[Path]] = [Counter() for _ in group.spec.placement.spread_over]
    path_of = _path_of(group.spec)
    nodes = whatif.view.nodes.values() if path_of else ()
    for node in nodes:
        live = whatif.load_of(node.id).live_of(group.name)
        if live and path_of:
            path = path_of(node)
            for depth, counts in enumerate(found, 1):
                counts[path[:depth]] += live
    return list(found)


def _path_of(spec: TaskSpec) -> Callable[[Node], Path] | None:
    """A node's values of the labels over which to spread; None: over none."""
    values = [value_of(label) for label in spec.placement.spread_over]
    return (lambda node: tuple([value(node) for value in values])) if values else None


def _bound(
    one: Waiting, node_id: NodeId, devices: tuple[DeviceGrant, ...]
) -> CreateTask | AssignTask:
    if isinstance(one, Task):
        return AssignTask(task_id=one.id, node_id=node_id, devices=devices)
    return evolve(one, node_id=node_id, devices=devices)


def _leave_waiting(whatif: WhatIf, group: Group, left: Sequence[Waiting]) -> None:
    """Create the drafts without a node, and make room for what may have others' place.

    What waits already is explained at the end, and so is all that a full pass leaves.
    """
    drafts = [one for one in left if isinstance(one, CreateTask)]
    if drafts and not whatif.is_full:
        message = why_nowhere(whatif, group.spec, group.name)
        for one in drafts:
            whatif.do(evolve(one, reason=Reason.NO_SUITABLE_NODE, message=message))
    if not whatif.is_full:
        make_room(whatif, group.service, group.spec, [_id_of(one) for one in left])


def _id_of(one: Waiting) -> TaskId:
    return one.id if isinstance(one, Task) else one.task_id


def _nodes_of(whatif: WhatIf, task_ids: Collection[TaskId]) -> Collection[NodeId | None]:
    return {whatif.view.tasks[task_id].node_id for task_id in task_ids}


def _load(
    whatif: WhatIf,
    node_id: NodeId,
    without: Collection[TaskId],
    aside: Collection[NodeId | None],
) -> Load:
    """The node's load without some tasks, which are on the nodes `aside`."""
    if aside and node_id in aside:
        load = load_of(whatif.view, node_id, without=without)
        for more in whatif.held_on(node_id):
            load = load.plus(more)
        return load
    return whatif.load_of(node_id)


def _unplaced(whatif: WhatIf, service_id: ServiceId) -> list[Task]:
    view = whatif.view
    rows = (view.tasks[task_id] for task_id in view.unplaced)
    return sorted((row for row in rows if row.service_id == service_id), key=task_order)
