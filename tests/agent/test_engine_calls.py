"""What a task costs the engine: each call is a tenth of what an engine can do in a second."""

from pathlib import Path

import pytest

from meshswarm.agent.runtimes import docker
from meshswarm.model.task import DesiredState, Reason, TaskState
from tests.agent.cards import upsert
from tests.agent.engine_node import NAME, T1, T2, Node, desiring, wanted
from tests.support.fake_engine import FakeEngine

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


async def test_an_image_that_is_there_is_asked_for_nowhere(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
    assert 0 == engine.count("POST /images/create")
    assert 0 == engine.count("GET /images/.*"), "creating tells whether the image is missing"


async def test_what_we_do_is_not_looked_up_again_because_an_event_tells_it(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "RELIST_S", 1_000.0)
    async with Node(engine, tmp_path).running() as node:
        await node.until(lambda: node.runtime.listed == 2)
        node.supervisor.told(upsert(wanted()))
        await node.says(TaskState.RUNNING)
        assert 1 == engine.count("GET /containers/.*/json")
        engine.containers[NAME].end(3)
        status = await node.says(TaskState.FAILED, Reason.EXITED)
        assert 3 == status.exit_code
        assert 2 == engine.count("GET /containers/.*/json")


async def test_a_replica_costs_the_engine_five_calls_from_its_creation_to_its_removal(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "RELIST_S", 1_000.0)
    async with Node(engine, tmp_path).running() as node:
        await node.until(lambda: node.runtime.listed == 2)
        before = len(engine.asked)
        node.supervisor.told(upsert(wanted()))
        await node.says(TaskState.RUNNING)
        node.supervisor.told(upsert(desiring(wanted(), DesiredState.REMOVE)))
        await node.until(lambda: {} == engine.containers)
    verbs = [asked.replace(f"{1:064x}", "ID") for asked in engine.asked[before:]]
    assert [
        "POST /containers/create",
        "POST /containers/ID/start",
        "GET /containers/ID/json",
        "POST /containers/ID/kill",
        "DELETE /containers/ID",
    ] == verbs


async def test_the_end_of_a_container_that_we_removed_is_no_news_however_late_it_is_told(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "RELIST_S", 1_000.0)
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        first = engine.containers[NAME]
        node.supervisor.told(upsert(desiring(wanted(), DesiredState.REMOVE)))
        await node.until(lambda: node.runtime.board.look(T1) is None)
        engine.tell("destroy", first)
        node.supervisor.told(upsert(wanted("t2")))
        await node.says(TaskState.RUNNING, task_id=T2)
    assert 1 == engine.count(f"GET /containers/{first.id}/json"), "once, when it ran"
