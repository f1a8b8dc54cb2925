"""Which beats of its agents does the leader know of: what a manager may vouch for. PURE.

An agent that fences itself stops what it runs when no manager has known of it for long, and the
leader replaces that when it has known nothing of the node for longer. Both must speak of the same
beats. So a manager tells the agent not which beat it heard last, but which one the leader was told
of, and that is the last one before a report of which the leader said that it has it. Two managers
that hear each other in one direction only would otherwise let a task run twice.

Times are milliseconds of a monotonic clock given by the caller.
"""

from collections import deque

from meshswarm.ids import NodeId

MAX_REPORTS = 64
"""Reports that wait for the leader's word; older ones count as lost."""

MAX_BEATS = 32
"""Beats of one agent that no report told of yet."""

MAX_NODES = 20_000
"""Agents whose beats are kept."""


class Vouching:
    """One manager's reports and beats."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._sequence = 0
        self._reports: deque[tuple[int, int]] = deque(maxlen=MAX_REPORTS)
        self._known: dict[NodeId, int] = {}
        """Until when each other manager knows what was heard here, by its own word."""
        self._beats: dict[NodeId, deque[tuple[int, int]]] = {}

    def reporting(self, now_ms: int) -> int:
        """A report of all that was heard here is made now; its number."""
        self._sequence += 1
        self._reports.append((self._sequence, now_ms))
        return self._sequence

    def confirmed(self, leader: NodeId, sequence: int) -> None:
        """A leader says that it has this report."""
        for number, at_ms in self._reports:
            if number == sequence:
                self._known[leader] = max(at_ms, self._known.get(leader, at_ms))

    def heard(self, node_id: NodeId, beat: int, now_ms: int) -> None:
        """A beat of this number came from the agent."""
        if node_id in self._beats or len(self._beats) < MAX_NODES:
            beats = self._beats.setdefault(node_id, deque(maxlen=MAX_BEATS))
            beats.append((beat, now_ms))

    def forget(self, node_id: NodeId) -> None:
        """Its session is over; another process of it would number its beats anew."""
        self._beats.pop(node_id, None)

    def vouched(self, node_id: NodeId, leader: NodeId | None) -> int:
        """The agent's newest beat that the present leader knows of; 0: none."""
        if leader is None:
            return 0
        until_ms = None if leader == self._me else self._known.get(leader, -1)
        beats = self._beats.get(node_id, ())
        return max((n for n, at_ms in beats if until_ms is None or at_ms <= until_ms), default=0)
