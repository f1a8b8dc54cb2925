"""A real cluster, killed piece by piece: the service is back without anyone's help."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.dev import Dev, dev_cluster, eventually, is_alive, process_service

pytestmark = pytest.mark.timeout(180)

STATUS_KEYS = {"name", "raft_state", "term", "last_index", "commit_index", "applied_index"}


def _pids(dev: Dev, service: str = "t_web") -> set[int]:
    return {int(task["runtime_id"]) for task in dev.tasks(service)}


def _settled(dev: Dev, replicas: int, service: str = "t_web") -> bool:
    pids = _pids(dev, service)
    return len(pids) == replicas and all(is_alive(pid) for pid in pids)


def test_a_deploy_runs_is_seen_and_goes(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=3))
        assert _settled(dev, 3)
        assert {task["node"] for task in dev.tasks("t_web")} == {"n1", "n2", "n3"}

        service = dev.rows("service", "ls")[0]
        assert {"name": "t_web", "stack": "t", "mode": "replicated"}.items() <= service.items()
        assert (3, 3, 3) == (service["desired"], service["running"], service["healthy"])
        assert [("t", 1)] == [(row["name"], row["services"]) for row in dev.rows("stack", "ls")]
        for row in dev.rows("node", "ls"):
            assert {"id", "name", "role", "state", "availability", "runtimes", "leader"} <= set(row)
            assert row["state"] == "ready"
            assert "process" in row["runtimes"]
        status = dev.rows("cluster", "status")
        assert status["leader"] == dev.leader()
        assert all(STATUS_KEYS <= set(node) for node in status["nodes"])
        states = sorted(node["raft_state"] for node in status["nodes"])
        assert ["Follower", "Follower", "Leader"] == states
        assert "put stack t" in dev.run("cluster", "log")

        before = _pids(dev)
        assert "unchanged" in dev.deploy(process_service(replicas=3)).lower()
        assert before == _pids(dev), "deploying the same again touches nothing"
        dev.run("service", "scale", "t_web=5")
        assert _settled(dev, 5)
        assert before < _pids(dev), "scaling keeps what runs"
        dev.run("service", "scale", "t_web=1")
        assert _settled(dev, 1)

        pids = _pids(dev)
        dev.run("stack", "rm", "t")
        assert [] == dev.rows("stack", "ls")
        eventually(lambda: not any(is_alive(pid) for pid in pids))


def test_a_changed_service_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    two = process_service(replicas=2) + process_service(replicas=1).replace(
        "services:\n  web:", "  db:"
    )
    with dev_cluster(tmp_path) as dev:
        dev.deploy(two)
        web, db = _pids(dev), _pids(dev, "t_db")
        dev.deploy(two.replace("exec sleep 1000", "exec sleep 2000", 1))
        assert db == _pids(dev, "t_db")
        assert not web & _pids(dev)
        assert _settled(dev, 2)
        dev.deploy(process_service(replicas=2))
        assert ["t_web"] == [row["name"] for row in dev.rows("service", "ls")]
        eventually(lambda: not any(is_alive(pid) for pid in db))


def test_a_killed_process_is_replaced(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=2))
        victim = min(_pids(dev))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: _settled(dev, 2) and victim not in _pids(dev))
        rows = dev.rows("service", "ps", "t_web", "--all")
        ended = next(row for row in rows if row["runtime_id"] == str(victim))
        assert ("failed", "signalled") == (ended["state"], ended["reason"])


def test_a_lost_node_is_replaced_and_comes_back_empty_handed(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=3))
        lost = next(name for name in dev.nodes() if name != dev.leader())
        dev.dev("kill", lost)
        eventually(lambda: _settled(dev, 3) and lost not in {t["node"] for t in dev.tasks("t_web")})
        states = {row["name"]: row["state"] for row in dev.rows("node", "ls")}
        assert states[lost] == "down"
        dev.dev("start", lost)
        eventually(lambda: all(row["state"] == "ready" for row in dev.rows("node", "ls")))
        assert _settled(dev, 3)


def test_a_node_that_was_cut_off_stops_what_is_no_longer_its_own(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=3))
        frozen = next(name for name in dev.nodes() if name != dev.leader())
        old = {int(t["runtime_id"]) for t in dev.tasks("t_web") if t["node"] == frozen}
        assert old
        dev.dev("pause", frozen)
        eventually(
            lambda: _settled(dev, 3) and frozen not in {t["node"] for t in dev.tasks("t_web")}
        )
        assert all(is_alive(pid) for pid in old), "the frozen agent still has its own"
        dev.dev("resume", frozen)
        eventually(lambda: not any(is_alive(pid) for pid in old))
        eventually(lambda: all(row["state"] == "ready" for row in dev.rows("node", "ls")))
        assert _settled(dev, 3)


def test_losing_the_leader_costs_an_election(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=3))
        leader = dev.leader()
        told = dev.dev("kill", "leader", timeout_s=90)
        assert "new leader" in told
        assert leader not in {dev.leader()}
        eventually(lambda: _settled(dev, 3))
        dev.run("service", "scale", "t_web=4")
        assert _settled(dev, 4)


def test_leadership_moves_on_demand(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        heir = next(name for name in dev.nodes() if name != dev.leader())
        dev.run("cluster", "elect", heir)
        assert heir == dev.leader()


def test_a_stopped_cluster_resumes_with_its_services(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=2))
        pids = _pids(dev)
        dev.dev("stop")
        assert not any(is_alive(pid) for pid in pids)
        dev.dev("--detach")
        eventually(lambda: _settled(dev, 2))


def test_logs_of_all_replicas_are_read_over_the_mesh(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        say = "echo started slot $$MESHSWARM_SLOT; exec sleep 1000"
        dev.deploy(process_service(replicas=3, command_=say))
        logs = dev.run("service", "logs", "t_web")
        assert all(f"started slot {slot}" in logs for slot in (1, 2, 3))


def test_complaint_32_commands_and_files_go_to_any_replica(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        dev.deploy(process_service(replicas=3))
        for slot in ("1", "2", "3"):  # each on another node, and asked by way of one manager
            words = ("sh", "-c", "echo slot $MESHSWARM_SLOT; exit 4")
            done = dev.try_("exec", f"t_web.{slot}", "--", *words)
            assert (f"slot {slot}\n", 4) == (done.stdout, done.returncode), done.stderr
        sent = tmp_path / "sent"
        sent.write_bytes(os.urandom(3_000_000))
        dev.run("cp", str(sent), f"t_web.2:{tmp_path}/there")
        dev.run("cp", f"t_web.3:{tmp_path}/there", str(tmp_path / "back"))
        assert sent.read_bytes() == (tmp_path / "back").read_bytes()
        used = json.loads(dev.run("top", "-o", "json"))
        assert {"t_web.1", "t_web.2", "t_web.3"} == {row["name"] for row in used["tasks"]}
        assert all(row["memory_bytes"] > 0 for row in used["tasks"] + used["nodes"])
        told = [json.loads(line) for line in dev.run("events", "-o", "json").splitlines()]
        assert {"t_web.1", "t_web.2", "t_web.3"} <= {e["name"] for e in told if e["node"]}
        assert "asked: put stack t" in dev.run("service", "events", "t_web")
        missing = dev.try_("cp", "t_web.1:/no/such/file", str(tmp_path))
        assert (1, True) == (missing.returncode, "/no/such/file" in missing.stderr)


def test_refusals_are_clear_and_harmless(tmp_path: Path) -> None:
    with dev_cluster(tmp_path) as dev:
        unknown = dev.try_("service", "ps", "nope")
        assert unknown.returncode == 5
        assert "there is no service 'nope'" in unknown.stderr
        assert "hint:" in unknown.stderr

        file = tmp_path / "bad.yml"
        file.write_text("services:\n  web:\n    imagee: x\n    replicas: [\n")
        bad = dev.try_("deploy", str(file))
        assert bad.returncode == 3
        assert "bad.yml:" in bad.stderr

        nowhere = "      placement: {constraints: [node.labels.disk == ssd]}\n"
        file.write_text(process_service(replicas=1, more=nowhere))
        waits = dev.try_("deploy", str(file), "--name", "p", "--timeout", "2")
        assert waits.returncode == 8
        why = dev.run("why", "p_web")
        assert "node.labels.disk" in why
        assert all(name in why for name in ("n1", "n2", "n3"))

        # Foreign bytes on the mesh port: refused, and nobody notices.
        addresses = [line for line in dev.context.read_text().splitlines() if "address" in line]
        host, port = addresses[0].split('"')[1].rsplit(":", 1)
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" + b"\x00" * 63):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(rubbish)
        dev.deploy(process_service(replicas=1))

        leader = dev.leader()
        for name in dev.nodes():
            if name != leader:
                dev.dev("kill", name)
        lonely = dev.try_("service", "ls")
        assert lonely.returncode == 7
        assert all(name in lonely.stderr for name in ("n1", "n2", "n3"))
        write = dev.try_("service", "scale", "t_web=2")
        assert write.returncode == 7
        status = dev.try_("cluster", "status", "-o", "json")
        assert status.returncode == 7
        assert json.loads(status.stdout)["leader"] is None
