"""`journal check` tells what is there and what to do, and never changes a byte of it."""

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cli.main import main
from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.journal_check import Report, inspect
from meshswarm.cluster.journal_records import FORMAT
from meshswarm.errors import Corrupt, NotFound
from meshswarm.raft.types import ConfState
from tests.cluster.journal_world import (
    CLUSTER,
    CONF,
    NODE,
    entries,
    hard_state,
    open_journal,
    save,
    snapshot,
    written,
)

Capture = pytest.CaptureFixture[str]
Tree = dict[str, tuple[object, ...]]


def tree(directory: Path) -> Tree:
    """All that can be told of a directory and what is in it, but for the times of reading."""
    found: Tree = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        about = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (about.st_mode, about.st_ino, about.st_mtime_ns, about.st_ctime_ns, data)
    return found


def looked_at(directory: Path) -> Report:
    """The report; fails if making it changed anything."""
    before = tree(directory)
    try:
        return inspect(directory)
    finally:
        assert before == tree(directory)


async def _life(directory: Path, *, end: bool) -> Journal:
    """A journal with a snapshot at 8 and entries 6..12, closed at the `end` or still open."""
    journal, _ = open_journal(directory)
    first = JournalWrite(token=1, entries=entries(1, 10, term=2), hard_state=hard_state(2, 9))
    await written(journal, first)
    await save(journal, snapshot(8, 2), keep=3)
    second = JournalWrite(token=2, entries=entries(11, 12, term=3), hard_state=hard_state(3, 10))
    await written(journal, second)
    if end:
        await journal.close()
    return journal


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a node that was killed."""
    directory = tmp_path_factory.mktemp("crashed")

    async def live() -> None:
        journal = await _life(directory / "live", end=False)
        shutil.copytree(directory / "live", directory / "left")
        await journal.close()

    asyncio.run(live())
    return directory / "left"


@pytest.fixture
def left(crashed: Path, tmp_path: Path) -> Path:
    """A copy of `crashed` to be spoiled."""
    shutil.copytree(crashed, tmp_path / "left")
    return tmp_path / "left"


def test_a_sound_journal_is_told_in_full(left: Path) -> None:
    report = looked_at(left)
    assert report.is_sound
    assert (CLUSTER, NODE, CONF.voters) == (report.cluster_id, report.node_id, report.voters)
    assert hard_state(3, 10) == report.hard_state
    assert (6, 12, 3) == (report.first_index, report.last_index, report.last_term)
    assert [("snapshot-8-2", 8, 2, True)] == [
        (file.name, file.index, file.term, file.is_readable) for file in report.snapshots
    ]
    assert report.log_bytes > 0
    assert None is report.used_by_pid
    assert ("nothing: the journal is sound",) == report.advice


async def test_one_in_use_is_told_as_such(tmp_path: Path) -> None:
    journal = await _life(tmp_path / "raft", end=False)
    report = looked_at(tmp_path / "raft")
    assert report == looked_at(tmp_path)
    assert report.is_sound
    assert os.getpid() == report.used_by_pid
    assert f"process {os.getpid()} uses it" in report.advice[0]
    await journal.close()
    after = looked_at(tmp_path)
    assert evolve(report, used_by_pid=None, log_bytes=0) == evolve(after, log_bytes=0)


async def test_a_node_that_goes_on_writing_never_looks_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while segments begin, go and become others, every few writes."""
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", 50_000)
    journal, _ = Journal.open(
        tmp_path, cluster_id=CLUSTER, node_id=NODE, initial_conf=CONF, reserved_bytes=1
    )
    done = asyncio.Event()

    async def write() -> None:
        index = 0
        while not done.is_set():
            index += 1
            entry = entries(index, index, size=3_000)
            state = hard_state(1, index)
            await written(journal, JournalWrite(token=index, entries=entry, hard_state=state))
            if index % 20 == 0:
                await save(journal, snapshot(index), keep=5)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(), name="write")
        for _ in range(30):
            report = await asyncio.to_thread(inspect, tmp_path)
            assert () == report.faults
        done.set()
    await journal.close()


def test_a_snapshot_that_goes_before_it_is_read_is_not_told(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object) -> None:
        (left / "snapshot-8-2").unlink()
        monkeypatch.undo()
        raise Corrupt("snapshot-8-2 is unreadable: no such file")

    monkeypatch.setattr("meshswarm.cluster.journal_recovery.check_snapshot", check)
    report = inspect(left)
    assert ("no readable snapshot reaches the log, which begins at 6",) == report.faults
    assert () == report.snapshots


