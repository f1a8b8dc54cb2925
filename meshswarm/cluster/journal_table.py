"""The log in SQLite: a row for each entry, and one row each for identity and head.

WAL mode with `synchronous=FULL`: a commit is one append to the write-ahead log and one sync of it.
Checkpoints are explicit, because SQLite's own would run inside a commit, before it is acknowledged.
SQLite checks the frames of its write-ahead log but not the pages of its database, so every row has
a CRC that covers its index too. After an error a table is only closed, never used again.
"""

import sqlite3
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from meshswarm import codec
from meshswarm.cluster.journal_mark import Head, encoded_head, seal, sync_file, unseal
from meshswarm.errors import Conflict, Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import ConfState, Entry, EntryKind

FORMAT = 3
"""The version of what is stored; a directory of another one is refused, never guessed at."""

PAGE_BYTES = 4096
"""As large as the kernel's pages: larger ones made a commit of one entry slower, none faster."""

CACHE_PAGES = 500
"""Of the database in memory, as SQLite has it by itself: commits only append."""

RESERVED_AT_ONCE = 1 << 20
"""How much of a log that is made longer is in memory at a time."""

MAX_FAULTS = 5
"""Faults told of one database; beyond that they say nothing new."""

_SCHEMA = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry (
        entry_index INTEGER PRIMARY KEY,
        term INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        data BLOB NOT NULL
    );
"""
_SELECT = "SELECT entry_index, term, kind, crc, data FROM entry "
_CHECKED = struct.Struct(">QQB")
"""What an entry's CRC covers besides its data: index, term, kind."""


@frozen
class Identity:
    """Whose journal it is; written once."""

    cluster_id: ClusterId
    node_id: NodeId
    initial_conf: ConfState


@frozen(kw_only=True)
class Contents:
    """What could be read of a database, and what was wrong with it."""

    identity: Identity | None = None
    head: Head | None = None
    entries: tuple[Entry, ...] = ()
    """All rows up to the first bad one."""
    faults: tuple[str, ...] = ()


