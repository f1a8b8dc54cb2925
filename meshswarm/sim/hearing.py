"""The evidence of who lives, as one manager gathers it: `cluster.heard` retold in milliseconds."""

from collections.abc import Mapping

from attrs import frozen

from meshswarm.control.liveness import Liveness
from meshswarm.ids import NodeId


@frozen(kw_only=True)
class Report:
    """What one manager tells the others."""

    ages_ms: Mapping[NodeId, int]
    """Since it last heard each node directly."""
    serving: Mapping[NodeId, int]
    """The nodes whose sessions it serves, with their incarnations."""
    sequence: int
    """Its number (`cluster.vouching`)."""


class Hearing:
    """When this manager last heard of each node: itself, or by other managers' word."""

    def __init__(self, me: NodeId, now_ms: int) -> None:
        self._me = me
        self._since_ms = now_ms
        self._direct: dict[NodeId, int] = {}
        self._indirect: dict[NodeId, int] = {}
        self._incarnations: dict[NodeId, int] = {}

    def note(self, node_id: NodeId, now_ms: int) -> None:
        """A message came from this node itself."""
        self._direct[node_id] = now_ms

    def report(self, serving: Mapping[NodeId, int], now_ms: int, sequence: int) -> "Report":
        """What to tell the other managers."""
        self._incarnations |= serving
        ages_ms = {node_id: now_ms - at_ms for node_id, at_ms in self._direct.items()}
        return Report(ages_ms=ages_ms, serving=dict(serving), sequence=sequence)

    def merge(self, report: "Report", now_ms: int) -> None:
        """Take in what another manager heard directly."""
        for node_id, age_ms in report.ages_ms.items():
            at_ms = now_ms - age_ms
            self._indirect[node_id] = max(at_ms, self._indirect.get(node_id, at_ms))
        for node_id, incarnation in report.serving.items():
            known = self._incarnations.get(node_id, 0)
            self._incarnations[node_id] = max(incarnation, known)

    def liveness(self, now_ms: int, leading_since_ms: int) -> Liveness:
        """The evidence as the controllers take it."""
        latest = dict(self._indirect)
        for node_id, at_ms in self._direct.items():
            latest[node_id] = max(at_ms, latest.get(node_id, at_ms))
        latest[self._me] = now_ms
        return Liveness(
            silent_ms={node_id: now_ms - at_ms for node_id, at_ms in latest.items()},
            observing_ms=now_ms - self._since_ms,
            incarnations=dict(self._incarnations),
            leading_ms=now_ms - leading_since_ms,
        )
