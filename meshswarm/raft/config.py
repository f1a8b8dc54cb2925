"""What an embedder decides about one node, and the one source of chance."""

from typing import Protocol

from attrs import frozen

from meshswarm.errors import Invalid
from meshswarm.ids import NodeId


class Rng(Protocol):
    """Where the randomised election timeout comes from; `random.Random` is one."""

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer in [start, stop)."""
        ...


@frozen(kw_only=True)
class RaftConfig:
    """One node's settings; raises `Invalid` where they contradict each other.

    Durations are in ticks. A node campaigns after [election_ticks, 2 * election_ticks - 1] ticks
    without a leader. The limits and what happens at each:
    `max_append_entries`, `max_append_bytes`: one `AppendEntries`, and one `Ready.committed`, hold
    no more (but always one entry); a larger proposal is refused.
    `max_inflight`, `max_inflight_bytes`: so much may be sent to one peer without its answer; then
    it gets no entries until it answers. The byte limit may be passed by one message.
    `max_uncommitted_bytes`: more proposals are refused until some commit.
    `max_pending_reads`: more reads are refused until some complete.
    `snapshot_elections`: election timeouts after which a snapshot under way that is neither
    acknowledged nor reported to get on counts as lost; the peer is probed again.
    `thrifty`: as leader, send an entry that comes alone to no more peers than commit it; whoever
    drives the core must have the others catch up (`RaftCore.catch_up`).
    """

    node_id: NodeId
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_append_entries: int = 4096
    max_append_bytes: int = 1 << 20
    max_inflight: int = 16
    max_inflight_bytes: int = 8 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_pending_reads: int = 10_000
    snapshot_elections: int = 60
    pre_vote: bool = True
    check_quorum: bool = True
    thrifty: bool = False

    def __attrs_post_init__(self) -> None:
        faults = [
            f"{name} = {getattr(self, name)}: must be at least 1"
            for name in (
                "heartbeat_ticks",
                "max_append_entries",
                "max_append_bytes",
                "max_inflight",
                "max_inflight_bytes",
                "max_uncommitted_bytes",
                "max_pending_reads",
                "snapshot_elections",
            )
            if getattr(self, name) < 1
        ]
        if self.election_ticks <= self.heartbeat_ticks:
            faults.append(
                f"election_ticks = {self.election_ticks}: must be more than "
                f"heartbeat_ticks = {self.heartbeat_ticks}"
            )
        if faults:
            raise Invalid(
                "the Raft settings contradict each other",
                details=faults,
                hint="compare with the annotated config/node.toml, section [raft]",
            )

    @property
    def election_ticks_max(self) -> int:
        """The longest randomised election timeout, in ticks."""
        return 2 * self.election_ticks - 1
