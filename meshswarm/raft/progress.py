"""What the leader knows of one peer's log, and how fast it may send to it.

All transitions are methods here; nobody else assigns these fields.

PROBE: the match point is unknown; one append at a time. REPLICATE: appends stream ahead of their
acknowledgement, within the window. SNAPSHOT: nothing is sent until the snapshot is there.
"""

from collections import deque
from enum import Enum

from meshswarm.ids import Index

NEVER = 1 << 60
"""The `silent_ticks` of a peer that has not answered yet."""


class ProgressState(Enum):
    """How the leader sends to a peer."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Inflights:
    """The appends to one peer that it has not answered, limited in number and in bytes."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._sent: deque[tuple[Index, int]] = deque()
        self.bytes = 0
        self.is_full = False
        """Whether no more entries may be sent; the last message may pass the byte limit."""

    def __len__(self) -> int:
        """The appends without an answer."""
        return len(self._sent)

    def add(self, last_index: Index, size_bytes: int) -> None:
        """Note an append that ends at `last_index`."""
        assert not self.is_full, f"window of {self._max_count} appends is full"
        self._sent.append((last_index, size_bytes))
        self.bytes += size_bytes
        self.is_full = len(self._sent) >= self._max_count or self.bytes >= self._max_bytes

    def free_to(self, index: Index) -> None:
        """Forget the appends that end at or before `index`: an ack covers all before it."""
        while self._sent and self._sent[0][0] <= index:
            self.bytes -= self._sent.popleft()[1]
            self.is_full = self.bytes >= self._max_bytes

    def clear(self) -> None:
        """Forget all."""
        self._sent.clear()
        self.bytes = 0
        self.is_full = False


