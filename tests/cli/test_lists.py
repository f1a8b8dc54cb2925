"""What all lists have: filters, `--watch`, names for programs; and labels of nodes."""

import json
from collections.abc import Callable, Iterator

import pytest
import typer
from typer.main import get_command

from meshswarm.cli.listing import Changes, Filter, filtered, parse_filters
from meshswarm.cli.main import app, main
from meshswarm.cli.options import Format, Options, When
from meshswarm.cli.show import Column, Listing, Row
from meshswarm.ids import NodeId
from meshswarm.model.task import TaskState
from meshswarm.store.commands import PutConfig, RemoveConfig, UpdateNode
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    managers,
    stack,
    then,
    with_stack,
    with_task,
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def client() -> FakeClient:
    view = with_stack(cluster_of("n1", "n2"), stack("shop", web=2, api=1))
    view = then(view, UpdateNode(node_id=NodeId("idn1"), labels={"disk": "ssd", "old": ""}))
    view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n2", TaskState.FAILED, message="exit code 3")
    client = FakeClient(view)
    client.answers = list(managers("n1", "n2", leader="n1"))
    return client


def lines(capsys: Capture) -> list[str]:
    return capsys.readouterr().out.splitlines()


# --- filters --------------------------------------------------------------------------------------

ROW: Row = {"name": "a", "state": "Running", "labels": {"x": "1"}, "ports": ["80:80"], "node": None}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("state=running", True),
        ("state!=running", False),
        ("node=", True),
        ("node!=", False),
        ("labels=x", True),
        ("labels=x=1", True),
        ("labels=x=2", False),
        ("labels=y", False),
        ("ports=80:80", True),
        ("ports=80", False),
    ],
)
def test_a_filter_holds_or_not(text: str, holds: bool) -> None:
    (found,) = parse_filters([text])
    assert holds is found.holds(ROW)


def test_filters_must_all_hold_and_name_known_keys() -> None:
    listing = Listing(columns=(Column("NAME", "name"),), rows=[ROW])
    assert [ROW] == filtered(listing, parse_filters(["name=a", "label=x"])).rows
    assert [] == filtered(listing, parse_filters(["name=a", "state=failed"])).rows
    with pytest.raises(typer.BadParameter, match="rows have no 'size'; they have name, state"):
        filtered(listing, parse_filters(["size=1"]))
    for bad in ("name", "=a", "!=a"):
        with pytest.raises(typer.BadParameter, match="is not KEY=VALUE"):
            parse_filters([bad])
    assert (Filter("since_ms", "1"),) == parse_filters(["since-ms=1"])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["service", "ls", "-f", "name=shop_api"], ["shop_api"]),
        (["service", "ls", "-f", "stack=shop"], ["shop_api", "shop_web"]),
        (["node", "ls", "-f", "label=disk=ssd"], ["n1"]),
        (["node", "ls", "-f", "leader=no"], ["n2"]),
        (["stack", "ls", "-f", "name!=shop"], []),
    ],
)
def test_every_list_takes_a_filter(
    client: FakeClient, capsys: Capture, arguments: list[str], names: list[str]
) -> None:
    assert main([*arguments, "-o", "name"], client.connect) == 0
    assert names == lines(capsys)


