"""Several hosts on one machine: a network namespace each, on one bridge, to be cut and killed.

    with raised("a", "b", "c") as rig:
        rig.spawn("a", ["python3", "-m", "http.server"], log)
        rig.drop("a", "b")       # nothing that a sends reaches b; what b sends still reaches a
        rig.kill_all("c")        # every process of that host, as a power cut would

The bridge has a namespace of its own, so nothing at all shows in the network of the machine. All
that a run makes bears its name (process id, start time, count), and lies in one folder under
`RUNS`; so what a killed run has left is known for certain, and the next one removes it (`sweep`).
Takes root. A host is entered with `nsenter --net`: `ip netns exec` would hide the cgroups, which
container engines look for.
"""

import ctypes
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

RUNS = Path("/run/meshswarm-rig")
"""A folder for each run: its disks, and links to what else it has to remove."""

NAMESPACES = Path("/run/netns")
PROGRAMS = ("ip", "iptables", "nsenter", "setpriv", "mount", "umount")
SWITCH = "switch"
SUBNET = "10.99.0"
CLONE_NEWNET = 0x40000000
CONTROL_GROUPS = Path("/sys/fs/cgroup")
GONE_S = 10.0
"""How long killed processes may take to be gone."""

_numbers = itertools.count(1)


def obstacle() -> str | None:
    """Why no rig can be raised here; None if one can."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: iproute2, iptables, util-linux)"
    probe = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True)
    return None if probe.returncode == 0 else "this kernel or container allows no namespaces"


def can_freeze() -> bool:
    """Whether there are disks to be frozen here."""
    programs = all(shutil.which(program) for program in ("mkfs.ext4", "fsfreeze"))
    return programs and Path("/dev/loop-control").exists()


@contextmanager
def raised(*hosts: str) -> Iterator["Rig"]:
    """These hosts, connected; all of it is gone afterwards, whatever happens."""
    sweep()
    rig = Rig(hosts)
    try:
        rig.raise_()
        yield rig
    finally:
        remove(rig.name)
        rig.reap()


class Rig:
    """Hosts and the wires between them; made by `raised`."""

    def __init__(self, hosts: Sequence[str]) -> None:
        if SWITCH in hosts or len(set(hosts)) < len(hosts):
            raise ValueError(f"hosts need names of their own, and not {SWITCH!r}: {hosts}")
        self.hosts = tuple(hosts)
        self.name = f"{os.getpid()}-{_started_at(os.getpid())}-{next(_numbers)}"
        self.scratch = Path(tempfile.gettempdir()) / f"meshswarm-rig-{self.name}"
        """A folder on disk, removed with the rig unless `keep_scratch` was called."""
        self._spawned: list[tuple[str, subprocess.Popen[bytes]]] = []

    def raise_(self) -> None:
        """Make folders, namespaces, bridge and cables."""
        (RUNS / self.name).mkdir(parents=True)
        self._link_to_scratch.symlink_to(self.scratch)
        self.scratch.mkdir(mode=0o700)
        switch = self.namespace(SWITCH)
        _run("ip", "netns", "add", switch)
        _run("ip", "-n", switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self.hosts, start=1):
            own, port = self.namespace(host), f"port{number}"
            _run("ip", "netns", "add", own)
            cable = ["link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", port]
            _run("ip", *cable, "netns", switch)
            _run("ip", "-n", switch, "link", "set", port, "master", "bridge", "up")
            _run("ip", "-n", own, "link", "set", "lo", "up")
            _run("ip", "-n", own, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            _run("ip", "-n", own, "link", "set", "eth0", "up")

    def namespace(self, host: str) -> str:
        """The name of the host's network namespace."""
        return f"meshswarm-rig-{self.name}-{host}"

    def address(self, host: str) -> str:
        """The host's IPv4 address."""
        return f"{SUBNET}.{self.hosts.index(host) + 1}"

    @property
    def group(self) -> str:
        """The control group below which everything of this run's engines is."""
        return f"meshswarm-rig-{self.name}"

    def keep_scratch(self) -> Path:
        """Leave `scratch` behind for whoever wants to look into it."""
        self._link_to_scratch.unlink(missing_ok=True)
        return self.scratch

    @property
    def _link_to_scratch(self) -> Path:
        return RUNS / self.name / "scratch"

    # --- processes --------------------------------------------------------------------------------

    def spawn(
        self,
        host: str,
        command: Sequence[str],
        log: IO[bytes] | int,
        *,
        environment: Mapping[str, str] | None = None,
        out: IO[bytes] | int | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Run the command on that host; its pid is the command's own.

        It is killed when the thread that spawned it ends, so no run outlives its driver.
        """
        inside = ["nsenter", f"--net={NAMESPACES / self.namespace(host)}"]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *inside, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log if out is None else out,
            stderr=log,
            start_new_session=True,
        )
        running = [(where, one) for where, one in self._spawned if one.poll() is None]
        self._spawned = [*running, (host, process)]
        self._await_arrival(host, process)
        return process

    def _await_arrival(self, host: str, process: "subprocess.Popen[bytes]") -> None:
        """Return once the process is on its host: from then on whatever cleans up will find it."""
        deadline = time.monotonic() + GONE_S
        while process.poll() is None and process.pid not in _pids_in(self.namespace(host)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{process.args!r} does not arrive on {host}")
            time.sleep(0.002)

    def reap(self, *hosts: str) -> None:
        """End what was spawned on these hosts (none: all), also what had not yet moved there."""
        for host, process in self._spawned:
            if not hosts or host in hosts:
                process.kill()
                process.wait()

    def kill_all(self, host: str) -> None:
        """Kill every process of the host and wait until they are gone."""
        self.reap(host)
        _kill_all_in(self.namespace(host))

    @contextmanager
    def entered(self, host: str) -> Iterator[None]:
        """This thread, and the threads that it starts meanwhile, are on that host's network."""
        with Path("/proc/thread-self/ns/net").open("rb") as home:
            with (NAMESPACES / self.namespace(host)).open("rb") as there:
                _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    # --- the network ------------------------------------------------------------------------------

    def drop(self, source: str, target: str) -> None:
        """Let nothing that `source` sends reach `target`; each call takes one `let_pass`."""
        self._filter("-A", source, target, "DROP")

    def let_pass(self, source: str, target: str) -> None:
        """Take back one `drop`."""
        self._filter("-D", source, target, "DROP")

    def lose(self, host: str, share: float) -> None:
        """Lose this share of the packets that reach the host, by chance; 0 loses none again."""
        inside = ["nsenter", f"--net={NAMESPACES / self.namespace(host)}", "iptables", "-w"]
        chance = ["-m", "statistic", "--mode", "random", "--probability", f"{share:.3f}"]
        _run(*inside, "-t", "raw", "-F", "PREROUTING")
        if share:
            interface = ["-i", "eth0"]
            _run(*inside, "-t", "raw", "-A", "PREROUTING", *interface, *chance, "-j", "DROP")

    def unplug(self, host: str) -> None:
        """Pull the host's cable."""
        self._set_port(host, "down")

    def plug(self, host: str) -> None:
        """Put the cable back."""
        self._set_port(host, "up")

    def _filter(self, verb: str, source: str, target: str, action: str) -> None:
        inside = ["nsenter", f"--net={NAMESPACES / self.namespace(target)}", "iptables", "-w"]
        _run(*inside, verb, "INPUT", "-s", self.address(source), "-j", action)

    def _set_port(self, host: str, state: str) -> None:
        port = f"port{self.hosts.index(host) + 1}"
        _run("ip", "-n", self.namespace(SWITCH), "link", "set", port, state)

    # --- disks ------------------------------------------------------------------------------------

    def disk(self, host: str, size_bytes: int) -> Path:
        """A new disk of the host with so much room, in memory: where it is mounted."""
        where = self._new_mount_point(host)
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0700", self.name, str(where))
        return where

    def freezable_disk(self, host: str, size_bytes: int) -> Path:
        """The same in a file of `scratch`; whoever writes to it waits while it is frozen."""
        where, image = self._new_mount_point(host), self.scratch / f"{host}.disk"
        with image.open("wb") as file:
            file.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(where))
        return where

    def freeze(self, host: str) -> None:
        """Let whoever writes to the host's freezable disk wait, even a kill of theirs."""
        _run("fsfreeze", "--freeze", str(self._mount_point(host)))

    def thaw(self, host: str) -> None:
        """Take back one `freeze`."""
        _run("fsfreeze", "--unfreeze", str(self._mount_point(host)))

    def _mount_point(self, host: str) -> Path:
        return RUNS / self.name / f"disk-{host}"

    def _new_mount_point(self, host: str) -> Path:
        where = self._mount_point(host)
        where.mkdir()
        return where


