"""Plain processes: the contract, and what only they promise. Real processes, no engine."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshswarm.agent.card import HeldState
from meshswarm.agent.runtimes import cgroup, proc
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.agent.runtimes.process import ProcessRuntime, kill_all, root_of
from meshswarm.agent.runtimes.task_dir import TaskDir
from meshswarm.ids import ClusterId, TaskId
from meshswarm.model.file import FileKind
from meshswarm.model.network import Port
from meshswarm.model.resources import Resources
from meshswarm.model.task import Reason
from meshswarm.model.volume import Mount, MountKind
from tests.agent.cards import NODE, assignment, spec
from tests.agent.ground import DEADLINE_S, SLEEP, T1, Ground, ended
from tests.agent.runtime_contract import RealRuntimeContract


class ProcessGround(Ground):
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def runtime(self) -> ProcessRuntime:
        return ProcessRuntime(
            root_of(self.data_dir),
            cluster_id=ClusterId("cluster"),
            node_id=NODE,
            node_name="alpha",
            log_bytes=64 * 1024,
            files=self.files_root,
        )

    def target(self, name: str) -> str:
        return name

    def seen_at(self, kind: FileKind, name: str) -> str:
        return f"$MESHSWARM_{kind.value.upper()}S_DIR/{name}"

    def dir(self, task_id: TaskId = T1) -> TaskDir:
        return TaskDir(root_of(self.data_dir), task_id)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[ProcessGround]:
    ground = ProcessGround(tmp_path)
    yield ground
    kill_all(tmp_path)
    ground.forget_files()


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 -- the kernel sends no event for it
            await asyncio.sleep(0.02)


class TestProcessRuntime(RealRuntimeContract):
    pass


async def started(runtime: Runtime, shell: str, **changes: object) -> int:
    """The process id of a task that runs this line of shell."""
    await runtime.prepare(assignment(runs=spec("/bin/sh", "-c", shell, **changes)))
    return int((await runtime.start(T1)).runtime_id)


async def test_the_process_id_is_the_commands_own(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        pid = await started(runtime, "exec sleep 60")
        os.kill(pid, signal.SIGKILL)
        end = await ended(runtime)
        assert end.exit is not None
        assert "SIGKILL" == end.exit.signal_name


async def test_the_stop_signal_goes_to_the_command_alone(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "exec sleep 60")
        await runtime.stop(T1, kill=False)
        end = await ended(runtime)
        assert end.exit is not None
        assert "SIGTERM" == end.exit.signal_name


@pytest.fixture
def under_nohup() -> Iterator[None]:
    """As if this process had been started by a shell's `nohup`, which has it ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("under_nohup")
async def test_nothing_of_ours_leaks_into_the_command(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "exec sleep 60")
        pid = int((await runtime.start(T1)).runtime_id)
        # The task is noted a moment before it becomes the command, which opens its libraries first.
        async with asyncio.timeout(DEADLINE_S):
            while "sleep" not in os.readlink(f"/proc/{pid}/exe"):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.002)
            while ["0", "1", "2"] != sorted(os.listdir(f"/proc/{pid}/fd")):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        environment = _proc(pid, "environ").split("\0")
        assert {"MESHSWARM_TASK_ID=t1", "MESHSWARM_SLOT=1", "MESHSWARM_NODE=alpha"} <= set(
            environment
        )
        signals = _proc(pid, "status")
        assert "SigIgn:\t0000000000000000" in signals
        assert "SigBlk:\t0000000000000000" in signals


async def test_what_the_command_leaves_behind_ends_with_it(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "sleep 61 & echo $!; exit 0")
        await ended(runtime)
        child = int(ground.dir().log("stdout").read_text())
        mark = proc.mark_of(child)
        assert mark is None or not mark.is_alive


