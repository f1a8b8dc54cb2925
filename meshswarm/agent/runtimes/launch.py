"""The last moment before a plain process: a program of its own that becomes the task's command.

Run as `python -I -S launch.py LAUNCH_FILE` by the task's keeper (see `process`), with file
descriptor 3 open on the task's life file. It joins the cgroups, changes user and directory, notes
the marks of keeper and task, and executes the command in its own place. Standard library only: it
starts in 20 ms and leaves nothing in memory.
"""

import errno
import json
import os
import signal
import sys

TYPE_CHECKING = False  # type checkers know the name; `typing` itself costs 5 ms
if TYPE_CHECKING:
    from typing import Any

LIFE = 3
"""File descriptor of the life file."""


def mark(pid: int) -> str:
    """The process as `PID START`, START being field 22 of its stat: pids are reused, marks not."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return f"{pid} {file.read().rpartition(')')[2].split()[19]}"


def note(line: str) -> None:
    """Append one line to the life file, in one write."""
    os.write(LIFE, (" ".join(line.split()) + "\n").encode())


def find(command: str, path: str) -> str:
    """The file that `command` names; raises an OSError that says why there is none to execute."""
    directories = [""] if "/" in command else path.split(":")
    candidates = [os.path.join(directory, command) for directory in directories]
    present = [candidate for candidate in candidates if os.path.isfile(candidate)]
    if not present:
        where = "" if "/" in command else f" in PATH={path}"
        raise FileNotFoundError(errno.ENOENT, f"command {command!r} not found{where}")
    for candidate in present:
        if os.access(candidate, os.X_OK):
            return candidate
    raise PermissionError(errno.EACCES, f"{present[0]!r} is not executable")


def become(launch: "dict[str, Any]") -> None:
    """Join the cgroups and change the user; raises OSError."""
    for procs in launch["cgroups"]:
        with open(procs, "w", encoding="ascii") as file:
            file.write("0")
    if launch["user"] is not None:
        uid, gid, groups = launch["user"]
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)


def execute(argv: list[str], command: str, environment: dict[str, str]) -> None:
    """Go on as this command; returns never, raises OSError.

    What is ignored here would be ignored there: some signals by Python, SIGHUP by whoever started
    the node under `nohup`.
    """
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    os.execve(command, argv, environment)


def main(launch_file: str) -> int:
    """Become the command; returns (127) only if that failed, after noting why."""
    note(f"keeper {mark(os.getppid())}")
    reason, prefix = "start_failed", ""
    try:
        with open(launch_file, encoding="utf-8") as file:
            launch = json.load(file)
        become(launch)
        prefix = "working directory: "
        os.chdir(launch["working_dir"])
        prefix = ""
        environment = launch["environment"]
        reason = "command_not_found"
        command = find(launch["argv"][0], environment.get("PATH", os.defpath))
        reason = "start_failed"
        os.set_inheritable(LIFE, False)
        note(f"task {mark(os.getpid())}")
        execute(launch["argv"], command, environment)
    except OSError as error:
        what = f" {error.filename!r}" if error.filename else ""
        note(f"failed {reason} {prefix}{error.strerror}{what}")
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
