"""Appends without entries wait a little: most are overtaken by one with entries.

Such an append tells a commit index and nothing else. With one write after the other, these and
their answers would be half of all messages, and stand between a command's commit and its answer.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from meshswarm.ids import NodeId
from meshswarm.raft.messages import AppendEntries

NOTICE_S = 0.005
"""How long a follower may wait for a commit index that comes without entries."""


class Clock(Protocol):
    """What is needed of an event loop."""

    def time(self) -> float:
        """Seconds, that never go back."""

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        """Call `callback` then."""


class Notices:
    """One append that waits for each peer, the newest, sent by `send` when its time has come."""

    def __init__(
        self, send: Callable[[AppendEntries], None], clock: Clock | asyncio.AbstractEventLoop
    ) -> None:
        self._send = send
        self._clock = clock
        self._waiting: dict[NodeId, tuple[float, AppendEntries]] = {}
        """And when it is due: so long after the first that the peer was not told."""
        self._is_due = False

    def put(self, message: AppendEntries) -> None:
        """Send it a little later, unless it is overtaken."""
        due, _ = self._waiting.get(message.to, (self._clock.time() + NOTICE_S, message))
        self._waiting[message.to] = due, message
        self._wake_at(due)

    def overtaken(self, peer: NodeId) -> None:
        """A message on its way to the peer tells all that the waiting one would."""
        self._waiting.pop(peer, None)

    def _wake_at(self, when: float) -> None:
        if not self._is_due:
            self._is_due = True
            self._clock.call_at(when, self._send_ripe)

    def _send_ripe(self) -> None:
        """Send what waited for long enough; what came after others were overtaken goes on waiting:
        under a load, this is called for those that are gone."""
        self._is_due = False
        now = self._clock.time()
        for peer, (due, message) in list(self._waiting.items()):
            if due <= now:
                del self._waiting[peer]
                self._send(message)
        if self._waiting:
            self._wake_at(min(due for due, _ in self._waiting.values()))
