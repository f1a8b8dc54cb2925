"""Durations as values for `cluster status`: the recent ones of a kind, and their quantiles.

Adding one is an append to a ring (about 30 ns); what is asked of them is worked out when asked.
"""

from collections import deque

from attrs import frozen

KEPT = 1_000
"""Durations of each kind that are kept; an older one makes room for a newer one."""


@frozen(kw_only=True)
class Quantiles:
    """Of the kept durations, in their unit; None before there is any."""

    p50: float | None
    p99: float | None


class Recent:
    """The last `KEPT` durations of one kind; added by one thread, read by any."""

    def __init__(self) -> None:
        self._ring: deque[float] = deque(maxlen=KEPT)
        self.add = self._ring.append

    def quantiles(self) -> Quantiles:
        """The median and the value that one in a hundred exceeds, to a microsecond of a ms."""
        ordered = sorted(self._ring)
        if not ordered:
            return Quantiles(p50=None, p99=None)
        last = len(ordered) - 1
        return Quantiles(
            p50=round(ordered[len(ordered) // 2], 3),
            p99=round(ordered[min(last, len(ordered) * 99 // 100)], 3),
        )


class Largest:
    """The largest duration since the start, and the recent ones."""

    def __init__(self) -> None:
        self.recent = Recent()
        self.max = 0.0

    def add(self, duration: float) -> None:
        """Take one in."""
        self.recent.add(duration)
        if duration > self.max:
            self.max = duration


class DriverMetrics:
    """What the driver of Raft counts and times, since the start."""

    def __init__(self) -> None:
        self.commit_ms = Recent()
        """From a proposal's append here until it was applied here."""
        self.loop_lag_ms = Largest()
        """How late each tick came."""
        self.leader_changes = 0
        """How often another node was found leading than the one before."""
        self.reads = 0
        """How many reads this manager was to confirm, as leader."""
