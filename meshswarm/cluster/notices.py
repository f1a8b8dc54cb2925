"""News for a leader's peers wait a little for company: commit indexes, and what they need not have
at once (`raft.thrift`).

With one write after the other, appends that tell a commit index and nothing else, and their
answers, would be half of all messages, and stand between a command's commit and its answer.
"""

from collections.abc import Callable
from typing import Protocol

from meshswarm.ids import Index
from meshswarm.raft.types import News

NOTICE_S = 0.005
"""How long they wait; those that came while others waited, up to twice as long."""


class Clock(Protocol):
    """What is needed of an event loop."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> object:
        """Call `callback` in so many seconds."""


class Notices:
    """Calls `tell` with all news, or later ones, a little after they were first seen."""

    def __init__(self, tell: Callable[[News], None], clock: Clock) -> None:
        self._tell = tell
        self._clock = clock
        self._waiting: News | None = None
        self._newest = News(Index(0), Index(0), 0)

    def look(self, news: News) -> None:
        """These are the news now."""
        if news != self._newest:
            self._newest = news
            if self._waiting is None:
                self._begin()

    def _begin(self) -> None:
        self._waiting = self._newest
        self._clock.call_later(NOTICE_S, self._ripe)

    def _ripe(self) -> None:
        ripe = self._waiting
        assert ripe is not None, "nothing waits"
        self._tell(ripe)  # which may find that there are newer ones
        self._waiting = None
        if self._newest != ripe:
            self._begin()
