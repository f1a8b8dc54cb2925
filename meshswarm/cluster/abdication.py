"""Who cannot lead gives leadership away: a manager whose disk or event loop stalls, or is full.

A leader needs its own disk for nothing but its vote in the quorum, and its loop for all else. So a
leader with a disk that hangs could go on for long with the others' acknowledgements alone, until it
is the one whose vote is missing; and one whose loop was stuck may be the last to learn that
another leads. Looked at once a tick, before the tick.
"""

from collections.abc import Callable
from typing import Protocol

from meshswarm.cluster.settings import ClusterSettings
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId
from meshswarm.raft.core import RaftCore

DISK_STALL_MIN_S, LOOP_STALL_MIN_S = 0.5, 1.0
"""Shorter stalls cost nobody the leadership, however short the election timeout: a busy host has
them now and then, often together with its neighbours, and a change of leader would not help."""


class Watched(Protocol):
    """What can be told of the disk; `journal_disk.DiskWatch` is one."""

    @property
    def is_full(self) -> bool:
        """Whether the last write did not fit."""
        ...

    @property
    def stalled_s(self) -> float:
        """For how long it has been at what it is doing now."""
        ...

    @property
    def low_space(self) -> bool:
        """Whether new proposals are to be refused for want of room."""
        ...


class Abdication:
    """One manager's fitness to lead; tells its core, and `warn`s or `complain`s in words."""

    def __init__(
        self,
        core: RaftCore,
        disk: Watched,
        settings: ClusterSettings,
        has_room: Callable[[NodeId], bool],
        warn: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self.unfit_because: str | None = None
        """Why this manager does not lead, in words; None while it could."""
        self._core = core
        self._disk = disk
        election_s = settings.election_timeout_ms / 1_000
        self._disk_limit_s = max(election_s, DISK_STALL_MIN_S)
        # By twice an election timeout every follower's has passed.
        self._loop_limit_s = max(2 * election_s, LOOP_STALL_MIN_S)
        self._has_room = has_room
        self._warn, self._complain = warn, complain
        self._warned = False

    def look(self, lag_s: float) -> None:
        """Judge the disk now, and the loop by how late this tick comes."""
        if lag_s >= self._loop_limit_s:
            self._complain(f"the event loop was stuck for {lag_s:.1f} s: not leading any longer")
            self._core.abdicate()
        stalled_s = self._disk.stalled_s
        because = None
        if self._disk.is_full:
            because = "its disk is full"
        elif stalled_s > self._disk_limit_s:
            because = "its disk does not answer"
        if because != self.unfit_because:
            self._note(because)
        self._warn_early(stalled_s)
        if because is None and self._disk.low_space:
            self._make_way()

    def _note(self, because: str | None) -> None:
        self.unfit_because = because
        self._core.set_fit(because is None)
        if because is None:
            self._warn("the disk works again: this manager could lead")
        else:
            self._complain(f"this manager cannot lead: {because}")

    def _warn_early(self, stalled_s: float) -> None:
        is_slow = stalled_s > self._disk_limit_s / 2
        if is_slow and not self._warned:
            self._warn(f"the disk has been at one write for {stalled_s:.1f} s")
        self._warned = is_slow

    def _make_way(self) -> None:
        """Hand over to a voter with room on its disk; where there is none, reads go on here."""
        status = self._core.status()
        if status.leader != status.id or status.transferee is not None:
            return
        able = [
            peer
            for peer in status.peers
            if peer.recent_active
            and not peer.recovering
            and peer.id in status.conf.voters
            and self._has_room(peer.id)
        ]
        best = max(able, key=lambda peer: peer.match, default=None)
        if best is None:
            return
        try:
            self._core.transfer_leadership(best.id)
        except Unavailable as error:
            self._warn(f"leadership stays on a nearly full disk: {error}")
        else:
            self._warn(f"the disk is nearly full: handing leadership over to {best.id}")
