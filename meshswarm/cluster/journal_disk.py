"""How the disk under a journal fares: its times, whether it stalls, whether it is full.

A full disk is the one error that is waited out: what did not fit was not written, so writing it
again proves as much as the first time would have. A sync that failed proves nothing ever after,
whatever its reason; it is not taken for a full disk even where it says so.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from meshswarm.cluster.journal_mark import SyncFailed
from meshswarm.cluster.metrics import Recent

log = logging.getLogger("meshswarm.journal")

T = TypeVar("T")

RETRY_S = 0.1
"""Between two attempts while the disk is full."""

QUICK_MS = 2.0
"""What a commit takes on average at most for the event loop itself to wait for the next one."""

STALL_MS, WARY_COMMITS = 50.0, 1_000
"""After one that took so long, so many are not waited for."""

ASKED_EVERY_S = 1.0
"""How often the free space is asked for at most."""


def is_full(error: BaseException | None) -> bool:
    """Whether something was not written for want of room, and may be written again."""
    match error:
        case SyncFailed():
            return False
        case OSError():
            return error.errno in (errno.ENOSPC, errno.EDQUOT)
        case _:
            return False


def free_bytes(directory: Path) -> int:
    """What an unprivileged process may still write on the disk of `directory`."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize


class Pace:
    """How quick the commits of late were; told of each of them by whoever made it."""

    def __init__(self) -> None:
        self._mean_ms = QUICK_MS
        self._wary = 0

    def note(self, commit_ms: float) -> None:
        """One more."""
        self._mean_ms += (commit_ms - self._mean_ms) / 16
        if commit_ms >= STALL_MS:
            self._wary = WARY_COMMITS
        elif self._wary:
            self._wary -= 1

    @property
    def is_quick(self) -> bool:
        """Whether the next one is worth waiting for."""
        return not self._wary and self._mean_ms < QUICK_MS


class Working:
    """The disk is being waited for as long as a block with this lasts."""

    def __init__(self) -> None:
        self.since_s: float | None = None

    def __enter__(self) -> None:
        self.since_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.since_s = None


class DiskWatch:
    """Kept by a journal: the writer's thread says what it does, the event loop asks."""

    def __init__(
        self, directory: Path, min_free_bytes: int, free_bytes: Callable[[Path], int] = free_bytes
    ) -> None:
        self.sync_ms = Recent()
        self.pace = Pace()
        self.working = Working()
        self.is_full = False
        """Whether the last write did not fit; it is tried again until it does."""
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._ask_free_bytes = free_bytes
        self._asked_at_s = -ASKED_EVERY_S
        self._free_bytes = 0
        self._gave_up = threading.Event()

    # --- on the thread that writes --------------------------------------------------------------

    def committed(self, sync_ms: float) -> None:
        """A commit is durable, whose sync took so long."""
        self.sync_ms.add(sync_ms)
        self.pace.note(sync_ms)

    def until_it_fits(self, job: Callable[[], T]) -> T:
        """Do `job`, which must leave nothing behind when it fails, until the disk has room for it.

        Raises the error of a full disk only after `give_up`.
        """
        while True:
            try:
                done = job()
            except OSError as error:
                if not is_full(error):
                    raise
                if not self.is_full:
                    log.error("the disk is full: nothing is acknowledged until it has room again")
                self.is_full = True
                if self._gave_up.wait(RETRY_S):
                    raise
            else:
                if self.is_full:
                    log.warning("the disk has room again: going on")
                self.is_full = False
                return done

    # --- on the event loop ----------------------------------------------------------------------

    def give_up(self) -> None:
        """Wait for room no longer: the journal is being closed."""
        self._gave_up.set()

    @property
    def stalled_s(self) -> float:
        """For how long the disk has been at what it is doing now; 0 when it does nothing."""
        since_s = self.working.since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    @property
    def free_bytes(self) -> int:
        """Room on the disk, not older than a second."""
        now_s = time.monotonic()
        if now_s - self._asked_at_s >= ASKED_EVERY_S:
            self._asked_at_s = now_s
            self._free_bytes = self._ask_free_bytes(self._directory)
        return self._free_bytes

    @property
    def low_space(self) -> bool:
        """Whether there is so little room that new proposals are to be refused."""
        return self.free_bytes < self._min_free_bytes

    def has_room(self, size: int) -> bool:
        """Whether a file of `size` bytes leaves as much free as proposals need."""
        return self.free_bytes >= size + self._min_free_bytes
