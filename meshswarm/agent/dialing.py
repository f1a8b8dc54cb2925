"""Which manager to speak to, and when to give one up: decisions as functions of values. PURE."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from attrs import evolve, frozen

from meshswarm.ids import NodeId, digest_id

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0
"""Pause after a round of managers none of which would serve us."""

SLACK_S = 0.5
"""A session is dead after two beats and so long without an acknowledgement."""

LATE_S = 0.25
"""Whoever looks so long after the time was up was not awake: acknowledgements may lie unread."""


class Named(Protocol):
    """What is known of a manager."""

    @property
    def id(self) -> NodeId:
        """Its node."""
        ...


M = TypeVar("M", bound=Named)


def in_order(managers: Sequence[M], own: NodeId) -> tuple[M, ...]:
    """The managers as this node tries them: itself first, the others in an order of its own.

    So the workers of a cluster spread over the managers without anybody dividing them.
    """
    return tuple(sorted(managers, key=lambda peer: (peer.id != own, digest_id(own, peer.id))))


def pause_s(failures: int, managers: int, chance: float) -> float:
    """Seconds before the next attempt: none within a round, then 0.1 doubling up to 2.

    Less up to a half by `chance` in [0, 1), so that a cluster's agents do not come all at once.
    """
    rounds, within = divmod(failures, managers)
    if within or not rounds:
        return 0.0
    delay_s: float = min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(rounds - 1, 10))
    return delay_s * (1 - chance / 2)


@frozen(kw_only=True)
class Beats:
    """The signs of life of one session. Times are seconds of a monotonic clock."""

    beat_s: float
    answered_s: float
    """When a beat was last acknowledged; at first when the session opened."""

    @property
    def dead_s(self) -> float:
        """When the session is given up unless another acknowledgement comes."""
        return self.answered_s + 2 * self.beat_s + SLACK_S

    def awake_until(self, now_s: float) -> "Beats":
        """The same, looked at now: what this process slept beyond `dead_s` does not count."""
        late_s = now_s - self.dead_s
        return (
            self if late_s < LATE_S else evolve(self, answered_s=self.answered_s + late_s + LATE_S)
        )
