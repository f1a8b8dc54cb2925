"""What a journal directory holds, what is wrong with it and what to do: `journal check`.

Nothing in the directory is changed, not a byte. It may be one that a node is using, or one that
holds anything at all.
"""

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from attrs import evolve, frozen

from meshswarm.cluster.diverged_note import read_note
from meshswarm.cluster.journal_recovery import LOCK, MARK, OLD_DATABASE, Evidence, gather, stored
from meshswarm.cluster.journal_scan import Contents, segment_numbers
from meshswarm.cluster.journal_segments import log_bytes
from meshswarm.cluster.snapshots import SnapshotName, check_snapshot
from meshswarm.errors import Corrupt, Denied, NotFound, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import HardState

LIVE = "raft"
"""The folder of a node's data directory that holds its journal."""

TRIES = 5
"""How often a journal is read that looks damaged or changes meanwhile, before that is believed."""


@frozen(kw_only=True)
class SnapshotFile:
    """A snapshot as it lies on the disk."""

    name: str
    index: Index
    term: Term
    size_bytes: int
    is_readable: bool


@frozen(kw_only=True)
class Report:
    """A journal as it lies on the disk; sound when there are neither `faults` nor `damage`."""

    directory: str
    used_by_pid: int | None
    """The process that has it open; None if none has."""
    cluster_id: ClusterId | None
    node_id: NodeId | None
    voters: tuple[NodeId, ...]
    """The managers by the newest readable snapshot, else those that the cluster began with."""
    hard_state: HardState | None
    """Term, vote and commit index, from the newest readable witness."""
    incarnation: int
    first_index: Index | None
    """Of the stored entries, as is `last_index`; None when there are none."""
    last_index: Index | None
    last_term: Term | None
    snapshots: tuple[SnapshotFile, ...]
    """Newest first."""
    log_bytes: int
    """With what is kept for segments to come."""
    moved_aside: tuple[str, ...]
    """Damaged logs of earlier times, which the node keeps and does not use."""
    diverged: str
    """Why the node must not start on it: its state was not that of the others; empty if it may."""
    damage: str
    """Why the node may not vote, as it noted itself; empty when it may."""
    faults: tuple[str, ...]
    """What keeps the node from going on as if nothing had been."""
    notes: tuple[str, ...]
    """What is damaged too, and not needed: the node goes on without loss."""

    @property
    def is_sound(self) -> bool:
        """Whether the node may go on from here as if nothing had been."""
        return not (self.faults or self.damage or self.diverged)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do, a sentence each."""
        used = f"process {self.used_by_pid} uses it: what it writes now is not in this report"
        return (*((used,) if self.used_by_pid is not None else ()), *self._advice())

    def _advice(self) -> tuple[str, ...]:
        if self.is_sound:
            return ("nothing: the journal is sound",)
        if self.diverged:
            return (
                f"keep it for a bug report: `mv {self.directory} {self.directory}.diverged`",
                "start the node again: the other managers send it everything",
            )
        readable = next((file.name for file in self.snapshots if file.is_readable), None)
        base = f"from {readable}" if readable else "from nothing"
        if len(self.voters) == 1:
            return (
                "this is the only manager: nobody else has what is lost here",
                "restore the directory from a backup, or move it away to begin a new cluster",
            )
        repaired = "its peers send it what it lacks; until then it does not vote"
        if not self.faults:
            return (f"run the node, with a quorum of the other managers: {repaired}",)
        return (
            "run the node: it moves the damaged log aside, deletes nothing, and goes on "
            f"{base}; {repaired}",
            "see that a quorum of the other managers is up (`meshswarm cluster status`)",
            "see the kernel's log for errors of this disk (`dmesg`)",
        )


def inspect(directory: Path) -> Report:
    """The journal in `directory`, or in the data directory of that name; changes nothing.

    Raises `NotFound` where there is no journal, `Conflict` if it is of another format, `Denied` if
    this user may not read it, `Unavailable` if the disk refuses.
    """
    try:
        directory = _journal_in(directory)
        for _ in range(TRIES - 1):
            with suppress(FileNotFoundError):
                report, snapshots = _looked_at(directory)
                if all((directory / str(name)).exists() for name in snapshots):
                    return report
        return _looked_at(directory)[0]
    except PermissionError as error:
        raise Denied(
            f"the journal cannot be read: {error.strerror}",
            where=str(error.filename),
            hint="run this as the user that the node runs as",
        ) from error
    except OSError as error:
        raise Unavailable(
            f"the journal cannot be read: {error.strerror}",
            where=str(error.filename or directory),
            hint="see the kernel's log for errors of this disk (`dmesg`)",
        ) from error


def _looked_at(directory: Path) -> tuple[Report, tuple[SnapshotName, ...]]:
    """The journal, and the snapshots that it spoke of; the node that uses the directory may have
    removed one since, and the report be of what never was."""
    evidence = _gathered(directory)
    if evidence.is_new:
        raise _none_in(directory)
    base, faults = stored(directory, evidence)
    notes = base.notes if base is not None else ()
    return _report(directory, evidence, faults, notes), evidence.snapshots


def _none_in(directory: Path) -> NotFound:
    return NotFound(
        "there is no journal",
        where=str(directory),
        hint="give a manager's data directory (`data_dir` in its node.toml): "
        "meshswarm journal check DIR",
    )


def _journal_in(directory: Path) -> Path:
    if not directory.is_dir():
        raise _none_in(directory)
    live = directory / LIVE
    is_journal = any((directory / name).exists() for name in (MARK, OLD_DATABASE))
    is_data_directory = not (is_journal or segment_numbers(directory)) and live.is_dir()
    return live if is_data_directory else directory


def _gathered(directory: Path) -> Evidence:
    """What the files say; with the snapshots as faults that are no files."""
    evidence = _as_of_one_moment(directory)
    odd = [name for name in evidence.snapshots if _is_odd(directory / str(name))]
    return evolve(
        evidence,
        snapshots=tuple(name for name in evidence.snapshots if name not in odd),
        faults=(*(f"{name} is no file" for name in odd), *evidence.faults),
    )


def _as_of_one_moment(directory: Path) -> Evidence:
    """What the files say, though a node may go on writing to them, and make new ones."""
    for _ in range(TRIES - 1):
        before = segment_numbers(directory)
        evidence = gather(directory)
        if not evidence.faults and before == segment_numbers(directory):
            return evidence
    return gather(directory)


def _is_odd(path: Path) -> bool:
    """Whether something other than a file has this name: reading it might never end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # nothing has the name, or a link that leads nowhere, or round in a circle
        return path.is_symlink()


