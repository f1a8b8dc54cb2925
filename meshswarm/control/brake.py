"""The brake: when most nodes fall silent at once, the network has failed and not the nodes.

It holds their verdicts back, and lets one of them go at a time, late: so a majority of nodes that
is gone for good is given up in the end, and a cut cable is waited out. That it is on is read off
the rows: some node's verdict is held.
"""

from collections.abc import Sequence
from typing import NamedTuple

from attrs import frozen

from meshswarm.control.liveness import LivenessPolicy
from meshswarm.ids import NodeId
from meshswarm.model.node import Node, NodeState
from meshswarm.store.view import View

MAX_NAMED = 3
"""Held nodes that a sentence names; the rest are counted."""


class Silence(NamedTuple):
    """What the evidence says of one node."""

    node: Node
    ms: int
    is_long: bool
    """Whether that is enough to suspect it."""
    is_doubted: bool
    """Whether a connection to it broke, and nothing was heard since."""
    is_over: bool
    """Whether the node answers, in its present incarnation: whatever it was, it is down no
    longer."""


@frozen(kw_only=True)
class Storm:
    """The brake is on: so many of so many nodes are silent, or were until it let them go."""

    silent: int
    total: int
    released: NodeId | None
    """The one that it lets go now."""
    next_at_ms: int | None
    """When it may let the next one go, unless that is heard before; None: none is held."""


def storm_of(silences: Sequence[Silence], policy: LivenessPolicy, now_ms: int) -> Storm | None:
    """Whether most nodes are silent at once; None: they are not.

    Suspects count as well: beats are spread, so a storm does not reach `down_ms` at one instant.
    And so do those that it let go: it must not end by its own doing while others are still held.
    What answers is alive, though its row may not say so before this pass.
    """
    quiet = [one for one in silences if one.is_long and one.node.state is not NodeState.DOWN]
    if not quiet:
        return None
    gone = [one for one in silences if one.node.state is NodeState.DOWN and not one.is_over]
    let_go = [one for one in gone if is_held(one.node)]
    silent, total = len(quiet) + len(let_go), len(silences) - len(gone) + len(let_go)
    if silent < policy.storm_nodes or 100 * silent <= policy.storm_percent * total:
        return None
    latest_ms = max((one.node.since_ms for one in let_go), default=0)
    # Only what is held already: its turn is counted from a row, and so is what users are told.
    held = [one for one in quiet if one.ms >= policy.down_ms]
    first = min(held, key=lambda one: (-one.ms, one.node.name), default=None)
    if first is None:
        return Storm(silent=silent, total=total, released=None, next_at_ms=None)
    next_at_ms = max(latest_ms + policy.storm_pause_ms, now_ms + policy.storm_after_ms - first.ms)
    released = first.node.id if next_at_ms <= now_ms else None
    if released is not None:
        next_at_ms = now_ms + policy.storm_pause_ms
    return Storm(silent=silent, total=total, released=released, next_at_ms=next_at_ms)


def latest_return_ms(silences: Sequence[Silence], now_ms: int) -> int:
    """When the latest of those that answer did so again, as their rows say or will say; log time.

    Nodes do not come back at one instant when a cable is mended, and the first of them may end the
    storm: whoever is still held then has time to be heard too.
    """
    answering = [one.node for one in silences if one.is_over]
    up = (NodeState.READY, NodeState.UNSTABLE)
    return max((n.since_ms if n.state in up else now_ms for n in answering), default=0)


def is_held(node: Node) -> bool:
    """Whether the brake holds back the verdict on it, or let it go and is still on."""
    return node.held_since_ms > 0


def tell_brake(view: View) -> str:
    """The brake in a sentence, for people; empty if it is off."""
    held = [n for n in view.sorted_nodes() if is_held(n) and n.state is not NodeState.DOWN]
    if not held:
        return ""
    names = ", ".join(node.name for node in held[:MAX_NAMED])
    more = f" and {len(held) - MAX_NAMED} more" if len(held) > MAX_NAMED else ""
    return (
        f"the brake is on: {len(held)} of {len(view.nodes)} nodes fell silent at once, so their "
        f"tasks are not replaced yet ({names}{more})"
    )
