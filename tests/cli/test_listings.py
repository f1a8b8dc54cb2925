"""What listings print: the JSON keys that programs rely on, and the tables that people read."""

import json
from typing import Any

import pytest
from attrs import evolve

from meshswarm.answers import Answer, LogLine, ManagerMetrics, TaskLines
from meshswarm.cli.main import main
from meshswarm.errors import KeyRefused, Unavailable
from meshswarm.ids import Index, NodeId, TaskId, Term
from meshswarm.model.task import Health, Reason, TaskState
from tests.support.fake_cluster import (
    SINCE_MS,
    FakeClient,
    cluster_of,
    managers,
    stack,
    with_stack,
    with_task,
)


@pytest.fixture
def client() -> FakeClient:
    """Two nodes; shop_web with one healthy and one failed task, shop_api with none."""
    view = with_stack(cluster_of("n1", "n2"), stack("shop", web=2, api=1))
    view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING, runtime_id="4711")
    view = with_task(
        view,
        "shop_web",
        2,
        "n2",
        TaskState.FAILED,
        reason=Reason.EXITED,
        message="it ended with code 3",
        exit_code=3,
    )
    client = FakeClient(view)
    client.answers = list(managers("n1", "n2", leader="n2"))
    return client


def as_json(client: FakeClient, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "-o", "json"], client.connect) == 0
    return json.loads(capsys.readouterr().out)


