"""What an agent remembers over its own restart: its assignments, and what it said of them.

A convenience, not the truth: that is with the runtimes and the managers. So it is not synced, and a
damaged file is as good as none.
"""

import logging
from pathlib import Path

from attrs import Factory, frozen

from meshswarm import codec
from meshswarm.agent.card import Card, Cards
from meshswarm.agent.runtimes.task_dir import write_aside
from meshswarm.ids import ClusterId, NodeId, TaskId
from meshswarm.model.task import TaskStatus
from meshswarm.store.assignments import Assignment

log = logging.getLogger(__name__)


@frozen(kw_only=True)
class Memory:
    """The content of the file."""

    cluster_id: ClusterId
    node_id: NodeId
    assignments: tuple[Assignment, ...] = ()
    statuses: dict[TaskId, TaskStatus] = Factory(dict)


@frozen
class _Encoded:
    """A card as last written."""

    assignment: Assignment
    assignment_bytes: bytes
    status: TaskStatus
    status_bytes: bytes


class MemoryFile:
    """`state.cbor` in an agent's data directory."""

    def __init__(self, path: Path, cluster_id: ClusterId, node_id: NodeId) -> None:
        self._path = path
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._encoded: dict[TaskId, _Encoded] = {}

    def load(self) -> dict[TaskId, Card]:
        """The cards as last saved, none of them confirmed; empty if the file cannot be used."""
        try:
            memory = codec.decode(self._path.read_bytes(), Memory)
        except FileNotFoundError:
            return {}
        except codec.Undecodable as error:
            log.warning("forgot my assignments, file=%s: %s", self._path, error.message)
            return {}
        if (memory.cluster_id, memory.node_id) != (self._cluster_id, self._node_id):
            log.warning("file=%s is of node=%s, not mine", self._path, memory.node_id)
            return {}
        return {
            a.task.id: Card(
                task_id=a.task.id,
                assignment=a,
                told_at_ms=a.task.created_at_ms,
                status=memory.statuses.get(a.task.id, a.task.status),
            )
            for a in memory.assignments
        }

    def save(self, cards: Cards) -> None:
        """Write the cards that have an assignment; raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_aside(self._path, self.encoded(cards))

    def encoded(self, cards: Cards) -> bytes:
        """The file's content, a `Memory`: only what changed since the last call is encoded anew."""
        kept: dict[TaskId, _Encoded] = {}
        for task_id, card in sorted(cards.items()):
            if card.assignment is None:
                continue
            known = self._encoded.get(task_id)
            if known is None or known.assignment is not card.assignment:
                assignment = codec.encode(card.assignment)
            else:
                assignment = known.assignment_bytes
            if known is None or known.status is not card.status:
                status = codec.encode(card.status)
            else:
                status = known.status_bytes
            kept[task_id] = _Encoded(card.assignment, assignment, card.status, status)
        self._encoded = kept
        head = {"node_id": self._node_id, "cluster_id": self._cluster_id}
        parts = [codec.dumps(part) for pair in head.items() for part in pair]
        parts += [codec.dumps("assignments"), codec.array_head(len(kept))]
        parts += [one.assignment_bytes for one in kept.values()]
        parts += [codec.dumps("statuses"), codec.map_head(len(kept))]
        for task_id, one in kept.items():
            parts += [codec.dumps(task_id), one.status_bytes]
        return b"".join([codec.map_head(4), *parts])
