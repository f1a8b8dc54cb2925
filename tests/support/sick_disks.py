"""A journal's disk that hangs, is full, or breaks, as its file system would make it.

The shim stands where the log writes and syncs; nothing else of the journal is replaced. What is
full is refused halfway: the first part of a commit is on the disk, and stays there.
"""

import errno
import os
import threading
from collections.abc import Sequence

from meshswarm.cluster.journal import Journal
from meshswarm.cluster.journal_disk import STALL_MS
from meshswarm.cluster.journal_mark import SyncFailed


class SickDisk:
    """Takes hold of an open journal; all ends with `heal`, or with the journal."""

    def __init__(self, journal: Journal) -> None:
        log = journal._log
        self._works = threading.Event()
        self._works.set()
        self._is_broken = self._is_full = False
        self.commits_tried = 0
        journal.disk.pace.note(STALL_MS)  # It is known to be sick: no event loop waits for it.
        self._write, self._sync = log._write, log._sync
        log._write = self._written
        log._sync = self._synced

    def _written(self, descriptor: int, parts: Sequence[bytes], offset: int) -> None:
        self.commits_tried += 1
        if self._is_full:
            whole = b"".join(parts)
            self._write(descriptor, (whole[: len(whole) // 2],), offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._write(descriptor, parts, offset)

    def _synced(self, descriptor: int) -> None:
        self._works.wait()
        if self._is_broken:
            raise SyncFailed(errno.EIO, os.strerror(errno.EIO))
        self._sync(descriptor)

    def hang(self) -> None:
        """From now on a sync does not return."""
        self._works.clear()

    def fill(self) -> None:
        """From now on there is no room for another commit."""
        self._is_full = True

    def break_(self) -> None:
        """From now on a sync fails, as after EIO."""
        self._is_broken = True

    def heal(self) -> None:
        """As new: what hangs goes on, what is full has room."""
        self._is_broken = self._is_full = False
        self._works.set()
