"""The evidence of who lives, as a manager gathers it, and how it is judged."""

from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import and_, ge, gt, le

from meshswarm.ids import NodeId


@frozen(kw_only=True)
class Liveness:
    """When each node was last heard of, by whichever manager."""

    silent_ms: Mapping[NodeId, int]
    """Since anything was heard of the node; absent: nothing while this manager listened."""
    observing_ms: int
    """How long this manager has been listening at all: nobody is silent for longer."""
    incarnations: Mapping[NodeId, int] = Factory(dict)
    """Of the sessions now open, as far as known."""


@frozen(kw_only=True)
class LivenessPolicy:
    """How long silence is borne, and what counts as a storm."""

    suspect_ms: int = field(default=2_000, validator=gt(0))
    """From here on the node is probed, and gets new tasks only if no other node can."""
    down_ms: int = field(default=4_000, validator=gt(0))
    """From here on its tasks are given up and replaced."""
    storm_share: float = field(default=0.55, validator=and_(gt(0), le(1)))
    """More than this share of the nodes silent at once: the network failed, not the nodes."""
    storm_nodes: int = field(default=3, validator=ge(1))
    """Fewer silent nodes than this are never a storm: a cluster of three must replace one."""
