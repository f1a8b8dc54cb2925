"""A clock that stands still while this process could not run: silence is what we could have heard.

A manager whose loop was stuck, or that was stopped for a while, finds all beats of that time in its
sockets, unread. By the clock on the wall every node would have been silent meanwhile, and the first
thing it would do is to give them up. (The same thought as "local health" in Lifeguard, HashiCorp
2017.)
"""

import asyncio
from collections.abc import Callable

TICK_S = 0.1

LATE_S = 0.25
"""A tick that comes so late, or later, is counted as one that came then."""


class AwakeClock:
    """Seconds, never going back; `ticked` is to be called every `TICK_S`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ticked_at = clock()
        self._asleep_s = 0.0

    def now(self) -> float:
        """Seconds of a monotonic clock, without those that this process was not awake for."""
        return min(self._clock(), self._ticked_at + TICK_S + LATE_S) - self._asleep_s

    def ticked(self) -> None:
        """The process is awake."""
        now = self._clock()
        self._asleep_s += max(0.0, now - self._ticked_at - TICK_S - LATE_S)
        self._ticked_at = now

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self.ticked()
            await asyncio.sleep(TICK_S)
