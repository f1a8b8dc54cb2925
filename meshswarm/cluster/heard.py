"""When was each node last heard of: the evidence on which the leader declares nodes down.

Every manager notes what reaches it directly (its own agents' beats, and any message of another
manager) and tells the other managers the ages once a beat, so a node is silent only when *no*
manager hears it, and a new leader knows at once what the old one knew. What a manager heard from
others is never passed on: an age cannot be refreshed by going round in circles.
"""

from collections.abc import Iterable, Mapping

from attrs import Factory, frozen

from meshswarm.control.liveness import Liveness
from meshswarm.ids import NodeId

MAX_NODES = 20_000
"""Nodes that are kept track of; reports of further ones are passed over."""

LEFT_S = 1.0
"""A manager that is silent for so long has left the nodes whose sessions it served."""

MOVING_S = 2.0
"""So long after their manager was heard last, the silence of these nodes begins: all at once they
have to notice it, and to find another one."""


@frozen(kw_only=True)
class HeardReport:
    """What one manager tells the others."""

    ages_ms: Mapping[NodeId, int]
    """Since this manager last heard each node directly."""
    sessions: Mapping[NodeId, int]
    """The nodes whose sessions it serves now, with their incarnations."""
    has_room: bool = True
    """Whether its disk has room for more of the log."""
    doubts_ms: Mapping[NodeId, int] = Factory(dict)
    """Since a connection to each of these broke."""
    sequence: int = 0
    """The leader names it when it says that it has this report (`vouching`)."""


class Heard:
    """One manager's evidence; times are seconds of a monotonic clock given by the caller."""

    def __init__(self, me: NodeId, now: float) -> None:
        self._me = me
        self._since = now
        self._direct: dict[NodeId, float] = {}
        self._indirect: dict[NodeId, float] = {}
        self._served_by: dict[NodeId, NodeId] = {}
        self._incarnations: dict[NodeId, int] = {}
        self._with_room: set[NodeId] = set()
        self._doubts: dict[NodeId, float] = {}

    def note(self, node_id: NodeId, now: float) -> None:
        """A message came from this node itself."""
        if node_id in self._direct or len(self._direct) < MAX_NODES:
            self._direct[node_id] = now

    def doubt(self, node_id: NodeId, now: float) -> None:
        """A connection to this node broke: a reason to ask, until something is heard of it."""
        if node_id in self._doubts or len(self._doubts) < MAX_NODES:
            self._doubts[node_id] = now

    def report(
        self,
        sessions: Mapping[NodeId, int],
        now: float,
        *,
        has_room: bool = True,
        sequence: int = 0,
    ) -> HeardReport:
        """What to tell the other managers."""
        self._incarnations.update(sessions)
        return HeardReport(
            ages_ms={
                node_id: int(1_000 * (now - at)) for node_id, at in sorted(self._direct.items())
            },
            sessions=dict(sessions),
            has_room=has_room,
            doubts_ms={n: int(1_000 * (now - at)) for n, at in sorted(self._doubts.items())},
            sequence=sequence,
        )

    def merge(self, manager: NodeId, report: HeardReport, now: float) -> None:
        """Take in another manager's report."""
        for node_id, age_ms in list(report.ages_ms.items())[:MAX_NODES]:
            at = now - max(0, age_ms) / 1_000
            self._indirect[node_id] = max(at, self._indirect.get(node_id, at))
        for node_id, age_ms in list(report.doubts_ms.items())[:MAX_NODES]:
            at = now - max(0, age_ms) / 1_000
            self._doubts[node_id] = max(at, self._doubts.get(node_id, at))
        if report.has_room:
            self._with_room.add(manager)
        else:
            self._with_room.discard(manager)
        served = {n: m for n, m in self._served_by.items() if m != manager}
        sessions = dict(list(report.sessions.items())[:MAX_NODES])
        self._served_by = served | dict.fromkeys(sessions, manager)
        for node_id, incarnation in sessions.items():
            self._incarnations[node_id] = max(incarnation, self._incarnations.get(node_id, 0))

    def has_room(self, manager: NodeId) -> bool:
        """Whether that other manager said, last, that its disk has room."""
        return manager in self._with_room

    def server_of(self, node_id: NodeId) -> NodeId | None:
        """The other manager that serves this node's session, as far as it said."""
        return self._served_by.get(node_id)

    def forget(self, keep: Iterable[NodeId]) -> None:
        """Drop what is known of nodes that are no longer in the cluster."""
        kept = set(keep)
        for table in (self._direct, self._indirect, self._incarnations, self._doubts):
            for node_id in table.keys() - kept:
                del table[node_id]

    def liveness(self, now: float, leading_since: float | None = None) -> Liveness:
        """The evidence as the controllers take it; this node itself is never silent."""
        latest = dict(self._indirect)
        for node_id, at in self._direct.items():
            latest[node_id] = max(at, latest.get(node_id, at))
        latest[self._me] = now
        for node_id, manager in self._served_by.items():
            heard_at = latest.get(manager, now)
            if now - heard_at >= LEFT_S and node_id != manager and node_id in latest:
                latest[node_id] = max(latest[node_id], min(now, heard_at + MOVING_S))
        return Liveness(
            silent_ms={node_id: max(0, int(1_000 * (now - at))) for node_id, at in latest.items()},
            observing_ms=int(1_000 * (now - self._since)),
            incarnations=dict(self._incarnations),
            doubted=frozenset(n for n, at in self._doubts.items() if at >= latest.get(n, now)),
            leading_ms=0 if leading_since is None else int(1_000 * (now - leading_since)),
        )
