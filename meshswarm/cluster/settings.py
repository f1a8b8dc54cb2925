"""The settings of a manager's seat."""

from attrs import frozen

from meshswarm.control.liveness import LivenessPolicy


@frozen(kw_only=True)
class ClusterSettings:
    """Timeouts and limits; the defaults are those of `config/node.toml`."""

    heartbeat_ms: int = 100
    election_timeout_ms: int = 1_000
    """The shortest; each election draws one between this and twice this (Raft section 5.2)."""
    max_append_bytes: int = 1 << 20
    max_inflight: int = 16
    max_uncommitted_bytes: int = 64 << 20
    snapshot_entries: int = 10_000
    """Entries applied between two snapshots."""
    trailing_entries: int = 10_000
    """Entries kept in the log behind a snapshot, for peers that lag."""
    snapshot_bytes_per_s: int = 16 << 20
    """The most that snapshots to other managers may take of the network, all together."""
    beat_ms: int = 1_000
    """Between two beats of an agent's session, and between two reports among managers."""
    liveness: LivenessPolicy = LivenessPolicy()
    """How the leader judges nodes."""
    rebalance: bool = False
    """Whether tasks are moved unasked to nodes that came or returned."""
    proposal_timeout_s: float = 5.0
    """How long one attempt at a proposal or read may take before its caller is told."""
    min_free_bytes: int = 256 << 20
    """Below this much free disk the leader takes no writes."""
    reserved_log_bytes: int = 16 << 20
    """Disk that the journal takes when it is opened, so that commits lengthen no file."""
    shallow_sleep: bool = True
    """Whether idle processors are kept from sleeping while one write follows the other."""
    max_pending_proposals: int = 10_000
    """Proposals waiting for their commit; one more is refused as busy."""

    state_window: int = 1_024
    """Entries between two comparisons of what the managers made of them."""
    state_every_ms: int = 60_000
    """Log time between two comparisons of their whole states."""

    @property
    def tick_ms(self) -> int:
        """Raft's logical tick: half a heartbeat, so that timeouts are finer than it."""
        return max(5, self.heartbeat_ms // 2)

    @property
    def heartbeat_ticks(self) -> int:
        """A heartbeat in ticks."""
        return max(1, self.heartbeat_ms // self.tick_ms)

    @property
    def election_ticks(self) -> int:
        """The shortest election timeout in ticks."""
        return max(self.heartbeat_ticks + 1, self.election_timeout_ms // self.tick_ms)
