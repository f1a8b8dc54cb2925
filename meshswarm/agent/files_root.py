"""Where the configs and secrets of a node's tasks lie: a directory in memory, the agent's alone."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Reason

IN_MEMORY = ("tmpfs", "ramfs")
"""File systems that never reach a disk (but for swap)."""


class FilesRoot:
    """Where the files of this node's tasks are, or why there is no such place."""

    def __init__(self, home: Path, node_id: NodeId) -> None:
        self._home = home
        self._node = home / node_id

    def of(self, kind: RuntimeKind, task_id: TaskId) -> Path:
        """A task's own directory; made when its first file is placed."""
        return self._node / kind.value / task_id

    def files(self, kind: RuntimeKind, task_id: TaskId) -> Path:
        """The directory of a task's files."""
        return self.of(kind, task_id) / "files"

    def make(self) -> None:
        """Have the directories above the tasks'; raises `RuntimeFailure`."""
        with disk_failures():
            self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
            found = self._home.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise RuntimeFailure(Reason.MOUNT_FAILED, f"{self._home} belongs to somebody else")
            if (where := file_system_of(self._home)) not in IN_MEMORY:
                message = (
                    f"configs and secrets are kept in memory, and {self._home} is on {where}: "
                    "set [agent] files_dir to a directory on a tmpfs"
                )
                raise RuntimeFailure(Reason.MOUNT_FAILED, message)
            self._node.mkdir(mode=0o711, exist_ok=True)
            # What is in a container is for whoever runs there; on the host it is for nobody.
            (self._node / RuntimeKind.DOCKER.value).mkdir(mode=0o700, exist_ok=True)
            (self._node / RuntimeKind.PROCESS.value).mkdir(mode=0o711, exist_ok=True)

    def forget(self) -> None:
        """Remove the files of all tasks, as the loss of the host does."""
        shutil.rmtree(self._node, ignore_errors=True)

    def task_ids(self) -> Iterator[tuple[RuntimeKind, TaskId]]:
        """The tasks that have a directory."""
        for kind in RuntimeKind:
            with contextlib.suppress(FileNotFoundError):
                for path in sorted((self._node / kind.value).iterdir()):
                    yield kind, TaskId(path.name)


def home_of(files_dir: str) -> Path:
    """Where files are kept: the setting, else a directory on one of the host's usual tmpfs."""
    if files_dir:
        return Path(files_dir)
    if os.geteuid() == 0 and file_system_of(Path("/run")) in IN_MEMORY:
        return Path("/run/meshswarm")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 and runtime and file_system_of(Path(runtime)) in IN_MEMORY:
        return Path(runtime) / "meshswarm"
    return Path(f"/dev/shm/meshswarm-{os.geteuid()}")


def file_system_of(path: Path) -> str:
    """The type of the file system that the path is on, as the kernel names it."""
    while not path.exists():
        path = path.parent
    real, best, kind = path.resolve(), Path("/"), "unknown"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].replace("\\040", " "))
        if real.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, rest.split()[0]
    return kind


@contextlib.contextmanager
def disk_failures() -> Iterator[None]:
    """Errors of the file system as `RuntimeFailure`."""
    try:
        yield
    except OSError as error:
        message = f"its files cannot be placed: {error.strerror} ({error.filename or 'in memory'})"
        raise RuntimeFailure(Reason.MOUNT_FAILED, message) from error
