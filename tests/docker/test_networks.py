"""Networks in a real engine: names resolve in them, and they come and go with their containers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve

from meshswarm.agent.runtimes.docker import DockerRuntime
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.ids import TaskId
from meshswarm.model.network import NetworkMode, NetworkUse
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import Reason
from meshswarm.store.assignments import Assignment
from tests.agent.cards import NODE, assignment
from tests.agent.ground import SLEEP, ended
from tests.docker.test_docker_runtime import DockerGround

pytestmark = [pytest.mark.docker, pytest.mark.timeout(90)]

SHOP = NetworkUse(name="demo_default", aliases=("other-name",))


class NetworkGround(DockerGround):
    """Also removes what is left of its networks."""

    def networks(self) -> list[str]:
        """The names of this cluster's networks in the engine."""
        mine = {"label": f"io.meshswarm.cluster={self.cluster}"}
        return sorted(str(each.name) for each in self.client.networks.list(filters=mine))

    def close(self) -> None:
        mine: dict[str, str | list[str] | bool] = {"label": f"io.meshswarm.cluster={self.cluster}"}
        for container in self.client.containers.list(all=True, filters=mine):
            container.remove(force=True, v=True)
        for name in self.networks():
            self.client.networks.get(name).remove()
        super().close()


@pytest.fixture
def ground() -> Iterator[NetworkGround]:
    ground = NetworkGround()
    yield ground
    ground.close()


def of(task_id: str, service: str, runs: TaskSpec) -> Assignment:
    return assignment(task_id, service=service, runs=runs, stack="demo")


@asynccontextmanager
async def sleeping(
    runtime: Runtime, ground: DockerGround, **changes: object
) -> AsyncIterator[Assignment]:
    """A task of service db that runs, and is cleared away at the end."""
    made = of("t1", "db", ground.spec(SLEEP, **changes))
    await runtime.prepare(made)
    await runtime.start(made.task.id)
    yield made
    await runtime.stop(made.task.id, kill=True)
    await ended(runtime, made.task.id)
    await runtime.remove(made.task.id)


async def output(runtime: Runtime, made: Assignment) -> list[str]:
    """What a task writes until it ends."""
    await runtime.prepare(made)
    await runtime.start(made.task.id)
    await ended(runtime, made.task.id)
    return [
        line.text
        async for lines in runtime.logs(made.task.id, follow=False, tail=None, since_ms=0)
        for line in lines
    ]


async def test_tasks_of_a_stack_find_each_other_as_with_compose(ground: NetworkGround) -> None:
    async with ground.running() as runtime, sleeping(runtime, ground, networks=(SHOP,)) as db:
        names = ("db", "demo_db", "demo-db-1", "other-name", db.task.name)
        shell = "; ".join(f"ping -c1 -w5 {name} >/dev/null && echo {name}" for name in names)
        asks = of("t2", "web", ground.spec(shell, networks=(evolve(SHOP, aliases=()),)))
        assert list(names) == await output(runtime, asks)
        await runtime.remove(TaskId("t2"))


async def test_a_network_comes_with_the_first_task_and_goes_with_the_last(
    ground: NetworkGround,
) -> None:
    second = NetworkUse(name="demo_back", internal=True)
    assert [] == ground.networks()
    async with ground.running() as runtime:
        assert isinstance(runtime, DockerRuntime)
        made = of("t1", "db", ground.spec(SLEEP, networks=(SHOP, second)))
        await runtime.prepare(made)
        assert [f"demo_back.{NODE}", f"demo_default.{NODE}"] == ground.networks()
        await runtime._networks.sweep()  # as it does now and then
        assert 2 == len(ground.networks()), "a container that is to start needs them"
        await runtime.start(TaskId("t1"))
        back = ground.client.networks.get(f"demo_back.{NODE}")
        assert (True, "demo_back") == (
            back.attrs["Internal"],
            back.attrs["Labels"]["io.meshswarm.network"],
        )
        await runtime.stop(TaskId("t1"), kill=True)
        await ended(runtime)
        await runtime._networks.sweep()
        assert [] == ground.networks()


async def test_what_is_not_ours_is_left_alone(ground: NetworkGround) -> None:
    foreign = ground.client.networks.create(f"taken.{NODE}")
    try:
        async with ground.running() as runtime:
            assert isinstance(runtime, DockerRuntime)
            made = of("t1", "db", ground.spec(SLEEP, networks=(NetworkUse(name="taken"),)))
            with pytest.raises(RuntimeFailure, match="is not ours") as failure:
                await runtime.prepare(made)
            assert Reason.NETWORK_FAILED is failure.value.reason
            await runtime._networks.sweep()
            foreign.reload()
            use = NetworkUse(name=f"taken.{NODE}", external=True)
            runs = ground.spec("exit 0", networks=(use,))
            assert [] == await output(runtime, of("t2", "db", runs))
            use = NetworkUse(name="no-such-network", external=True)
            with pytest.raises(RuntimeFailure, match="docker network create no-such-network"):
                await runtime.prepare(of("t3", "db", ground.spec(SLEEP, networks=(use,))))
    finally:
        foreign.remove()


async def test_a_container_may_have_no_network(ground: NetworkGround) -> None:
    async with ground.running() as runtime:
        runs = ground.spec("ls /sys/class/net", network_mode=NetworkMode.NONE)
        assert ["lo"] == await output(runtime, of("t1", "db", runs))


async def test_a_container_may_have_the_hosts_network(ground: NetworkGround) -> None:
    """It is not started: an engine keeps the host's namespace mounted from then on."""
    async with ground.running() as runtime:
        runs = ground.spec(SLEEP, network_mode=NetworkMode.HOST)
        held = await runtime.prepare(of("t1", "db", runs))
        made = ground.client.containers.get(held.runtime_id)
        assert "host" == made.attrs["HostConfig"]["NetworkMode"]
