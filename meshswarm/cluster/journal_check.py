"""What a journal directory holds and what is wrong with it, read only: `journal check`."""

from pathlib import Path

from attrs import frozen

from meshswarm.cluster.journal_recovery import DATABASE, gather
from meshswarm.cluster.snapshots import read_snapshot
from meshswarm.errors import Corrupt, NotFound
from meshswarm.ids import ClusterId, Index, NodeId
from meshswarm.raft.types import HardState


@frozen(kw_only=True)
class Report:
    """A journal as it lies on the disk; sound when there are no `faults`."""

    cluster_id: ClusterId | None
    node_id: NodeId | None
    hard_state: HardState | None
    incarnation: int
    first_index: Index | None
    """Of the stored entries, as is `last_index`; None when there are none."""
    last_index: Index | None
    snapshots: tuple[str, ...]
    """Names of the readable ones, newest first."""
    damage: str
    """Why the node may not vote; empty when it may."""
    faults: tuple[str, ...]


def inspect(directory: Path) -> Report:
    """The journal in `directory`, which may be in use; changes nothing that it holds.

    Raises `NotFound` where there is no journal, `Conflict` if it is of a newer format.
    """
    if not directory.is_dir() or (evidence := gather(directory)).is_new:
        raise NotFound(f"there is no journal ({DATABASE})", where=str(directory))
    contents, head = evidence.contents, evidence.head
    owner = evidence.mark or (contents.identity if contents else None)
    entries = contents.entries if contents else ()
    readable, faults = [], list(evidence.faults)
    for name in evidence.snapshots:
        try:
            read_snapshot(directory, owner.cluster_id if owner else None, name)
            readable.append(str(name))
        except Corrupt as error:
            faults.append(error.message)
    return Report(
        cluster_id=owner.cluster_id if owner else None,
        node_id=owner.node_id if owner else None,
        hard_state=head.hard_state if head else None,
        incarnation=head.incarnation if head else 0,
        first_index=entries[0].index if entries else None,
        last_index=entries[-1].index if entries else None,
        snapshots=tuple(readable),
        damage=head.damage if head else "",
        faults=tuple(faults),
    )
