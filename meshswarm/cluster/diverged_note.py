"""The note beside a journal that its state has diverged: a node must not start on it again."""

import os
from pathlib import Path

from meshswarm.cluster.journal_mark import sync_directory, sync_file
from meshswarm.errors import Corrupt

NOTE = "diverged"
"""The file in the journal's directory that says in words what was found."""

NOTE_BYTES = 1_000
"""Read of it at most."""


def refuse_diverged(directory: Path) -> None:
    """Raise `Corrupt` if this manager stopped here because its state had diverged."""
    what = read_note(directory)
    if what is not None:
        raise must_not_run(directory, what)


def must_not_run(directory: Path, what: str) -> Corrupt:
    """The error of a node whose state has diverged, with what its operator is to do."""
    return Corrupt(
        f"this manager's state has diverged: {what}",
        where=str(directory),
        hint=f"keep it for a bug report: `mv {directory} {directory}.diverged`; then start the "
        "node again, and the other managers send it everything",
    )


def write_note(directory: Path, what: str) -> None:
    """Keep the node from starting again on this directory."""
    with (directory / NOTE).open("w", encoding="utf-8") as file:
        file.write(f"{what}\n")
        file.flush()
        sync_file(file.fileno())
    sync_directory(directory)


def read_note(directory: Path) -> str | None:
    """Why the node must not start on this directory; None if it may."""
    path = directory / NOTE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return os.pread(file.fileno(), NOTE_BYTES, 0).decode("utf-8", "replace").strip()