async def test_a_killed_keeper_takes_its_command_along(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        pid = await started(runtime, "exec sleep 60")
        keeper = ground.dir().life().keeper
        assert keeper is not None
        proc.send(keeper, signal.SIGKILL)
        end = await ended(runtime)
        assert end.exit is not None
        assert end.exit.code is None
        assert "keeper" in end.exit.message
        mark = proc.mark_of(pid)
        assert mark is None or not mark.is_alive


async def test_a_group_signal_does_not_lose_the_exit_code(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "exec sleep 60")
        keeper = ground.dir().life().keeper
        assert keeper is not None
        os.killpg(keeper.pid, signal.SIGTERM)
        end = await ended(runtime)
        assert end.exit is not None
        assert 143 == end.exit.code


async def test_kill_all_stands_for_the_loss_of_the_host(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        pid = await started(runtime, "sleep 62 & exec sleep 60")
    assert 2 <= kill_all(ground.data_dir)
    mark = proc.mark_of(pid)
    assert mark is None or not mark.is_alive
    async with ground.running() as runtime:
        end = await ended(runtime)
        assert end.exit is not None
        assert end.exit.code is None
    assert 0 == kill_all(ground.data_dir)


async def test_after_a_reboot_nothing_is_taken_for_alive(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await runtime.prepare(assignment(runs=ground.spec(SLEEP)))
    mine = proc.mark_of(os.getpid())
    assert mine is not None
    ground.dir().note("starting another-boot 1")
    ground.dir().note(f"keeper {mine.pid} {mine.start}")
    assert 0 == kill_all(ground.data_dir)
    async with ground.running() as runtime:
        end = await ended(runtime)
        assert end.exit is not None
        assert (None, "its host was restarted") == (end.exit.code, end.exit.message)


async def test_a_damaged_record_can_still_be_stopped(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "exec sleep 60")
    (ground.dir().path / "record.cbor").write_bytes(b"torn")
    async with ground.running() as runtime:
        held = runtime.board.look(T1)
        assert held is not None
        assert HeldState.RUNNING is held.state
        await runtime.stop(T1, kill=False)
        await ended(runtime)
        await runtime.remove(T1)


async def test_logs_are_kept_small_from_the_front(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "seq 1 60000; exec sleep 60")
        path = ground.dir().log("stdout")
        await _until(lambda: "60000" in path.read_text()[-10:])
        await _until(lambda: path.stat().st_blocks * 512 <= 2 * 64 * 1024)
        lines = [
            int(line.text)
            async for group in runtime.logs(T1, follow=False, tail=None, since_ms=0)
            for line in group
        ]
        assert 60_000 == lines[-1]
        assert lines == list(range(lines[0], 60_001))
        assert 1_000 < len(lines) < 60_000
        tail = [
            line.text
            async for group in runtime.logs(T1, follow=False, tail=2, since_ms=0)
            for line in group
        ]
        assert ["59999", "60000"] == tail


async def test_a_taken_port_is_named(ground: ProcessGround) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = (Port(target=port, host_ip="127.0.0.1"),)
        async with ground.running() as runtime:
            await runtime.prepare(assignment(runs=spec("sleep", "60", ports=ports)))
            with pytest.raises(RuntimeFailure, match=str(port)) as failure:
                await runtime.start(T1)
            assert Reason.PORT_IN_USE is failure.value.reason


async def test_what_a_process_cannot_have_is_refused(ground: ProcessGround) -> None:
    volume = Mount(kind=MountKind.VOLUME, target="/data", source="data")
    async with ground.running() as runtime:
        for refused, reason in (
            (spec(mounts=(volume,)), Reason.MOUNT_FAILED),
            (spec(ports=(Port(target=80, published=8080),)), Reason.CREATE_FAILED),
            (spec(user="no-such-user"), Reason.CREATE_FAILED),
            (spec(stop_signal="SIGNONE"), Reason.CREATE_FAILED),
            (type(spec())(command=None), Reason.COMMAND_NOT_FOUND),
        ):
            with pytest.raises(RuntimeFailure) as failure:
                await runtime.prepare(assignment(runs=refused))
            assert reason is failure.value.reason
        assert runtime.board.look(T1) is None


async def test_a_directory_that_is_not_there_is_named(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await runtime.prepare(assignment(runs=spec("sleep", "60", working_dir="/no/such/dir")))
        with pytest.raises(RuntimeFailure, match="/no/such/dir") as failure:
            await runtime.start(T1)
        assert Reason.START_FAILED is failure.value.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
async def test_it_runs_as_the_user_it_is_told(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        pid = await started(runtime, "exec sleep 60", user="nobody")
        status = _proc(pid, "status")
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        done = await runtime.execute(T1, ("id", "-un"), 5.0)
        assert "nobody\n" == done.output


async def test_a_command_beside_the_task_may_not_linger(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        await started(runtime, "exec sleep 60")
        done = await runtime.execute(T1, ("/bin/sh", "-c", "sleep 63; :"), 0.1)
        assert 124 == done.code
        done = await runtime.execute(T1, ("no-such-command",), 1.0)
        assert 127 == done.code
        done = await runtime.execute(T1, ("/bin/sh", "-c", "yes | head -c 1000000"), 5.0)
        assert 64 * 1024 == len(done.output)


def _memory_can_be_limited() -> bool:
    try:
        made = cgroup.Cgroups.detect().create(TaskId("trial"), Resources(memory_bytes=1 << 24))
    except OSError:
        return False
    cgroup.remove(made)
    return True


@pytest.mark.skipif(not _memory_can_be_limited(), reason="this host lets us make no cgroups")
async def test_limits_hold_and_running_out_of_memory_is_said(ground: ProcessGround) -> None:
    async with ground.running() as runtime:
        limits = Resources(memory_bytes=16 << 20, pids=20)
        await started(runtime, "x=$(head -c 64m /dev/zero | tr '\\0' x); echo ${#x}", limits=limits)
        groups = ground.dir().cgroups()
        assert groups
        end = await ended(runtime)
        assert end.exit is not None
        assert end.exit.out_of_memory
        await runtime.remove(T1)
        assert not any(group.exists() for group in groups)
