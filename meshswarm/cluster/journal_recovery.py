"""Opening a journal directory: what it says is weighed before anything in it is changed.

`gather` only reads. Sound evidence is continued. Damaged evidence is moved aside, never deleted;
the node then starts with an empty log on its newest readable snapshot, keeps term and vote, and
remembers, until it is healed, that it must not vote: it may have promised what it no longer knows.

    lock            held (flock) by whoever uses the directory; its text is that process's pid
    log-N           identity, heads, entries (`journal_segments`); `spare-N`: to become one
    journal.mark    the newest head once more (`journal_mark`)
    snapshot-I-T    the state after entry I, of term T (`snapshots`); `.part`: one that arrives
    log.damaged-N   a folder with a log that was moved aside
"""

import fcntl
import os
import shutil
import time
from pathlib import Path

from attrs import evolve, frozen

from meshswarm.cluster.journal_mark import Mark, MarkFile, read_mark, sync_directory
from meshswarm.cluster.journal_records import Head, Identity, head_bytes, other_format
from meshswarm.cluster.journal_scan import Contents, examine, segment_name, segment_numbers
from meshswarm.cluster.journal_segments import Log
from meshswarm.cluster.snapshots import (
    SnapshotName,
    Stored,
    check_snapshot,
    list_snapshots,
    prune_snapshots,
    remove_unfinished,
)
from meshswarm.errors import Conflict, Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import ConfState, Entry, HardState

OLD_DATABASE = "journal.db"
"""Where versions before format 4 kept the log."""

MARK = "journal.mark"
LOCK = "lock"

MAX_DAMAGED = 8
"""Damaged logs kept; the last one is replaced by a newer one, the first tell the most."""

MAX_DAMAGE_TEXT = 400
"""Characters kept of a damage's description."""

DAMAGED_SNAPSHOT = "snapshot.damaged"
"""Where the last snapshot that could not be read is kept."""

_Parts = tuple[Log, MarkFile, Head]


@frozen
class Damage:
    """Records were lost: the node must start as recovering and not vote."""

    what: str
    where: str


@frozen(kw_only=True)
class Recovered:
    """What a journal held when it was opened."""

    hard_state: HardState
    conf: ConfState
    """The snapshot's, or the one that the cluster began with."""
    snapshot: Stored | None
    entries: tuple[Entry, ...]
    """Contiguous, to the end of the log. They may begin before the snapshot's end (those kept for
    peers that lag), never later than the entry after it.
    """
    incarnation: int
    """Grows at each open, durably."""
    damage: Damage | None = None
    notes: tuple[str, ...] = ()
    """What was found and mended without loss; to be logged."""


