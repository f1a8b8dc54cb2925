"""`meshswarm simulate`: what it prints, what it takes, and that it changes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from meshswarm.answers import Answer
from meshswarm.cli.main import main
from meshswarm.errors import Unavailable
from meshswarm.model.task import TaskState
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    managers,
    stack,
    with_stack,
    with_task,
)

COMPOSE = """\
name: shop
services:
  web:
    image: nginx
"""


@pytest.fixture
def client() -> FakeClient:
    """Three managers, n3 leads; shop_web has a task on each of n2 and n3, shop_db one on n3."""
    view = with_stack(cluster_of("n1", "n2", "n3"), stack("shop", web=2, db=1))
    for name, slot, node in (("web", 1, "n2"), ("web", 2, "n3"), ("db", 1, "n3")):
        view = with_task(view, f"shop_{name}", slot, node, TaskState.RUNNING, started_at_ms=1)
    client = FakeClient(view)
    client.answers = list[Answer](managers("n1", "n2", "n3", leader="n3"))
    return client


def as_json(client: FakeClient, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert 0 == main(["simulate", *arguments, "-o", "json"], client.connect)
    return json.loads(capsys.readouterr().out)


def test_the_keys_that_programs_rely_on(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(client, capsys, "--kill", "n3", "--for", "1m")
    assert ["index", "span_ms", "assumed", "timeline", "left_out", "services"] == list(found)
    assert (60_000, 0) == (found["span_ms"], found["left_out"])
    assert {"start_ms": 1_000, "healthy_ms": None, "down_ms": 4_000} == found["assumed"]
    assert {
        "at_ms": 0,
        "kind": "node",
        "service": None,
        "slot": None,
        "node": "n3",
        "message": "it is killed",
    } == found["timeline"][0]
    assert {"node", "managers", "lost", "placed", "running"} <= {
        x["kind"] for x in found["timeline"]
    }
    [db, web] = found["services"]
    assert ("shop_db", 1, 1, 1, 1, False, False, [], []) == tuple(
        db[key]
        for key in (
            "name",
            "wanted_before",
            "serving_before",
            "wanted",
            "serving",
            "is_out",
            "is_short",
            "down",
            "summary",
        )
    )
    assert 5_000 <= db["longest_outage_ms"] == db["longest_short_ms"] < 5_100
    assert [{"slot": "shop_web.2", "from_node": "n3", "to_node": "n1"}] == web["moved"]
    assert 0 == web["longest_outage_ms"]


def test_nothing_in_the_cluster_changes(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)
    before = client.view
    every = ("--kill", "n1", "--drain", "n2", "--scale", "shop_web=3", "--deploy", str(file))
    as_json(client, capsys, *every)
    assert (before, []) == (client.view, client.proposed)


def test_people_get_a_timeline_and_the_end(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["simulate", "--drain", "n3", "--for", "90s"], client.connect)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split(maxsplit=2) == ["0.0s", "n3", "its availability is drain"]
    assert ["shop_db.1", "runs on n1"] in [line.split(maxsplit=2)[1:] for line in lines]
    at = lines.index("after 1m30s:")
    assert lines[at + 1].split("  ")[0] == "SERVICE"
    assert ["shop_db", "1/1", "1/1"] == lines[at + 2].split()[:3]
    assert "1 from n3 to n1" in lines[at + 2]
    assert "as of log entry" in said.err
    assert "nothing is changed" in said.err


def test_many_alike_share_a_line(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == main(["simulate", "--scale", "shop_web=60", "--for", "1m"], client.connect)
    out = capsys.readouterr().out
    assert "58 tasks have a node (" in out
    assert "58 tasks run (" in out
    assert len(out.splitlines()) < 12


def test_several_nodes_may_follow_one_kill(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--kill", "n2", "n3"], ["--kill", "n2", "--kill", "n3"]):
        found = as_json(client, capsys, *arguments)
        killed = [one["node"] for one in found["timeline"] if one["message"] == "it is killed"]
        assert ["n2", "n3"] == killed
        assert "1 of 3 managers are left" in found["timeline"][-1]["message"]
        assert {"lost"} == {down["state"] for one in found["services"] for down in one["down"]}


def test_names_are_those_of_slots_that_stay_down(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main(["simulate", "--kill", "n2", "n3", "-o", "name"], client.connect)
    assert ["shop_db.1", "shop_web.1", "shop_web.2"] == capsys.readouterr().out.split()
    assert 0 == main(["simulate", "--kill", "n3", "-o", "name"], client.connect)
    assert "" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "say what happens: --kill NODE, --drain NODE"),
        (["n1"], 2, "say what happens to them"),
        (["--kill", "n9"], 5, "there is no node 'n9'"),
        (["--drain", "n9"], 5, "there is no node 'n9'"),
        (["--scale", "shop_web"], 2, "'shop_web' is not SERVICE=N"),
        (["--scale", "shop_web=-1"], 2, "'shop_web=-1' is not SERVICE=N"),
        (["--scale", "shop_no=2"], 5, "there is no service 'shop_no'"),
        (["--scale", "shop_web=900000"], 3, "at most 100000"),
        (["--kill", "n1", "--for", "soon"], 2, "`soon` is no duration"),
        (["--kill", "n1", "--for", "0"], 2, "'0' is no time at all"),
        (["--deploy", "nowhere.yml"], 5, "there is no file nowhere.yml"),
    ],
)
def test_what_cannot_be_asked_is_told(
    client: FakeClient,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert code == main(["simulate", *arguments], client.connect)
    said = capsys.readouterr()
    assert ("", True) == (said.out, words in said.err), said.err


def test_faults_of_the_file_come_all_at_once_before_the_cluster_is_asked(
    client: FakeClient, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE.replace("image:", "imagine:") + "    replicas: 3\n")
    client.unreachable = Unavailable("nobody is there")
    assert 3 == main(["simulate", "--deploy", str(file)], client.connect)
    said = capsys.readouterr().err
    assert f"{file}:4" in said
    assert f"{file}:5" in said


def test_a_cluster_out_of_reach_is_told(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.unreachable = Unavailable("no manager could answer")
    assert 7 == main(["simulate", "--kill", "n1"], client.connect)
    assert "no manager could answer" in capsys.readouterr().err


def test_silence_is_borne_as_long_as_the_leaders_settings_say(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [one for one in client.answers if one.name != "n3"]
    [leader] = [one for one in client.answers if one.name == "n3"]
    assert leader.status is not None
    settings = {"suspect_ms": 10_000, "down_ms": 20_000, "of_a_newer_version": 1}
    client.answers = [*others, evolve(leader, status=evolve(leader.status, liveness=settings))]
    found = as_json(client, capsys, "--kill", "n2", "--for", "2m")
    assert 20_000 == found["assumed"]["down_ms"]
    [lost] = [one for one in found["timeline"] if one["kind"] == "lost"]
    assert 20_000 <= lost["at_ms"] < 25_000