def test_a_nodes_tasks_are_listed(client: FakeClient, capsys: Capture) -> None:
    assert main(["node", "ps", "n2", "-o", "json"], client.connect) == 0
    assert ["shop_web.2"] == [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert main(["node", "ps", "n2", "-f", "state=running", "-o", "name"], client.connect) == 0
    assert [] == lines(capsys)
    assert main(["node", "ps", "n9"], client.connect) == 5


# --- watch ----------------------------------------------------------------------------------------


def watched(client: FakeClient, *changes: Callable[[View], View]) -> None:
    """Let a watcher see the view, then what each change makes of it, then an interrupt."""
    waiting: list[Callable[[View], View]] = [lambda view: view, *changes]

    def change(view: View) -> View:
        if not waiting:
            raise KeyboardInterrupt
        return waiting.pop(0)(view)

    client.on_change = change


def test_in_a_pipe_a_watched_list_goes_on_with_the_rows_that_change(
    client: FakeClient, capsys: Capture
) -> None:
    watched(
        client,
        lambda view: with_task(view, "shop_web", 3, "n1", TaskState.RUNNING),
        lambda view: then(view, UpdateNode(node_id=NodeId("idn1"), labels={})),
    )
    assert main(["service", "ls", "--watch"], client.connect) == 130
    assert ["NAME", "shop_api", "shop_web", "shop_web"] == [
        line.split()[0] for line in lines(capsys)
    ]


def test_for_programs_each_change_is_an_object_in_a_line(
    client: FakeClient, capsys: Capture
) -> None:
    watched(client, lambda view: with_task(view, "shop_web", 3, "n1", TaskState.RUNNING))
    assert main(["service", "ps", "shop_web", "-w", "-o", "json"], client.connect) == 130
    assert [1, 2, 3] == [json.loads(line)["slot"] for line in lines(capsys)]


def test_rows_that_left_are_told(capsys: Capture) -> None:
    def listing(*names: str) -> Listing:
        return Listing(columns=(Column("NAME", "name"),), rows=[{"name": name} for name in names])

    def options(format_: Format) -> Options:
        return Options(connect=FakeClient(View()).connect, format=format_, color=When.NEVER)

    for format_, told in (
        (Format.TABLE, ["NAME", "a", "b", "c", "a is gone"]),
        (Format.JSON, ['{"name": "a"}', '{"name": "b"}', '{"name": "c"}']),
    ):
        draw = Changes(options(format_))
        for names in (("a", "b"), ("a", "b"), ("b", "c")):
            draw(listing(*names))
        printed = lines(capsys)
        assert told == printed[: len(told)]
        if format_ is Format.JSON:
            assert '{"name": "a", "removed": true}' == printed[-1]


def test_configs_and_secrets_are_watched_too(client: FakeClient, capsys: Capture) -> None:
    client.view = then(client.view, PutConfig(name="a", data=b"1"))
    watched(
        client,
        lambda view: then(view, PutConfig(name="b", data=b"22"), PutConfig(name="c", data=b"")),
        lambda view: then(view, PutConfig(name="b", data=b"333")),
        lambda view: then(view, RemoveConfig(name="a")),
    )
    arguments = ["config", "ls", "-w", "-f", "name!=c", "-o", "json"]
    assert main(arguments, client.connect) == 130
    rows = [json.loads(line) for line in lines(capsys)]
    assert [("a", 1), ("b", 2), ("b", 3), ("a", None)] == [
        (row["name"], row.get("bytes")) for row in rows
    ]
    assert rows[-1]["removed"] is True


def lists() -> Iterator[tuple[str, set[str]]]:
    """(path, options) of every command that lists."""
    waiting = [("meshswarm", get_command(app))]
    while waiting:
        path, command = waiting.pop()
        waiting += [
            (f"{path} {name}", child) for name, child in getattr(command, "commands", {}).items()
        ]
        if path.rpartition(" ")[2] in ("ls", "ps", "history"):
            yield path, {name for one in command.params for name in one.opts}


@pytest.mark.parametrize(("path", "options"), sorted(lists()))
def test_every_list_can_be_filtered_watched_and_read_by_programs(
    path: str, options: set[str]
) -> None:
    assert {"--filter", "--watch", "--output"} <= options


def test_those_are_all_the_lists_there_are() -> None:
    assert {"config", "job", "node", "secret", "service", "stack"} == {
        path.split()[1] for path, _ in lists()
    }


# --- labels of nodes ------------------------------------------------------------------------------


def test_labels_of_a_node_are_set_and_removed(client: FakeClient, capsys: Capture) -> None:
    arguments = ["node", "update", "n1", "--label-add", "zone=a=b", "--label-rm", "old"]
    assert main(arguments, client.connect) == 0
    assert "updated" in capsys.readouterr().out
    assert {"disk": "ssd", "zone": "a=b"} == client.view.find_node("n1").labels
    proposed = len(client.proposed)
    assert main(["node", "update", "n1", "--label-add", "disk=ssd"], client.connect) == 0
    assert "unchanged" in capsys.readouterr().out
    assert proposed == len(client.proposed)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["n1"], 2, "nothing to change"),
        (["n1", "--label-add", "x"], 2, "'x' is not NAME=VALUE"),
        (["n1", "--label-rm", "x"], 2, "there is no 'x'"),
        (["n9", "--label-add", "x=y"], 5, "n9"),
    ],
)
def test_what_is_no_change_of_a_node_is_said(
    client: FakeClient, capsys: Capture, arguments: list[str], code: int, words: str
) -> None:
    assert main(["node", "update", *arguments], client.connect) == code
    assert words in capsys.readouterr().err
    assert client.proposed == []
