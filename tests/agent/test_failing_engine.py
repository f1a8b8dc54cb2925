"""A failing engine: every task gets on, or says in a word why not, and hinders no other one.

The engine is a fake behind a real socket; supervisor, runtime and the SDK are the real ones. What
takes tens of seconds by default takes less here.
"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshswarm.agent import plan
from meshswarm.agent.card import HeldState
from meshswarm.agent.files_root import FilesRoot
from meshswarm.agent.runtimes import docker, docker_engine
from meshswarm.agent.runtimes.docker import DockerRuntime
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.ids import ClusterId, TaskId
from meshswarm.model.task import DesiredState, Reason, TaskState
from tests.agent.cards import NODE, upsert
from tests.agent.engine_node import NAME, T1, T2, Node, desiring, wanted
from tests.support.fake_engine import FakeEngine

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is repeated is repeated soon; nothing that is answered is given up."""
    monkeypatch.setattr(docker, "RELIST_S", 0.2)
    monkeypatch.setattr(docker, "HANGS_S", 0.1)
    monkeypatch.setattr(docker, "PULL_IS_SLOW_S", 0.1)
    monkeypatch.setattr(docker, "RECONNECT_FIRST_S", 0.05)
    monkeypatch.setattr(plan, "RETRY_FIRST_MS", 50)
    monkeypatch.setattr(plan, "RETRY_MAX_MS", 200)