class Progress:
    """One peer as its leader sees it: `match` is durable there, `next` is sent next.

    `paused`: nothing more goes out until an answer or a heartbeat's answer. `nudged`: an append
    goes out at the next occasion even if it is empty. `recent_active`: heard from since the last
    check of the quorum; `silent_ticks`: since it last answered. `sent_commit`: the commit index it
    was last told. `goal`: who matches this has caught up. `probed_to`: how far the probe under way
    reaches. `recovery`: the number of the loss that it told of last, 0 if it is whole; `vouched` is
    the same once the leader vouches for it, for which `vouched_at` must be held by enough.
    """

    __slots__ = (
        "goal",
        "inflights",
        "match",
        "next",
        "nudged",
        "paused",
        "pending_snapshot",
        "probed_to",
        "recent_active",
        "recovery",
        "sent_commit",
        "silent_ticks",
        "snapshot_rounds",
        "state",
        "vouched",
        "vouched_at",
    )

    def __init__(self, next_index: Index, max_inflight: int, max_inflight_bytes: int) -> None:
        self.match = Index(0)
        self.goal = Index(next_index - 1)
        self.next = next_index
        self.state = ProgressState.PROBE
        self.inflights = Inflights(max_inflight, max_inflight_bytes)
        self.paused = False
        self.nudged = True
        self.pending_snapshot = Index(0)
        self.probed_to = Index(0)
        self.recent_active = False
        self.silent_ticks = NEVER
        self.recovery = 0
        self.vouched = 0
        self.vouched_at = Index(0)
        self.sent_commit = Index(0)
        self.snapshot_rounds = 0

    @property
    def counted(self) -> Index:
        """How far the peer helps to commit."""
        return Index(0) if self.recovery else self.match

    @property
    def is_active(self) -> bool:
        """Whether it counts towards the quorum that a leader must have heard."""
        return self.recent_active and self.recovery == self.vouched

    @property
    def may_stream(self) -> bool:
        """Whether entries may go out now, as far as the window is concerned."""
        return self.state is not ProgressState.REPLICATE or not self.inflights.is_full

    @property
    def has_caught_up(self) -> bool:
        """Whether the peer holds what was committed when it came and one round ago."""
        return self.state is ProgressState.REPLICATE and self.match >= self.goal

    def wants_commit(self, commit: Index) -> bool:
        """Whether an empty append would teach this peer a commit index that it can use."""
        return (
            self.state is ProgressState.REPLICATE
            and self.sent_commit < commit
            and self.sent_commit < self.next - 1
        )

    def sent_append(self, count: int, size_bytes: int, commit: Index) -> None:
        """An append with `count` entries went out."""
        self.nudged = False
        self.sent_commit = commit
        if self.state is ProgressState.PROBE:
            self.paused = True
            self.probed_to = Index(self.next - 1 + count)
            return
        if count:
            self.next = Index(self.next + count)
            self.inflights.add(Index(self.next - 1), size_bytes)
        # A full window pauses: whatever goes out then is a probe for lost appends.
        self.paused = self.inflights.is_full

    def accepted(self, index: Index, first_index: Index) -> bool:
        """The peer holds everything up to `index`; whether that was news.

        `first_index` is the first entry that the leader could send: a peer that reaches it needs
        its snapshot no longer, even if it is not the one that was sent. A probe ends with its own
        answer: what was sent before it may still be answered, piece by piece and out of order.
        """
        was_probing = self.state is ProgressState.PROBE
        if index < self.match or (index == self.match and not was_probing):
            return False
        self.match = index
        self.next = max(self.next, Index(index + 1))
        match self.state:
            case ProgressState.PROBE:
                if index >= self.probed_to:
                    self._become_replicate()
            case ProgressState.REPLICATE:
                self.paused = False
                self.inflights.free_to(index)
            case ProgressState.SNAPSHOT:
                if index + 1 >= first_index:
                    self._become_replicate()
        return True

    def rejected(self, prev_index: Index, retry_from: Index) -> bool:
        """The peer refused an append after `prev_index`; whether that was news.

        `retry_from` is the first entry to send next. A refusal is stale if the peer has since
        matched that far, or if it does not answer the probe under way.
        """
        match self.state:
            case ProgressState.REPLICATE:
                if prev_index <= self.match:
                    return False
                self.become_probe()
            case ProgressState.PROBE:
                if prev_index != self.next - 1:
                    return False
            case ProgressState.SNAPSHOT:
                return False
        self.next = max(min(prev_index, retry_from), Index(self.match + 1))
        self._probe_now()
        return True

    def lost_data(self, retry_from: Index) -> None:
        """The peer says that it lost entries it once held: forget what it acknowledged.

        It says so at each heartbeat; a snapshot that is on its way goes on, for that is what it
        needs.
        """
        self.match = Index(0)
        if self.state is ProgressState.SNAPSHOT:
            return
        self.become_probe()
        self.next = max(retry_from, Index(1))
        self.sent_commit = Index(0)
        self._probe_now()

    def told_recovery(self, recovery: int, vouched_at: Index) -> None:
        """The peer says that it had another loss, or that it has recovered (0)."""
        self.recovery, self.vouched, self.vouched_at = recovery, 0, vouched_at
        if recovery:
            self.match = Index(0)

    def heard(self) -> None:
        """The peer said something."""
        self.recent_active = True
        self.silent_ticks = 0

    def heartbeat_answered(self, last_index: Index) -> None:
        """The peer answered a heartbeat: resume, and look for lost appends if it lags, or for the
        word that it is whole again, which may have been lost too."""
        self.heard()
        self.paused = False
        if self.match < last_index or self.state is ProgressState.PROBE or self.recovery:
            self.nudged = True

    def become_probe(self) -> None:
        """Send one append at a time, from the match point or after the snapshot."""
        after = max(self.match, self.pending_snapshot)
        self._enter(ProgressState.PROBE, Index(after + 1))

    def become_snapshot(self, pending: Index) -> None:
        """Send nothing until the snapshot at `pending` is installed."""
        self._enter(ProgressState.SNAPSHOT, Index(pending + 1))
        self.pending_snapshot = pending

    def end_round(self, max_snapshot_rounds: int, committed: Index) -> None:
        """An election timeout has passed: judge anew whether the peer is active.

        A snapshot to a peer that fell silent, or that takes too many rounds, counts as lost; until
        then it keeps the log behind it from being compacted.
        """
        if self.state is ProgressState.SNAPSHOT:
            self.snapshot_rounds += 1
            if not self.recent_active or self.snapshot_rounds >= max_snapshot_rounds:
                self.snapshot_failed()
        self.recent_active = False
        self.goal = max(self.goal, committed)

    def snapshot_failed(self) -> None:
        """The snapshot did not arrive: probe again from the match point."""
        self.pending_snapshot = Index(0)
        self.become_probe()
        self.paused = True

    def snapshot_delivered(self) -> None:
        """The peer has the snapshot in its hands: probe after it once it answers anything."""
        self.become_probe()
        self.paused = True

    def _become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE, Index(self.match + 1))

    def _enter(self, state: ProgressState, next_index: Index) -> None:
        self.state = state
        self.next = next_index
        self.paused = False
        self.nudged = False
        self.pending_snapshot = Index(0)
        self.snapshot_rounds = 0
        self.sent_commit = min(self.sent_commit, Index(next_index - 1))
        self.inflights.clear()

    def _probe_now(self) -> None:
        self.paused = False
        self.nudged = True
        self.sent_commit = min(self.sent_commit, Index(self.next - 1))
