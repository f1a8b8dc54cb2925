"""Whether a history of registers is linearizable, decided without a search (Gibbons, Korach 1997).

Where every value is written once, the operations of one value belong together: its write and the
reads of it. Between the first answer among them and the last call, the register surely held that
value (its *zone*). A history is linearizable exactly if no two such zones meet, and no value whose
operations all overlap had to come and go within another's zone. Costs n log n, where the search of
`linearizability` may cost too much: many writes at once, and nobody knows of which.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import pairwise

from attrs import define

from meshswarm.sim.linearizability import Operation

NEVER, ALWAYS = float("inf"), float("-inf")


@define
class _Cluster:
    """One value's operations."""

    value: Hashable
    written_at: float | None = None
    """When its write was called; None: nobody wrote it."""
    first_answer: float = NEVER
    last_call: float = ALWAYS
    first_read: float = NEVER
    """When the first read of it was answered."""

    def take(self, operation: Operation) -> None:
        """One more of its operations."""
        returned = NEVER if operation.returned is None else operation.returned
        self.first_answer = min(self.first_answer, returned)
        self.last_call = max(self.last_call, operation.invoked)
        if operation.kind == "write":
            assert self.written_at is None, f"{self.value!r} is written twice"
            self.written_at = operation.invoked
        else:
            self.first_read = min(self.first_read, returned)


def check_register(operations: Iterable[Operation], initial: Hashable) -> str | None:
    """What contradicts linearizability in one register's reads and writes; None: nothing.

    No value may be written twice, nor the initial one at all. A write without an answer that nobody
    read may never have been.
    """
    clusters = _clusters(operations, initial)
    for cluster in clusters:
        if cluster.written_at is None:
            return f"{cluster.value!r} was read, and never written"
        if cluster.first_read < cluster.written_at:
            return f"{cluster.value!r} was read before it was written"
    zones = sorted(
        (one.first_answer, one.last_call, repr(one.value))
        for one in clusters
        if one.first_answer < one.last_call
    )
    for (_, end, earlier), (begin, _, later) in pairwise(zones):
        if begin < end:
            return f"{earlier} was there until {end:g}, and {later} from {begin:g} on"
    return _swallowed(clusters, zones)


def _clusters(operations: Iterable[Operation], initial: Hashable) -> list[_Cluster]:
    by_value: dict[Hashable, _Cluster] = {}
    unread = defaultdict[Hashable, bool](lambda: True)
    for operation in operations:
        value = operation.value if operation.kind == "write" else operation.result
        by_value.setdefault(value, _Cluster(value)).take(operation)
        if operation.kind == "read" or operation.returned is not None:
            unread[value] = False
    if initial in by_value:
        first = by_value[initial]
        assert first.written_at is None, f"{initial!r} is written, and was there before"
        first.written_at = first.first_answer = ALWAYS
    return [cluster for value, cluster in by_value.items() if not unread[value]]


def _swallowed(clusters: list[_Cluster], zones: list[tuple[float, float, str]]) -> str | None:
    """A value that must have been there while another surely was."""
    for cluster in clusters:
        begin, end = cluster.last_call, cluster.first_answer
        if begin > end:
            continue
        for zone_begin, zone_end, value in zones:
            if zone_begin < begin and end < zone_end:
                return (
                    f"{cluster.value!r} was there between {begin:g} and {end:g}, where {value} "
                    f"was from {zone_begin:g} to {zone_end:g}"
                )
    return None
