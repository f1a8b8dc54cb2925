"""A journal's disk that hangs, is full, or breaks, as its file system would make it.

The shim stands where SQLite is told to commit, and SQLite itself is told how large the database
may become: so what is full is refused by SQLite as on a disk without room, halfway through a
transaction, and nothing of the journal is replaced.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from meshswarm.cluster.journal import Journal
from meshswarm.cluster.journal_disk import STALL_MS
from meshswarm.cluster.journal_table import LogTable

MANY_PAGES = 1 << 30
"""More than any test writes."""


class SickDisk:
    """Takes hold of an open journal; all ends with `heal`, or with the journal."""

    def __init__(self, journal: Journal) -> None:
        self._table: LogTable = journal._table
        self._works = threading.Event()
        self._works.set()
        self._error: sqlite3.Error | None = None
        self.commits_tried = 0
        journal.disk.pace.note(STALL_MS)  # It is known to be sick: no event loop waits for it.
        self._transaction = self._table.transaction
        self._table.transaction = self._shim  # type: ignore[method-assign]

    @contextmanager
    def _shim(self) -> Iterator[None]:
        with self._transaction():
            yield
            self.commits_tried += 1
            self._works.wait()
            if self._error is not None:
                raise self._error

    def hang(self) -> None:
        """From now on a sync does not return."""
        self._works.clear()

    def fill(self) -> None:
        """From now on there is no room for another page."""
        self._table._db.execute("PRAGMA max_page_count = 1")  # as small as it is by now

    def break_(self) -> None:
        """From now on a sync fails, as after EIO."""
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        self._error = error

    def heal(self) -> None:
        """As new: what hangs goes on, what is full has room."""
        self._error = None
        self._works.set()
        self._table._db.execute(f"PRAGMA max_page_count = {MANY_PAGES}")
