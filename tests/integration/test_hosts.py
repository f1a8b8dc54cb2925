"""Nodes as on real hosts: `config init`, `node start`, signals, and everything that is refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.dev import Dev, eventually, is_alive, process_service
from tools.bench.lab import command

pytestmark = pytest.mark.timeout(180)

NAMES = ("a", "b", "c")


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Hosts:
    """Three nodes on one host, each with its files in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.dev = Dev(directory)
        nodes = zip(NAMES, _free_ports(len(NAMES)), strict=True)
        options = [f"--node={name}=127.0.0.1:{port}" for name, port in nodes]
        self.dev.run("config", "init", *options, "--out", str(directory))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "MESHSWARM_NODE_DATA_DIR": str(self.directory / f"{name}.data"),
            "MESHSWARM_AGENT_RUNTIMES": "process",
        }

    def command(self, name: str) -> list[str]:
        return command("node", "start", "--config", str(self.directory / f"{name}.toml"))

    def start(self, name: str, **more: str) -> None:
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            self.processes[name] = subprocess.Popen(
                self.command(name), env=self.environment(name) | more, stdout=log, stderr=log
            )

    def refused(self, name: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """A start that must fail by itself."""
        return subprocess.run(
            self.command(name),
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=20)

    def leader(self) -> str | None:
        done = self.dev.try_("cluster", "status", "-o", "json")
        leader: str | None = json.loads(done.stdout)["leader"] if done.stdout else None
        return leader


@contextmanager
def _hosts(directory: Path) -> Iterator[Hosts]:
    hosts = Hosts(directory)
    try:
        for name in NAMES:
            hosts.start(name)
        eventually(lambda: hosts.leader() is not None)
        yield hosts
    finally:
        for process in hosts.processes.values():
            process.kill()
            process.wait()
        for name in NAMES:
            from meshswarm.agent.runtimes import process as runtime

            runtime.kill_all(directory / f"{name}.data" / "agent")


def test_sigterm_hands_leadership_over_and_leaves_tasks_running(tmp_path: Path) -> None:
    with _hosts(tmp_path) as hosts:
        hosts.dev.deploy(process_service(replicas=3))
        pids = {int(task["runtime_id"]) for task in hosts.dev.tasks("t_web")}
        leader = hosts.leader()
        assert leader is not None
        assert hosts.stop(leader) == 0
        assert all(is_alive(pid) for pid in pids)
        assert "handed leadership over" in (tmp_path / f"{leader}.log").read_text()
        hosts.start(leader)
        eventually(lambda: len(hosts.dev.tasks("t_web")) == 3)
        assert pids == {int(task["runtime_id"]) for task in hosts.dev.tasks("t_web")}


def test_a_restarted_agent_adopts_what_runs(tmp_path: Path) -> None:
    with _hosts(tmp_path) as hosts:
        hosts.dev.deploy(process_service(replicas=3))
        pids = {int(task["runtime_id"]) for task in hosts.dev.tasks("t_web")}
        name = next(name for name in NAMES if name != hosts.leader())
        hosts.processes[name].kill()
        hosts.processes.pop(name).wait()
        assert all(is_alive(pid) for pid in pids), "tasks outlive their agent"
        hosts.start(name)
        eventually(lambda: all(row["state"] == "ready" for row in hosts.dev.rows("node", "ls")))
        eventually(lambda: len(hosts.dev.tasks("t_web")) == 3)
        assert pids == {int(task["runtime_id"]) for task in hosts.dev.tasks("t_web")}


def test_readiness_is_told_to_systemd(tmp_path: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, _hosts(tmp_path) as hosts:
        notify.bind(str(address))
        notify.settimeout(20)
        assert hosts.stop("a") == 0
        hosts.start("a", NOTIFY_SOCKET=str(address))
        assert notify.recv(100) == b"READY=1"
        assert hosts.stop("a") == 0
        assert notify.recv(100) == b"STOPPING=1"


def test_what_must_not_start_says_why(tmp_path: Path) -> None:
    with _hosts(tmp_path) as hosts:
        in_use = hosts.refused("a", hosts.environment("a"))
        assert in_use.returncode == 6
        assert f"in use by process {hosts.processes['a'].pid}" in in_use.stderr

        twin = hosts.environment("a") | {"MESHSWARM_NODE_DATA_DIR": str(tmp_path / "twin")}
        taken = hosts.refused("a", twin)
        assert taken.returncode == 6
        assert "port" in taken.stderr or "address" in taken.stderr

        hosts.stop("b")
        other = hosts.environment("b") | {"MESHSWARM_CLUSTER_ID": "another"}
        foreign = hosts.refused("b", other)
        assert foreign.returncode == 6
        assert "belongs to cluster" in foreign.stderr

        shutil.copy(tmp_path / "c.key", tmp_path / "b.key")
        stolen = hosts.refused("b", hosts.environment("b"))
        assert stolen.returncode == 3
        assert "not that of node 'b'" in stolen.stderr
        assert hosts.leader() is not None


def test_a_client_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with _hosts(tmp_path / "one") as hosts:
        stranger = Hosts(tmp_path / "two")
        shutil.copy(stranger.directory / "client.key", hosts.directory / "client.key")
        done = hosts.dev.try_("node", "ls")
        assert done.returncode == 7
        assert "refused" in done.stderr
