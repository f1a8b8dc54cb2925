"""For how long no manager has known of this node: what tasks with `stop_after` live by. PURE.

Counted from the sending of the last beat that a manager vouches for: the cluster counts from when
it came, which was later. Times are milliseconds of a clock that no one sets and that outlives the
agent's process.
"""

from collections import deque

MAX_SENT = 256
"""Beats on the way or not vouched for; the oldest are given up."""


class Lease:
    """`contact_ms` is the last instant of which the agent knows that the cluster knew of it; at
    first what an earlier process of it noted, or now."""

    def __init__(self, contact_ms: int) -> None:
        self.contact_ms = contact_ms
        self._sent: deque[tuple[int, int]] = deque(maxlen=MAX_SENT)

    def sent(self, sequence: int, now_ms: int) -> None:
        """A beat of this number is sent now."""
        self._sent.append((sequence, now_ms))

    def vouched(self, sequence: int) -> None:
        """A manager says that the leader knows of this beat."""
        while self._sent and self._sent[0][0] <= sequence:
            _, at_ms = self._sent.popleft()
            self.contact_ms = max(self.contact_ms, at_ms)

    def alone_ms(self, now_ms: int) -> int:
        """How long it is since then."""
        return max(0, now_ms - self.contact_ms)