# --- removing -------------------------------------------------------------------------------------


def runs() -> list[str]:
    """The runs that have something on this machine, dead or alive."""
    return sorted(path.name for path in RUNS.iterdir()) if RUNS.exists() else []


def is_alive(run: str) -> bool:
    """Whether the process that made the run still is."""
    pid, started, _ = run.split("-")
    return _started_at(int(pid)) == started


def sweep() -> list[str]:
    """Remove what dead runs have left; their names. Those alive are left alone."""
    dead = [run for run in runs() if not is_alive(run)]
    for run in dead:
        remove(run)
    return dead


def remove(run: str) -> None:
    """Remove a run's processes, namespaces, disks and folders; raises if one does not go."""
    namespaces = [path.name for path in NAMESPACES.glob(f"meshswarm-rig-{run}-*") if path.is_file()]
    folder = RUNS / run
    for mounted in _mounted_below(folder):
        # One that is frozen lets nobody end; of one that is not, this fails.
        subprocess.run(["fsfreeze", "--unfreeze", mounted], check=False, capture_output=True)
    for namespace in namespaces:
        _kill_all_in(namespace)
    for mounted in _mounted_below(folder):
        _run("umount", "--lazy", mounted)
    for namespace in namespaces:
        _run("ip", "netns", "del", namespace)
    remove_groups(f"meshswarm-rig-{run}")
    scratch = folder / "scratch"
    if scratch.is_symlink():
        shutil.rmtree(scratch.readlink(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_groups(name: str) -> None:
    """Remove a control group and those below it from every hierarchy; nothing may run in them."""
    for top in (CONTROL_GROUPS, *CONTROL_GROUPS.iterdir()):
        for folder, _, _ in os.walk(top / name.lstrip("/"), topdown=False):
            _remove_group(Path(folder))


def _remove_group(folder: Path) -> None:
    """The kernel says busy until the last process that it had is gone for good."""
    deadline = time.monotonic() + GONE_S
    while True:
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _mounted_below(folder: Path) -> list[str]:
    """Where something is mounted below the folder, the innermost first."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    places = [line.split()[1] for line in lines]
    return [place for place in reversed(places) if place.startswith(f"{folder}/")]


def _kill_all_in(namespace: str) -> None:
    deadline = time.monotonic() + GONE_S
    while pids := _pids_in(namespace):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {pids} of {namespace} do not end")
        time.sleep(0.01)


def _pids_in(namespace: str) -> list[int]:
    """The living processes of a network namespace; never this one."""
    wanted = (NAMESPACES / namespace).stat()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            own = (path / "ns" / "net").stat()
        except OSError:
            continue  # It has ended, or is a zombie.
        if (own.st_dev, own.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(int(path.name))
    return [pid for pid in found if pid != os.getpid()]


def _started_at(pid: int) -> str:
    """When the process started, in clock ticks since the machine did; empty if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rsplit(")", 1)[1].split()
    return "" if state == "Z" else rest[18]


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot change the network namespace")


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