def _report(
    directory: Path, evidence: Evidence, faults: tuple[str, ...], notes: tuple[str, ...]
) -> Report:
    contents, head = evidence.contents or Contents(), evidence.head
    owner = evidence.mark or contents.identity
    cluster_id = owner.cluster_id if owner else None
    conf = contents.identity.initial_conf if contents.identity else None
    files = []
    for name in reversed(evidence.snapshots):
        try:
            conf = check_snapshot(directory / str(name), cluster_id, name).meta.conf
            is_readable = True
        except Corrupt:
            is_readable = False
        files.append(_snapshot_file(directory, name, is_readable=is_readable))
    entries = contents.entries
    return Report(
        directory=str(directory),
        used_by_pid=_used_by(directory),
        cluster_id=cluster_id,
        node_id=owner.node_id if owner else None,
        voters=conf.voters if conf else (),
        hard_state=head.hard_state if head else None,
        incarnation=head.incarnation if head else 0,
        first_index=entries[0].index if entries else None,
        last_index=entries[-1].index if entries else None,
        last_term=entries[-1].term if entries else None,
        snapshots=tuple(reversed(files)),
        log_bytes=log_bytes(directory),
        moved_aside=tuple(sorted(path.name for path in directory.glob("*.damaged*"))),
        diverged=read_note(directory) or "",
        damage=head.damage if head else "",
        faults=faults,
        notes=notes,
    )


def _snapshot_file(directory: Path, name: SnapshotName, *, is_readable: bool) -> SnapshotFile:
    return SnapshotFile(
        name=str(name),
        index=name.index,
        term=name.term,
        size_bytes=_size(directory / str(name)),
        is_readable=is_readable,
    )


def _size(path: Path) -> int:
    return path.stat().st_size


def _used_by(directory: Path) -> int | None:
    """Who holds the directory; asked by taking its lock, shared, for no longer than the question.

    0 if somebody holds it who does not say who it is.
    """
    if not (directory / LOCK).is_file():
        return None
    descriptor = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
