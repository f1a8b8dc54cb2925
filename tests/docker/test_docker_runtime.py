"""Containers in a real engine: the contract, and what only an engine promises."""

import asyncio
import gc
import http.server
import os
import socket
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from meshswarm.agent.card import HeldState
from meshswarm.agent.runtimes.child import TIMED_OUT
from meshswarm.agent.runtimes.docker import MAX_STREAMS, DockerRuntime
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.ids import ClusterId, TaskId
from meshswarm.model.file import FileKind
from meshswarm.model.network import Port
from meshswarm.model.resources import Resources
from meshswarm.model.service import HealthCheck, RuntimeKind, TaskSpec
from meshswarm.model.task import Health, Reason
from meshswarm.model.volume import Mount, MountKind
from tests.agent.cards import NODE, assignment
from tests.agent.ground import SLEEP, T1, Ground, ended, until
from tests.agent.runtime_contract import RealRuntimeContract
from tests.support.docker_engine import IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(60)]

HOST = "unix:///var/run/docker.sock"


class DockerGround(Ground):
    """A cluster of its own in the engine, so that tests never see each other."""

    def __init__(self, host: str = "") -> None:
        self.cluster = ClusterId(f"test-{uuid4().hex[:8]}")
        self.host = host
        self.client = docker.from_env(use_context=False)

    def runtime(self) -> DockerRuntime:
        return DockerRuntime(
            cluster_id=self.cluster,
            node_id=NODE,
            host=self.host,
            parallel=4,
            log_bytes=1 << 20,
            files=self.files_root,
        )

    def spec(self, shell: str, **changes: object) -> TaskSpec:
        return self.made(command=("/bin/sh", "-c", shell), **changes)

    def made(self, **changes: object) -> TaskSpec:
        return TaskSpec(**{"runtime": RuntimeKind.DOCKER, "image": IMAGE} | changes)  # type: ignore[arg-type]  # tests name real fields

    def target(self, name: str) -> str:
        return f"/run/files/{name}"

    def seen_at(self, kind: FileKind, name: str) -> str:
        return self.target(name)

    def close(self) -> None:
        self.forget_files()
        mine: dict[str, str | list[str] | bool] = {"label": f"io.meshswarm.cluster={self.cluster}"}
        for container in self.client.containers.list(all=True, filters=mine):
            container.remove(force=True, v=True)
        for volume in self.client.volumes.list(filters={"label": f"test={self.cluster}"}):
            volume.remove()
        self.client.close()


@pytest.fixture
def ground() -> Iterator[DockerGround]:
    ground = DockerGround()
    yield ground
    ground.close()


