"""The processes of a dev cluster: found by files that outlive their writers, never by name."""

import ctypes
import json
import os
import select
import signal
from enum import Enum
from pathlib import Path

from meshswarm.agent.runtimes.proc import Mark, mark_of, open_pidfd
from meshswarm.errors import MeshswarmError

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


class Pulse(Enum):
    """Whether a process lives."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


def note(file: Path, pid: int) -> None:
    """Write down which process this is."""
    mark = mark_of(pid)
    start = mark.start if mark is not None else 0
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps({"pid": pid, "start": start}), encoding="utf-8")
    aside.replace(file)


def noted(file: Path) -> Mark | None:
    """The process that was written down, if it is still alive."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        mark = Mark(int(fields["pid"]), int(fields["start"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise MeshswarmError(f"not a process file: {error}", where=str(file)) from error
    return mark if mark.is_alive else None


def pulse(mark: Mark | None) -> Pulse:
    """Whether it runs, is stopped by a signal, or has ended."""
    if mark is None or not mark.is_alive:
        return Pulse.ENDED
    try:
        text = Path(f"/proc/{mark.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return Pulse.ENDED
    return Pulse.PAUSED if text.rpartition(")")[2].split()[0] in "tT" else Pulse.RUNNING


def ended_within(mark: Mark, timeout_s: float) -> bool:
    """Wait for this process to end; False if it did not in time."""
    pidfd = open_pidfd(mark)
    if pidfd is None:
        return True
    try:
        ready, _, _ = select.select([pidfd], [], [], timeout_s)
    finally:
        os.close(pidfd)
    return bool(ready)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when process `parent` ends, or end now if it has.

    The signal is SIGKILL, which no state of this process can hold up (prctl(2), PR_SET_PDEATHSIG).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise MeshswarmError(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        raise MeshswarmError(f"process {parent}, which started this node, is gone")
