"""Processes as /proc shows them: marks that survive the reuse of process ids, sessions, boots."""

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

PROC = Path("/proc")


@frozen
class Mark:
    """One process, for good: its id and when it started, in clock ticks since boot."""

    pid: int
    start: int

    @property
    def is_alive(self) -> bool:
        """Whether this very process exists and is no zombie."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[19]) == self.start and fields[0] not in "ZX"


def mark_of(pid: int) -> Mark | None:
    """The mark of a process; None if there is none."""
    fields = _stat(pid)
    return Mark(pid, int(fields[19])) if fields else None


def boot_id() -> str:
    """Which boot of the host this is."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def open_pidfd(mark: Mark) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it has ended."""
    try:
        pidfd = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return None
    if mark_of(mark.pid) != mark:
        os.close(pidfd)
        return None
    return pidfd


def send(mark: Mark, number: int) -> bool:
    """Send a signal to this very process; False if it has ended."""
    pidfd = open_pidfd(mark)
    if pidfd is None:
        return False
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def session_members(leader: Mark) -> list[Mark]:
    """The living processes of the session that `leader` led, itself included."""
    present = mark_of(leader.pid)
    if present is not None and present != leader:
        return []  # the number was given away again, so nothing of that session is left
    members = []
    for name in os.listdir(PROC):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and int(fields[3]) == leader.pid and fields[0] not in "ZX":
                members.append(Mark(int(name), int(fields[19])))
    return members


def kill_session(leader: Mark) -> set[Mark]:
    """SIGKILL everything that is left of a session; returns what was killed.

    The leader goes first: it must not live to note how the others ended. Repeated a few times, for
    what was forked meanwhile. What left the session is out of reach.
    """
    killed: set[Mark] = set()
    for _ in range(5):
        members = set(session_members(leader)) - killed
        if not members:
            break
        leader_first = sorted(members, key=lambda member: member != leader)
        killed |= {member for member in leader_first if send(member, signal.SIGKILL)}
    return killed


def await_end(marks: Iterable[Mark], timeout_s: float) -> None:
    """Block until these processes have ended, but no longer than `timeout_s` for all of them."""
    deadline = time.monotonic() + timeout_s
    for mark in marks:
        pidfd = open_pidfd(mark)
        if pidfd is not None:
            select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))
            os.close(pidfd)


def session_stats(leader: Mark) -> tuple[int, int, int]:
    """Processor time in ns, resident bytes, and number of processes of a session."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    page = os.sysconf("SC_PAGE_SIZE")
    cpu_ns = memory = count = 0
    for member in session_members(leader):
        fields = _stat(member.pid)
        if fields and member != leader:
            cpu_ns += (int(fields[11]) + int(fields[12])) * tick_ns
            memory += int(fields[21]) * page
            count += 1
    return cpu_ns, memory, count


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None if there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
