"""Small writes that the event loop makes itself: as durable as any, and only on a quick disk."""

import errno
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from meshswarm import codec
from meshswarm.cluster.journal import AT_ONCE_BYTES, Journal, JournalWrite, Recovered
from meshswarm.cluster.journal_disk import QUICK_MS, STALL_MS, WARY_COMMITS, Pace
from meshswarm.cluster.journal_mark import Head, Mark, sealed_mark, unseal
from meshswarm.cluster.journal_table import LogTable
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
    return journal


def _small(number: int) -> JournalWrite:
    return JournalWrite(
        token=number, entries=entries(number, number), hard_state=hard_state(1, number - 1)
    )


async def test_what_was_written_at_once_is_there_after_a_restart(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    assert journal.write_at_once(_small(3))
    assert journal.write_at_once(JournalWrite(token=4, hard_state=hard_state(2, 3)))
    assert journal.write_at_once(JournalWrite(token=5, entries=entries(3, 4, term=2)))
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
    order += [4] if journal.write_at_once(_small(4)) else []
    await until(lambda: 3 in order)
    assert [3, 4][: len(order)] == order
    journal.submit(_small(4), ignore)
    assert not journal.write_at_once(_small(5)), "a write is under way"
    await journal.close()


async def test_what_is_large_or_slow_is_left_to_the_writer(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    large = JournalWrite(token=3, entries=entries(3, 3, size=AT_ONCE_BYTES))
    assert not journal.write_at_once(large)
    whole = arrived(journal.directory, snapshot(9))
    assert not journal.write_at_once(JournalWrite(token=3, snapshot=whole))
    journal.disk.pace = Pace()
    assert not journal.write_at_once(_small(3)), "nobody knows this disk yet"
    quick(journal)
    gate = threading.Event()
    saving = journal._writer.submit(lambda: journal._turn.acquire() and gate.wait())
    await until(journal._turn.locked)
    assert not journal.write_at_once(_small(3)), "the writer is at work"
    gate.set()
    saving.result()
    journal._turn.release()
    assert journal.write_at_once(_small(3))
    await save(journal, snapshot(3), keep=1)
    assert journal.write_at_once(_small(4))
    await journal.close()


async def test_s66_for_room_on_a_full_disk_only_the_writer_waits(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    disk = SickDisk(journal)
    quick(journal)
    disk.fill()
    large = JournalWrite(token=3, entries=entries(3, 3, size=AT_ONCE_BYTES - 200))
    assert not journal.write_at_once(large)
    assert not journal.write_at_once(large), "again: nothing of it is left behind"
    acknowledged = list[int]()
    journal.submit(large, lambda: acknowledged.append(3))
    await until(lambda: journal.disk.is_full)
    disk.heal()
    await until(lambda: [3] == acknowledged)
    assert journal.write_at_once(_small(4))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert entries(1, 2) + large.entries + entries(4, 4) == recovered.entries


async def test_s66_what_is_durable_but_for_its_mark_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await _begun(tmp_path)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        assert not journal.write_at_once(_small(3))
    await written(journal, _small(3))
    assert journal.write_at_once(_small(4))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert entries(1, 4) == recovered.entries


async def test_s65_after_a_failed_sync_nothing_is_written_at_once_either(tmp_path: Path) -> None:
    journal = await _begun(tmp_path)
    disk = SickDisk(journal)
    quick(journal)
    disk.break_()
    with pytest.raises(Corrupt, match="the disk refused the journal: disk I/O error"):
        journal.write_at_once(_small(3))
    disk.heal()
    tried = disk.commits_tried
    with pytest.raises(Corrupt, match="disk I/O error"):
        journal.write_at_once(_small(3))
    with pytest.raises(Corrupt, match="disk I/O error"):
        journal.submit(_small(3), ignore)
    assert tried == disk.commits_tried
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert entries(1, 2) == recovered.entries


async def test_the_log_of_writes_made_at_once_is_recycled_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshswarm.cluster.journal.CHECKPOINT_BYTES", 100_000)
    journal = await _begun(tmp_path)
    left = 0
    for number in range(3, 100):
        if not journal.write_at_once(_small(number)):
            left += 1
            await written(journal, _small(number))
            await journal.read(Index(1), Index(2), 1)  # behind what the writer does afterwards
    assert 5 < left < 20, "one in about eight: it brings the checkpoint"
    await journal.close()


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


def test_a_mark_put_together_is_the_mark_encoded() -> None:
    owner = Mark(ClusterId("c" * 30), NodeId("n"), Head())
    for head in (Head(), Head(counter=1 << 40, damage="x" * 100, hard_state=HardState(Term(9)))):
        whole = codec.encode(Mark(owner.cluster_id, owner.node_id, head))
        assert whole == unseal(sealed_mark(owner, head))
        assert head == codec.decode(whole, Mark).head


# --- a log that is not lengthened -----------------------------------------------------------------


def _open_reserved(directory: Path) -> tuple[Journal, Recovered]:
    return Journal.open(
        directory, cluster_id=CLUSTER, node_id=NODE, initial_conf=CONF, reserved_bytes=1 << 20
    )


async def test_commits_overwrite_what_was_reserved_and_survive_every_crash(tmp_path: Path) -> None:
    directory = tmp_path / "raft"
    journal, recovered = _open_reserved(directory)
    assert () == recovered.entries
    wal = directory / "journal.db-wal"
    size = wal.stat().st_size
    assert 1 << 20 <= size < 3 << 20
    for number in range(1, 40):
        await written(journal, _small(number))
        crashed = tmp_path / f"crashed-{number}"
        shutil.copytree(directory, crashed)
        again, recovered = _open_reserved(crashed)
        await again.close()
        assert recovered.damage is None
        assert entries(1, number) == recovered.entries
        shutil.rmtree(crashed)
    assert size == wal.stat().st_size
    await journal.close()
    journal, recovered = _open_reserved(directory)
    assert entries(1, 39) == recovered.entries
    assert size <= wal.stat().st_size < 2 * size
    await journal.close()


async def test_a_torn_commit_leaves_what_was_reserved_out_of_the_log(tmp_path: Path) -> None:
    """Beyond the last commit lie pages that SQLite would take for the next ones of it."""
    directory = tmp_path / "raft"
    journal, _ = _open_reserved(directory)
    await written(journal, _small(1))
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    await written(journal, JournalWrite(token=2, entries=entries(2, 2, size=9_000)))
    after = {file.name: file.read_bytes() for file in directory.iterdir()}
    await journal.close()
    old, new = before["journal.db-wal"], after["journal.db-wal"]
    changed = [at for at in range(0, len(new), 512) if old[at : at + 512] != new[at : at + 512]]
    assert len(changed) > 10
    for lost in range(len(changed)):
        torn = bytearray(new)
        for at in changed[lost:]:
            torn[at : at + 512] = old[at : at + 512]
        crashed = tmp_path / f"torn-{lost}"
        crashed.mkdir()
        for name, data in {**before, "journal.db-wal": bytes(torn)}.items():
            (crashed / name).write_bytes(data)
        again, recovered = _open_reserved(crashed)
        await again.close()
        assert recovered.damage is None
        assert entries(1, 1) == recovered.entries
        shutil.rmtree(crashed)


async def test_s66_a_disk_without_room_to_reserve_is_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal, _ = _open_reserved(tmp_path)
    await written(journal, _small(1))
    await journal.close()

    def refuse(table: LogTable, size: int) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(LogTable, "reserve", refuse)
    journal, recovered = _open_reserved(tmp_path)
    assert entries(1, 1) == recovered.entries
    assert "no room for 1048576 bytes" in caplog.text
    await written(journal, _small(2))
    await journal.close()


async def test_a_reservation_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path)
    disk = SickDisk(journal)
    disk.fill()
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal._table.reserve(1 << 20)
    disk.heal()
    await written(journal, _small(1))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert entries(1, 1) == recovered.entries
