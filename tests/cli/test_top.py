"""`top`: two measures become shares, and what cannot be measured hides nothing."""

import asyncio
import io
import json
import os
import termios
from collections.abc import Mapping

import pytest
from rich.console import Console

from meshswarm.answers import NodeStats, TaskStats
from meshswarm.cli.main import main
from meshswarm.cli.terminal import key_pressed
from meshswarm.cli.top import drawn
from meshswarm.cli.usage import usage
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeState
from meshswarm.model.task import TaskState
from meshswarm.store.commands import SetNodeState
from meshswarm.store.view import View
from tests.support.fake_cluster import FakeClient, cluster_of, stack, then, with_stack, with_task

Capture = pytest.CaptureFixture[str]
S = 1_000_000_000
MIB = 1 << 20


def shop() -> View:
    view = with_stack(cluster_of("n1", "n2", "n3"), stack("shop", web=2, api=1))
    view = with_task(view, "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n2", TaskState.RUNNING)
    view = with_task(view, "shop_api", 1, "n1", TaskState.RUNNING)
    down = SetNodeState(node_id=NodeId("idn3"), state=NodeState.DOWN, message="silent")
    return then(view, down)


def stats(at_s: float, busy_s: float, tasks: Mapping[str, TaskStats]) -> NodeStats:
    return NodeStats(
        at_ns=int(at_s * S),
        cpus=2,
        busy_ns=int(busy_s * S),
        memory_bytes=4096 * MIB,
        memory_used_bytes=1024 * MIB,
        tasks=tasks,
    )


def measures(view: View, at_s: float, share: float) -> dict[NodeId, NodeStats]:
    """n1 as if its tasks used so much of a processor since 0 s, the second one half; n2 is mute."""
    web, api = (
        next(t.id for t in view.tasks.values() if (t.service_name, t.slot) == (name, 1))
        for name in ("shop_web", "shop_api")
    )
    tasks: dict[str, TaskStats] = {
        web: TaskStats(cpu_ns=int(share * at_s * S), memory_bytes=10 * MIB, pids=3),
        api: TaskStats(cpu_ns=int(share / 2 * at_s * S), memory_bytes=30 * MIB, pids=1),
    }
    return {NodeId("idn1"): stats(100 + at_s, 50 + share * at_s * 2, tasks)}


def test_two_measures_become_percents() -> None:
    view = shop()
    looked = usage(view, measures(view, 0, 0.5), measures(view, 2, 0.5))
    assert [("n1", 50.0, 1024 * MIB), ("n2", None, None), ("n3", None, None)] == [
        (row["name"], row["cpu_percent"], row["memory_bytes"]) for row in looked.nodes.rows
    ]
    assert [
        ("shop_web.1", 50.0, 10 * MIB, 3),
        ("shop_api.1", 25.0, 30 * MIB, 1),
        ("shop_web.2", None, None, None),
    ] == [
        (row["name"], row["cpu_percent"], row["memory_bytes"], row["pids"])
        for row in looked.tasks.rows
    ]
    assert [("shop_web", 2, 50.0), ("shop_api", 1, 25.0)] == [
        (row["name"], row["running"], row["cpu_percent"]) for row in looked.services.rows
    ]
    by_memory = usage(view, {}, measures(view, 2, 0.5), "memory").tasks.rows
    assert ["shop_api.1", "shop_web.1", "shop_web.2"] == [row["name"] for row in by_memory]
    assert {None} == {row["cpu_percent"] for row in by_memory}, "one measure tells no share"
    by_name = usage(view, {}, {}, "name").tasks.rows
    assert ["shop_api.1", "shop_web.1", "shop_web.2"] == [row["name"] for row in by_name]


def test_a_counter_that_began_anew_is_no_negative_share() -> None:
    view = shop()
    looked = usage(view, measures(view, 3, 0.9), measures(view, 4, 0.1))
    assert looked.tasks.rows[0]["cpu_percent"] == 0.0


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr("meshswarm.cli.top.SNAPSHOT_S", 0.0)
    client = FakeClient(shop())
    asked: list[NodeId] = []

    async def answer(node_id: NodeId) -> NodeStats:
        asked.append(node_id)
        assert node_id != "idn3", "who is down is not asked"
        if node_id == "idn2":
            raise Unavailable("it does not answer")
        return measures(client.view, float(asked.count(node_id)), 0.5)[node_id]

    client.stats = answer  # type: ignore[attr-defined]
    return client


def test_in_a_pipe_it_prints_one_look(client: FakeClient, capsys: Capture) -> None:
    assert main(["top"], client.connect) == 0
    out, err = capsys.readouterr()
    assert "n1    ready  50.0%  2     1.0 GiB / 4.0 GiB  2" in out
    assert "shop_web  2/2      50.0%  10.0 MiB" in out
    assert "shop_web.2  n2    running  -      -" in out
    assert err.splitlines() == [
        "warning: n2 is ready and was not measured",
        "warning: n3 is down and was not measured",
    ]


def test_for_programs_it_is_one_document(client: FakeClient, capsys: Capture) -> None:
    assert main(["top", "-o", "json", "--sort", "name"], client.connect) == 0
    told = json.loads(capsys.readouterr().out)
    assert ["nodes", "services", "tasks"] == list(told)
    assert told["tasks"][0]["name"] == "shop_api.1"
    assert main(["top", "-o", "name"], client.connect) == 0
    assert "shop_web.1" in capsys.readouterr().out.split()


@pytest.mark.parametrize(("height", "more"), [(50, None), (16, "and 1 more")])
def test_a_screen_holds_what_it_has_room_for(height: int, more: str | None) -> None:
    view = shop()
    console = Console(width=100, height=height, file=(printed := io.StringIO()))
    console.print(drawn(usage(view, {}, measures(view, 2, 0.5)), height, 2.0))
    text = printed.getvalue()
    assert "3 nodes, 2 services, 3 tasks; every 2 s" in text
    assert (more in text) if more else ("more" not in text)


async def test_q_ends_it_and_the_terminal_is_as_it_was() -> None:
    ours, theirs = os.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with key_pressed(b"q", theirs) as pressed:
            os.write(ours, b"x")
            await asyncio.sleep(0)
            assert not pressed.is_set()
            os.write(ours, b"q")
            async with asyncio.timeout(10):
                await pressed.wait()
        assert before == termios.tcgetattr(theirs)
    finally:
        os.close(ours)
        os.close(theirs)
