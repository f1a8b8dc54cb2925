"""`dev` piece by piece: its files, its processes, and what it measures."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from meshswarm.agent.runtimes.proc import mark_of, send
from meshswarm.cli.dev import engine, layout, processes
from meshswarm.cli.dev.cluster import cost_of_losing_leader
from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.dev.processes import Pulse
from meshswarm.cli.main import main
from meshswarm.cli.reach import dev_context
from meshswarm.client import Client
from meshswarm.errors import Conflict, NotFound, Unavailable
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import TaskState
from meshswarm.settings import load_client_context, load_settings
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    managers,
    stack,
    with_stack,
    with_task,
)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))


@pytest.fixture
def files(tmp_path: Path) -> Layout:
    return layout.make(tmp_path / "dev", nodes=None, with_docker=False)


@contextmanager
def child(program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that is killed at the end."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


# --- files ----------------------------------------------------------------------------------------


def test_a_new_cluster_is_configured_as_any(files: Layout) -> None:
    assert [node.name for node in files.nodes()] == ["n1", "n2", "n3"]
    loaded = [load_settings(node.config, {}) for node in files.nodes()]
    assert len({settings.mesh.listen for settings in loaded}) == 3
    assert {settings.agent.runtimes for settings in loaded} == {(RuntimeKind.PROCESS,)}
    assert [settings.node.data_dir for settings in loaded] == [n.state for n in files.nodes()]
    assert len(load_client_context(files.client).managers) == 3


def test_the_same_directory_is_the_same_cluster(files: Layout) -> None:
    before = {file: file.read_bytes() for file in files.root.rglob("*") if file.is_file()}
    assert layout.make(files.root, nodes=3, with_docker=True) == files
    assert before == {file: file.read_bytes() for file in files.root.rglob("*") if file.is_file()}
    with pytest.raises(Conflict, match="has 3 nodes, not 5"):
        layout.make(files.root, nodes=5, with_docker=False)


def test_one_process_at_a_time_runs_a_cluster(files: Layout) -> None:
    with (
        layout.claimed(files),
        pytest.raises(Conflict, match="runs already"),
        layout.claimed(files),
    ):
        pass
    with layout.claimed(files):
        pass


def test_which_dev_cluster_is_meant(files: Layout, tmp_path: Path) -> None:
    """The named one, else the one recorded as running, else the default directory's."""
    with pytest.raises(NotFound):
        layout.find(None)
    layout.record(files)
    assert layout.find(None) == files
    other = layout.make(layout.default_root(), nodes=1, with_docker=False)
    assert layout.find(other.root) == other
    layout.record(other)
    assert layout.find(None) == other, "the one that was started last"
    layout.forget(other)
    assert layout.find(None) == files, "the one that ran before it, and still does"
    layout.forget(files)
    assert layout.find(None) == other


def test_taken_ports_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(layout, "PORTS", range(port, port + 50))
        assert port not in layout.free_ports(2)


def test_an_engine_that_is_not_there_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert not engine.answers()


def test_a_cluster_that_was_killed_gives_way_to_one_that_runs(files: Layout) -> None:
    runs = layout.make(layout.default_root(), nodes=1, with_docker=False)
    layout.record(runs)
    layout.record(files)
    assert layout.find(None) == files, "neither runs: the last one"
    processes.note(runs.supervisor, os.getpid())
    assert layout.find(None) == runs


def test_last_words_are_those_of_the_latest_start(files: Layout) -> None:
    node = files.node("n1")
    node.log.write_text(f"Traceback\n{layout.STARTS}\nstarted\n  | error: no port\n")
    assert node.last_words() == ["started", "error: no port"]


# --- processes ------------------------------------------------------------------------------------


