"""The scheduler: gives tasks their nodes, for life, or says why no node will do.

Identical tasks are placed as one group: every node is judged once and kept in a heap, so k tasks
on n nodes cost n + k log n.
"""

import heapq
from collections.abc import Collection, Iterable, Sequence

from attrs import evolve

from meshswarm.control.filters import Load, Refusal, in_one_sentence, refusal
from meshswarm.control.score import Score, Standing
from meshswarm.control.slots import slots_of
from meshswarm.control.whatif import WhatIf, load_of
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Reason, Task
from meshswarm.store.commands import AssignTask, CreateTask, ExplainTask

MAX_MESSAGE = 1_000
"""Characters of an explanation (the limit of `TaskStatus.message`)."""

Waiting = CreateTask | Task
"""What wants a node: a task not yet created, or one that has waited before."""


def place(whatif: WhatIf, service_id: ServiceId, drafts: Sequence[CreateTask]) -> None:
    """Create the drafts, and give them and the service's waiting tasks nodes if any will do."""
    waiting: list[Waiting] = [*_unplaced(whatif, service_id), *drafts]
    if not waiting:
        return
    stopping = {s.number: s.stopping for s in slots_of(whatif.view.tasks_of(service_id))}
    groups: dict[tuple[int, frozenset[TaskId]], list[Waiting]] = {}
    for one in waiting:
        # What a predecessor holds is free before its successor starts.
        predecessors = frozenset(task.id for task in stopping.get(one.slot, ()))
        groups.setdefault((one.revision, predecessors), []).append(one)
    for (revision, predecessors), group in groups.items():
        _place_group(whatif, service_id, revision, group, predecessors)


def explain_waiting(whatif: WhatIf, service_id: ServiceId) -> None:
    """Say why each waiting task of the service has no node, where that has changed."""
    told: dict[int, str] = {}
    for task in _unplaced(whatif, service_id):
        if task.revision not in told:
            told[task.revision] = why_nowhere(whatif, whatif.view.spec_of(task).task)
        message = told[task.revision]
        if message and message != task.status.message:
            reason = Reason.NO_SUITABLE_NODE
            whatif.do(ExplainTask(task_id=task.id, reason=reason, message=message))


def why_nowhere(
    whatif: WhatIf,
    spec: TaskSpec,
    without: Collection[TaskId] = (),
    only: NodeId | None = None,
) -> str:
    """Why no node (or not the `only` one) takes the task, some tasks thought away; else empty."""
    nodes = whatif.view.sorted_nodes() if only is None else [whatif.view.nodes[only]]
    found: list[Refusal] = []
    for node in nodes:
        against = refusal(node, spec, _load(whatif, node.id, without))
        if against is None:
            return ""
        found.append(against)
    return in_one_sentence(found)[:MAX_MESSAGE]


def _place_group(
    whatif: WhatIf,
    service_id: ServiceId,
    revision: int,
    group: Iterable[Waiting],
    predecessors: Collection[TaskId],
) -> None:
    spec = whatif.view.revisions[service_id][revision].task
    tasks = whatif.view.tasks_of(service_id)
    standing = Standing(tasks, revision, whatif.silent, whatif.now_ms)
    heap: list[tuple[Score, NodeId]] = []

    def offer(node: Node, load: Load) -> None:
        if refusal(node, spec, load) is None:
            heapq.heappush(heap, (standing.score(node, load), node.id))

    for node in whatif.view.nodes.values():
        offer(node, _load(whatif, node.id, predecessors))
    for one in group:
        if not heap:
            _leave_waiting(whatif, one, spec)
            continue
        _, node_id = heapq.heappop(heap)
        _bind(whatif, one, node_id)
        standing.note_placed(node_id)
        offer(whatif.view.nodes[node_id], _load(whatif, node_id, predecessors))


def _bind(whatif: WhatIf, one: Waiting, node_id: NodeId) -> None:
    if isinstance(one, Task):
        whatif.do(AssignTask(task_id=one.id, node_id=node_id))
    else:
        whatif.do(evolve(one, node_id=node_id))


def _leave_waiting(whatif: WhatIf, one: Waiting, spec: TaskSpec) -> None:
    """Create the draft without a node; one that waits already is explained at the end."""
    if isinstance(one, CreateTask):
        message = why_nowhere(whatif, spec)
        whatif.do(evolve(one, reason=Reason.NO_SUITABLE_NODE, message=message))


def _load(whatif: WhatIf, node_id: NodeId, without: Collection[TaskId]) -> Load:
    tasks = whatif.view.tasks
    if any(tasks[task_id].node_id == node_id for task_id in without):
        return load_of(whatif.view, node_id, without=without)
    return whatif.load_of(node_id)


def _unplaced(whatif: WhatIf, service_id: ServiceId) -> list[Task]:
    if not whatif.view.unplaced:
        return []
    tasks = whatif.view.tasks_of(service_id)
    return [task for task in tasks if task.node_id is None and task.is_live]
