"""Verdicts on nodes: ready as soon as heard, down when silent for long; then their tasks are lost.

When most nodes fall silent at once, the network has failed and not the nodes: the brake holds the
verdicts back, and the nodes' messages say so.
"""

from attrs import frozen

from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import Node, NodeState
from meshswarm.store.commands import LoseTask, SetNodeState
from meshswarm.store.view import Key, Table, View


@frozen(kw_only=True)
class Silence:
    """What the evidence says of one node."""

    node: Node
    ms: int
    heard: bool
    """Whether anything came from it, in its present incarnation, while this manager listened."""


def judge(
    whatif: WhatIf, dirty: frozenset[Key] | None, liveness: Liveness, policy: LivenessPolicy
) -> tuple[NodeId, ...]:
    """Decide the verdicts and give up dead nodes' tasks; returns the nodes to be probed."""
    silences = [silence_of(n, liveness, whatif.now_ms) for n in whatif.view.sorted_nodes()]
    alive = [s for s in silences if s.node.state is not NodeState.DOWN]
    quiet = [s for s in alive if s.ms >= policy.suspect_ms]
    # Suspects count as well: beats are spread, so a storm does not reach `down_ms` at one instant.
    is_storm = len(quiet) >= policy.storm_nodes and len(quiet) > policy.storm_share * len(alive)
    for silence in silences:
        verdict = _verdict(silence, policy, f"{len(quiet)} of {len(alive)}" if is_storm else None)
        if verdict != (silence.node.state, silence.node.message):
            state, message = verdict
            whatif.do(SetNodeState(node_id=silence.node.id, state=state, message=message))
    for silence in alive:
        _wake(whatif, silence, policy)
    whatif.silent = frozenset(silence.node.id for silence in quiet)
    _give_up_tasks(whatif, dirty)
    return tuple(s.node.id for s in quiet if whatif.view.nodes[s.node.id].state is NodeState.READY)


def silence_of(node: Node, liveness: Liveness, now_ms: int) -> Silence:
    """How long nothing was heard of the node; a new one is at most as silent as it is old."""
    ms = liveness.silent_ms.get(node.id)
    if ms is not None:
        # A process newer than the registered one has yet to say what it is.
        is_registered = liveness.incarnations.get(node.id, 0) <= node.incarnation
        return Silence(node=node, ms=ms, heard=is_registered)
    ms = liveness.observing_ms
    if node.state is NodeState.UNKNOWN:
        ms = min(ms, max(0, now_ms - node.since_ms))
    return Silence(node=node, ms=ms, heard=False)


def _verdict(silence: Silence, policy: LivenessPolicy, storm: str | None) -> tuple[NodeState, str]:
    """The state that the node should have, and what is to be said of it."""
    node = silence.node
    if silence.ms < policy.suspect_ms and silence.heard:
        return NodeState.READY, ""
    if node.state is NodeState.DOWN or silence.ms < policy.down_ms:
        return node.state, node.message
    if storm is not None:
        return node.state, (
            f"silent, as {storm} nodes are at once: held, for then the network is likelier "
            "to have failed than the nodes"
        )
    return NodeState.DOWN, f"nothing was heard of it for {policy.down_ms / 1_000:g} s"


def _wake(whatif: WhatIf, silence: Silence, policy: LivenessPolicy) -> None:
    """Come back when the node's silence would cross the next limit."""
    for limit_ms in (policy.suspect_ms, policy.down_ms):
        if silence.ms < limit_ms:
            whatif.wake(whatif.now_ms + limit_ms - silence.ms)
            return


def _give_up_tasks(whatif: WhatIf, dirty: frozenset[Key] | None) -> None:
    """Lose the tasks of dead nodes, as far as the change reaches."""
    changed = None if dirty is None else dirty | whatif.changed
    for node_id in _nodes_touched(whatif.view, changed):
        node = whatif.view.nodes.get(node_id)
        if node is None or node.state is not NodeState.DOWN:
            continue
        for task in whatif.view.tasks_on(node_id):
            if not task.status.state.is_terminal:
                whatif.do(LoseTask(task_id=task.id, message=f"node {node.name} is down"))
        if whatif.is_full:
            whatif.wake(whatif.now_ms)
            whatif.revisit.add((Table.NODES, node_id))


def _nodes_touched(view: View, changed: frozenset[Key] | None) -> list[NodeId]:
    if changed is None:
        return sorted(view.nodes)
    found = {NodeId(key) for table, key in changed if table is Table.NODES}
    for table, key in changed:
        task = view.tasks.get(TaskId(key)) if table is Table.TASKS else None
        if task is not None and task.node_id is not None:
            found.add(task.node_id)
    return sorted(found)
