"""The journal in peace: what is acknowledged is there again, in the order it was submitted."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.cluster import journal as journal_module
from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.journal_check import inspect
from meshswarm.cluster.journal_records import FORMAT
from meshswarm.cluster.journal_segments import Log
from meshswarm.errors import Conflict, Corrupt, NotFound, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import ConfState, HardState
from tests.cluster.journal_world import (
    CLUSTER,
    CONF,
    NODE,
    entries,
    hard_state,
    ignore,
    open_journal,
    save,
    snapshot,
    written,
)
from tests.support.managers import until


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


async def test_a_new_journal_is_empty_and_private(tmp_path: Path) -> None:
    journal, recovered = open_journal(tmp_path / "a" / "raft")
    await journal.close()
    assert recovered.entries == ()
    assert recovered.hard_state == HardState()
    assert recovered.conf == CONF
    assert recovered.snapshot is None
    assert recovered.damage is None
    assert recovered.incarnation == 1
    assert (tmp_path / "a" / "raft").stat().st_mode & 0o777 == 0o700


async def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    await written(
        journal, JournalWrite(token=1, entries=entries(1, 5), hard_state=hard_state(1, 3))
    )
    await written(journal, JournalWrite(token=2, hard_state=hard_state(4, 5)))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries == entries(1, 5)
    assert recovered.hard_state == hard_state(4, 5)
    assert recovered.incarnation == 2


async def test_the_conf_that_a_cluster_began_with_is_remembered(tmp_path: Path) -> None:
    await open_journal(tmp_path)[0].close()
    journal, recovered = Journal.open(
        tmp_path, cluster_id=CLUSTER, node_id=NODE, initial_conf=ConfState(())
    )
    await journal.close()
    assert recovered.conf == CONF


async def test_incarnations_grow_with_each_open(tmp_path: Path) -> None:
    seen = []
    for _ in range(4):
        journal, recovered = open_journal(tmp_path)
        await journal.close()
        seen.append(recovered.incarnation)
    assert seen == [1, 2, 3, 4]


async def test_s70_the_last_of_several_overwrites_in_flight_stays(tmp_path: Path) -> None:
    """A, then B over it, then A again: memory and disk must end with A."""
    journal, _ = open_journal(tmp_path)
    first, other = entries(1, 8, term=1), entries(4, 6, term=2)
    again = entries(4, 9, term=3)
    async with asyncio.timeout(10):
        done = asyncio.Event()
        for token, batch in enumerate((first, other, again, other, again)):
            write = JournalWrite(token=token, entries=batch, hard_state=hard_state(3, 3))
            journal.submit(write, done.set if token == 4 else ignore)
        await done.wait()
    stored = await journal.read(Index(1), Index(100), 1 << 20)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries == entries(1, 3) + again
    assert tuple(stored) == recovered.entries


async def test_what_waits_is_written_as_one_group_and_acknowledged_in_order(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    gate, done, order = threading.Event(), asyncio.Event(), list[int]()
    journal._writer.submit(gate.wait)
    for number in range(1, 101):
        write = JournalWrite(token=number, entries=entries(number, number))
        journal.submit(write, lambda number=number: order.append(number))  # type: ignore[misc]
    journal.submit(JournalWrite(token=101, hard_state=hard_state(1, 100)), done.set)
    assert order == []
    gate.set()
    async with asyncio.timeout(10):
        await done.wait()
    stats = journal.stats()
    await journal.close()
    assert order == list(range(1, 101))
    assert stats["commits"] == 1
    assert stats["queued_bytes"] == 0


async def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    acknowledged = []
    for number in range(1, 51):
        write = JournalWrite(
            token=number, entries=entries(number, number), hard_state=hard_state(1, 0)
        )
        journal.submit(write, lambda number=number: acknowledged.append(number))  # type: ignore[misc]
    await journal.close()
    await journal.close()
    await asyncio.sleep(0)
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries == entries(1, 50)
    assert acknowledged == list(range(1, 51))


async def test_a_full_queue_refuses_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_QUEUED_BYTES", 1_000)
    journal, _ = open_journal(tmp_path)
    gate = threading.Event()
    journal._writer.submit(gate.wait)
    state = hard_state(1, 0)
    journal.submit(JournalWrite(token=1, entries=entries(1, 1, size=600), hard_state=state), ignore)
    with pytest.raises(Unavailable, match="the disk is behind"):
        journal.submit(JournalWrite(token=2, entries=entries(2, 2, size=600)), ignore)
    gate.set()
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries == entries(1, 1, size=600)


async def test_reading_is_bounded_but_never_stuck(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    await written(journal, JournalWrite(token=1, entries=entries(1, 10, size=100)))
    some = await journal.read(Index(3), Index(9), 250)
    one = await journal.read(Index(3), Index(9), 1)
    none = await journal.read(Index(11), Index(20), 1_000)
    await journal.close()
    assert [entry.index for entry in some] == [3, 4]
    assert [entry.index for entry in one] == [3]
    assert none == []


# --- refusals -----------------------------------------------------------------------------------


async def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    with pytest.raises(Conflict, match=f"in use by the process with pid {os.getpid()}"):
        open_journal(tmp_path)
    await journal.close()
    await open_journal(tmp_path)[0].close()


@pytest.mark.parametrize("clean", [True, False], ids=["whole", "log-gone"])
async def test_another_nodes_directory_is_refused_unchanged(tmp_path: Path, clean: bool) -> None:
    journal, _ = open_journal(tmp_path)
    await written(journal, JournalWrite(token=1, hard_state=hard_state(3, 0)))
    await journal.close()
    if not clean:
        (tmp_path / "log-1").unlink()
    before = files(tmp_path)
    for cluster, node in ((ClusterId("other"), NODE), (CLUSTER, NodeId("other"))):
        with pytest.raises(Conflict, match="belongs to node node-a of cluster cluster"):
            Journal.open(tmp_path, cluster_id=cluster, node_id=node, initial_conf=CONF)
    assert files(tmp_path) == before


async def test_another_format_is_refused_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_records.FORMAT", FORMAT + 1)
        await open_journal(tmp_path)[0].close()
    told = f"has format {FORMAT + 1}, this version knows {FORMAT}"
    before = files(tmp_path)
    with pytest.raises(Conflict, match=told):
        open_journal(tmp_path)
    assert before == files(tmp_path)


@pytest.mark.parametrize("mark", [b"", b"\0" * 2_048], ids=["alone", "with its mark"])
def test_a_journal_of_before_is_refused_not_called_damage(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "journal.db").write_bytes(b"SQLite format 3\0")
    if mark:
        (tmp_path / "journal.mark").write_bytes(mark)
    before = files(tmp_path)
    for _ in range(2):
        with pytest.raises(Conflict, match="has format 3 or older") as refused:
            open_journal(tmp_path)
        assert "move the directory away" in str(refused.value)
    with pytest.raises(Conflict, match="has format 3 or older"):
        inspect(tmp_path)
    assert before == files(tmp_path)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Corrupt, match="Not a directory"):
        open_journal(tmp_path / "file" / "raft")


async def test_after_an_error_nothing_is_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = open_journal(tmp_path)
    await written(
        journal, JournalWrite(token=1, entries=entries(1, 2), hard_state=hard_state(1, 0))
    )
    attempts = []

    def refuse(log: Log, *commit: object) -> None:
        attempts.append(commit)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Log, "append", refuse)
    acknowledged = []
    journal.submit(JournalWrite(token=2, entries=entries(3, 3)), lambda: acknowledged.append(2))
    await until(lambda: bool(attempts))
    with pytest.raises(Corrupt, match="Input/output error"):
        await journal.read(Index(1), Index(9), 1_000)
    with pytest.raises(Corrupt, match="Input/output error"):
        journal.submit(JournalWrite(token=3, entries=entries(3, 3)), ignore)
    with pytest.raises(Corrupt, match="Input/output error"):
        await save(journal, snapshot(2), keep=0)
    with pytest.raises(Corrupt, match="Input/output error"):
        journal.raise_if_failed()
    assert "Input/output error" in str(journal.stats()["last_error"])
    await journal.close()
    monkeypatch.undo()
    assert len(attempts) == 1
    assert acknowledged == []
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert recovered.entries == entries(1, 2)


async def test_a_mistake_of_ours_stops_the_journal_too(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    journal.submit(JournalWrite(token=1, entries=entries(7, 9)), ignore)
    with pytest.raises(AssertionError, match="entry 7 after 0"):
        await journal.read(Index(1), Index(9), 1_000)
    await journal.close()


async def test_little_free_space_is_told_and_asked_at_most_once_a_second(tmp_path: Path) -> None:
    asked = []

    def free_bytes(directory: Path) -> int:
        asked.append(directory)
        return 1 << 20

    journal, _ = Journal.open(
        tmp_path, cluster_id=CLUSTER, node_id=NODE, initial_conf=CONF, free_bytes=free_bytes
    )
    assert journal.disk.low_space
    assert journal.disk.low_space
    await journal.close()
    assert asked == [tmp_path]


# --- inspect ------------------------------------------------------------------------------------


async def test_inspect_tells_what_is_there_even_while_it_is_in_use(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    await written(
        journal, JournalWrite(token=1, entries=entries(1, 9, term=2), hard_state=hard_state(2, 8))
    )
    await save(journal, snapshot(8, 2), keep=3)
    report = inspect(tmp_path)
    await journal.close()
    assert (report.cluster_id, report.node_id) == (CLUSTER, NODE)
    assert report.hard_state == hard_state(2, 8)
    assert (report.first_index, report.last_index) == (6, 9)
    assert [(file.name, file.is_readable) for file in report.snapshots] == [("snapshot-8-2", True)]
    assert report.used_by_pid == os.getpid()
    assert report.faults == ()
    assert report.damage == ""
    after = inspect(tmp_path)
    assert after.used_by_pid is None
    assert evolve(after, used_by_pid=os.getpid(), log_bytes=0) == evolve(report, log_bytes=0)
    assert report.hard_state.term == Term(2)


def test_inspect_finds_no_journal_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no journal"):
        inspect(tmp_path)
    with pytest.raises(NotFound, match="no journal"):
        inspect(tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
