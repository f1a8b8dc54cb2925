"""What runs at the end of a pipe beside a plain process: a program of its own, as the task's user.

Run as `python -I -S beside.py FD`: the descriptor holds what to do, as JSON. It joins the task's
cgroups, changes user and directory, and then becomes the command, or makes or unpacks an archive
by itself. What goes wrong is said on stderr; the exit codes are a shell's. Standard library only.
"""

import fcntl
import json
import os
import sys
import termios

TYPE_CHECKING = False  # type checkers know the name; `typing` itself costs 5 ms
if TYPE_CHECKING:
    from typing import Any

sys.path.append(__file__.rsplit("/", 4)[0])  # `-I` leaves us only the standard library

from meshswarm.agent.runtimes.launch import become, execute, find

NOT_EXECUTABLE, NOT_FOUND = 126, 127


def main(descriptor: int) -> int:
    """Do it; returns only if there is no command to become, or it failed."""
    with open(descriptor, encoding="utf-8") as file:
        wish = json.load(file)
    if wish["has_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        if wish["kind"] != "run":
            import tarfile  # noqa: F401 -- before the user changes, who may not read it
        become(wish["launch"])
        os.chdir(wish["launch"]["working_dir"])
        match wish["kind"]:
            case "run":
                run(wish["launch"])
            case "stat":
                stat(wish["path"])
            case "read":
                read(wish["path"])
            case "write":
                write(wish["path"])
    except OSError as error:
        what = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        print(f"{error.strerror or error}{what}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return 0


def run(launch: "dict[str, Any]") -> None:
    """Become the command."""
    environment = launch["environment"]
    command = find(launch["argv"][0], environment.get("PATH", os.defpath))
    execute(launch["argv"], command, environment)


def stat(path: str) -> None:
    """Say what is there."""
    if os.path.lexists(path):
        print("directory" if os.path.isdir(path) else "file", end="")


def read(path: str) -> None:
    """Write the archive of what is there to stdout."""
    import tarfile

    os.stat(path)
    root = os.path.basename(os.path.abspath(path)) or "."
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        archive.add(path, arcname=root)


def write(path: str) -> None:
    """Unpack the archive from stdin."""
    import tarfile

    if not os.path.isdir(path):
        raise NotADirectoryError(20, "not a directory", path)
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            archive.extractall(path, filter="data")
    except tarfile.TarError as error:
        raise OSError(f"not an archive that can be unpacked: {error}") from error


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
