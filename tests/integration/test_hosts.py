"""Nodes as on real hosts: `config init`, `node start`, signals, and everything that is refused."""

import shutil
import socket
from pathlib import Path

import pytest

from tests.support.dev import eventually, is_alive, process_service
from tests.support.hosts import NAMES, Hosts, hosts_of_one_machine

pytestmark = pytest.mark.timeout(180)

PATIENT = {"MESHSWARM_LIVENESS_DOWN_MS": "60000"}
"""So that a node that restarts slowly, on a busy machine, is not given up meanwhile."""


def test_sigterm_hands_leadership_over_and_leaves_tasks_running(tmp_path: Path) -> None:
    with hosts_of_one_machine(tmp_path, **PATIENT) as hosts:
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


def test_complaint_41_a_restarted_agent_adopts_what_runs(tmp_path: Path) -> None:
    with hosts_of_one_machine(tmp_path, **PATIENT) as hosts:
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
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        hosts_of_one_machine(tmp_path) as hosts,
    ):
        notify.bind(str(address))
        notify.settimeout(20)
        assert hosts.stop("a") == 0
        hosts.start("a", NOTIFY_SOCKET=str(address))
        assert notify.recv(100) == b"READY=1"
        assert hosts.stop("a") == 0
        assert notify.recv(100) == b"STOPPING=1"


def test_what_must_not_start_says_why(tmp_path: Path) -> None:
    with hosts_of_one_machine(tmp_path) as hosts:
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
    with hosts_of_one_machine(tmp_path / "one") as hosts:
        stranger = Hosts(tmp_path / "two")
        shutil.copy(stranger.directory / "client.key", hosts.directory / "client.key")
        done = hosts.dev.try_("node", "ls")
        assert done.returncode == 4
        assert "no manager knows the key of this client" in done.stderr
