"""Draining, pausing and rebalancing from the command line: what is proposed, waited for, told."""

import asyncio
import json

import pytest
from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.cli.waiting import Goal, is_reached, progress
from meshswarm.control.steps import belongs_on
from meshswarm.control.why import why
from meshswarm.ids import NodeId
from meshswarm.model.node import Availability
from meshswarm.model.task import TaskState
from meshswarm.store.commands import Command, MoveTasks, PutService, UpdateNode
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View
from tests.support.fake_cluster import SINCE_MS, FakeClient, cluster_of, service, then, with_task

Capture = pytest.CaptureFixture[str]


def shop(*places: str, nodes: tuple[str, ...] = ("n1", "n2")) -> View:
    """A service with a running task on each of these nodes."""
    view = then(cluster_of(*nodes), PutService(spec=service("web", len(places))))
    for slot, name in enumerate(places, 1):
        view = with_task(view, "web", slot, name, TaskState.RUNNING)
    return view


def test_a_drain_is_proposed_with_its_deadline() -> None:
    client = FakeClient(shop("n1"))
    code = main(["node", "drain", "n1", "--deadline", "10m", "--no-wait"], connect=client.connect)
    assert 0 == code
    n1 = client.view.node_named("n1")
    assert n1 is not None
    assert (Availability.DRAIN, n1.drain_by_ms) == (n1.availability, client.view.clock_ms + 600_000)
    assert [UpdateNode] == [type(one) for one in client.proposed]


def test_pause_and_activate_do_not_wait(capsys: Capture) -> None:
    client = FakeClient(shop("n1"))
    for word, found in (("pause", Availability.PAUSE), ("activate", Availability.ACTIVE)):
        assert 0 == main(["node", word, "n1", "n2"], connect=client.connect)
        assert {found} == {node.availability for node in client.view.nodes.values()}
    assert "n2" in capsys.readouterr().out


def test_several_nodes_are_drained_at_once_or_their_tasks_move_from_one_to_the_other() -> None:
    client, waiting = FakeClient(shop("n1")), set[NodeId]()
    all_wait = asyncio.Event()
    propose = client.propose

    async def when_all_are_asked(command: Command) -> Outcome:
        assert isinstance(command, UpdateNode)
        waiting.add(command.node_id)
        if len(waiting) == 2:
            all_wait.set()
        async with asyncio.timeout(5):
            await all_wait.wait()
        return await propose(command)

    client.propose = when_all_are_asked  # type: ignore[method-assign]
    assert 0 == main(["node", "drain", "n1", "n2", "--no-wait"], connect=client.connect)
    assert {Availability.DRAIN} == {node.availability for node in client.view.nodes.values()}


def test_a_node_of_that_name_must_be_there(capsys: Capture) -> None:
    client = FakeClient(shop("n1"))
    assert 5 == main(["node", "drain", "n7"], connect=client.connect)
    assert "there is no node 'n7'" in capsys.readouterr().err
    assert 2 == main(["node", "drain", "n1", "--deadline", "soon"], connect=client.connect)
    assert [] == client.proposed


def test_a_drain_is_waited_for_until_the_node_is_empty() -> None:
    view = shop("n1", "n2")
    n1 = view.node_named("n1")
    assert n1 is not None
    view = then(view, UpdateNode(node_id=n1.id, availability=Availability.DRAIN))
    goal = Goal(empty=frozenset({n1.id}), now_ms=view.clock_ms)
    (left,) = progress(view, goal)
    assert ("web.1", "still", "n1") == (left.name, left.state, left.node)
    assert is_reached(progress(shop("n2", "n2"), goal))


def test_why_tells_what_keeps_a_task_on_a_drained_node() -> None:
    view = shop("n1", nodes=("n1",))
    (n1,) = view.nodes.values()
    drain = UpdateNode(node_id=n1.id, availability=Availability.DRAIN, drain_s=60)
    view = then(view, drain)
    web = view.service_named("web")
    assert web is not None
    assert not belongs_on(web, view.nodes[n1.id])
    report = why(view, web, view.clock_ms)
    assert report.summary[1:] == (
        "web.1 is to leave n1, which is drained: no suitable node: 1 of 1 is drained; "
        "it goes in 60 s regardless",
    )


def test_a_plan_is_shown_and_nothing_changed(capsys: Capture) -> None:
    client = FakeClient(shop("n1", "n1", "n1", "n1"))
    assert 0 == main(["rebalance", "--plan", "-o", "json"], connect=client.connect)
    rows = json.loads(capsys.readouterr().out)
    assert [("web.4", "n1", "n2"), ("web.3", "n1", "n2")] == [
        (row["name"], row["from"], row["to"]) for row in rows
    ]
    assert [] == client.proposed


def test_rebalancing_marks_the_tasks_of_the_plan() -> None:
    client = FakeClient(shop("n1", "n1", "n1", "n1"))
    assert 0 == main(["rebalance", "--detach"], connect=client.connect)
    (command,) = client.proposed
    assert isinstance(command, MoveTasks)
    assert 2 == len(command.task_ids) == sum(one.leaves for one in client.view.tasks.values())


def test_a_balanced_cluster_says_so(capsys: Capture) -> None:
    client = FakeClient(evolve(shop("n1", "n2"), clock_ms=SINCE_MS))
    assert 0 == main(["rebalance"], connect=client.connect)
    assert "nothing would move" in capsys.readouterr().err
