"""The platform of a service's image, as the engine is asked for it: the real runtime and SDK over a
fake engine's socket.
"""

from pathlib import Path

import pytest

from meshswarm.agent.runtimes.docker_spec import is_for_platform
from meshswarm.model.task import Reason, TaskState
from tests.agent.engine_node import T2, Node, docker_task, wanted
from tests.support import fake_engine
from tests.support.fake_engine import FakeEngine, Json

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


async def test_the_platform_is_asked_for_when_pulling_and_creating(
    engine: FakeEngine, tmp_path: Path
) -> None:
    other = wanted(runs=docker_task(image="far:1", platform="linux/arm64"))
    engine.platforms["far:1"] = "linux/arm64"
    async with Node(engine, tmp_path).running(other) as node:
        await node.says(TaskState.RUNNING)
    assert [("/containers/create"), "/images/create", "/containers/create"] == [
        path for path, platform in engine.wishes if platform == "linux/arm64"
    ]


async def test_an_image_of_another_platform_is_pulled_anew_and_told_if_there_is_none(
    engine: FakeEngine, tmp_path: Path
) -> None:
    def pull(image: str) -> list[Json | float]:
        engine.platforms[image] = "linux/arm64"
        return [{"status": "Pulled"}]

    engine.pull = pull
    other = wanted(runs=docker_task(platform="linux/arm64"))
    async with Node(engine, tmp_path).running(other) as node:
        await node.says(TaskState.RUNNING)
    error = "no matching manifest for linux/s390x in the manifest list entries"
    engine.pull = lambda image: [{"error": error}]
    other = wanted("t2", runs=docker_task(platform="linux/s390x"))
    async with Node(engine, tmp_path).running(other) as node:
        status = await node.says(TaskState.REJECTED, Reason.IMAGE_NOT_FOUND, T2)
        assert (
            "image image:1 for linux/s390x is not on this node and cannot be pulled: " + error
        ) == status.message


async def test_an_engine_too_old_to_create_for_a_platform_is_not_asked_to(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_engine.VERSION, "ApiVersion", "1.40")
    async with Node(engine, tmp_path).running(
        wanted(runs=docker_task(platform="linux/amd64"))
    ) as node:
        await node.says(TaskState.RUNNING)
    assert [] == engine.wishes


@pytest.mark.parametrize(
    ("platform", "is_so"),
    [
        ("linux", True),
        ("linux/arm", True),
        ("linux/armv7l", True),
        ("linux/arm/v7", True),
        ("linux/arm/v6", False),
        ("linux/arm64", False),
        ("windows/arm", False),
    ],
)
def test_an_image_is_judged_by_all_that_a_platform_says(platform: str, is_so: bool) -> None:
    image = {"Os": "linux", "Architecture": "arm", "Variant": "v7"}
    assert is_so is is_for_platform(image, platform)
    del image["Variant"]
    assert is_so is is_for_platform(image, platform) or platform == "linux/arm/v6"
