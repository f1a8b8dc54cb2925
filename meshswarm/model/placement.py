"""Where a service's tasks had best run, beside what they need: preferences and rules."""

from enum import Enum

from attrs import field, frozen
from attrs.validators import ge


class Strategy(Enum):
    """Which of the nodes that fit is taken."""

    SPREAD = "spread"
    """The one with the fewest tasks of the service, then the one with the least load."""
    BINPACK = "binpack"
    """The fullest: others are left free for what is large."""
    BALANCED = "balanced"
    """The one whose processors and memory would be used the least, and most alike."""


@frozen(kw_only=True)
class Affinity:
    """A rule about the tasks of another service, or of this one, on the same node."""

    service: str
    """The full name."""
    is_apart: bool = False
    """Keep away from them, instead of with them."""
    is_required: bool = True
    """Rather no node than the wrong one."""


@frozen(kw_only=True)
class Placement:
    """What decides between nodes, beside constraints and reservations."""

    strategy: Strategy = Strategy.SPREAD
    spread_over: tuple[str, ...] = ()
    """`node.labels.X` or `engine.labels.X`: evenly over its values, then over the next one's."""
    max_skew: int = field(default=0, validator=ge(0))
    """So many more tasks may a value of the first of `spread_over` have than the one with the
    fewest; 0: no limit."""
    max_replicas_per_node: int = field(default=0, validator=ge(0))
    """0: no limit."""
    affinities: tuple[Affinity, ...] = ()