def test_a_snapshot_that_goes_after_it_was_read_is_not_told(
    left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def size(path: Path) -> int:
        path.unlink()
        monkeypatch.undo()
        raise FileNotFoundError(path)

    monkeypatch.setattr("meshswarm.cluster.journal_check._size", size)
    assert () == inspect(left).snapshots


def test_what_is_damaged_is_named_with_what_to_do(left: Path) -> None:
    (left / "log-1").write_bytes(b"rubbish" * 1_000)
    report = looked_at(left)
    assert not report.is_sound
    assert "log-1 is damaged" in report.faults[0]
    assert hard_state(3, 10) == report.hard_state, "the mark still knows"
    assert "goes on from snapshot-8-2" in report.advice[0]
    assert "a quorum of the other managers" in report.advice[1]


def test_a_damaged_snapshot_is_a_fault_only_where_it_is_needed(left: Path) -> None:
    snapshot_file = left / "snapshot-8-2"
    snapshot_file.write_bytes(snapshot_file.read_bytes()[:-1] + b"?")
    report = looked_at(left)
    assert [False] == [file.is_readable for file in report.snapshots]
    assert "no readable snapshot reaches the log, which begins at 6" == report.faults[-1]
    assert "goes on from nothing" in report.advice[0]


async def test_a_damaged_snapshot_that_the_log_does_not_need_is_harmless(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    first = JournalWrite(token=1, entries=entries(1, 10), hard_state=hard_state(1, 9))
    await written(journal, first)
    await save(journal, snapshot(8), keep=20)
    await journal.close()
    (tmp_path / "snapshot-8-1").write_bytes(b"rubbish")
    report = looked_at(tmp_path)
    assert report.is_sound
    assert 1 == len(report.notes)


async def test_what_the_node_noted_itself_is_told(tmp_path: Path) -> None:
    journal = await _life(tmp_path, end=False)
    await journal.mark_damaged("entries that the others hold are missing here")
    await journal.close()
    report = looked_at(tmp_path)
    assert (False, ()) == (report.is_sound, report.faults)
    assert "entries that the others hold are missing here" == report.damage
    assert "until then it does not vote" in report.advice[0]


async def test_the_only_manager_is_not_told_to_wait_for_its_peers(tmp_path: Path) -> None:
    alone = ConfState((NODE,))
    journal, _ = Journal.open(tmp_path, cluster_id=CLUSTER, node_id=NODE, initial_conf=alone)
    await journal.close()
    (tmp_path / "journal.mark").unlink()
    report = looked_at(tmp_path)
    assert ("journal.mark is missing",) == report.faults
    assert "restore the directory from a backup" in report.advice[1]


# --- anything at all ------------------------------------------------------------------------------

NAMES = ["log-1", "journal.mark", "snapshot-8-2", "lock"]


@given(data=st.data(), name=st.sampled_from(NAMES))
def test_garbage_is_reported_and_left_alone(crashed: Path, data: st.DataObject, name: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "copy"
        shutil.copytree(crashed, directory)
        whole = (directory / name).read_bytes()
        cut = data.draw(st.integers(0, len(whole)), "cut")
        garbage = data.draw(st.binary(max_size=300), "garbage")
        (directory / name).write_bytes(whole[:cut] + garbage + whole[cut + len(garbage) :])
        assert looked_at(directory).advice


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere"])
def test_what_is_no_file_is_not_read(left: Path, name: str, kind: str) -> None:
    path = left / name
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case _:
            path.symlink_to(left / "nowhere")
    report = looked_at(left)
    assert (name == "lock") == report.is_sound
    assert name == "lock" or f"{name} is no file" in report.faults


def test_where_there_is_no_journal_none_is_made(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    for directory in (tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(NotFound, match="no journal"):
            inspect(directory)
    assert before == tree(tmp_path)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_prints_the_report_and_exits_with_0(left: Path, capsys: Capture) -> None:
    assert 0 == main(["journal", "check", str(left)])
    lines = capsys.readouterr().out.splitlines()
    assert "entries       6..12, the last of term 3" in lines
    assert "what to do    nothing: the journal is sound" == lines[-1]
    assert 0 == main(["journal", "check", str(left), "-o", "json"])
    told = json.loads(capsys.readouterr().out)
    expected: dict[str, object] = {
        "sound": True,
        "term": 3,
        "vote": hard_state(3, 10).vote,
        "commit_index": 10,
        "first_index": 6,
        "last_index": 12,
        "faults": [],
        "used_by_pid": None,
    }
    assert expected == {key: told[key] for key in expected}
    assert told["snapshots"][0]["name"] == "snapshot-8-2"


def test_the_command_exits_by_what_it_found(left: Path, capsys: Capture) -> None:
    assert 5 == main(["journal", "check", str(left / "missing")])
    (left / "journal.mark").unlink()
    assert 1 == main(["journal", "check", str(left), "-o", "json"])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (False, ["journal.mark is missing"]) == (told["sound"], told["faults"])
    assert "the journal is damaged" in err
    assert 1 == main(["journal", "check", str(left)])
    assert "damaged       journal.mark is missing" in capsys.readouterr().out
    assert 2 == main(["journal", "check"])


async def test_another_format_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_records.FORMAT", FORMAT + 1)
        await open_journal(tmp_path)[0].close()
    assert 6 == main(["journal", "check", str(tmp_path)])