@pytest.fixture
def _one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is waited for longer; only for tests of those that hang."""
    monkeypatch.setattr(docker_engine, "QUESTION_S", 1.0)
    monkeypatch.setattr(docker_engine, "DEED_S", 1.0)


# --- hanging --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_one_second")
async def test_calls_that_hang_hold_up_no_other_task(engine: FakeEngine, tmp_path: Path) -> None:
    engine.hang("POST", r"/containers/create\?name=demo_web.[12]\.")
    hanging = (wanted("t1"), wanted("t2"))
    async with Node(engine, tmp_path, parallel=2).running(*hanging) as node:
        await node.until(lambda: 2 == engine.count("POST /containers/create"))
        node.supervisor.told(upsert(wanted("t3"), wanted("t4")))
        await node.says(TaskState.RUNNING, task_id=TaskId("t3"))
        await node.says(TaskState.RUNNING, task_id=TaskId("t4"))
        status = await node.says(TaskState.PREPARING, Reason.RUNTIME_UNAVAILABLE)
        assert "the Docker engine gave no answer within 1 s" == status.message
        engine.release()
        await node.says(TaskState.RUNNING, task_id=T1)
        await node.says(TaskState.RUNNING, task_id=T2)


@pytest.mark.usefixtures("_one_second")
async def test_a_creation_whose_answer_was_lost_is_found_and_not_repeated(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.hang("POST", "/containers/create", times=1, after=True)
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        assert [NAME] == list(engine.containers)


@pytest.mark.usefixtures("_one_second")
async def test_a_call_that_hangs_for_good_is_given_up(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PATIENCE_MS", 1_000)
    engine.hang("POST", "/start")
    async with Node(engine, tmp_path).running(wanted(), wanted("t2")) as node:
        await node.says(TaskState.REJECTED, Reason.RUNTIME_UNAVAILABLE)
        assert 2 <= engine.count(f"POST /containers/{1:064x}/start"), "tried a second time"
        await node.until(lambda: {} == engine.containers)


@pytest.mark.usefixtures("_one_second")
async def test_an_engine_that_answers_nothing_is_noticed_and_its_tasks_are_given_up(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PATIENCE_MS", 1_000)
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        engine.hang_all()
        status = await node.says(TaskState.RUNNING, Reason.RUNTIME_UNAVAILABLE)
        assert "the Docker engine gave no answer within 1 s" == status.message
        node.supervisor.told(upsert(wanted("t2")))
        await node.says(TaskState.FAILED, Reason.RUNTIME_UNAVAILABLE)
        await node.says(TaskState.REJECTED, Reason.RUNTIME_UNAVAILABLE, T2)
        engine.release()
        await node.until(lambda: "exited" == engine.containers[NAME].state)
        assert ["SIGTERM"] == engine.containers[NAME].signals, "another one has its place now"


@pytest.mark.usefixtures("_one_second")
async def test_an_engine_that_answers_again_in_time_keeps_its_tasks(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        running = await node.says(TaskState.RUNNING)
        engine.hang_all()
        await node.says(TaskState.RUNNING, Reason.RUNTIME_UNAVAILABLE)
        node.supervisor.told(upsert(wanted("t2")))
        await node.says(TaskState.PREPARING, Reason.RUNTIME_UNAVAILABLE, T2)
        engine.release()
        await node.says(TaskState.RUNNING, task_id=T2)
        await node.until(lambda: node.said[T1][-1] == running)


async def test_hanging_calls_keep_nobody_from_ending(engine: FakeEngine, tmp_path: Path) -> None:
    engine.hang("POST", "/containers/create")
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.until(lambda: 1 == engine.count("POST /containers/create"))
    waiting = [t for t in threading.enumerate() if t.name.startswith("docker") and not t.daemon]
    assert [] == waiting


@pytest.mark.usefixtures("_one_second")
async def test_one_container_that_cannot_be_inspected_hides_no_other(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted(), wanted("t2")) as node:
        await node.says(TaskState.RUNNING, task_id=T1)
        await node.says(TaskState.RUNNING, task_id=T2)
        engine.hang("GET", f"/containers/{engine.containers[NAME].id}/json")
        engine.containers[NAME].end(3)
        engine.containers["demo_web.2.t2"].end(4)
        other = await node.says(TaskState.FAILED, Reason.EXITED, T2)
        assert 4 == other.exit_code
        status = await node.says(TaskState.FAILED, Reason.EXITED, T1)
        assert 3 == status.exit_code, "the list tells it as well"


@pytest.mark.usefixtures("_one_second")
async def test_an_agent_that_begins_believes_the_list_where_inspecting_hangs(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
    engine.hang("GET", f"/containers/{engine.containers[NAME].id}/json")
    async with Node(engine, tmp_path).running(wanted(state=TaskState.RUNNING)) as node:
        await node.until(lambda: node.runtime.board.look(T1))
        held = node.runtime.board.look(T1)
        assert held is not None
        assert HeldState.RUNNING is held.state
    assert TaskState.RUNNING is node.supervisor.cards[T1].status.state


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "message", "reason"),
    [
        ("create", "server error", Reason.CREATE_FAILED),
        ("start", "server error", Reason.START_FAILED),
        (
            "create",
            "mkdir /var/lib/docker/overlay2/1: no space left on device",
            Reason.DISK_FULL,
        ),
        (
            "start",
            "failed to create task for container: mkdir /run/x: no space left on device",
            Reason.DISK_FULL,
        ),
    ],
)
async def test_a_refusal_has_a_reason_and_leaves_nothing(
    engine: FakeEngine, tmp_path: Path, verb: str, message: str, reason: Reason
) -> None:
    engine.fail("POST", f"/{verb}", 500, message)
    async with Node(engine, tmp_path).running(wanted()) as node:
        status = await node.says(TaskState.REJECTED, reason)
        assert message.split(": ", 1)[-1] in status.message
        gone = desiring(wanted(state=TaskState.REJECTED), DesiredState.REMOVE)
        node.supervisor.told(upsert(gone))
        await node.until(lambda: {} == engine.containers)


async def test_errors_while_stopping_and_removing_are_tried_again(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        engine.fail("POST", "/kill", 500, "cannot kill", times=2)
        engine.fail("DELETE", "/containers", 500, "device or resource busy", times=2)
        node.supervisor.told(upsert(desiring(wanted(), DesiredState.REMOVE)))
        status = await node.says(TaskState.RUNNING, Reason.STOP_FAILED)
        assert "cannot kill" == status.message
        await node.says(TaskState.SHUTDOWN, Reason.STOPPED)
        await node.until(lambda: {} == engine.containers)
        assert 3 == engine.count("DELETE /containers/.*")


async def test_errors_while_looking_end_nothing(engine: FakeEngine, tmp_path: Path) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        running = await node.says(TaskState.RUNNING)
        engine.fail("GET", "/containers", 500, "server error")
        status = await node.says(TaskState.RUNNING, Reason.RUNTIME_UNAVAILABLE)
        assert "server error" == status.message
        engine.release()
        await node.until(lambda: node.said[T1][-1] == running)


async def test_a_leftover_of_the_same_task_is_taken_over(
    engine: FakeEngine, tmp_path: Path
) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
    leftover = engine.containers[NAME]
    async with Node(engine, tmp_path / "new").running(wanted()) as node:
        status = await node.says(TaskState.RUNNING)
        assert leftover.id == status.runtime_id


async def test_a_name_that_is_not_ours_is_a_refusal_and_stays_untouched(
    engine: FakeEngine, tmp_path: Path
) -> None:
    other = DockerRuntime(
        cluster_id=ClusterId("other"),
        node_id=NODE,
        host=engine.url,
        parallel=1,
        log_bytes=1 << 20,
        files=FilesRoot(tmp_path / "other", NODE),
    )
    await other.prepare(wanted())
    engine.containers[NAME].start()
    theirs = engine.containers[NAME]
    engine.fail("GET", "/containers/json", 500, "the list of one cluster lacks the other's")
    node = Node(engine, tmp_path)
    with pytest.raises(RuntimeFailure) as failure:
        await node.runtime.prepare(wanted())
    assert Reason.CREATE_FAILED is failure.value.reason
    assert (
        f"a container named {NAME} is there already, and is not ours: `docker rm {theirs.id[:12]}` "
        "removes it"
    ) == failure.value.message
    assert ([], "running") == (theirs.signals, theirs.state)


async def test_a_name_that_is_taken_by_nothing_is_waited_for(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.fail("POST", "/containers/create", 409, "Conflict. The name is in use", times=2)
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.PREPARING, Reason.RUNTIME_UNAVAILABLE)
        await node.says(TaskState.RUNNING)


# --- images ---------------------------------------------------------------------------------------


async def test_slow_pulls_hold_up_nobody_and_are_told(engine: FakeEngine, tmp_path: Path) -> None:
    is_over = threading.Event()

    def pull(image: str) -> Iterator[dict[str, str] | float]:
        while image.startswith("slow") and not is_over.is_set():
            yield {"status": "Downloading"}
            yield 0.05

    engine.pull = pull
    slow = [wanted(f"t{n}", f"slow{n}:1") for n in (1, 2)]
    async with Node(engine, tmp_path).running(*slow) as node:
        status = await node.says(TaskState.PREPARING, Reason.PULLING_IMAGE)
        assert "the image slow1:1 is being pulled" == status.message
        node.supervisor.told(upsert(wanted("t3"), wanted("t4", "quick:1")))
        await node.says(TaskState.RUNNING, task_id=TaskId("t3"))
        await node.says(TaskState.RUNNING, task_id=TaskId("t4"))
        is_over.set()
        await node.says(TaskState.RUNNING, task_id=T1)
        await node.says(TaskState.RUNNING, task_id=T2)


async def test_a_pull_that_stalls_is_given_up(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "STALL_S", 0.5)
    engine.pull = lambda image: [{"status": "Downloading"}, 2.0]
    async with Node(engine, tmp_path).running(wanted(image="far/away:1")) as node:
        status = await node.says(TaskState.REJECTED, Reason.PULL_FAILED)
        assert (
            "image far/away:1 is not on this node and cannot be pulled: "
            "its registry sent nothing for 0.5 s"
        ) == status.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("manifest for no/such:1 not found: manifest unknown", Reason.IMAGE_NOT_FOUND),
        ("write /var/lib/docker/tmp/x: no space left on device", Reason.DISK_FULL),
        ("unexpected EOF", Reason.PULL_FAILED),
    ],
)
async def test_an_image_that_cannot_be_had_is_a_refusal(
    engine: FakeEngine, tmp_path: Path, error: str, reason: Reason
) -> None:
    engine.pull = lambda image: [{"status": "Pulling"}, {"error": error}]
    async with Node(engine, tmp_path).running(wanted(image="no/such:1")) as node:
        status = await node.says(TaskState.REJECTED, reason)
        assert "no/such:1 is not on this node" in status.message


# --- ends and events ------------------------------------------------------------------------------


async def test_a_container_that_ignores_its_signal_is_killed(
    engine: FakeEngine, tmp_path: Path
) -> None:
    engine.stubborn = True
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        container = engine.containers[NAME]
        node.supervisor.told(upsert(desiring(wanted(), DesiredState.SHUTDOWN)))
        status = await node.says(TaskState.SHUTDOWN, Reason.STOPPED)
        assert 137 == status.exit_code
        assert ["SIGTERM", "SIGKILL"] == container.signals


async def test_what_happens_while_the_events_are_cut_is_found(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "RELIST_S", 1_000.0)
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        engine.cut_events()
        engine.containers[NAME].end(5)
        status = await node.says(TaskState.FAILED, Reason.EXITED)
        assert 5 == status.exit_code


async def test_an_end_that_no_event_tells_is_found(engine: FakeEngine, tmp_path: Path) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        await node.says(TaskState.RUNNING)
        container = engine.containers[NAME]
        container.state, container.code = "exited", 6
        status = await node.says(TaskState.FAILED, Reason.EXITED)
        assert 6 == status.exit_code


async def test_an_engine_that_restarts_keeps_what_runs(engine: FakeEngine, tmp_path: Path) -> None:
    async with Node(engine, tmp_path).running(wanted()) as node:
        running = await node.says(TaskState.RUNNING)
        engine.stop()
        await node.says(TaskState.RUNNING, Reason.RUNTIME_UNAVAILABLE)
        engine.start()
        await node.until(lambda: node.said[T1][-1] == running)
        assert 1 == engine.count("POST /containers/.*/start")
