"""A disk without room: nothing is acknowledged and nothing is lost, and it goes on by itself.

And what is not taken for that: a sync that failed is never tried again (S65).
"""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.journal_disk import is_full
from meshswarm.cluster.journal_mark import SyncFailed
from meshswarm.cluster.snapshots import list_snapshots
from meshswarm.errors import Corrupt, Unavailable
from tests.cluster.journal_world import (
    entries,
    hard_state,
    ignore,
    open_journal,
    recovered_snapshot,
    save,
    snapshot,
    written,
)
from tests.support.managers import until
from tests.support.sick_disks import SickDisk

BIG = 20_000
"""Bytes of an entry that the event loop does not write itself."""


async def _begun(tmp_path: Path) -> tuple[Journal, SickDisk]:
    journal, _ = open_journal(tmp_path)
    first = JournalWrite(token=1, entries=entries(1, 2), hard_state=hard_state(1, 2))
    await written(journal, first)
    return journal, SickDisk(journal)


def _submit(journal: Journal, number: int, acknowledged: list[int]) -> None:
    write = JournalWrite(token=number, entries=entries(number, number, size=BIG))
    journal.submit(write, lambda: acknowledged.append(number))


async def test_s66_a_full_disk_acknowledges_nothing_until_it_has_room(tmp_path: Path) -> None:
    journal, disk = await _begun(tmp_path)
    acknowledged = list[int]()
    disk.fill()
    _submit(journal, 3, acknowledged)
    await until(lambda: journal.disk.is_full)
    _submit(journal, 4, acknowledged)
    assert journal.disk.stalled_s > 0
    assert [] == acknowledged
    disk.heal()
    await until(lambda: [3, 4] == acknowledged)
    assert not journal.disk.is_full
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert recovered.entries == entries(1, 2) + entries(3, 4, size=BIG)


async def test_s66_a_journal_that_is_closed_while_full_keeps_what_it_acknowledged(
    tmp_path: Path,
) -> None:
    journal, disk = await _begun(tmp_path)
    acknowledged = list[int]()
    disk.fill()
    _submit(journal, 3, acknowledged)
    await until(lambda: journal.disk.is_full)
    async with asyncio.timeout(10):
        await journal.close()
    assert [] == acknowledged
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert recovered.entries == entries(1, 2)
    assert recovered.hard_state == hard_state(1, 2)


async def test_a_snapshot_without_room_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, _ = await _begun(tmp_path)

    def no_room(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("meshswarm.cluster.snapshots._write_all", no_room)
        with pytest.raises(Unavailable, match="no room for a snapshot"):
            await save(journal, snapshot(2), keep=0)
    assert () == list_snapshots(tmp_path)
    assert [] == [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    await save(journal, snapshot(2), keep=0)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered_snapshot(tmp_path, recovered) == snapshot(2)


async def test_s65_a_sync_that_failed_is_not_tried_again(tmp_path: Path) -> None:
    journal, disk = await _begun(tmp_path)
    disk.break_()
    tried, acknowledged = disk.commits_tried, list[int]()
    _submit(journal, 3, acknowledged)
    await until(lambda: journal.stats()["last_error"] is not None)
    with pytest.raises(Corrupt, match="Input/output error") as refused:
        journal.raise_if_failed()
    assert "dmesg" in str(refused.value)
    disk.heal()
    with pytest.raises(Corrupt, match="Input/output error"):
        journal.submit(JournalWrite(token=4, hard_state=hard_state(2, 2)), ignore)
    await journal.close()
    assert ([], tried + 1) == (acknowledged, disk.commits_tried)


def test_s65_a_sync_that_fails_for_want_of_room_is_not_a_full_disk() -> None:
    """The pages may be gone; writing them again would need what nobody has any more."""
    assert is_full(OSError(errno.ENOSPC, "no room"))
    assert not is_full(SyncFailed(errno.ENOSPC, "no room"))
    assert not is_full(OSError(errno.EIO, "broken"))
    assert not is_full(AssertionError("disk is full"))
