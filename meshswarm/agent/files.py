"""The configs and secrets of this node's tasks, as files in memory.

    HOME/NODE_ID/docker/TASK_ID/files/0 1 2 ...          mounted into the container
    HOME/NODE_ID/process/TASK_ID/files/secrets/NAME      read where they are
                                /files/configs/NAME
                                /placed                  which contents lie there (no content)

*Invariant:* HOME is in memory (tmpfs) and nobody's but the agent's; what a task leaves behind is
removed once it is over. A file is replaced in one step: whoever reads sees the old or the new one.
"""

import os
import shutil
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from attrs import frozen

from meshswarm import codec
from meshswarm.agent.files_root import FilesRoot, disk_failures
from meshswarm.agent.runtimes import process_spec
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.errors import MeshswarmError
from meshswarm.ids import TaskId
from meshswarm.model.file import FileUse
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment

Fetch = Callable[[FileUse], Awaitable[bytes]]
"""Asks a manager for content; raises `MeshswarmError`."""


def place_of(number: int, use: FileUse, kind: RuntimeKind) -> str:
    """A file's path in its task's directory of files."""
    if kind is RuntimeKind.DOCKER:
        return str(number)
    return f"{use.kind.value}s/{use.target}"


@frozen
class _Placed:
    """The content of `placed`."""

    files: tuple[FileUse, ...]


class FileStore:
    """Puts files into place, and away."""

    def __init__(self, root: FilesRoot, fetch: Fetch) -> None:
        self._root = root
        self._fetch = fetch

    async def place(self, assignment: Assignment) -> bool:
        """Have exactly the task's files in place; whether any differs from what was `noted`.

        Raises `RuntimeFailure`: FILES_UNAVAILABLE if no manager gives them, MOUNT_FAILED if they
        cannot be written.
        """
        task_id, spec = assignment.task.id, assignment.spec
        if self._placed(spec.runtime, task_id) == spec.files:
            return False
        contents = [await self._content(use) for use in spec.files]
        with disk_failures():
            self._write(assignment, contents)  # not in a thread: that would outlive its task
        return True

    def note(self, assignment: Assignment) -> None:
        """Note that the task's files are in place, and that it was told so."""
        directory = self._root.of(assignment.spec.runtime, assignment.task.id)
        if assignment.spec.files:
            with disk_failures():
                _write(directory / "placed", codec.encode(_Placed(assignment.spec.files)), 0o600)

    def drop(self, task_id: TaskId) -> None:
        """Remove a task's files; nothing happens if there are none."""
        for kind in RuntimeKind:
            shutil.rmtree(self._root.of(kind, task_id), ignore_errors=True)

    def sweep(self, keep: Collection[TaskId]) -> None:
        """Remove the files of all other tasks."""
        for _, task_id in list(self._root.task_ids()):
            if task_id not in keep:
                self.drop(task_id)

    def _placed(self, kind: RuntimeKind, task_id: TaskId) -> tuple[FileUse, ...]:
        try:
            data = (self._root.of(kind, task_id) / "placed").read_bytes()
            return codec.decode(data, _Placed).files
        except (OSError, codec.Undecodable):
            return ()

    async def _content(self, use: FileUse) -> bytes:
        try:
            return await self._fetch(use)
        except MeshswarmError as error:
            what = f"{use.kind.value} {use.source}"
            message = f"no manager gives it {what}: {error.message}"
            raise RuntimeFailure(Reason.FILES_UNAVAILABLE, message) from error

    def _write(self, assignment: Assignment, contents: list[bytes]) -> None:
        """Write what is wanted, then remove what no longer is."""
        task_id, spec = assignment.task.id, assignment.spec
        self._root.make()
        directory = self._root.of(spec.runtime, task_id)
        files = self._root.files(spec.runtime, task_id)
        owner = _owner(spec)
        for made in (directory, files):
            _make_directory(made, spec.runtime, owner)
        # From here on nobody knows what lies there, should this process or the memory end now.
        (directory / "placed").unlink(missing_ok=True)
        wanted: set[Path] = set()
        for number, (use, content) in enumerate(zip(spec.files, contents, strict=True)):
            path = files / place_of(number, use, spec.runtime)
            if path.parent != files:
                _make_directory(path.parent, spec.runtime, owner)
            _write_for(path, content, use, spec.runtime, owner)
            wanted.add(path)
        for path in sorted(files.rglob("*")):
            if path.is_file() and path not in wanted:
                path.unlink()


def _owner(spec: TaskSpec) -> tuple[int, int] | None:
    """Whom a process's files belong to; None: whoever writes them."""
    if spec.runtime is not RuntimeKind.PROCESS:
        return None
    user = process_spec.user_of(spec)
    return None if user is None else (user.uid, user.gid)


def _make_directory(path: Path, kind: RuntimeKind, owner: tuple[int, int] | None) -> None:
    """A directory that the task may search and the agent alone may change."""
    path.mkdir(exist_ok=True)
    if kind is RuntimeKind.DOCKER:
        path.chmod(0o755)
    elif owner is not None:
        os.chown(path, -1, owner[1])
        path.chmod(0o750)
    else:
        path.chmod(0o700)


def _write_for(
    path: Path, content: bytes, use: FileUse, kind: RuntimeKind, owner: tuple[int, int] | None
) -> None:
    mode = use.mode
    if mode is None:
        mode = 0o444 if kind is RuntimeKind.DOCKER else 0o400
    uid, gid = owner or (None, None)
    if kind is RuntimeKind.DOCKER and os.geteuid() == 0:
        uid, gid = 0, 0
    _write(
        path,
        content,
        mode,
        uid if use.uid is None else use.uid,
        gid if use.gid is None else use.gid,
    )


def _write(
    path: Path, content: bytes, mode: int, uid: int | None = None, gid: int | None = None
) -> None:
    """Replace a file in one step, with its mode and owner from its first moment there."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            if uid is not None or gid is not None:
                os.fchown(descriptor, -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(descriptor, mode)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
