"""A container engine on a host of the rig, with processes, mounts and a /run of the host's own.

    with raised("a", "b") as rig:
        engine = Engine(rig, "a")
        engine.boot()                # containers are made at engine.url
        engine.kill()                # the daemon alone; containers live on
        engine.crash()               # everything on the host ends at once; `boot` brings it back

The host gets a PID namespace: whatever the engine started, and started by itself, ends in one blow
with the namespace's first process, which ends with the thread that made it. Mounts end with it too.
What is left are control groups below one that bears the run's name, for `rig.remove`.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tools.rig.rig import NAMESPACES, Rig, obstacle, remove_groups

PROGRAMS = ("dockerd", "containerd", "runc", "unshare", "busybox")
START_S = 180.0
STOP_S = 30.0
PIDFILE = "/run/docker.pid"

NAMESPACE_FILES = {"mount": "mnt", "uts": "uts", "ipc": "ipc", "pid": "pid_for_children"}
"""What `nsenter` calls a namespace, and where the first process's parent shows it."""

FIRST_PROCESS = """
mount -t tmpfs -o mode=0755 tmpfs /run && hostname "$1" && : > "$2" || exit 1
sleep 1000000000 &
while :; do wait; done
"""
"""Reaps whatever loses its parent, as a host's first process does."""


def engine_obstacle() -> str | None:
    """Why no host here can have an engine; None if one can."""
    if reason := obstacle():
        return reason
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: docker.io, busybox-static)"
    return None


class Engine:
    """One host's engine. `live_restore`: its containers outlive an orderly stop of the daemon."""

    def __init__(self, rig: Rig, host: str, *, live_restore: bool = False) -> None:
        self.host = host
        self.folder = rig.scratch / f"{host}.engine"
        self.socket = self.folder / "sock"
        self.log = rig.scratch / f"{host}.engine.log"
        self._rig = rig
        self._live_restore = live_restore
        self._first: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As DOCKER_HOST takes it."""
        return f"unix://{self.socket}"

    @property
    def group(self) -> str:
        """The control group below which all its containers are."""
        return f"/{self._rig.group}/{self.host}"

    # --- the host ---------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the host's first process and the daemon; return once it answers."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "daemon.json").write_text("{}")
        booted = self.folder / "booted"
        booted.unlink(missing_ok=True)
        namespaces = [
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        first = ["sh", "-c", FIRST_PROCESS, "first", self.host, str(booted)]
        with self.log.open("ab") as log:
            self._first = self._rig.spawn(self.host, ["unshare", *namespaces, *first], log)
        self._until(booted.exists, "the host does not boot")
        self.start()

    def crash(self) -> None:
        """End all of the host's processes, those in containers too, as a power cut would."""
        self._rig.kill_all(self.host)
        self._first = self._daemon = None
        self.socket.unlink(missing_ok=True)
        remove_groups(self.group)

    # --- the daemon -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon, and return once it answers.

        On a busy machine it gives up on its own containerd after 15 s; then it is started again.
        """
        deadline = time.monotonic() + START_S
        while not self._has_started():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.host}: the engine ended:\n{self._last_words()}")

    def _has_started(self) -> bool:
        """Start the daemon once; whether it answers, rather than end."""
        self.socket.unlink(missing_ok=True)
        self._inside("rm", "-f", PIDFILE)
        command = [
            "dockerd",
            f"--config-file={self.folder}/daemon.json",
            f"--host={self.url}",
            f"--data-root={self.folder}/data",
            f"--cgroup-parent={self.group}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--storage-driver=overlay2",
            "--log-level=warn",
            *(["--live-restore"] if self._live_restore else []),
        ]
        # Swarm would else look for a registry before each task, which takes its time to fail.
        environment = {**os.environ, "DOCKER_SERVICE_PREFER_OFFLINE_IMAGE": "1"}
        with self.log.open("ab") as log:
            self._daemon = self._rig.spawn(
                self.host, [*self._entering(), *command], log, environment=environment
            )
            daemon = self._daemon
        self._until(lambda: self.answers() or daemon.poll() is not None, "the engine is silent")
        return daemon.poll() is None

    def kill(self) -> None:
        """`kill -9` to the daemon; its own containerd ends with it, containers do not."""
        self._signal("KILL")

    def stop(self) -> None:
        """SIGTERM to the daemon; return once it has ended."""
        self._signal("TERM")

    def answers(self) -> bool:
        """Whether it answers a ping."""
        with socket.socket(socket.AF_UNIX) as ping, suppress(OSError):
            ping.settimeout(5)
            ping.connect(str(self.socket))
            ping.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in ping.recv(64)
        return False

    def kill_process(self, pid: int) -> None:
        """`kill -9` to a process of the host, by the number that it has there."""
        self._inside("kill", "-KILL", str(pid))

    def docker(self, *arguments: str) -> str:
        """What `docker ARGUMENTS` prints of this engine."""
        done = self._docker(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f"{self.host}: docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def inspected(self, *containers: str) -> list[Any]:
        """What the engine tells of these; who is gone by now is left out."""
        if not containers:
            return []
        done = self._docker("inspect", *containers)
        if not all("No such" in line for line in done.stderr.splitlines()):
            raise RuntimeError(f"{self.host}: docker inspect: {done.stderr.strip()}")
        told: list[Any] = json.loads(done.stdout)
        return told

    def _docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", "-H", self.url, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_S)

    def _signal(self, name: str) -> None:
        assert self._daemon is not None, "it was started"
        self._inside("sh", "-c", f"kill -{name} $(cat {PIDFILE})")
        self._daemon.wait(STOP_S)
        self._daemon = None

    def _inside(self, *command: str) -> None:
        subprocess.run([*self._entering(), *command], check=True, capture_output=True)

    def _entering(self) -> Sequence[str]:
        assert self._first is not None, "it was booted"
        process = f"/proc/{self._first.pid}/ns"
        kinds = [f"--{kind}={process}/{name}" for kind, name in NAMESPACE_FILES.items()]
        return ["nsenter", f"--net={NAMESPACES / self._rig.namespace(self.host)}", *kinds]

    def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + START_S
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.host}: {otherwise}:\n{self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-8:])