@pytest.fixture
def _collected() -> Iterator[None]:
    """The SDK leaves a socket that it cannot connect to the collector, which warns."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class TestDockerRuntime(RealRuntimeContract):
    pass


async def refusal(ground: DockerGround, runs: TaskSpec) -> RuntimeFailure:
    """Why the engine would not prepare or start it."""
    async with ground.running() as runtime:
        with pytest.raises(RuntimeFailure) as failure:
            await started(runtime, runs)
        return failure.value


async def started(runtime: Runtime, runs: TaskSpec) -> str:
    """The id of a started container."""
    await runtime.prepare(assignment(runs=runs))
    return (await runtime.start(T1)).runtime_id


async def test_a_container_has_our_name_and_labels(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        made = ground.spec(SLEEP, labels={"role": "test"})
        container = ground.client.containers.get(await started(runtime, made))
        assert "demo_web.1.t1" == container.name
        assert {
            "role": "test",
            "io.meshswarm.cluster": ground.cluster,
            "io.meshswarm.node": NODE,
            "io.meshswarm.service": "demo_web",
            "io.meshswarm.service_id": "web",
            "io.meshswarm.task": "t1",
            "io.meshswarm.slot": "1",
            "io.meshswarm.revision": "1",
            "io.meshswarm.fencing": "1.1",
        } == container.labels


async def test_nothing_without_our_labels_is_seen(ground: DockerGround) -> None:
    other = DockerGround()
    try:
        async with other.running() as runtime:
            await runtime.prepare(assignment("t9", runs=other.spec(SLEEP)))
            async with ground.running() as mine:
                assert () == mine.board.all()
    finally:
        other.close()


async def test_a_foreign_container_of_the_same_name_is_left_alone(ground: DockerGround) -> None:
    foreign = ground.client.containers.create(IMAGE, ["true"], name="demo_web.1.foreign")
    try:
        async with ground.running() as runtime:
            with pytest.raises(RuntimeFailure, match="not ours") as failure:
                await runtime.prepare(assignment("foreign", runs=ground.spec(SLEEP)))
            assert Reason.CREATE_FAILED is failure.value.reason
            assert () == runtime.board.all()
        foreign.reload()
    finally:
        foreign.remove()


async def test_a_container_that_somebody_kills_or_removes_is_noticed(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        container = ground.client.containers.get(await started(runtime, ground.spec(SLEEP)))
        container.kill()
        end = await ended(runtime)
        assert end.exit is not None
        assert "SIGKILL" == end.exit.signal_name
        container.remove()
        await until(runtime, T1, lambda held: held is None)


async def test_a_container_that_somebody_starts_again_is_noticed(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        container = ground.client.containers.get(await started(runtime, ground.spec(SLEEP)))
        container.kill()
        await ended(runtime)
        container.start()
        await until(runtime, T1, lambda h: h is not None and h.state is HeldState.RUNNING)


async def test_running_out_of_memory_is_said(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        hungry = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo ${#x}"
        limits = Resources(memory_bytes=16 << 20, pids=20, nano_cpus=500_000_000)
        container = await started(runtime, ground.spec(hungry, limits=limits))
        end = await ended(runtime)
        assert end.exit is not None
        assert end.exit.out_of_memory
        host = ground.client.api.inspect_container(container)["HostConfig"]
        assert (16 << 20, 20, 500_000_000) == (host["Memory"], host["PidsLimit"], host["NanoCpus"])
        assert "no" == host["RestartPolicy"]["Name"]
        assert {"max-size": str(1 << 20), "max-file": "2"} == host["LogConfig"]["Config"]


async def test_ports_are_published_and_said(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        ports = (Port(target=80, host_ip="127.0.0.1"),)
        await runtime.prepare(assignment(runs=ground.spec(SLEEP, ports=ports)))
        held = await runtime.start(T1)
        (published,) = held.published
        assert published.startswith("127.0.0.1:")
        assert published.endswith("->80/tcp")


async def test_a_taken_port_is_named(ground: DockerGround) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = (Port(target=80, published=port, host_ip="127.0.0.1"),)
        failure = await refusal(ground, ground.spec(SLEEP, ports=ports))
    assert Reason.PORT_IN_USE is failure.reason
    assert str(port) in failure.message


async def test_a_port_that_another_container_has_is_named(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        await runtime.prepare(
            assignment(runs=ground.spec(SLEEP, ports=(Port(target=80, host_ip="127.0.0.1"),)))
        )
        port = int((await runtime.start(T1)).published[0].split(":")[1].split("-")[0])
        ports = (Port(target=80, published=port, host_ip="127.0.0.1"),)
        await runtime.prepare(assignment("t2", runs=ground.spec(SLEEP, ports=ports)))
        with pytest.raises(RuntimeFailure) as failure:
            await runtime.start(TaskId("t2"))
        assert Reason.PORT_IN_USE is failure.value.reason


async def test_what_is_mounted_is_there(ground: DockerGround, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host\n")
    volume = f"test_{ground.cluster}"
    mounts = (
        Mount(kind=MountKind.BIND, source=str(tmp_path), target="/bound", read_only=True),
        Mount(kind=MountKind.BIND, source=str(tmp_path / "made"), target="/made"),
        Mount(kind=MountKind.BIND, source=str(tmp_path), target="/strict", create_host_path=False),
        Mount(
            kind=MountKind.VOLUME,
            source=volume,
            target="/kept",
            labels={"test": ground.cluster},
            driver_options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
        ),
        Mount(kind=MountKind.VOLUME, target="/anonymous"),
        Mount(kind=MountKind.TMPFS, target="/quick", size_bytes=1 << 20, mode=0o1777),
    )
    shell = (
        "cat /bound/given /strict/given; touch /made/x /kept/x /anonymous/x /quick/x && echo all"
    )
    async with ground.running() as runtime:
        container = await started(runtime, ground.spec(shell, mounts=mounts))
        end = await ended(runtime)
        assert end.exit is not None
        assert 0 == end.exit.code
        assert (tmp_path / "made" / "x").exists()
        found = ground.client.volumes.get(volume)
        assert {"test": ground.cluster} == found.attrs["Labels"]
        assert "size=1m" == found.attrs["Options"]["o"]
        points = ground.client.api.inspect_container(container)["Mounts"]
        (anonymous,) = (p["Name"] for p in points if p["Destination"] == "/anonymous")
        await runtime.remove(T1)
        names = {v.name for v in ground.client.volumes.list()}
        assert volume in names
        assert anonymous not in names


async def test_a_path_that_is_not_there_is_named(ground: DockerGround) -> None:
    mount = Mount(kind=MountKind.BIND, source="/no/such/path", target="/x", create_host_path=False)
    failure = await refusal(ground, ground.spec(SLEEP, mounts=(mount,)))
    assert Reason.MOUNT_FAILED is failure.reason
    assert "/no/such/path" in failure.message


async def test_an_external_volume_must_exist(ground: DockerGround) -> None:
    mount = Mount(kind=MountKind.VOLUME, source="no-such-volume", target="/x", external=True)
    failure = await refusal(ground, ground.spec(SLEEP, mounts=(mount,)))
    assert Reason.MOUNT_FAILED is failure.reason
    assert "no-such-volume" in failure.message


@pytest.mark.slow  # the engine looks for the plugin for 15 s
async def test_an_unknown_volume_driver_is_named(ground: DockerGround) -> None:
    mount = Mount(kind=MountKind.VOLUME, source="v", target="/x", driver="no-such-driver")
    failure = await refusal(ground, ground.spec(SLEEP, mounts=(mount,)))
    assert Reason.MOUNT_FAILED is failure.reason


async def test_an_unknown_user_is_named(ground: DockerGround) -> None:
    failure = await refusal(ground, ground.spec(SLEEP, user="no-such-user"))
    assert Reason.START_FAILED is failure.reason
    assert "no-such-user" in failure.message


async def test_user_directory_and_signal_reach_the_container(ground: DockerGround) -> None:
    runs = ground.spec(
        'trap "exit 7" USR1; echo "$(id -u) $(pwd)"; while :; do sleep 0.05; done',
        user="65534",
        working_dir="/tmp",
        stop_signal="SIGUSR1",
        stop_grace_period_s=2.5,
    )
    async with ground.running() as runtime:
        await started(runtime, runs)
        async for lines in runtime.logs(T1, follow=True, tail=None, since_ms=0):
            assert "65534 /tmp" == lines[0].text
            assert lines[0].at_ms is not None
            break
        await runtime.stop(T1, kill=False)
        end = await ended(runtime)
        assert end.exit is not None
        assert 7 == end.exit.code
        assert 3.0 == end.grace_s


async def test_the_entrypoint_takes_the_command_as_arguments(ground: DockerGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, ground.made(entrypoint=("/bin/echo", "said"), command=("so",)))
        await ended(runtime)
        lines = [g async for g in runtime.logs(T1, follow=False, tail=None, since_ms=0)]
        assert "said so" == lines[0][0].text


async def test_health_comes_from_the_engine(ground: DockerGround) -> None:
    check = HealthCheck(
        test=("CMD", "/bin/sh", "-c", "echo not yet; exit 3"), interval_s=0.5, retries=2
    )
    async with ground.running() as runtime:
        await started(runtime, ground.spec(SLEEP, healthcheck=check))
        unwell = await until(
            runtime, T1, lambda held: held is not None and held.health is Health.UNHEALTHY
        )
        assert unwell is not None
        assert "not yet" == unwell.health_message


@pytest.mark.usefixtures("_collected")
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_a_silent_engine_is_unavailable_and_found_again(tmp_path: Path) -> None:
    ground = DockerGround(host=f"unix://{tmp_path}/engine.sock")
    try:
        silent = ground.runtime()
        for attempt in (silent.version(), silent.refresh()):
            with pytest.raises(RuntimeFailure) as failure:
                await attempt
            assert Reason.RUNTIME_UNAVAILABLE is failure.value.reason
        assert (
            "the Docker engine does not answer: No such file or directory" == silent.board.silence
        )
        async with _engine_behind(tmp_path / "engine.sock"), ground.running() as runtime:
            container = await started(runtime, ground.spec(SLEEP))
        async with asyncio.TaskGroup() as group:
            second = ground.runtime()
            watching = group.create_task(second.run(), name="runtime")
            async with _engine_behind(tmp_path / "engine.sock"):
                held = await until(second, T1, lambda held: held is not None)
                assert held is not None
                assert container == held.runtime_id
            ground.client.containers.get(container).kill()
            async with _engine_behind(tmp_path / "engine.sock"):
                await ended(second)
            watching.cancel()
    finally:
        ground.close()


@asynccontextmanager
async def _engine_behind(path: Path) -> AsyncIterator[None]:
    """The real engine behind a socket that can go away with all its connections."""
    writers: set[asyncio.StreamWriter] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(HOST[7:])
        writers.update((writer, engine_writer))
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(reader, engine_writer), name="to engine")
            group.create_task(copy(engine_reader, writer), name="from engine")

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        os.unlink(path)
        for writer in writers:
            writer.transport.abort()


# --- images -------------------------------------------------------------------------------------


class _Registry(http.server.BaseHTTPRequestHandler):
    """A registry on this host that has nothing, or is broken (`/v2/broken/...`)."""

    def do_GET(self) -> None:
        if self.path == "/v2/":
            self._answer(200, "{}")
        elif "/broken/" in self.path:
            self._answer(500, '{"errors": [{"code": "UNKNOWN", "message": "out of order"}]}')
        else:
            self._answer(404, '{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}')

    do_HEAD = do_GET  # noqa: N815 -- the library's name

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def _registry() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, name="registry")
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_an_image_that_no_registry_has_is_not_found(ground: DockerGround) -> None:
    with _registry() as registry:
        image = f"{registry}/nothing:1"
        failure = await refusal(ground, ground.made(image=image))
    assert Reason.IMAGE_NOT_FOUND is failure.reason
    assert "nothing" in failure.message


async def test_a_broken_registry_is_told_from_a_missing_image(ground: DockerGround) -> None:
    with _registry() as registry:
        failure = await refusal(ground, ground.made(image=f"{registry}/broken/app:1"))
    assert Reason.PULL_FAILED is failure.reason


async def test_an_unreachable_registry_is_told_from_a_missing_image(ground: DockerGround) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    failure = await refusal(ground, ground.made(image=f"127.0.0.1:{port}/app:1"))
    assert Reason.PULL_FAILED is failure.reason


async def test_an_impossible_image_name_is_refused(ground: DockerGround) -> None:
    failure = await refusal(ground, ground.made(image="NOT a name"))
    assert failure.reason in (Reason.PULL_FAILED, Reason.IMAGE_NOT_FOUND)


async def test_no_image_is_refused(ground: DockerGround) -> None:
    assert Reason.IMAGE_NOT_FOUND is (await refusal(ground, ground.made(image=None))).reason


async def test_an_image_of_another_platform_is_not_taken_for_it(ground: DockerGround) -> None:
    """The engine itself says so; and that no registry has one for that, ours has none at all."""
    with _registry() as registry:
        ground.client.images.get(IMAGE).tag(f"{registry}/app", "1")
        try:
            image = f"{registry}/app:1"
            failure = await refusal(ground, ground.made(image=image, platform="linux/s390x"))
        finally:
            ground.client.images.remove(f"{registry}/app:1")
    assert Reason.IMAGE_NOT_FOUND is failure.reason
    assert f"image {registry}/app:1 for linux/s390x is not on this node" in failure.message


async def test_the_platform_of_the_host_is_as_good_as_none(ground: DockerGround) -> None:
    found = ground.client.images.get(IMAGE).attrs
    platform = f"{found['Os']}/{found['Architecture']}"
    async with ground.running() as runtime:
        held = await runtime.prepare(assignment(T1, runs=ground.spec("true", platform=platform)))
        assert HeldState.CREATED is held.state


async def test_commands_that_hang_are_ended_and_hold_up_no_other(ground: DockerGround) -> None:
    """A probe that hangs is its own task's trouble, however often it is tried."""
    async with ground.running() as runtime:
        await runtime.prepare(assignment("t1", runs=ground.spec(SLEEP)))
        await runtime.start(T1)
        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                hanging = [
                    group.create_task(runtime.execute(T1, ("sleep", "4711"), 1.0))
                    for _ in range(MAX_STREAMS)
                ]
            assert {TIMED_OUT} == {one.result().code for one in hanging}
        assert 0 == (await runtime.execute(T1, ("true",), 10.0)).code
        listed = await runtime.execute(T1, ("ps",), 10.0)
        assert "4711" not in listed.output
