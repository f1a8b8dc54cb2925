"""What becomes of a dead node's tasks: lost at once, or once the node was silent for as long as
their service bears it.

*Invariant:* a task whose agent fences itself (`stop_after`) is lost only when that agent must have
ended it: at most one task of its slot runs, as long as its agent does.
"""

from collections.abc import Mapping

from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Task
from meshswarm.store.commands import LoseTask
from meshswarm.store.view import Key, Table, View

CLOCKS_APART = 100
"""Two hosts' clocks gain less than a hundredth on each other."""


def give_up_tasks(
    whatif: WhatIf,
    dirty: frozenset[Key] | None,
    silent_ms: Mapping[NodeId, int],
    liveness: Liveness,
    policy: LivenessPolicy,
) -> None:
    """Lose the tasks of dead nodes whose time has come, as far as the change reaches."""
    changed = None if dirty is None else dirty | whatif.changed
    for node_id in _nodes_touched(whatif.view, changed):
        node = whatif.view.nodes.get(node_id)
        if node is None or node.state is not NodeState.DOWN:
            continue
        for task in whatif.view.tasks_on(node_id):
            if not task.status.state.is_terminal:
                _give_up(whatif, node, task, silent_ms.get(node_id, 0), liveness, policy)
        if whatif.is_full:
            whatif.wake(whatif.now_ms)
            whatif.revisit.add((Table.NODES, node_id))


def borne_ms(spec: TaskSpec, policy: LivenessPolicy) -> int:
    """For how long a node may be silent before a task with this spec is replaced."""
    lost_after_ms = max(policy.down_ms, round(1_000 * (spec.lost_after_s or 0)))
    if spec.stop_after_s is None:
        return lost_after_ms
    ended_ms = round(1_000 * (spec.stop_after_s + spec.stop_grace_period_s))
    return max(lost_after_ms, ended_ms + ended_ms // CLOCKS_APART + policy.fence_ms)


def _give_up(
    whatif: WhatIf,
    node: Node,
    task: Task,
    silent_ms: int,
    liveness: Liveness,
    policy: LivenessPolicy,
) -> None:
    spec = whatif.view.spec_of(task).task
    if spec.stop_after_s is not None:
        # What an earlier leader heard, and let the agent know that it heard, may be news here.
        silent_ms = min(silent_ms, liveness.leading_ms)
    left_ms = borne_ms(spec, policy) - silent_ms
    if left_ms <= 0:
        whatif.do(LoseTask(task_id=task.id, message=f"node {node.name} is down"))
    else:
        whatif.wake(whatif.now_ms + left_ms)
        whatif.revisit.add((Table.TASKS, task.id))


def _nodes_touched(view: View, changed: frozenset[Key] | None) -> list[NodeId]:
    if changed is None:
        return sorted(view.nodes)
    found = {NodeId(key) for table, key in changed if table is Table.NODES}
    for table, key in changed:
        task = view.tasks.get(TaskId(key)) if table is Table.TASKS else None
        if task is not None and task.node_id is not None:
            found.add(task.node_id)
    return sorted(found)
