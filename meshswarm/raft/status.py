"""A picture of one node for people and metrics; nothing decides by it."""

from attrs import frozen

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.progress import ProgressState
from meshswarm.raft.types import ConfState, Role


@frozen(kw_only=True)
class PeerStatus:
    """One peer as its leader sees it."""

    id: NodeId
    match: Index
    next: Index
    state: ProgressState
    recent_active: bool
    recovering: bool


@frozen(kw_only=True)
class RaftStatus:
    """One node now; `peers` is known to leaders only. `role` is DISCONNECTED when `disconnected`.

    `election_elapsed` is in ticks. `first_index` is the first entry that is still kept;
    `durable_index` the last that is known to be written. `recovering`: data was lost here, so this
    node counts for nothing until the leader has repaired it. `removed`: this node is no
    member any more, and the others know. `is_fit`: it would lead if elected. `elections`: the terms
    that it ran in since it started.
    """

    id: NodeId
    role: Role
    leader: NodeId | None
    term: Term
    vote: NodeId | None
    first_index: Index
    last_index: Index
    durable_index: Index
    commit: Index
    applied: Index
    conf: ConfState
    peers: tuple[PeerStatus, ...]
    election_elapsed: int
    disconnected: bool
    recovering: bool
    removed: bool
    transferee: NodeId | None
    is_fit: bool
    elections: int
