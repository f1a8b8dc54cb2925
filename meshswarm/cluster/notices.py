"""Commit indexes wait a little for entries to travel with: most find some.

With one write after the other, appends that tell a commit index and nothing else, and their
answers, would be half of all messages, and stand between a command's commit and its answer.
"""

from collections.abc import Callable
from typing import Protocol

from meshswarm.ids import Index

NOTICE_S = 0.005
"""How long a commit index waits; one that came while another waited, up to twice as long."""


class Clock(Protocol):
    """What is needed of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call `callback` in so many seconds."""


class Notices:
    """Calls `tell` with each commit index, or a later one, a little after it was first seen."""

    def __init__(self, tell: Callable[[Index], None], clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._waiting: Index | None = None
        self._newest = Index(0)

    def look(self, commit: Index) -> None:
        """This is committed now."""
        if commit > self._newest:
            self._newest = commit
            if self._waiting is None:
                self._begin()

    def _begin(self) -> None:
        self._waiting = self._newest
        self._clock.call_later(NOTICE_S, self._ripe)

    def _ripe(self) -> None:
        ripe = self._waiting
        assert ripe is not None, "nothing waits"
        self._tell(ripe)  # which may find that more is committed
        self._waiting = None
        if self._newest > ripe:
            self._begin()
