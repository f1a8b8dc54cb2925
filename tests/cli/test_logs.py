"""Logs of many tasks: whose, since and until when, in which order, and how they look."""

import pytest

from meshswarm.answers import TaskLines
from meshswarm.cli.logs import Line, Settling, _label, chosen_tasks
from meshswarm.cli.main import main
from meshswarm.errors import NotFound
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeState
from meshswarm.model.service import Mode
from meshswarm.model.task import Task, TaskState
from meshswarm.store.commands import SetNodeState
from meshswarm.store.view import View
from tests.support.builders import service, task
from tests.support.fake_cluster import FakeClient, cluster_of, stack, then, with_stack, with_task

Capture = pytest.CaptureFixture[str]
AT = 1_700_000_000_000


def shop() -> View:
    view = with_stack(cluster_of("n1", "n2"), stack("shop", web=2, api=1))
    view = with_task(view, "shop_web", 1, "n1", TaskState.FAILED)
    view = with_task(view, "shop_web", 1, "n2", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n2", TaskState.RUNNING)
    view = with_task(view, "shop_web", 3, "n2", TaskState.PREPARING)
    return with_task(view, "shop_api", 1, "n1", TaskState.RUNNING)


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient(shop())
    for number, one in enumerate(chosen_tasks(client.view, ["shop_web", "shop_api"])):
        client.written[one.id] = [
            TaskLines(
                stream="stdout",
                lines=(f"{number} first", f"{number} second"),
                at_ms=AT + number,
                times=(AT + number, AT + 10_000 + number),
            )
        ]
    return client


def texts(capsys: Capture) -> list[str]:
    return [line.partition(" | ")[2] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["shop_web"], ["shop_web.1", "shop_web.1", "shop_web.2"]),
        (["shop_web.2", "shop_api"], ["shop_web.2", "shop_api.1"]),
        (["shop_web.1"], ["shop_web.1", "shop_web.1"]),
        (["shop_api", "shop_api.1"], ["shop_api.1"]),
    ],
)
def test_services_and_slots_mean_all_their_tasks_that_ever_ran(
    targets: list[str], names: list[str]
) -> None:
    found = chosen_tasks(shop(), targets)
    assert names == [f"{task.service_name}.{task.slot}" for task in found]


def test_a_task_is_meant_by_its_id_or_name() -> None:
    view = shop()
    task = chosen_tasks(view, ["shop_api"])[0]
    assert [task] == chosen_tasks(view, [task.id]) == chosen_tasks(view, [task.name])
    with pytest.raises(NotFound, match="no service or task 'shop_nope'"):
        chosen_tasks(view, ["shop_nope"])


def test_complaint_34_lines_come_by_time_whoever_wrote_them(
    client: FakeClient, capsys: Capture
) -> None:
    assert main(["stack", "logs", "shop"], client.connect) == 0
    expected = [f"{n} {word}" for word in ("first", "second") for n in range(4)]
    assert expected == texts(capsys)


@pytest.mark.parametrize(
    ("option", "word"),
    [("--since", "second"), ("--until", "first")],
)
def test_since_and_until_leave_out_what_is_older_or_newer(
    client: FakeClient, capsys: Capture, option: str, word: str
) -> None:
    arguments = ["service", "logs", "shop_web", option, "2023-11-14T22:13:25Z"]
    assert main(arguments, client.connect) == 0
    assert [f"{n} {word}" for n in range(3)] == texts(capsys)


def test_what_cannot_be_meant_is_said(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "logs", "shop_web", "-f", "--until", "1m"], client.connect) == 2
    assert "what is followed has no end" in capsys.readouterr().err
    assert main(["service", "logs", "shop_web", "--since", "noon"], client.connect) == 2
    assert main(["stack", "logs", "nope"], client.connect) == 5


def test_on_a_terminal_each_task_has_a_colour_and_lines_stand_below_each_other(
    client: FakeClient, capsys: Capture
) -> None:
    arguments = ["--color", "always", "service", "logs", "shop_web.2", "shop_api", "-t"]
    assert main(arguments, client.connect) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "\x1b[2m2023-11-14T22:13:20.002Z \x1b[0m\x1b[36mshop_web.2@n2\x1b[0m | 2 first"
    )
    assert {"\x1b[36m", "\x1b[33m"} == {line.split("Z ")[1][4:9] for line in lines}


