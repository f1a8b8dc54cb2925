"""Processes that must not go on as they were: the older twin, and the leader that stood still."""

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.dev import eventually, process_service
from tests.support.hosts import NAMES, Hosts, hosts_of_one_machine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def _nodes(hosts: Hosts) -> dict[str, dict[str, Any]]:
    """What each manager says of itself, by name; those that do not answer have no state."""
    done = hosts.dev.try_("cluster", "status", "-o", "json")
    rows = json.loads(done.stdout)["nodes"] if done.stdout else []
    return {row["name"]: row for row in rows}


def test_s75_of_two_processes_of_one_node_the_older_ends_and_says_why(tmp_path: Path) -> None:
    with hosts_of_one_machine(tmp_path) as hosts:
        name = next(name for name in NAMES if name != hosts.leader())
        shutil.copytree(tmp_path / f"{name}.data", tmp_path / "copy")
        hosts.start(
            name,
            as_="twin",
            MESHSWARM_NODE_DATA_DIR=str(tmp_path / "copy"),
            MESHSWARM_MESH_LISTEN="127.0.0.1:0",
        )
        older = hosts.processes.pop(name)
        assert 6 == older.wait(timeout=30)
        *_, first, second, third = hosts.log(name).read_text().splitlines()
        assert first.startswith(f"error: a second node with the identity of `{name}`")
        assert first.endswith("runs, and is newer")
        assert second.strip().startswith("at: told by ")
        assert third.strip().startswith("hint: each node needs a key and a data directory of its")
        assert hosts.processes["twin"].poll() is None
        hosts.dev.deploy(process_service(replicas=1))


def test_s77_a_leader_whose_loop_stands_still_is_replaced_and_serves_nothing_stale(
    tmp_path: Path,
) -> None:
    with hosts_of_one_machine(tmp_path) as hosts:
        wedge = tmp_path / "wedge"
        hosts.wrapper = [sys.executable, "-m", "tests.support.wedging"]
        for name in NAMES:
            assert 0 == hosts.stop(name)
            hosts.start(name, WEDGE=str(wedge))
        eventually(lambda: hosts.leader() is not None)
        old = hosts.leader()
        assert old is not None
        wedge.touch()
        hosts.processes[old].send_signal(signal.SIGUSR1)
        eventually(lambda: hosts.leader() not in (None, old))
        hosts.dev.deploy(process_service(replicas=1), "--detach", name="meanwhile")
        assert not _nodes(hosts)[old]["raft_state"], "it is still stuck"
        wedge.unlink()
        eventually(lambda: "Follower" == _nodes(hosts)[old]["raft_state"])
        assert "the event loop was stuck for" in hosts.log(old).read_text()
        for name in NAMES:
            if name != old:
                hosts.processes[name].send_signal(signal.SIGSTOP)
        # Alone, it knows that it knows nothing: what it would answer could be stale.
        refused = hosts.dev.try_("service", "ls")
        for name in NAMES:
            hosts.processes[name].send_signal(signal.SIGCONT)
        assert 7 == refused.returncode
        eventually(lambda: hosts.leader() is not None)
        assert ["meanwhile_web"] == [row["name"] for row in hosts.dev.rows("service", "ls")]