class LogTable:
    """The open database; used by one thread at a time. Its methods raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self._db = _connect(path, "rw")
        self._log_path = path.with_name(f"{path.name}-wal")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_autocheckpoint = 0")
        self.sync_ms = 0.0
        """How long the last transaction took to be written and synced."""

    @staticmethod
    def create(path: Path, identity: Identity, head: Head) -> None:
        """A new database at `path`, where there is none."""
        with closing(_connect(path, "rwc")) as db:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            assert mode == "wal", f"SQLite chose journal mode {mode}"
            db.executescript(f"BEGIN; {_SCHEMA}")
            rows = {"format": FORMAT, "identity": identity, "head": head}
            db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [(name, seal(codec.encode(value))) for name, value in rows.items()],
            )
            db.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block becomes durable at its end, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            started_s = time.perf_counter()
            self._db.execute("COMMIT")
            self.sync_ms = 1_000 * (time.perf_counter() - started_s)
        except BaseException:
            if self._db.in_transaction:  # after some errors SQLite has rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    def write_head(self, head: Head) -> None:
        """Replace the head."""
        self._db.execute(
            "UPDATE meta SET value = ? WHERE name = 'head'", (seal(encoded_head(head)),)
        )

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries; rows at their indexes must not exist."""
        self._db.executemany(
            "INSERT INTO entry (entry_index, term, kind, crc, data) VALUES (?, ?, ?, ?, ?)",
            [
                (e.index, e.term, k := e.kind.value, _crc(e.index, e.term, k, e.data), e.data)
                for e in entries
            ],
        )

    def truncate_from(self, first: Index) -> None:
        """Remove the entries from `first` on."""
        self._db.execute("DELETE FROM entry WHERE entry_index >= ?", (first,))

    def drop_first(self, before: Index, limit: int) -> bool:
        """Remove up to `limit` of the entries below `before`; whether some of them remain."""
        dropped = self._db.execute(
            "DELETE FROM entry WHERE entry_index <"
            " MIN(?, (SELECT MIN(entry_index) + ? FROM entry))",
            (before, limit),
        ).rowcount
        return dropped == limit

    def first_index(self) -> Index | None:
        """The index of the first entry, None if there is none."""
        (first,) = self._db.execute("SELECT MIN(entry_index) FROM entry").fetchone()
        return first if first is None else Index(first)

    def read(self, first: Index, end: Index, max_bytes: int) -> list[Entry]:
        """The entries in [first, end), at least one if there is any, cut at `max_bytes` of data.

        Raises `Corrupt` at a row whose checksum does not fit.
        """
        entries: list[Entry] = []
        size = 0
        where = "WHERE entry_index >= ? AND entry_index < ? ORDER BY entry_index"
        for row in self._db.execute(_SELECT + where, (first, end)):
            entry = _entry(row)
            size += len(entry.data)
            if entries and size > max_bytes:
                break
            entries.append(entry)
        return entries

    def checkpoint(self) -> None:
        """Move what the write-ahead log holds into the database, durably, and start it anew."""
        (is_busy, _, _) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise sqlite3.OperationalError("the database is being read by another process")

    def recycle(self) -> None:
        """As `checkpoint`, but keep the file: overwriting is cheaper than growing it again."""
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def reserve(self, size: int) -> None:
        """Make the write-ahead log about `size` bytes long, durably, if it is shorter.

        A commit that lengthens the file waits for the file system's own journal too, and for what
        others have in it; one that overwrites it does not. SQLite overwrites what a transaction
        left there that was too large for memory and rolled back, and recovery ends before it.
        """
        missing = size - self._log_path.stat().st_size if self._log_path.exists() else size
        if missing <= 0:
            return
        self._db.execute("PRAGMA cache_size = 1")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for number in range(-(-missing // RESERVED_AT_ONCE)):
                self._db.execute(
                    "INSERT INTO meta VALUES (?, zeroblob(?))",
                    (f"reserve-{number}", RESERVED_AT_ONCE),
                )
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._db.execute(f"PRAGMA cache_size = {CACHE_PAGES}")
        with self._log_path.open("rb") as log:
            sync_file(log.fileno())

    def close(self) -> None:
        """Close the database; SQLite moves the write-ahead log into it when it can."""
        self._db.close()


def examine(path: Path) -> Contents:
    """What the database at `path` holds; changes nothing.

    Whatever is wrong with it is told as faults. Raises only `Conflict`, for a newer format.
    """
    try:
        with closing(_connect(path, "ro")) as db:
            db.execute("BEGIN")
            return _examined(db)
    except (sqlite3.Error, MemoryError, OverflowError) as error:
        return Contents(faults=(f"{path.name} is unreadable: {error}",))


def _examined(db: sqlite3.Connection) -> Contents:
    faults: list[str] = []
    checked = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if checked != "ok":
        faults.append(f"the database is malformed: {' '.join(str(checked).split())}")
    identity, head = None, None
    try:
        _refuse_newer(db)
        identity = codec.decode(_meta(db, "identity"), Identity)
        head = codec.decode(_meta(db, "head"), Head)
    except (Corrupt, codec.Undecodable) as error:
        faults.append(error.message)
    entries: list[Entry] = []
    try:
        for row in db.execute(_SELECT + "ORDER BY entry_index"):
            entries.append(_entry(row))  # noqa: PERF401 -- those before a bad row are kept
    except (Corrupt, sqlite3.Error) as error:
        faults.append(str(error))
    if head is not None and not faults:
        faults += _misfits(head, entries)
    return Contents(
        identity=identity,
        head=head,
        entries=tuple(entries),
        faults=tuple(fault[:200] for fault in faults[:MAX_FAULTS]),
    )


def _misfits(head: Head, entries: Sequence[Entry]) -> Iterator[str]:
    """Where rows that are sound one by one do not make the log that the head describes."""
    base = head.snapshot_index
    for before, entry in pairwise(entries):
        if entry.index != before.index + 1:
            yield f"entry {before.index} is followed by entry {entry.index}"
        if entry.term < before.term:
            yield f"entry {entry.index} is of term {entry.term}, the one before of {before.term}"
    if entries and not 1 <= entries[0].index <= base + 1:
        yield f"the first entry is {entries[0].index}, but the snapshot ends at {base}"
    last = max(base, entries[-1].index if entries else base)
    if last != head.last_index:
        yield f"the last entry is {last}, but {head.last_index} was written"
    if entries and entries[-1].index < base:
        yield f"the last entry is {entries[-1].index}, before the snapshot at {base}"
    if head.hard_state.commit > last:
        yield f"the last entry is {last}, but {head.hard_state.commit} was committed"
    if entries and entries[-1].term > head.hard_state.term:
        yield f"the last entry's term {entries[-1].term} is beyond {head.hard_state.term}"


def _refuse_newer(db: sqlite3.Connection) -> None:
    found = codec.loads(_meta(db, "format"))
    if found != FORMAT:
        raise Conflict(
            f"the journal has format {found}, this version knows {FORMAT}",
            hint="start the version of meshswarm that wrote it",
        )


def _meta(db: sqlite3.Connection, name: str) -> bytes:
    row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise Corrupt(f"the {name} is missing")
    try:
        return unseal(row[0])
    except Corrupt as error:
        raise Corrupt(f"the {name} is damaged: its checksum does not fit") from error


def _entry(row: tuple[object, ...]) -> Entry:
    match row:
        case int() as index, int() as term, int() as kind, int() as crc, bytes() as data if (
            0 <= term < 1 << 63 and 0 < index < 1 << 63 and kind in _KINDS
        ):
            if _crc(index, term, kind, data) == crc:
                return Entry(Index(index), Term(term), data, _KINDS[kind])
    raise Corrupt(f"entry {row[0]} is damaged: its checksum does not fit")


def _crc(index: int, term: int, kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_CHECKED.pack(index, term, kind)))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread (but by one at a time)."""
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    db.execute("PRAGMA cell_size_check = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    return db


_KINDS = {kind.value: kind for kind in EntryKind}
