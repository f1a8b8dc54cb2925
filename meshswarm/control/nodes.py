"""Verdicts on nodes: ready as soon as heard, suspect when silent, down when silent for long.

A node that was down again and again is unstable for a while before it is ready; while the brake is
on, nodes stay suspect that would be down. What becomes of a dead node's tasks is next door, in
`losses`.
"""

from attrs import frozen

from meshswarm.control.brake import Silence, Storm, is_held, latest_return_ms, storm_of
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId
from meshswarm.model.node import Node, NodeState
from meshswarm.store.commands import SetNodeState

_SILENT = (NodeState.SUSPECT, NodeState.DOWN)


@frozen(kw_only=True)
class Judged:
    """What was found of the nodes."""

    suspects: tuple[NodeId, ...]
    """To be probed through other managers."""
    silent_ms: dict[NodeId, int]
    """Of those that are down: for how long nothing was heard of them."""


def judge(whatif: WhatIf, liveness: Liveness, policy: LivenessPolicy) -> Judged:
    """Decide the verdicts."""
    now_ms = whatif.now_ms
    nodes = whatif.view.sorted_nodes()
    silences = [silence_of(node, liveness, policy, now_ms) for node in nodes]
    storm = storm_of(silences, policy, now_ms)
    if storm is not None and storm.next_at_ms is not None:
        whatif.wake(storm.next_at_ms)
    patient_until_ms = latest_return_ms(silences, now_ms) + policy.down_ms
    is_patient = now_ms < patient_until_ms
    found: dict[NodeId, int] = {}
    for silence in silences:
        node = silence.node
        if silence.is_over and _is_calm(node, now_ms):
            whatif.wake(now_ms + policy.suspect_ms - silence.ms)
            continue
        found[node.id] = silence.ms
        if storm is None and is_patient and is_held(node) and not silence.is_over:
            whatif.wake(patient_until_ms)  # others came back just now: so may this one
            continue
        verdict = _verdict(silence, storm, policy, now_ms)
        if verdict is not None:
            whatif.do(verdict)
        _wake(whatif, whatif.view.nodes[node.id], silence, policy)
    rows = whatif.view.nodes
    return Judged(
        suspects=tuple(n for n in found if rows[n].state is NodeState.SUSPECT),
        silent_ms={n: ms for n, ms in found.items() if rows[n].state is NodeState.DOWN},
    )


def silence_of(node: Node, liveness: Liveness, policy: LivenessPolicy, now_ms: int) -> Silence:
    """How long nothing was heard of the node; a new one is at most as silent as it is old."""
    ms = liveness.silent_ms.get(node.id)
    if ms is None:
        ms = liveness.observing_ms
        if node.state is NodeState.UNKNOWN:
            ms = min(ms, max(0, now_ms - node.since_ms))
        return Silence(node, ms, ms >= policy.suspect_ms, is_doubted=False, is_over=False)
    is_long, is_doubted = ms >= policy.suspect_ms, node.id in liveness.doubted
    # A process newer than the registered one has yet to say what it is.
    is_registered = liveness.incarnations.get(node.id, 0) <= node.incarnation
    is_over = is_registered and not is_long and not is_doubted
    return Silence(node, ms, is_long, is_doubted, is_over)


def _is_calm(node: Node, now_ms: int) -> bool:
    """Whether a node that answers is told to be ready already: most are, in most passes."""
    is_ready = node.state is NodeState.READY and not node.message
    return is_ready and node.trusted_at_ms <= now_ms and not is_held(node)


def _verdict(
    silence: Silence, storm: Storm | None, policy: LivenessPolicy, now_ms: int
) -> SetNodeState | None:
    """What is to be written of the node; None: nothing."""
    node = silence.node
    if silence.is_over:
        return _answers(node, policy, now_ms)
    if node.state is not NodeState.DOWN and silence.ms >= policy.down_ms:
        return _down(silence, storm, policy)
    if node.state is NodeState.DOWN and is_held(node) and storm is None:
        return SetNodeState(node_id=node.id, state=NodeState.DOWN, message=node.message)
    is_up = node.state in (NodeState.READY, NodeState.UNSTABLE)
    if is_up and (silence.is_long or silence.is_doubted):
        why = f"nothing was heard of it for {policy.suspect_ms / 1_000:g} s"
        message = why if silence.is_long else "the connection to it broke"
        return SetNodeState(node_id=node.id, state=NodeState.SUSPECT, message=message)
    return None


def _down(silence: Silence, storm: Storm | None, policy: LivenessPolicy) -> SetNodeState | None:
    """It is down, unless the brake holds that back."""
    node = silence.node
    if storm is None:
        message = f"nothing was heard of it for {policy.down_ms / 1_000:g} s"
        return SetNodeState(node_id=node.id, state=NodeState.DOWN, message=message)
    if storm.released == node.id:
        message = (
            f"nothing was heard of it for {policy.storm_after_ms / 1_000:g} s; most nodes are "
            f"silent, so one is given up every {policy.storm_pause_ms / 1_000:g} s"
        )
        return SetNodeState(node_id=node.id, state=NodeState.DOWN, message=message, is_held=True)
    if is_held(node):
        return None
    message = (
        f"silent, as {storm.silent} of {storm.total} nodes are at once: held for up to "
        f"{policy.storm_after_ms / 1_000:g} s, for then the network is likelier to have failed "
        "than the nodes"
    )
    return SetNodeState(node_id=node.id, state=NodeState.SUSPECT, message=message, is_held=True)


def _answers(node: Node, policy: LivenessPolicy, now_ms: int) -> SetNodeState | None:
    """It is ready; but one that was down too often has to stay up for a while before."""
    if node.state is NodeState.DOWN:
        pause_ms, downs = _distrust(node, policy, now_ms)
        if pause_ms:
            window_s = policy.flap_window_ms / 1_000
            return SetNodeState(
                node_id=node.id,
                state=NodeState.UNSTABLE,
                message=f"it was down {downs} times within {window_s:g} s: nothing new for it "
                f"before it has stayed up for {pause_ms / 1_000:g} s",
                trusted_at_ms=now_ms + pause_ms,
            )
    state = NodeState.READY if node.trusted_at_ms <= now_ms else NodeState.UNSTABLE
    message = ""
    if state is NodeState.UNSTABLE:
        if node.state is NodeState.UNSTABLE:
            return None
        message = "it was down too often of late: nothing new for it before it has stayed up"
    if (state, message) == (node.state, node.message) and not is_held(node):
        return None
    return SetNodeState(node_id=node.id, state=state, message=message)


def _distrust(node: Node, policy: LivenessPolicy, now_ms: int) -> tuple[int, int]:
    """How long the node has to stay up before it is ready, and how often it was down of late."""
    downs = sum(at_ms > now_ms - policy.flap_window_ms for at_ms in node.downs_ms)
    if downs < policy.flap_downs:
        return 0, downs
    return min(policy.flap_max_ms, policy.flap_first_ms << downs - policy.flap_downs), downs


def _wake(whatif: WhatIf, node: Node, silence: Silence, policy: LivenessPolicy) -> None:
    """Come back when time alone would change the verdict."""
    if node.state is NodeState.UNSTABLE and node.trusted_at_ms > whatif.now_ms:
        whatif.wake(node.trusted_at_ms)
    if node.state is NodeState.DOWN:
        return
    for limit_ms in (policy.suspect_ms, policy.down_ms):
        if silence.ms < limit_ms:
            whatif.wake(whatif.now_ms + limit_ms - silence.ms)
            return
