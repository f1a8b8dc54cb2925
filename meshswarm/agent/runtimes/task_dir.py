"""The directory of a plain process: all that survives the agent, readable after any crash.

record.cbor   the assignment, with our cluster and node; written when it is prepared
launch.json   what `launch` executes; only for root's eyes, it holds the environment
life          lines appended as it happens, each in one write:
                  starting BOOT_ID AT_MS      by the agent, before anything is started
                  keeper PID START            by the launcher
                  task PID START              by the launcher, just before it executes
                  failed REASON MESSAGE       by the launcher, instead of executing
                  health HEALTH               by the agent, when it changed
                  exit CODE                   by the keeper
stdout stderr  what the task wrote; beside each, in NAME.times, when
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve, frozen

from meshswarm import codec
from meshswarm.agent.runtimes.proc import Mark
from meshswarm.ids import ClusterId, NodeId, TaskId
from meshswarm.model.task import Health, Reason
from meshswarm.store.assignments import Assignment

MAX_LIFE = 16 * 1024
"""Bytes of a life file that are read; five lines are a fraction of it."""


@frozen(kw_only=True)
class Record:
    """Whose task it is and what it runs."""

    cluster_id: ClusterId
    node_id: NodeId
    assignment: Assignment


@frozen(kw_only=True)
class Life:
    """What a life file says so far."""

    boot_id: str | None = None
    """Set once it was to be started."""
    started_at_ms: int = 0
    keeper: Mark | None = None
    task: Mark | None = None
    failure: tuple[Reason, str] | None = None
    health: Health | None = None
    exit_code: int | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known if the command was executed."""
        return self.task is not None or self.exit_code is not None


class TaskDir:
    """The files of one task."""

    def __init__(self, root: Path, task_id: TaskId) -> None:
        self.task_id = task_id
        self.path = root / task_id
        self.life_file = self.path / "life"
        self.launch_file = self.path / "launch.json"

    def create(self, record: Record) -> None:
        """Make the directory with its record; what is there already stays."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_aside(self.path / "record.cbor", codec.encode(record))

    def record(self) -> Record | None:
        """The record; None if it is damaged or missing."""
        try:
            return codec.decode((self.path / "record.cbor").read_bytes(), Record)
        except (FileNotFoundError, codec.Undecodable):
            return None

    def write_launch(self, launch: dict[str, object]) -> None:
        """Write what the launcher is to execute."""
        write_aside(self.launch_file, json.dumps(launch).encode())

    def cgroups(self) -> list[Path]:
        """The cgroups that the task was put into; none if the file is damaged or missing."""
        try:
            launch = json.loads(self.launch_file.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return []
        match launch:
            case {"cgroups": [*files]}:
                return [Path(procs).parent for procs in files if isinstance(procs, str)]
            case _:
                return []

    def note(self, line: str) -> None:
        """Append a line to the life file."""
        descriptor = self.open_life()
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def open_life(self) -> int:
        """A descriptor that appends to the life file."""
        return os.open(self.life_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def life(self) -> Life:
        """What the life file says; unfinished and unknown lines are passed over."""
        try:
            with self.life_file.open("rb") as file:
                text = file.read(MAX_LIFE).decode(errors="replace")
        except FileNotFoundError:
            return Life()
        life = Life()
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                life = _with_line(life, line.split())
        return life

    def log(self, stream: str) -> Path:
        """The file that holds one output stream."""
        return self.path / stream

    def times(self, stream: str) -> Path:
        """The file that tells when the output was written, see `log_times`."""
        return self.path / f"{stream}.times"

    def remove(self) -> None:
        """Delete everything; nothing happens if it is gone."""
        if self.path.exists():
            shutil.rmtree(self.path)


def task_dirs(root: Path) -> Iterator[TaskDir]:
    """The task directories under `root`, sorted."""
    if root.is_dir():
        for path in sorted(root.iterdir()):
            if path.is_dir():
                yield TaskDir(root, TaskId(path.name))


def write_aside(path: Path, data: bytes) -> None:
    """Replace a file by one that holds `data`, in one step; readable by its owner alone.

    Not synced: after a power cut it may be the old file, or empty; who reads it can do without.
    """
    aside = path.with_name(path.name + ".new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    aside.replace(path)


def _with_line(life: Life, words: list[str]) -> Life:
    try:
        match words:
            case ["starting", boot_id, at_ms]:
                return evolve(life, boot_id=boot_id, started_at_ms=int(at_ms))
            case ["keeper", pid, start]:
                return evolve(life, keeper=Mark(int(pid), int(start)))
            case ["task", pid, start]:
                return evolve(life, task=Mark(int(pid), int(start)))
            case ["failed", reason, *message]:
                return evolve(life, failure=(Reason(reason), " ".join(message)))
            case ["health", health]:
                return evolve(life, health=Health(health))
            case ["exit", code]:
                return evolve(life, exit_code=int(code))
            case _:
                return life
    except ValueError:
        return life