def test_a_node_that_is_down_is_not_waited_for(client: FakeClient, capsys: Capture) -> None:
    down = SetNodeState(node_id=NodeId("idn1"), state=NodeState.DOWN, message="silent")
    client.view = then(client.view, down)
    assert main(["service", "logs", "shop_web"], client.connect) == 0
    out, err = capsys.readouterr()
    assert err == "warning: no log of shop_web.1@n1: its node is down\n"
    assert "shop_web.2@n2 | 2 first" in out


def test_a_suspect_node_that_does_not_answer_is_named_as_such(
    client: FakeClient, capsys: Capture
) -> None:
    suspect = SetNodeState(node_id=NodeId("idn1"), state=NodeState.SUSPECT, message="it is silent")
    client.view = then(client.view, suspect)
    lost = chosen_tasks(client.view, ["shop_web"])[0]
    del client.written[lost.id]
    assert main(["service", "logs", "shop_web"], client.connect) == 0
    out, err = capsys.readouterr()
    assert err == "warning: no log of shop_web.1@n1: its node does not answer: it is silent\n"
    assert "shop_web.2@n2 | 2 first" in out


def test_a_slot_that_no_task_has_is_said_to_be_none(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "logs", "shop_web.7"], client.connect) == 5
    assert capsys.readouterr().err == (
        "error: no task of shop_web is kept for 7\n hint: meshswarm service ps shop_web\n"
    )


def test_a_global_task_is_called_by_its_node_as_everywhere() -> None:
    assert _label(task(service("agent", mode=Mode.GLOBAL), 0), "n3") == "agent.n3@n3"


@pytest.mark.parametrize("state", [TaskState.SHUTDOWN, TaskState.REJECTED])
def test_a_task_that_ended_before_it_ran_wrote_nothing(state: TaskState) -> None:
    view = with_task(shop(), "shop_web", 2, "n2", state)
    names = [(task.slot, task.status.state) for task in chosen_tasks(view, ["shop_web"])]
    assert (2, state) not in names
    view = with_task(shop(), "shop_web", 2, "n2", state, started_at_ms=AT)
    names = [(task.slot, task.status.state) for task in chosen_tasks(view, ["shop_web"])]
    assert (2, state) in names


# --- following ------------------------------------------------------------------------------------


def line(task: Task, text: str, at_ms: int | None) -> Line:
    return Line(task=task, node="n1", stream="stdout", at_ms=at_ms, text=text)


def test_a_followed_line_waits_a_moment_for_older_ones() -> None:
    one, other = chosen_tasks(shop(), ["shop_web.2", "shop_api"])
    lines = Settling(hold_s=0.3)
    lines.take(line(one, "b", 20), 1.0)
    lines.take(line(other, "a", 10), 1.2)
    assert [] == list(lines.ready(1.29)), "none has waited for long enough"
    assert [] == list(lines.ready(1.3)), "the older one has not"
    assert ["a", "b"] == [each.text for each in lines.ready(1.5)]
    lines.take(line(one, "d", 40), 2.0)
    lines.take(line(one, "no time", None), 2.0)
    lines.take(line(other, "c", 30), 2.0)
    assert ["c", "d", "no time"] == [each.text for each in lines.rest()]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshswarm.cli.logs.LINES_MAX", 2)
    (task,) = chosen_tasks(shop(), ["shop_api"])
    lines = Settling(hold_s=float("inf"))
    for at_ms in (3, 1, 2):
        lines.take(line(task, str(at_ms), at_ms), 0.0)
    assert ["1"] == [each.text for each in lines.ready(0.0)]


def test_followed_logs_end_with_what_still_waited(client: FakeClient, capsys: Capture) -> None:
    seen = 0

    def change(view: View) -> View:
        nonlocal seen
        seen += 1
        if seen == 5:
            raise KeyboardInterrupt
        return view

    client.on_change = change
    assert main(["service", "logs", "shop_web", "-f"], client.connect) == 130
    assert [f"{n} {word}" for word in ("first", "second") for n in range(3)] == texts(capsys)
