"""Small writes that the event loop makes itself: as durable as any, and only on a quick disk."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from meshswarm.cluster.journal import AT_ONCE_BYTES, Journal, JournalWrite, Recovered
from meshswarm.cluster.journal_disk import QUICK_MS, STALL_MS, WARY_COMMITS, Pace
from meshswarm.cluster.journal_mark import Mark, MarkFile, read_mark
from meshswarm.cluster.journal_records import Head
from meshswarm.cluster.journal_scan import segment_numbers
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import HardState
from tests.cluster.journal_world import (
    CLUSTER,
    CONF,
    NODE,
    arrived,
    entries,
    hard_state,
    ignore,
    open_journal,
    quick,
    save,
    snapshot,
    written,
)
from tests.support.managers import until
from tests.support.sick_disks import SickDisk


async def _begun(tmp_path: Path) -> Journal:
    journal = quick(open_journal(tmp_path)[0])
    first = JournalWrite(token=1, entries=entries(1, 2), hard_state=hard_state(1, 2))
    await written(journal, first)
    # Whoever wrote it has more to do afterwards; what is read is read behind that.
    await journal.read(Index(1), Index(2), max_bytes=1)
    return journal


def _small(number: int) -> JournalWrite:
    return JournalWrite(
        token=number, entries=entries(number, number), hard_state=hard_state(1, number - 1)
    )


async def test_what_was_written_at_once_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    assert journal.write_at_once(_small(3), ignore)
    assert journal.write_at_once(JournalWrite(token=4, hard_state=hard_state(2, 3)), ignore)
    assert journal.write_at_once(JournalWrite(token=5, entries=entries(3, 4, term=2)), ignore)
    assert 4 == journal.stats()["last_index"]
    assert 4 == journal.stats()["commits"]
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert entries(1, 2) + entries(3, 4, term=2) == recovered.entries
    assert hard_state(2, 3) == recovered.hard_state


async def test_nothing_overtakes_what_waits_to_be_acknowledged(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    order = list[int]()
    journal.submit(_small(3), lambda: order.append(3))
    await until(lambda: journal.stats()["commits"] == 2)  # durable; maybe not yet told
    journal.write_at_once(_small(4), lambda: order.append(4))
    await until(lambda: 3 in order)
    assert [3, 4][: len(order)] == order
    journal.submit(_small(4), ignore)
    assert not journal.write_at_once(_small(5), ignore), "a write is under way"
    await journal.close()


async def test_something_is_done_between_the_write_and_its_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await _begun(tmp_path)
    order = list[str]()
    for call in ("pwritev", "posix_fadvise", "fdatasync", "pwrite"):
        monkeypatch.setattr(os, call, _noting(order, call, getattr(os, call)))
    done, meanwhile = partial(order.append, "done"), partial(order.append, "meanwhile")
    assert journal.write_at_once(_small(3), done, meanwhile)
    assert ["pwritev", "posix_fadvise", "meanwhile", "fdatasync", "done", "pwrite"] == order
    order.clear()
    assert journal.write_at_once(_small(4), done)
    assert ["pwritev", "fdatasync", "done", "pwrite"] == order
    await journal.close()


async def test_a_file_system_need_not_take_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await _begun(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    order = list[str]()
    done, meanwhile = partial(order.append, "done"), partial(order.append, "meanwhile")
    assert journal.write_at_once(_small(3), done, meanwhile)
    assert ["meanwhile", "done"] == order
    await journal.close()


def _noting(order: list[str], call: str, real: Callable[..., object]) -> Callable[..., object]:
    def noting(*arguments: object) -> object:
        order.append(call)
        return real(*arguments)

    return noting


async def test_what_is_done_meanwhile_proves_nothing(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    disk = SickDisk(journal)
    quick(journal)
    order = list[str]()
    done, meanwhile = partial(order.append, "done"), partial(order.append, "meanwhile")
    disk.fill()
    assert not journal.write_at_once(_small(3), done, meanwhile)
    assert [] == order
    disk.heal()
    disk.break_()
    with pytest.raises(Corrupt):
        journal.write_at_once(_small(3), done, meanwhile)
    assert ["meanwhile"] == order
    await journal.close()


async def test_what_is_large_or_slow_is_left_to_the_writer(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    large = JournalWrite(token=3, entries=entries(3, 3, size=AT_ONCE_BYTES))
    assert not journal.write_at_once(large, ignore)
    whole = arrived(journal.directory, snapshot(9))
    assert not journal.write_at_once(JournalWrite(token=3, snapshot=whole), ignore)
    journal.disk.pace = Pace()
    assert not journal.write_at_once(_small(3), ignore), "nobody knows this disk yet"
    quick(journal)
    gate = threading.Event()
    saving = journal._writer.submit(lambda: journal._turn.acquire() and gate.wait())
    await until(journal._turn.locked)
    assert not journal.write_at_once(_small(3), ignore), "the writer is at work"
    gate.set()
    saving.result()
    journal._turn.release()
    assert journal.write_at_once(_small(3), ignore)
    await save(journal, snapshot(3), keep=1)
    assert journal.write_at_once(_small(4), ignore)
    await journal.close()


async def test_s66_for_room_on_a_full_disk_only_the_writer_waits(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    disk = SickDisk(journal)
    quick(journal)
    disk.fill()
    large = JournalWrite(token=3, entries=entries(3, 3, size=AT_ONCE_BYTES - 200))
    assert not journal.write_at_once(large, ignore)
    assert not journal.write_at_once(large, ignore), "again: nothing of it is left behind"
    acknowledged = list[int]()
    journal.submit(large, lambda: acknowledged.append(3))
    await until(lambda: journal.disk.is_full)
    disk.heal()
    await until(lambda: [3] == acknowledged)
    assert journal.write_at_once(_small(4), ignore)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert entries(1, 2) + large.entries + entries(4, 4) == recovered.entries


async def test_s66_for_room_for_its_mark_waits_nobody_but_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await _begun(tmp_path)
    done = list[int]()

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        assert journal.write_at_once(_small(3), lambda: done.append(3))
        assert [3] == done, "it is durable"
        await until(lambda: journal.disk.is_full)
        assert 2 == _marked(tmp_path)
        assert not journal.write_at_once(_small(4), ignore), "the writer is at work"
        journal.submit(_small(4), lambda: done.append(4))
    await until(lambda: [3, 4] == done)
    assert journal.write_at_once(_small(5), ignore)
    assert 5 == _marked(tmp_path)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert entries(1, 5) == recovered.entries


def _marked(directory: Path) -> int:
    mark = read_mark(directory / "journal.mark")
    assert mark is not None
    return mark.head.last_index


async def test_s65_after_a_failed_sync_nothing_is_written_at_once_either(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    disk = SickDisk(journal)
    quick(journal)
    disk.break_()
    with pytest.raises(Corrupt, match=r"the disk refused the journal: .* Input/output error"):
        journal.write_at_once(_small(3), ignore)
    disk.heal()
    tried = disk.commits_tried
    with pytest.raises(Corrupt, match="Input/output error"):
        journal.write_at_once(_small(3), ignore)
    with pytest.raises(Corrupt, match="Input/output error"):
        journal.submit(_small(3), ignore)
    assert tried == disk.commits_tried
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries in (entries(1, 2), entries(1, 3)), "it may have got there"


async def test_a_segment_that_is_full_is_left_to_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", 4_096)
    journal = await _begun(tmp_path)
    left = 0
    for number in range(3, 200):
        if not journal.write_at_once(_small(number), ignore):
            left += 1
            await written(journal, _small(number))
            await journal.read(Index(1), Index(2), 1)  # behind what the writer does afterwards
    assert 5 < left < 60, "one in some: it brings the next segment, or is near to it"
    assert len(segment_numbers(tmp_path)) > 5
    assert entries(1, 199) == tuple(await journal.read(Index(1), Index(200), 1 << 20))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert entries(1, 199) == recovered.entries


def test_a_disk_is_quick_by_what_it_did_of_late() -> None:
    pace = Pace()
    assert not pace.is_quick
    pace.note(QUICK_MS / 4)
    assert pace.is_quick
    for _ in range(20):
        pace.note(3 * QUICK_MS)
    assert not pace.is_quick
    for _ in range(40):
        pace.note(QUICK_MS / 4)
    assert pace.is_quick


def test_a_disk_that_stalled_once_is_not_waited_for_for_long() -> None:
    pace = Pace()
    pace.note(STALL_MS)
    for _ in range(WARY_COMMITS):
        assert not pace.is_quick
        pace.note(0.1)
    assert pace.is_quick


def test_a_mark_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.mark"
    for head in (
        Head(),
        Head(counter=1 << 40, damage="x\u00e4" * 200, hard_state=HardState(Term(9))),
        Head(
            counter=7, hard_state=HardState(Term(3), NodeId("voted"), Index(2)), last_index=Index(5)
        ),
    ):
        mark = Mark(ClusterId("c" * 30), NodeId("n"), head)
        MarkFile.create(path, mark).close()
        assert mark == read_mark(path)


# --- a log that is not lengthened -----------------------------------------------------------------


SEGMENT = 16_384


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", SEGMENT)


def _open_reserved(directory: Path) -> tuple[Journal, Recovered]:
    return Journal.open(
        directory,
        cluster_id=CLUSTER,
        node_id=NODE,
        initial_conf=CONF,
        reserved_bytes=2 * SEGMENT,
    )


def _sizes(directory: Path) -> dict[str, int]:
    return {
        path.name: path.stat().st_size
        for path in directory.iterdir()
        if path.name.startswith(("log-", "spare-"))
    }


def _inodes(directory: Path) -> set[int]:
    return {path.stat().st_ino for path in directory.glob("log-*")}


@pytest.mark.usefixtures("small_segments")
async def test_commits_overwrite_what_was_reserved_and_survive_every_crash(tmp_path: Path) -> None:
    directory = tmp_path / "raft"
    journal, recovered = _open_reserved(directory)
    assert () == recovered.entries
    sizes = _sizes(directory)
    assert {"log-1": SEGMENT, "spare-new-1": SEGMENT} == sizes
    for number in range(1, 40):
        await written(journal, _small(number))
        crashed = tmp_path / f"crashed-{number}"
        shutil.copytree(directory, crashed)
        again, recovered = _open_reserved(crashed)
        await again.close()
        assert recovered.damage is None
        assert entries(1, number) == recovered.entries
        shutil.rmtree(crashed)
    assert sizes == _sizes(directory)
    await journal.close()
    journal, recovered = _open_reserved(directory)
    assert entries(1, 39) == recovered.entries
    assert sizes == _sizes(directory), "a restart takes no room, and writes none anew"
    await journal.close()


@pytest.mark.usefixtures("small_segments")
async def test_segments_behind_the_log_are_overwritten_in_turn(tmp_path: Path) -> None:
    journal, _ = _open_reserved(tmp_path)
    seen, inodes = 0, set()
    for number in range(1, 400):
        await written(
            journal, JournalWrite(token=number, entries=entries(number, number, size=800))
        )
        if number % 20 == 0:
            await written(journal, JournalWrite(token=0, hard_state=hard_state(1, number)))
            await save(journal, snapshot(number), keep=5)
            seen = max(seen, len(_sizes(tmp_path)))
            inodes |= _inodes(tmp_path)
        if number % 100 == 0:
            await journal.close()
            journal, recovered = _open_reserved(tmp_path)
            assert entries(recovered.entries[0].index, number, size=800) == recovered.entries
    assert seen <= 5, "two segments of a log, a new one, and the spares"
    assert segment_numbers(tmp_path)[0] > 15
    assert len(inodes) <= 8, "the same files again and again"
    await journal.close()


@pytest.mark.usefixtures("small_segments")
async def test_a_commit_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    journal, _ = _open_reserved(tmp_path)
    await written(journal, _small(1))
    large = entries(2, 4, size=SEGMENT)
    await written(journal, JournalWrite(token=2, entries=large))
    await written(journal, _small(5))
    assert [1, 2, 3] == segment_numbers(tmp_path)
    assert [*entries(1, 1), *large, *entries(5, 5)] == await journal.read(
        Index(1), Index(6), 1 << 20
    )
    await journal.close()
    journal, recovered = _open_reserved(tmp_path)
    await journal.close()
    assert entries(1, 1) + large + entries(5, 5) == recovered.entries


@pytest.mark.usefixtures("small_segments")
async def test_s66_a_disk_without_room_to_reserve_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal, _ = open_journal(tmp_path)
    await written(journal, _small(1))
    await journal.close()
    before = _sizes(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_segments._write_zeros", refuse)
        journal, recovered = _open_reserved(tmp_path)
    assert entries(1, 1) == recovered.entries
    assert f"no room for {2 * SEGMENT} bytes" in caplog.text
    assert before.keys() == _sizes(tmp_path).keys(), "nothing is left behind"
    await written(journal, JournalWrite(token=2, entries=entries(2, 9, size=SEGMENT // 3)))
    await written(journal, _small(10))
    await journal.read(Index(1), Index(2), 1)  # behind what the writer does afterwards
    await journal.close()
    assert "spare-new-1" in _sizes(tmp_path), "there is room again"
