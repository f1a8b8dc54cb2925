"""Configs and secrets on a node: placed before a task starts, changed under it, removed with it."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.agent.card import Exit
from meshswarm.agent.files_root import IN_MEMORY, file_system_of, home_of
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.ids import TaskId
from meshswarm.model.file import FileKind, FileUse, Reload
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Reason, TaskState
from meshswarm.store.assignments import Assignment
from tests.agent.cards import NODE, assignment, full, spec, upsert
from tests.agent.test_supervisor import T1, Rig

SECRET = FileUse(kind=FileKind.SECRET, source="db", target="password")
HUP = Reload(signal="SIGHUP")


@pytest.fixture
def home() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="meshswarm-test-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


def with_secret(*, reload: Reload | None = None, use: FileUse = SECRET, **task: int) -> Assignment:
    return assignment(runs=spec(files=(use,), reload=reload), **task)  # type: ignore[arg-type]


def newer(made: Assignment) -> Assignment:
    """The same with the content of another config."""
    files = (evolve(SECRET, source="db2"),)
    task = evolve(made.task, revision=made.task.revision + 1)
    return Assignment(task=task, spec=evolve(made.spec, files=files))


def file_of(rig: Rig) -> Path:
    return rig.root.files(RuntimeKind.PROCESS, T1) / "secrets" / "password"


async def test_a_secret_is_placed_before_and_removed_after_the_task(
    tmp_path: Path, home: Path
) -> None:
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"pass"}
        rig.supervisor.told(full(with_secret()))
        await rig.reaches(TaskState.RUNNING)
        assert b"pass" == file_of(rig).read_bytes()
        assert 0o400 == stat.S_IMODE(file_of(rig).stat().st_mode)
        directory = rig.root.of(RuntimeKind.PROCESS, T1)
        assert 0o700 == stat.S_IMODE(directory.stat().st_mode)
        rig.fake.end(T1, Exit(code=0))
        await rig.reaches(TaskState.COMPLETE)
        assert not directory.exists()


async def test_other_content_comes_in_place_and_the_task_is_told(
    tmp_path: Path, home: Path
) -> None:
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"old", "db2": b"new"}
        made = with_secret(reload=HUP)
        rig.supervisor.told(full(made))
        await rig.reaches(TaskState.RUNNING)
        inode = file_of(rig).stat().st_ino
        rig.supervisor.told(upsert(newer(made)))
        await rig.until(lambda: rig.count("SIGHUP"))
        assert b"new" == file_of(rig).read_bytes()
        assert inode != file_of(rig).stat().st_ino, "who reads the old file still reads it whole"
        assert (1, 1) == (rig.count("prepare"), rig.count("start"))


async def test_a_restarted_agent_places_nothing_anew_and_tells_nobody(
    tmp_path: Path, home: Path
) -> None:
    made = with_secret(reload=HUP)
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"old"}
        rig.supervisor.told(full(made))
        await rig.reaches(TaskState.RUNNING)
    second = rig.again()
    second.root = rig.root
    async with Rig(tmp_path, second.fake, home).running() as again:
        again.supervisor.told(full(made))
        await again.until(lambda: again.supervisor.cards[T1].files == made.spec.files)
        assert 0 == again.count("SIGHUP")
        assert b"old" == file_of(again).read_bytes()


async def test_what_was_missed_while_the_agent_was_away_is_made_up_for(
    tmp_path: Path, home: Path
) -> None:
    made = with_secret(reload=HUP)
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"old"}
        rig.supervisor.told(full(made))
        await rig.reaches(TaskState.RUNNING)
    async with Rig(tmp_path, rig.again().fake, home).running() as again:
        again.contents = {"db2": b"new"}
        again.supervisor.told(full(newer(made)))
        await again.until(lambda: again.count("SIGHUP"))
        assert b"new" == file_of(again).read_bytes()


def both(source: str, revision: int) -> Assignment:
    """Two files, of one content, at a revision."""
    files = (SECRET, evolve(SECRET, target="user"))
    made = assignment(runs=spec(files=tuple(evolve(one, source=source) for one in files)))
    return Assignment(task=evolve(made.task, revision=revision), spec=evolve(made.spec, reload=HUP))


async def test_what_was_half_replaced_when_memory_ran_out_is_put_right_by_going_back(
    tmp_path: Path, home: Path
) -> None:
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"old", "db2": b"new"}
        rig.supervisor.told(full(both("db", 1)))
        await rig.reaches(TaskState.RUNNING)
        in_the_way = file_of(rig).with_name(".user.new")
        in_the_way.mkdir()
        rig.supervisor.told(upsert(both("db2", 2)))
        await rig.until(lambda: b"new" == file_of(rig).read_bytes())
        await rig.until(lambda: rig.supervisor.cards[T1].trouble is not None)
        in_the_way.rmdir()
        rig.supervisor.told(upsert(both("db", 3)))
        await rig.until(lambda: b"old" == file_of(rig).read_bytes())
        assert b"old" == file_of(rig).with_name("user").read_bytes()


async def test_what_was_replaced_and_not_noted_is_put_right_by_going_back(
    tmp_path: Path, home: Path
) -> None:
    rig = Rig(tmp_path, home=home)
    rig.contents = {"db": b"old", "db2": b"new"}
    old, new = both("db", 1), both("db2", 2)
    assert await rig.store.place(old)
    rig.store.note(old)
    assert await rig.store.place(new)  # and here the agent is killed
    assert await rig.store.place(old)
    assert b"old" == file_of(rig).read_bytes()


def files_in(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


async def test_a_file_for_which_memory_does_not_last_leaves_nothing_of_it(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_memory(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    rig = Rig(tmp_path, home=home)
    rig.contents = {"db": b"old"}
    monkeypatch.setattr(os, "fchmod", full_memory)
    with pytest.raises(RuntimeFailure) as failure:
        await rig.store.place(with_secret())
    assert Reason.MOUNT_FAILED is failure.value.reason
    assert [] == files_in(home)


async def test_files_of_unknown_tasks_are_swept_away(tmp_path: Path, home: Path) -> None:
    rig = Rig(tmp_path, home=home)
    rig.root.make()
    left = rig.root.of(RuntimeKind.DOCKER, TaskId("gone"))
    left.mkdir()
    async with rig.running():
        await rig.until(lambda: not left.exists())


async def test_content_that_no_manager_gives_is_waited_for_and_told(
    tmp_path: Path, home: Path
) -> None:
    async with Rig(tmp_path, home=home).running() as rig:
        rig.supervisor.told(full(with_secret()))
        await rig.until(lambda: rig.said[-1:] and rig.said[-1][1].reason is not Reason.NONE)
        status = rig.said[-1][1]
        assert (TaskState.PREPARING, Reason.FILES_UNAVAILABLE) == (status.state, status.reason)
        assert "no manager gives it secret db: no manager serves this node" == status.message
        assert 0 == rig.count("prepare")


async def test_a_place_that_is_on_a_disk_is_refused(tmp_path: Path) -> None:
    if file_system_of(tmp_path) in IN_MEMORY:
        tmp_path = Path("/var/tmp")
    rig = Rig(tmp_path)
    with pytest.raises(RuntimeFailure, match="files_dir") as failure:
        rig.root.make()
    assert Reason.MOUNT_FAILED is failure.value.reason


def test_the_usual_place_is_in_memory() -> None:
    assert file_system_of(home_of("").parent) in IN_MEMORY
    assert Path("/elsewhere") == home_of("/elsewhere")


async def test_a_file_belongs_to_whom_the_service_says(tmp_path: Path, home: Path) -> None:
    is_root = os.geteuid() == 0  # who alone gives files away
    uid, gid = (1234, 2345) if is_root else (os.geteuid(), os.getegid())
    use = evolve(SECRET, uid=uid, gid=gid, mode=0o440)
    async with Rig(tmp_path, home=home).running() as rig:
        rig.contents = {"db": b"pass"}
        rig.supervisor.told(full(with_secret(use=use)))
        await rig.reaches(TaskState.RUNNING)
        found = file_of(rig).stat()
        assert (uid, gid, 0o440) == (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def test_a_node_has_a_place_of_its_own(home: Path) -> None:
    rig = Rig(home, home=home)
    rig.root.make()
    assert 0o711 == stat.S_IMODE((home / NODE).stat().st_mode)
    assert 0o700 == stat.S_IMODE((home / NODE / "docker").stat().st_mode)
    rig.root.forget()
    assert [] == list(home.iterdir())
