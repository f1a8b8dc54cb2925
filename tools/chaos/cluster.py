"""A real cluster in a rig: manager processes on hosts of their own, restarted as systemd would.

`Restart=on-failure` after `RESTART_S`, as config/meshswarm.service says. Whatever ends by itself is
remembered with its last words, for the verdict.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

from attrs import frozen

from meshswarm.cli.config_files import NewNode, write_cluster
from tools.rig.rig import Rig

CLIENTS = "clients"
"""The host where the clients are."""

PORT = 4747
RESTART_S = 1.0
STOP_S = 20.0
STALL_S = 0.1
ORDERLY = (0, -signal.SIGTERM)
"""How a manager may end that was told to: by itself, or before it could listen."""

DISK_BYTES = 192 << 20
MIN_FREE = "MESHSWARM_STORE_MIN_FREE_BYTES"
MIN_FREE_BYTES = 16 << 20
"""On a small disk: below this the leader is to refuse writes."""


class Disk(Enum):
    """What managers keep their data on."""

    SHARED = "shared"
    """The machine's own."""
    SMALL = "small"
    """A small one each, that can be filled."""
    FREEZABLE = "freezable"
    """A small one each, that can be filled, and that can hang."""


@frozen(kw_only=True)
class Exit:
    """A manager that ended without being told to, or did not though it was."""

    manager: str
    at_s: float
    code: int | None
    """None: it was told to end, and did not in time."""
    last_words: str


class Manager:
    """One manager's process, its files, and what became of it."""

    def __init__(
        self, rig: Rig, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.rig = rig
        self.name = name
        self.data = rig.scratch / f"{name}.data"
        self.log = rig.scratch / f"{name}.log"
        self.exits: list[Exit] = []
        self.is_held = False
        """Whether a fault keeps it down, so that it is not started again."""
        self.starved_s = 0.0
        """How long its processes could have run and waited for a processor, so far."""
        self.stalled_s = 0.0
        """The same, but only waits so long that the others may have noticed."""
        self._starved_now = (0, 0.0)
        self.config = rig.scratch / f"{name}.toml"
        self._command = [*command, "node", "start", "--config", str(self.config)]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_s = 0.0
        self._ends_before_s: float | None = None
        """By when it must have ended, if it was told to; less what it has starved till then."""

    @property
    def is_stopped(self) -> bool:
        """Whether its process has ended."""
        return self._process is None

    @property
    def pid(self) -> int | None:
        """Its process; None if it does not run."""
        return self._process.pid if self._process else None

    def use_disk(self, disk: Disk) -> None:
        """Where to keep its data; before its first start."""
        match disk:
            case Disk.SHARED:
                self.data.mkdir()
            case Disk.SMALL:
                self.data.symlink_to(self.rig.disk(self.name, DISK_BYTES))
            case Disk.FREEZABLE:
                self.data.symlink_to(self.rig.freezable_disk(self.name, DISK_BYTES))

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self._process is None:
            with self.log.open("ab") as log:
                self._process = self.rig.spawn(
                    self.name, self._command, log, environment=self._environment
                )

    def kill(self) -> None:
        """`kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self._ends_before_s = None, None

    def stop(self) -> None:
        """SIGTERM; `look_after` sees to it that it ends in order, and in time."""
        if self._process is not None:
            self._process.terminate()
            self._ends_before_s = time.monotonic() + STOP_S - self.starved_s

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def look_after(self) -> Exit | None:
        """Note an end that nobody asked for, and start the process again when it is time."""
        now = time.monotonic()
        self._note_starvation()
        if self._process is None:
            if not self.is_held and now >= self._start_at_s:
                self.start()
            return None
        code, ends_before_s = self._process.poll(), self._ends_before_s
        if code is None:
            if ends_before_s and now > ends_before_s + self.starved_s:
                self._ends_before_s = None
                return self._note_exit(None)
            return None
        self._process, self._ends_before_s = None, None
        if ends_before_s and code in ORDERLY:
            return None
        self._start_at_s = now + RESTART_S
        return self._note_exit(code)

    def rss_bytes(self) -> int:
        """Resident memory; 0 if it does not run."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _note_starvation(self) -> None:
        try:
            stats = Path(f"/proc/{self.pid}/schedstat").read_text(encoding="ascii").split()
        except OSError:
            return
        assert self.pid is not None, "its statistics were there"
        waited_s, (pid, before_s) = int(stats[1]) / 1e9, self._starved_now
        more_s = waited_s - (before_s if pid == self.pid else 0.0)
        self.starved_s += more_s
        self.stalled_s += more_s if more_s > STALL_S else 0.0
        self._starved_now = (self.pid, waited_s)

    def _note_exit(self, code: int | None) -> Exit:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last_words = "\n".join(lines[-6:])
        exit_ = Exit(manager=self.name, at_s=time.monotonic(), code=code, last_words=last_words)
        self.exits.append(exit_)
        return exit_


class Cluster:
    """All managers of a run."""

    def __init__(
        self,
        rig: Rig,
        *,
        environment: Mapping[str, str],
        disk: Disk,
        command: Sequence[str] = (sys.executable, "-m", "meshswarm"),
    ) -> None:
        names = [host for host in rig.hosts if host != CLIENTS]
        self.rig = rig
        self.context = rig.scratch / "client.toml"
        nodes = [_node(rig, name) for name in names]
        key = rig.scratch / "client.key"
        write_cluster(nodes, name="chaos", client=self.context, client_key=key)
        self.disk = disk
        small = {} if disk is Disk.SHARED else {MIN_FREE: str(MIN_FREE_BYTES)}
        self.managers = {
            name: Manager(rig, name, command, {**small, **environment}) for name in names
        }
        for manager in self.managers.values():
            manager.use_disk(disk)

    @property
    def names(self) -> list[str]:
        """The managers, in order."""
        return list(self.managers)

    @property
    def starved_s(self) -> float:
        """How long managers waited for a processor so far: what a busy machine costs."""
        return sum(manager.starved_s for manager in self.managers.values())

    @property
    def stalled_s(self) -> float:
        """The same, without waits that are too short to be noticed."""
        return sum(manager.stalled_s for manager in self.managers.values())

    def start(self) -> None:
        """Start all managers."""
        for manager in self.managers.values():
            manager.start()

    def look_after(self) -> list[Exit]:
        """See to every manager once; who ended by itself just now."""
        exits = [manager.look_after() for manager in self.managers.values()]
        return [exit_ for exit_ in exits if exit_ is not None]

    def save_disks(self) -> None:
        """Copy what lies on small disks, which vanish with the rig, beside the logs."""
        for manager in self.managers.values():
            if manager.data.is_symlink():
                there = manager.data.readlink()
                manager.data.unlink()
                shutil.copytree(there, manager.data, ignore=shutil.ignore_patterns("ballast"))


def _node(rig: Rig, name: str) -> NewNode:
    return NewNode(
        name=name,
        config=rig.scratch / f"{name}.toml",
        key=rig.scratch / f"{name}.key",
        address=f"{rig.address(name)}:{PORT}",
        data_dir=f"{name}.data",
        runtimes=(),
    )
