"""The evidence of who lives, as a manager gathers it, and how it is judged."""

from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import and_, ge, gt, le

from meshswarm.ids import NodeId

ALWAYS_MS = 1 << 50
"""Longer than anybody has listened, or led."""

FENCE_SLACK_MS = 2_000
"""What SIGKILL, and a runtime that is asked to send it, may take."""


@frozen(kw_only=True)
class Liveness:
    """When each node was last heard of, by whichever manager. All by monotonic clocks."""

    silent_ms: Mapping[NodeId, int]
    """Since anything was heard of the node; absent: nothing while this manager listened."""
    observing_ms: int
    """How long this manager has been listening at all: nobody is silent for longer."""
    incarnations: Mapping[NodeId, int] = Factory(dict)
    """Of the sessions now open, as far as known."""
    doubted: frozenset[NodeId] = frozenset()
    """Nodes a connection to which broke, and that were not heard since."""
    leading_ms: int = ALWAYS_MS
    """How long this manager has led: earlier leaders may have heard what it did not."""


@frozen(kw_only=True)
class LivenessPolicy:
    """How long silence is borne, what counts as a storm, and who is trusted again when."""

    suspect_ms: int = field(default=2_000, validator=gt(0))
    """From here on the node is probed, and gets no new tasks."""
    down_ms: int = field(default=4_000, validator=gt(0))
    """From here on its tasks are given up and replaced, unless their service waits longer."""
    storm_percent: int = field(default=55, validator=and_(ge(1), le(100)))
    """More than this part of the nodes silent at once: the network failed, not the nodes."""
    storm_nodes: int = field(default=3, validator=ge(1))
    """Fewer silent nodes than this are never a storm: a cluster of three must replace one."""
    storm_after_ms: int = field(default=300_000, validator=gt(0))
    """In a storm a node is given up only after so much silence ..."""
    storm_pause_ms: int = field(default=60_000, validator=gt(0))
    """... and so long after the one before it."""
    flap_downs: int = field(default=3, validator=ge(1))
    """Down so often within `flap_window_ms`, a node is not trusted as soon as it answers ..."""
    flap_window_ms: int = field(default=600_000, validator=gt(0))
    flap_first_ms: int = field(default=10_000, validator=gt(0))
    """... but once it stayed up so long; twice as long for each further time, up to ..."""
    flap_max_ms: int = field(default=600_000, validator=gt(0))
    fence_ms: int = field(default=2_000 + FENCE_SLACK_MS, validator=gt(0))
    """What an agent that fences itself is given beyond `stop_after` and the grace period: the
    longest election timeout, for a leader that does not know yet that it was replaced, and the
    slack."""