def test_a_noted_process_is_known_until_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    assert processes.noted(file) is None
    with child("input()") as process:
        processes.note(file, process.pid)
        mark = processes.noted(file)
        assert mark is not None
        assert mark.pid == process.pid
        send(mark, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert processes.pulse(mark) is Pulse.PAUSED
        send(mark, signal.SIGKILL)
        assert processes.ended_within(mark, 10)
    assert processes.noted(file) is None
    assert processes.pulse(mark) is Pulse.ENDED


def test_a_number_given_away_again_is_another_process(tmp_path: Path) -> None:
    mark = mark_of(os.getpid())
    assert mark is not None
    file = tmp_path / "process.json"
    file.write_text(json.dumps({"pid": mark.pid, "start": mark.start - 1}))
    assert processes.noted(file) is None


def test_a_node_dies_with_the_process_that_started_it() -> None:
    grandchild = (
        "import os, sys; from meshswarm.cli.dev.processes import die_with_parent;"
        "die_with_parent(int(sys.argv[1])); print(os.getpid(), flush=True); input()"
    )
    parent = (
        "import os, subprocess, sys;"
        "subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"
    )
    with child(parent, grandchild) as process:
        assert process.stdout is not None
        mark = mark_of(int(process.stdout.readline()))
        assert mark is not None
        process.kill()
        assert processes.ended_within(mark, 10)


def test_a_node_whose_parent_is_gone_already_does_not_start() -> None:
    orphan = "from meshswarm.cli.dev.processes import die_with_parent; die_with_parent(1)"
    done = subprocess.run(
        [sys.executable, "-c", orphan], capture_output=True, text=True, check=False
    )
    assert "process 1, which started this node, is gone" in done.stderr


# --- commands -------------------------------------------------------------------------------------


def test_status_of_a_cluster_that_does_not_run(
    files: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeClient(View())
    arguments = ["dev", "status", "--data-dir", str(files.root), "-o", "json"]
    assert main(arguments, client.connect) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["pid"], r["running"], r["leader"]) for r in rows] == [
        (name, None, False, False) for name in ("n1", "n2", "n3")
    ]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["kill", "n1"], 6, "n1 does not run"),
        (["pause", "n1"], 6, "n1 does not run"),
        (["resume", "n1"], 6, "n1 does not run"),
        (["start", "n1"], 7, "the cluster does not run"),
        (["kill", "n9"], 5, "there are: n1, n2, n3"),
        (["kill", "leader"], 7, "there is no leader"),
    ],
)
def test_what_cannot_be_done_is_said(
    files: Layout,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    exit_code: int,
    message: str,
) -> None:
    client = FakeClient(View())
    code = main(["dev", *arguments, "--data-dir", str(files.root)], client.connect)
    assert (exit_code, True) == (code, message in capsys.readouterr().err)


def test_the_data_directory_may_stand_before_the_command(
    files: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dev", "--data-dir", str(files.root), "kill", "n1"]) == 6
    assert "n1 does not run" in capsys.readouterr().err


def test_a_cluster_that_runs_already_is_not_begun_again(
    files: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    with layout.claimed(files):
        assert main(["dev", "--data-dir", str(files.root)]) == 6
    assert capsys.readouterr().err.startswith("error: this cluster runs already\n")


def test_stop_of_a_cluster_that_does_not_run_is_harmless(files: Layout) -> None:
    layout.record(files)
    assert main(["dev", "stop", "--data-dir", str(files.root)]) == 0
    assert dev_context() is None


# --- what a loss costs ----------------------------------------------------------------------------


async def test_the_cost_of_a_leader_counts_only_what_has_to_move() -> None:
    view = with_stack(cluster_of("n1", "n2", "n3"), stack("shop", web=2))
    view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n2", TaskState.RUNNING)
    client = FakeClient(view)
    client.answers = list(managers("n1", "n2", "n3", leader="n1"))
    client.on_change = lambda now: with_task(now, "shop_web", 1, "n3", TaskState.RUNNING)
    struck: list[str] = []

    def strike() -> None:
        struck.append("n1")
        client.answers = list(managers("n2", "n3", leader="n3", term=8))

    cost = await cost_of_losing_leader(cast(Client, client), lambda name: strike)
    assert struck == ["n1"]
    assert (cost.lost, cost.leader, cost.term, cost.replicas) == ("n1", "n3", 8, 1)
    assert cost.replaced_s is not None
    assert cost.replaced_s >= cost.leader_s


async def test_a_leader_whose_loss_ends_the_quorum_is_not_waited_for() -> None:
    client = FakeClient(cluster_of("n1"))
    client.answers = list(managers("n1", leader="n1"))
    with pytest.raises(Unavailable, match="with it the majority"):
        await cost_of_losing_leader(cast(Client, client), lambda name: lambda: None)