@frozen
class Evidence:
    """All that a directory says, unchanged."""

    mark: Mark | None
    contents: Contents | None
    snapshots: tuple[SnapshotName, ...]
    faults: tuple[str, ...]

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever acknowledged from this directory: commit 1 is its opening."""
        if self.mark is not None:
            return self.mark.head.counter == 0 and (self.head or self.mark.head).counter <= 1
        return self.contents is None and not self.snapshots and not self.faults

    @property
    def head(self) -> Head | None:
        """The newest readable head; not to be trusted with the log if there are faults."""
        heads = [part.head for part in (self.contents, self.mark) if part and part.head]
        return max(heads, key=lambda head: head.counter) if heads else None


@frozen
class Opened:
    """The parts of an open journal; `lock` is the descriptor that holds the directory."""

    lock: int
    log: Log
    mark: MarkFile
    head: Head


def lock_directory(directory: Path) -> int:
    """The descriptor that holds the directory's lock; raises `Conflict` if it is in use."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise Conflict(
            f"the data directory is in use by the process with pid {holder}",
            where=str(directory),
            hint="stop that node first, or start this one with its own data directory",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def open_directory(
    directory: Path, cluster_id: ClusterId, node_id: NodeId, initial_conf: ConfState
) -> tuple[Opened, Recovered]:
    """Lock the directory, which is made if there is none, and open this node's journal in it.

    Raises `Conflict` if it is in use, another node's, or of another format; otherwise only what
    the disk itself refuses (`OSError`).
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = lock_directory(directory)
    try:
        (log, mark, head), recovered = _recover(
            directory, Identity(cluster_id, node_id, initial_conf)
        )
    except BaseException:
        os.close(lock)
        raise
    return Opened(lock, log, mark, head), recovered


def _recover(directory: Path, identity: Identity) -> tuple[_Parts, Recovered]:
    evidence = gather(directory)
    _refuse_foreign(directory, evidence, identity.cluster_id, identity.node_id)
    if evidence.is_new:
        _found(directory, identity)
        return _resume(directory, _created(directory), Base(None))
    found, faults = stored(directory, evidence)
    if found is None:
        found = _newest_readable(directory, identity.cluster_id)
        _start_again(directory, identity, evidence, found, "; ".join(faults))
        return _resume(directory, _created(directory), found)
    assert evidence.contents is not None, "a log without contents that can be trusted"
    return _resume(directory, evidence.contents, found)


def _created(directory: Path) -> Contents:
    """What a log that was just made holds."""
    contents = examine(directory)
    assert contents is not None, f"no log in {directory}"
    assert not contents.faults, f"a new log with faults: {contents.faults}"
    return contents


def gather(directory: Path) -> Evidence:
    """What mark and log of a directory say, and how they contradict; changes nothing.

    The mark is read first: what it claims was durable by then, also while a node goes on writing.
    Raises `Conflict` where another version wrote it.
    """
    if (directory / OLD_DATABASE).exists():
        raise other_format(f"3 or older ({OLD_DATABASE})")
    mark, faults = None, []
    try:
        mark = read_mark(directory / MARK)
        has_mark = mark is not None
    except Corrupt as error:
        faults.append(error.message)
        has_mark = True
    contents = examine(directory)
    snapshots = list_snapshots(directory)
    has_spares = any(directory.glob("spare-*"))  # the first one is made behind the mark
    if has_mark or contents is not None or snapshots or has_spares:
        if not has_mark:
            faults.append(f"{MARK} is missing")
        faults += _contradictions(mark, contents)
    return Evidence(mark, contents, snapshots, tuple(faults))


def _contradictions(mark: Mark | None, contents: Contents | None) -> list[str]:
    if contents is None:
        return ["the log is missing"]
    faults = list(contents.faults)
    if mark is not None and contents.head is not None:
        stored, acknowledged = contents.head.counter, mark.head.counter
        if stored < acknowledged:
            faults.append(f"the log ends at commit {stored}, but {acknowledged} was acknowledged")
    return faults


def _refuse_foreign(
    directory: Path, evidence: Evidence, cluster_id: ClusterId, node_id: NodeId
) -> None:
    owners = [evidence.mark, evidence.contents.identity if evidence.contents else None]
    for owner in owners:
        if owner is not None and (owner.cluster_id, owner.node_id) != (cluster_id, node_id):
            raise Conflict(
                f"the data directory belongs to node {owner.node_id} of cluster "
                f"{owner.cluster_id}, not to node {node_id} of cluster {cluster_id}",
                where=str(directory),
                hint="run `meshswarm node start --config FILE` with that node's own file, "
                "or give this node an empty data directory",
            )


# --- sound evidence -----------------------------------------------------------------------------


@frozen
class Base:
    """What the state machine starts from: a snapshot, and the entries that reach past it."""

    snapshot: Stored | None
    entries: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = ()
    bad: tuple[SnapshotName, ...] = ()
    """Newer snapshots that could not be read."""

    @property
    def index(self) -> Index:
        """The last entry that the snapshot stands for; 0 without one."""
        return self.snapshot.meta.index if self.snapshot else Index(0)

    @property
    def term(self) -> Term:
        """Of that entry."""
        return self.snapshot.meta.term if self.snapshot else Term(0)


def stored(directory: Path, evidence: Evidence) -> tuple[Base | None, tuple[str, ...]]:
    """The stored snapshot and log, or why they cannot be trusted."""
    contents = evidence.contents
    if evidence.faults or contents is None or contents.head is None or contents.identity is None:
        return None, evidence.faults
    newest, entries = contents.head.snapshot_index, contents.entries
    first = entries[0].index if entries else Index(newest + 1)
    notes: list[str] = []
    bad: list[SnapshotName] = []
    for name in evidence.snapshots if newest else ():
        if first - 1 <= name.index <= newest:
            try:
                owner = contents.identity.cluster_id
                snapshot = check_snapshot(directory / str(name), owner, name)
                return Base(snapshot, entries, tuple(notes), tuple(bad)), ()
            except Corrupt as error:
                notes.append(error.message)
                bad.append(name)
    if first == 1:
        return Base(None, entries, tuple(notes), tuple(bad)), ()
    return None, (*notes, f"no readable snapshot reaches the log, which begins at {first}")


def _found(directory: Path, identity: Identity) -> None:
    """Make a new journal: first the mark, which says that nothing was acknowledged yet."""
    mark = Mark(identity.cluster_id, identity.node_id, Head())
    MarkFile.create(directory / MARK, mark).close()
    for number in segment_numbers(directory):  # of an attempt that a crash ended
        (directory / segment_name(number)).unlink()
    Log.create(directory, identity, Head())


def _resume(directory: Path, contents: Contents, base: Base) -> tuple[_Parts, Recovered]:
    """Open for writing and begin the next incarnation."""
    head, identity = contents.head, contents.identity
    assert head is not None, f"a log without a head: {contents.faults}"
    assert identity is not None, f"a log of nobody's: {contents.faults}"
    hard = head.hard_state
    head = evolve(
        head,
        counter=head.counter + 1,
        incarnation=head.incarnation + 1,
        hard_state=evolve(hard, commit=Index(max(hard.commit, base.index))),
        snapshot_index=base.index,
        snapshot_term=base.term,
    )
    log = Log(directory, contents)
    said = head_bytes(head)
    log.append(head, said, ())
    mark = MarkFile(directory / MARK, identity.cluster_id, identity.node_id)
    mark.write(head.counter, said, sync=True)
    for name in base.bad:
        if (directory / str(name)).exists():
            (directory / str(name)).rename(directory / DAMAGED_SNAPSHOT)
    remove_unfinished(directory, newest=base.index)
    prune_snapshots(directory, newest=base.index, log_first=head.first_index)
    return (log, mark, head), Recovered(
        hard_state=head.hard_state,
        conf=base.snapshot.meta.conf if base.snapshot else identity.initial_conf,
        snapshot=base.snapshot,
        entries=base.entries,
        incarnation=head.incarnation,
        damage=Damage(head.damage, str(directory)) if head.damage else None,
        notes=base.notes,
    )


# --- damaged evidence ---------------------------------------------------------------------------


def _newest_readable(directory: Path, cluster_id: ClusterId) -> Base:
    notes: list[str] = []
    bad: list[SnapshotName] = []
    for name in list_snapshots(directory):
        try:
            snapshot = check_snapshot(directory / str(name), cluster_id, name)
            return Base(snapshot, notes=tuple(notes), bad=tuple(bad))
        except Corrupt as error:
            notes.append(error.message)
            bad.append(name)
    return Base(None, notes=tuple(notes), bad=tuple(bad))


def _start_again(
    directory: Path, identity: Identity, evidence: Evidence, base: Base, damage: str
) -> None:
    """Put an empty log on `base` in place of the damaged one; what is known of the head stays."""
    old = evidence.head
    if old is None:
        # No count of starts is left; the clock is ahead of any, and the next ones count on.
        old = Head(incarnation=time.time_ns() // 10**9)
        damage += "; term and vote are lost"
    hard = old.hard_state
    if base.term > hard.term:
        hard = HardState(base.term)
    head = Head(
        counter=old.counter + 1,
        incarnation=old.incarnation,
        hard_state=evolve(hard, commit=base.index),
        first_index=Index(base.index + 1),
        last_index=base.index,
        snapshot_index=base.index,
        snapshot_term=base.term,
        damage=damage[:MAX_DAMAGE_TEXT],
    )
    # The mark first: should a crash follow, it keeps term and vote and disowns the old log.
    MarkFile.create(directory / MARK, Mark(identity.cluster_id, identity.node_id, head)).close()
    _move_aside(directory)
    Log.create(directory, identity, head)


def _move_aside(directory: Path) -> None:
    """Keep what there is of the log, the first segments first, in a folder of its own."""
    numbers = segment_numbers(directory)
    if not numbers:
        return
    folders = [directory / f"log.damaged-{number}" for number in range(1, MAX_DAMAGED + 1)]
    folder = next((folder for folder in folders if not folder.exists()), folders[-1])
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    for number in numbers:
        (directory / segment_name(number)).rename(folder / segment_name(number))
    sync_directory(folder)
    sync_directory(directory)
