"""Limits for plain processes: a cgroup a task, in version 1 or 2 of the kernel's interface.

Needs root (or a delegated subtree); a task with limits is refused where they cannot be enforced.
Tasks without limits stay in the agent's own cgroup.
"""

import contextlib
from pathlib import Path

from meshswarm.ids import TaskId
from meshswarm.model.resources import Resources

PERIOD_US = 100_000
"""Over which processor time is rationed, as engines do."""

CONTROLLERS = ("cpu", "memory", "pids")


def limit_files(limits: Resources, version: int) -> dict[str, tuple[str, str]]:
    """Per controller the file that sets its limit, and the text to write; nothing for no limit."""
    quota_us = max(1_000, limits.nano_cpus * PERIOD_US // 1_000_000_000)
    files = {}
    if limits.nano_cpus:
        v1, v2 = ("cpu.cfs_quota_us", str(quota_us)), ("cpu.max", f"{quota_us} {PERIOD_US}")
        files["cpu"] = v1 if version == 1 else v2
    if limits.memory_bytes:
        name = "memory.limit_in_bytes" if version == 1 else "memory.max"
        files["memory"] = (name, str(limits.memory_bytes))
    if limits.pids:
        files["pids"] = ("pids.max", str(limits.pids))
    return files


class Cgroups:
    """Where this process may make cgroups for its tasks."""

    def __init__(self, parents: dict[str, Path], version: int) -> None:
        self._parents = parents
        self._version = version

    @staticmethod
    def detect(
        mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> "Cgroups":
        """What the host offers; raises OSError if it offers nothing that we may use."""
        paths: dict[str, str] = {}
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path.lstrip("/"))
        if (mount / "cgroup.controllers").exists():
            return Cgroups(dict.fromkeys(CONTROLLERS, _delegated(mount / paths[""])), 2)
        parents = {name: mount / name / paths[name] for name in CONTROLLERS if name in paths}
        return Cgroups({name: path for name, path in parents.items() if path.is_dir()}, 1)

    def create(self, task_id: TaskId, limits: Resources) -> list[Path]:
        """Make the task's cgroups with its limits; raises OSError if one cannot be set."""
        directories: list[Path] = []
        for controller, (name, text) in limit_files(limits, self._version).items():
            if controller not in self._parents:
                raise FileNotFoundError(f"the host has no {controller} controller")
            directory = self._parents[controller] / f"meshswarm-{task_id}"
            directory.mkdir(exist_ok=True)
            (directory / name).write_text(text)
            if directory not in directories:
                directories.append(directory)
        return directories


def ran_out_of_memory(directories: list[Path]) -> bool:
    """Whether the kernel killed something in these cgroups for want of memory."""
    for directory in directories:
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (directory / name).read_text().splitlines():
                    word, _, count = line.partition(" ")
                    if word == "oom_kill" and int(count) > 0:
                        return True
    return False


def usage(directories: list[Path]) -> dict[str, int]:
    """What the kernel counted in these cgroups: `cpu_ns`, `memory_bytes`, `pids`, as far as it did.

    Memory is without the page cache that could be had back at once (as `docker stats` shows it).
    """
    found: dict[str, int] = {}
    for directory in directories:
        with contextlib.suppress(OSError, ValueError):
            found["cpu_ns"] = int((directory / "cpuacct.usage").read_text())
        with contextlib.suppress(OSError, ValueError, KeyError):
            found["cpu_ns"] = _numbers(directory / "cpu.stat")["usage_usec"] * 1_000
        for name, cache in (
            ("memory.usage_in_bytes", "total_inactive_file"),
            ("memory.current", "inactive_file"),
        ):
            with contextlib.suppress(OSError, ValueError):
                used = int((directory / name).read_text())
                idle = _numbers(directory / "memory.stat").get(cache, 0)
                found["memory_bytes"] = max(0, used - idle)
        with contextlib.suppress(OSError, ValueError):
            found["pids"] = int((directory / "pids.current").read_text())
    return found


def _numbers(file: Path) -> dict[str, int]:
    """The lines `NAME NUMBER` of a file."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def remove(directories: list[Path]) -> None:
    """Remove the cgroups of an ended task; one that is gone, or still busy, is left."""
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _delegated(own: Path) -> Path:
    """Make `own` pass its controllers on, for which it may hold no processes: we step aside."""
    aside = own / "agent"
    control = own / "cgroup.subtree_control"
    if set(CONTROLLERS) <= set(control.read_text().split()):
        return own
    aside.mkdir(exist_ok=True)
    (aside / "cgroup.procs").write_text("0")
    try:
        control.write_text(" ".join(f"+{name}" for name in CONTROLLERS))
    except OSError:
        (own / "cgroup.procs").write_text("0")
        aside.rmdir()
        raise
    return own
