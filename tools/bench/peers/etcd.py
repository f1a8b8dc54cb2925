"""Three etcd members on loopback, with their normal fsync, under the load that meshswarm gets.

Needs Debian's etcd-server, golang-go and golang-etcd-server-dev; the load client is built once.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

SOURCE = Path(__file__).parent / "etcdload"
PACKAGES = ("etcd-server", "golang-go", "golang-etcd-server-dev")
CLIENT_PORT, PEER_PORT = 23_790, 23_800
MEMBERS = 3
PATIENCE_S = 30.0


class Etcd:
    """A running cluster, and its load client."""

    def __init__(self, directory: Path, arguments: Sequence[str]) -> None:
        self._directory = directory
        self._arguments = arguments
        self._tool = directory / "etcdload"
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Build the load client, start all members, wait for a leader."""
        subprocess.run(
            ["go", "build", "-o", str(self._tool), "."],
            cwd=SOURCE,
            env={
                **os.environ,
                "GO111MODULE": "off",
                "GOPATH": "/usr/share/gocode",
                "GOFLAGS": "",
                "GOCACHE": str(self._directory / "cache"),
            },
            check=True,
        )
        for member in range(MEMBERS):
            self.start_member(member)
        self.leader()

    def start_member(self, member: int) -> None:
        """Start one member on what its directory holds."""
        cluster = ",".join(f"m{i}=http://127.0.0.1:{PEER_PORT + i}" for i in range(MEMBERS))
        peer, client = f"http://127.0.0.1:{PEER_PORT + member}", f"http://{_address(member)}"
        with (self._directory / f"m{member}.log").open("ab") as log:
            self._processes[member] = subprocess.Popen(
                [
                    *("etcd", "--name", f"m{member}", "--initial-cluster", cluster),
                    *("--data-dir", str(self._directory / f"m{member}")),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--quota-backend-bytes", str(8 << 30), "--log-level", "error"),
                    *self._arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def leader(self) -> int:
        """The member that all living ones take for the leader."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            told = {member: _status(member) for member in self._processes}
            leaders = {status.leader if status else None for status in told.values()}
            ids = {status.id: member for member, status in told.items() if status}
            if len(leaders) == 1 and (leader := leaders.pop()) in ids:
                return ids[leader]
            time.sleep(0.05)
        raise TimeoutError("etcd has no leader")

    def load(self, kind: str, clients: int, batch: int, seconds: float) -> dict[str, float]:
        """The figures of one load on the leader."""
        return self._run(
            *("-endpoints", _address(self.leader()), "-kind", kind, "-clients", str(clients)),
            *("-batch", str(batch), "-seconds", str(seconds)),
        )

    def failover_ms(self) -> float:
        """From the leader's end until another acknowledges a put; the member is back afterwards."""
        leader = self.leader()
        others = ",".join(_address(member) for member in self._processes if member != leader)
        pid = self._processes[leader].pid
        figures = self._run("-endpoints", others, "-kind", "first", "-pid", str(pid))
        self._processes[leader].wait()
        self.start_member(leader)
        self.leader()
        return figures["failover_ms"]

    def stop(self) -> None:
        """End every member."""
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _run(self, *arguments: str) -> dict[str, float]:
        done = subprocess.run(
            [str(self._tool), *arguments], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"etcdload: {done.stderr.strip()[-500:]}")
        figures: dict[str, float] = json.loads(done.stdout)
        return figures


@contextmanager
def etcd(*arguments: str) -> Iterator[Etcd]:
    """A running cluster, its members started with these; stopped and removed at the end."""
    missing = [program for program in ("etcd", "go") if not shutil.which(program)]
    if missing:
        raise SystemExit(
            f"error: no {' and no '.join(missing)} here\nhint: apt-get install {' '.join(PACKAGES)}"
        )
    with tempfile.TemporaryDirectory(prefix="meshswarm-etcd-") as directory:
        cluster = Etcd(Path(directory), arguments)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def _address(member: int) -> str:
    return f"127.0.0.1:{CLIENT_PORT + member}"


@frozen
class Status:
    """What a member says: its own id, and the leader's."""

    id: str
    leader: str


def _status(member: int) -> Status | None:
    url = f"http://{_address(member)}/v3/maintenance/status"
    try:
        with urllib.request.urlopen(url, b"{}", timeout=1) as answer:
            status = json.load(answer)
    except OSError:
        return None
    return Status(status["header"]["member_id"], status.get("leader", "0"))
