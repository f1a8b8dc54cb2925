"""What the core wants done: the contract between `raft` and whoever drives it.

The embedder's duties, in this order for each `Ready`:

1. send `messages` at once (nothing in them promises durability);
2. persist `snapshot`, then `entries` (replacing everything from the first one's index on), then
   `hard_state`, in one durable write; call `core.persisted(token)` when it is, and only then send
   the messages that it returns (they waited for this token: see `outbox.py`);
3. restore the state from `snapshot` and call `core.applied(snapshot.meta.index)`;
4. apply `committed` in order, and call `core.applied(index)`; it need not wait for 2, for what is
   committed is durable on a majority;
5. answer `read_states` once `applied >= index`; tell those in `rejected_reads` to ask elsewhere;
6. for each of `snapshot_requests`, call `core.send_snapshot(peer, snapshot)` with a snapshot that
   reaches the log, `core.snapshot_moved(peer)` while it gets on, and `core.snapshot_sent(peer, ok)`
   once the transfer is known to have ended.

Several Readys may be outstanding; their tokens become durable in the order they were issued.
Messages may be lost, repeated and overtake each other; but none may reach a later life of its
receiver, nor come after one of a later life of its sender (`mesh` sees to both).
`hard_state` comes whenever `token` does; a commit index alone is worth a write only when it makes
a membership change take effect.
"""

from attrs import frozen

from meshswarm.ids import Index, NodeId
from meshswarm.raft.messages import Message
from meshswarm.raft.types import Entry, HardState, Role, Snapshot


@frozen
class SoftState:
    """Who leads, as this node sees it, and what this node is.

    `removed`: it is no member any more, the others know, and the embedder should stop it.
    """

    leader: NodeId | None
    role: Role
    removed: bool = False


@frozen
class ReadState:
    """The read named `context` may be served once everything up to `index` is applied.

    (Thesis section 6.4.)
    """

    context: object
    index: Index


@frozen(kw_only=True)
class Ready:
    """One batch of work; `token` is None when nothing needs to be durable."""

    token: int | None = None
    soft_state: SoftState | None = None
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    messages: tuple[Message, ...] = ()
    committed: tuple[Entry, ...] = ()
    read_states: tuple[ReadState, ...] = ()
    rejected_reads: tuple[object, ...] = ()
    """Contexts of reads that can no longer be confirmed here: leadership was lost."""
    snapshot_requests: tuple[NodeId, ...] = ()
    """Peers whose next entry is compacted away."""