def picked(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def test_service_ls(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(client, capsys, "service", "ls")
    keys = ("name", "stack", "mode", "desired", "running", "healthy")
    api = ("shop_api", "shop", "replicated", 1, 0, 0)
    web = ("shop_web", "shop", "replicated", 2, 1, 1)
    expected = [dict(zip(keys, values, strict=True)) for values in (api, web)]
    assert [picked(row, *keys) for row in rows] == expected


def test_service_ps(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(client, capsys, "service", "ps", "shop_web")
    keys = ("slot", "node", "desired", "state", "reason", "message", "runtime_id")
    assert [picked(row, *keys) for row in rows] == [
        {
            "slot": 1,
            "node": "n1",
            "desired": "running",
            "state": "running",
            "reason": "",
            "message": "",
            "runtime_id": "4711",
        },
        {
            "slot": 2,
            "node": "n2",
            "desired": "running",
            "state": "failed",
            "reason": "exited",
            "message": "it ended with code 3",
            "runtime_id": "",
        },
    ]
    assert all(row["id"] for row in rows)


def test_stack_ls_and_ps(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = as_json(client, capsys, "stack", "ls")
    assert picked(row, "name", "services") == {"name": "shop", "services": 2}
    assert len(as_json(client, capsys, "stack", "ps", "shop")) == 2


def test_node_ls(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    rows = as_json(client, capsys, "node", "ls")
    keys = ("id", "name", "role", "state", "availability", "runtimes", "leader")
    assert [picked(row, *keys) for row in rows] == [
        dict(
            zip(
                keys,
                (f"id{name}", name, "manager", "ready", "active", ["process"], leads),
                strict=True,
            )
        )
        for name, leads in (("n1", False), ("n2", True))
    ]


def test_inspect_tells_all(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    node = as_json(client, capsys, "node", "inspect", "n1")
    assert (node["name"], node["description"]["os"], len(node["running"])) == ("n1", "linux", 1)
    service = as_json(client, capsys, "service", "inspect", "shop_web")
    assert service["spec"]["task"]["command"] == ["sleep", "1000"]
    assert [task["slot"] for task in service["tasks"]] == [1, 2]


def test_cluster_status(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    dead = Answer(name="n3", address="n3:4747", error=Unavailable("n3 does not answer"))
    client.answers.append(dead)
    document = as_json(client, capsys, "cluster", "status")
    assert picked(document, "leader", "term") == {"leader": "n2", "term": 7}
    keys = ("name", "raft_state", "term", "last_index", "commit_index", "applied_index")
    assert [picked(row, *keys) for row in document["nodes"]] == [
        dict(zip(keys, ("n1", "Follower", 7, 12, 11, 11), strict=True)),
        dict(zip(keys, ("n2", "Leader", 7, 12, 11, 11), strict=True)),
        dict(zip(keys, ("n3", None, None, None, None, None), strict=True)),
    ]
    assert document["nodes"][2]["error"] == "n3 does not answer"


def test_cluster_status_shows_measures_on_demand(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = ManagerMetrics(
        fsync_p50_ms=0.1934,
        fsync_p99_ms=1234.5,
        loop_lag_p99_ms=0.0,
        loop_lag_max_ms=12.34,
        journal_bytes=812,
        free_bytes=5 << 30,
        dropped={"late": 3, "stale": 0, "busy": 1},
    )
    answers = managers("n1", "n2", leader="n2")
    first, second = (answer.status for answer in answers)
    assert first is not None
    assert second is not None
    client.answers = [
        evolve(answers[0], status=evolve(first, metrics=measured)),
        evolve(answers[1], status=evolve(second, unfit_because="its disk is full")),
    ]
    assert main(["cluster", "status", "-o", "wide"], client.connect) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    table = [[cell.strip() for cell in line if cell] for line in lines]
    assert table[2][-1] == "its disk is full"
    assert table[5][:4] == ["n1", "0.193/1234 ms", "-", "0/12.3 ms"]
    assert table[5][-3:] == ["812 B", "5.0 GiB", "late=3,busy=1"]
    row = as_json(client, capsys, "cluster", "status")["nodes"][0]
    assert row["metrics"]["fsync_p99_ms"] == 1234.5
    assert row["metrics"]["dropped"] == {"late": 3, "stale": 0, "busy": 1}


def test_cluster_status_shows_who_diverged(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = Answer(name="n3", address="n3:4747", error=Unavailable("n3 does not answer"))
    told = [
        evolve(answer, status=evolve(answer.status, differing={"n3": Index(at)}))
        for answer, at in zip(managers("n1", "n2", leader="n2"), (1024, 2048), strict=True)
        if answer.status is not None
    ]
    client.answers = [*told, dead]
    rows = as_json(client, capsys, "cluster", "status")["nodes"]
    assert [row["diverged_at"] for row in rows] == [None, None, 2048]
    assert rows[0]["differing"] == {"n3": 1024}
    assert main(["cluster", "status"], client.connect) == 0
    out, err = capsys.readouterr()
    assert "diverged up to entry 2048: its own log says what to do" in out
    assert "n1 found that the state of n3 differs, up to entry 1024" in err


def test_cluster_status_of_two_that_differ_takes_no_side(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = managers("n1", "n2", leader="n2")
    assert first.status is not None
    status = evolve(first.status, differing={"n2": Index(9)})
    client.answers = [evolve(first, status=status), second]
    rows = as_json(client, capsys, "cluster", "status")["nodes"]
    assert [row["diverged_at"] for row in rows] == [None, None]


def test_cluster_status_without_a_leader_is_shown_and_exits_with_7(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.answers = list(managers("n1", "n2", leader=None))
    assert main(["cluster", "status"], client.connect) == 7
    out, err = capsys.readouterr()
    assert "Follower" in out
    assert "no manager leads" in err


def test_cluster_status_says_whom_a_new_cluster_waits_for(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = managers("n1", "n2", leader=None)
    assert first.status is not None
    first = evolve(first, status=evolve(first.status, last_index=Index(0)))
    away = Answer(name="n3", address="n3:4747", error=Unavailable("nobody answers"))
    client.answers = [first, away]
    assert main(["cluster", "status"], client.connect) == 7
    assert "a new cluster begins with all its managers, and n3 did not" in capsys.readouterr().err
    client.answers = [first, second, away]
    assert main(["cluster", "status"], client.connect) == 7
    assert "writes are refused" in capsys.readouterr().err


def test_cluster_log_and_elect(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.log_lines = [
        LogLine(index=Index(4), term=Term(2), at_ms=SINCE_MS, by="ops", words="put stack shop")
    ]
    assert as_json(client, capsys, "cluster", "log") == [
        {
            "index": 4,
            "term": 2,
            "at": "2023-11-14T22:13:20.000Z",
            "by": "ops",
            "words": "put stack shop",
        }
    ]
    assert main(["cluster", "log"], client.connect) == 0
    assert capsys.readouterr().out.split() == (
        ["4", "2", "2023-11-14T22:13:20.000Z", "ops", "put", "stack", "shop"]
    )
    assert as_json(client, capsys, "cluster", "elect", "n2") == {"leader": "n2", "term": 8}
    assert client.elections == [NodeId("idn2")]


def test_logs_are_merged_by_time_and_a_dead_node_hides_nothing(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first = client.view.tasks_of(client.view.find_service("shop_web").id)[0]
    client.written[TaskId(first.id)] = [
        TaskLines(stream="stdout", at_ms=2, lines=("later",)),
        TaskLines(stream="stdout", at_ms=1, lines=("earlier",)),
    ]
    assert main(["service", "logs", "shop_web"], client.connect) == 0
    out, err = capsys.readouterr()
    assert out == "shop_web.1@n1 | earlier\nshop_web.1@n1 | later\n"
    assert err == "warning: no log of shop_web.2@n2: its node is down\n"


def test_tables_in_a_pipe_are_plain_and_whole(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.view = with_task(
        client.view, "shop_api", 1, "n1", TaskState.RUNNING, health=Health.HEALTHY
    )
    assert main(["service", "ls"], client.connect) == 0
    assert capsys.readouterr().out == (
        "NAME      MODE        RUNNING  HEALTHY  IMAGE  PORTS\n"
        "shop_api  replicated  1/1      1        -      -\n"
        "shop_web  replicated  1/2      1        -      -\n"
    )
    assert main(["-o", "name", "service", "ls"], client.connect) == 0
    assert capsys.readouterr().out == "shop_api\nshop_web\n"
    assert main(["-o", "yaml", "stack", "ls"], client.connect) == 0
    assert capsys.readouterr().out.startswith("- name: shop\n  services: 2\n")


def test_why_names_each_broken_slot_and_what_ended_before(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", "shop_web"], client.connect) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 2 tasks of shop_web run and are healthy"
    assert [line for line in lines if line.startswith("shop_web.2 failed on n2")]
    assert lines[-1].endswith("with exit code 3: it ended with code 3")
    report = as_json(client, capsys, "why", "shop_web")
    assert [(slot["slot"], slot["state"]) for slot in report["slots"]] == [(2, "failed")]
    assert main(["-o", "name", "why", "shop_web"], client.connect) == 0
    assert capsys.readouterr().out == "shop_web.2\n"


def test_a_table_on_a_terminal_leaves_out_what_says_nothing(
    client: FakeClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--color", "always", "service", "ls"], client.connect) == 0
    head, *_ = capsys.readouterr().out.splitlines()
    assert "HEALTHY" in head
    assert "PORTS" not in head, "no service publishes any"


def test_why_says_an_exit_code_once_and_nothing_after_a_colon(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    view = with_stack(cluster_of("n1"), stack("shop", web=1))
    failed = {"exit_code": 3, "message": "it ended with exit code 3"}
    view = with_task(view, "shop_web", 1, "n1", TaskState.FAILED, **failed)
    client.view = with_task(view, "shop_web", 1, "n1", TaskState.STARTING)
    assert main(["why", "shop_web"], client.connect) == 0
    lines = [line.rstrip("\n") for line in capsys.readouterr().out.splitlines()]
    assert not any(line.endswith((" ", ":")) for line in lines), lines
    [before] = [line for line in lines if "before:" in line]
    assert before.count("exit code 3") == 1


def test_a_whole_service_has_no_names_of_broken_slots(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.view = with_stack(cluster_of("n1"), stack("shop", web=1))
    client.view = with_task(client.view, "shop_web", 1, "n1", TaskState.RUNNING)
    assert main(["why", "shop_web", "-o", "name"], client.connect) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["why", "web"], " hint: did you mean shop_web? meshswarm service ls\n"),
        (["why", "shop_wbe"], " hint: did you mean shop_web? meshswarm service ls\n"),
        (["why", "shop"], " hint: shop is a stack: meshswarm stack ps shop\n"),
        (["why", "zebra"], " hint: meshswarm service ls\n"),
        (["service", "logs", "shop"], " hint: shop is a stack: meshswarm stack ps shop\n"),
        (["exec", "shop_wbe.1", "ls"], " hint: did you mean shop_web? meshswarm service ls\n"),
        (["job", "logs", "shop_web"], " hint: shop_web is a service: meshswarm service inspect"),
        (["node", "ps", "n11"], " hint: did you mean n1? meshswarm node ls\n"),
        (["service", "logs", "nosuch"], "error: there is no service or task 'nosuch'\n"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(
    client: FakeClient, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments, client.connect) == 5
    assert said in capsys.readouterr().err


def test_a_leader_that_only_others_hear_is_named(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    n1, n2 = managers("n1", "n2", leader="n2")
    assert n1.status is not None
    client.answers = [
        evolve(n1, status=evolve(n1.status, leader="n2")),
        evolve(n2, status=None, error=Unavailable("no connection to n2: nobody answers")),
    ]
    assert main(["cluster", "status"], client.connect) == 7
    assert "n2 leads, says n1, but it does not answer here\n" == capsys.readouterr().err


def test_a_stranger_is_not_authorised_to_see_the_status(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = KeyRefused("no connection to n1: refused: our key is not in its list")
    client.answers = [Answer(name="n1", address="n1:4747", error=refused)]
    assert main(["cluster", "status"], client.connect) == 4
    assert "n1 (n1:4747): our key is not in its list" in capsys.readouterr().err
