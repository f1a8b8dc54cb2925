"""What managers answer to clients, as values: their status, lines of logs, who was elected."""

from collections.abc import Mapping

from attrs import Factory, frozen

from meshswarm.errors import MeshswarmError
from meshswarm.ids import Index, NodeId, Term


@frozen(kw_only=True)
class PeerProgress:
    """How far one peer has got, as the leader sees it."""

    name: str
    match: Index
    next: Index
    lag: int
    """Entries that it lacks."""
    state: str
    active: bool


@frozen(kw_only=True)
class ManagerMetrics:
    """What one manager counted and timed since its start; times are of the last 1,000 events.

    A time is None before the first of its events.
    """

    fsync_p50_ms: float | None = None
    fsync_p99_ms: float | None = None
    """One group of log entries written and synced to this manager's disk."""
    commit_p50_ms: float | None = None
    commit_p99_ms: float | None = None
    """From a command's append, by this manager as leader, until it was committed and applied."""
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float = 0.0
    """How late the ticks came that everything else waits behind."""
    elections: int = 0
    """Terms in which this manager ran for leader."""
    leader_changes: int = 0
    """How often it found another manager leading than the one before."""
    snapshot_index: Index = Index(0)
    journal_bytes: int = 0
    free_bytes: int = 0
    """Room left on the disk of the data directory."""
    dropped: Mapping[str, int] = Factory(dict)
    """Messages that were not sent or not taken in, by cause."""


@frozen(kw_only=True)
class ManagerStatus:
    """What one manager says of itself, with or without a quorum."""

    name: str
    id: NodeId
    raft_state: str
    leader: str | None = None
    leader_id: NodeId | None = None
    term: Term
    last_index: Index
    commit_index: Index
    applied_index: Index
    heartbeat_ms: int
    election_timeout_ms: int
    liveness: Mapping[str, int] = Factory(dict)
    """How it judges silent nodes as a leader: its settings by their names (`[liveness]`)."""
    peers: tuple[PeerProgress, ...] = ()
    """On the leader only."""
    sessions: int = 0
    """Agents that it serves."""
    brake: str = ""
    """Why the tasks of silent nodes are not replaced, as far as this manager knows; empty if they
    are."""
    version: str = ""
    mesh: Mapping[str, int] = Factory(dict)
    """Messages that came and went, and those dropped, by cause."""
    unfit_because: str | None = None
    """Why it would not lead now; None if it could."""
    recovering: bool = False
    """It lost part of its log, and counts for nothing before it has it again."""
    differing: Mapping[str, Index] = Factory(dict)
    """The managers whose state is not this one's, and up to which entry that was seen."""
    metrics: ManagerMetrics = ManagerMetrics()


@frozen(kw_only=True)
class Answer:
    """How one manager answered the question for its status: `status`, or else `error`."""

    name: str
    address: str
    status: ManagerStatus | None = None
    error: MeshswarmError | None = None


@frozen(kw_only=True)
class LogLine:
    """One entry of the replicated log, in words."""

    index: Index
    term: Term
    at_ms: int | None
    """Log time; None for an entry without a command."""
    by: str
    words: str


@frozen(kw_only=True)
class Elected:
    """Who leads after a transfer, in which term."""

    leader: str
    term: Term


@frozen(kw_only=True)
class FileRow:
    """A config or secret as listings show it: without its content."""

    name: str
    bytes: int | None
    """Size of the content; None of a secret."""
    labels: Mapping[str, str] = Factory(dict)
    version: int
    created_at_ms: int
    updated_at_ms: int
    users: tuple[str, ...] = ()
    """The services that use it, by name."""
    kept: int = 0
    """Older contents that are kept because a revision uses them."""


@frozen(kw_only=True)
class TaskLines:
    """Some lines that a task wrote."""

    stream: str
    """`stdout` or `stderr`."""
    at_ms: int | None = None
    """When the first of them was written; None: not known."""
    times: tuple[int | None, ...] = ()
    """When each of them was written, if their runtime notes it."""
    lines: tuple[str, ...]


@frozen(kw_only=True)
class TaskStats:
    """What a running task uses."""

    cpu_ns: int
    """Processor time since it began."""
    memory_bytes: int
    pids: int


@frozen(kw_only=True)
class NodeStats:
    """What a node and its running tasks use, as its agent measured it when asked."""

    at_ns: int
    """The node's monotonic clock: two measures tell the share of the processor between them."""
    cpus: int
    busy_ns: int
    """Processor time of everything on the host since it booted."""
    memory_bytes: int
    memory_used_bytes: int
    """Not to be had for new processes without swapping."""
    tasks: Mapping[str, TaskStats] = Factory(dict)
    """By task id; one that ended meanwhile, or does not answer, is left out."""
