"""What was dropped or went wrong, counted by cause; said in the log once per source and minute."""

import logging
from collections import Counter
from collections.abc import Callable
from enum import Enum

logger = logging.getLogger(__name__)

SILENCE_S = 60.0
SOURCES_MAX = 1024
"""Sources remembered for the log; beyond that all are forgotten, and may be logged again."""


class Fault(Enum):
    """Why something was dropped; the value is its name in `status`."""

    REFUSED_KEY = "refused_key"
    FAILED_HANDSHAKE = "failed_handshake"
    SPOOFED = "spoofed"
    REVOKED = "revoked"
    BAD_FRAME = "bad_frame"
    FENCED = "fenced"
    STALE = "stale"
    LATE = "late"
    UNKNOWN_NAME = "unknown_name"
    NOT_ALLOWED = "not_allowed"
    BUSY = "busy"
    OVERRUN = "overrun"
    LANE_FULL = "lane_full"
    """Not sent: the peer does not take what waits for it already."""
    LANE_DOWN = "lane_down"
    """Not sent: there is no connection."""
    HANDLER_FAILED = "handler_failed"


class Faults:
    """The counts of one endpoint; `now` is the loop's clock, in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.counts: Counter[Fault] = Counter()
        self._now = now
        self._logged: dict[tuple[Fault, str], float] = {}

    def count(self, fault: Fault) -> None:
        """Count `fault`, which is said in the log elsewhere, or not worth a line."""
        self.counts[fault] += 1

    def note(self, fault: Fault, source: str, what: str) -> None:
        """Count `fault`, and log it unless that was done for this source within the minute."""
        self.count(fault)
        now = self._now()
        key = (fault, source)
        if now - self._logged.get(key, -SILENCE_S) < SILENCE_S:
            return
        if len(self._logged) >= SOURCES_MAX:
            self._logged.clear()
        self._logged[key] = now
        logger.warning("mesh fault=%s source=%s what=%r", fault.value, source, what)
