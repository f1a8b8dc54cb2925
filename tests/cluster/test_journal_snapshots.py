"""Snapshots and the log behind them: old or new state after any crash, never neither."""

import hashlib
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster import snapshots as snapshots_module
from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.journal_scan import segment_name, segment_numbers
from meshswarm.cluster.snapshots import (
    STORED_AT_ONCE,
    SnapshotName,
    check_snapshot,
    list_snapshots,
    read_slices,
    write_snapshot,
)
from meshswarm.errors import Corrupt
from meshswarm.ids import ClusterId, Index, Term
from meshswarm.raft.types import SnapshotMeta
from tests.cluster.journal_world import (
    CLUSTER,
    CONF,
    arrived,
    entries,
    hard_state,
    open_journal,
    read,
    recovered_snapshot,
    save,
    snapshot,
    stored,
    written,
)


async def filled(directory: Path, last: int) -> Journal:
    journal, _ = open_journal(directory)
    await written(
        journal,
        JournalWrite(token=1, entries=entries(1, last), hard_state=hard_state(1, last)),
    )
    return journal


def names(directory: Path) -> list[str]:
    return [str(name) for name in list_snapshots(directory)]


async def test_a_snapshot_keeps_the_log_that_laggards_need(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 3_500)
    await save(journal, snapshot(3_400), keep=100)
    kept = await journal.read(Index(1), Index(9_999), 1 << 20)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert tuple(kept) == entries(3_301, 3_500)
    assert recovered.entries == entries(3_301, 3_500)
    assert recovered_snapshot(tmp_path, recovered) == snapshot(3_400)
    assert recovered.conf == CONF
    assert recovered.damage is None


async def test_a_snapshot_of_everything_may_leave_an_empty_log(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 10)
    await save(journal, snapshot(10), keep=0)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    assert recovered.entries == ()
    assert recovered_snapshot(tmp_path, recovered) == snapshot(10)
    await written(journal, JournalWrite(token=1, entries=entries(11, 12)))
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.entries == entries(11, 12)


async def test_the_leaders_snapshot_takes_the_place_of_the_log(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 20)
    await save(journal, snapshot(15), keep=100)
    await written(
        journal,
        JournalWrite(
            token=2,
            snapshot=arrived(tmp_path, snapshot(90, 4)),
            entries=entries(91, 93, term=4),
            hard_state=hard_state(4, 90),
        ),
    )
    await journal.close()
    assert names(tmp_path) == ["snapshot-90-4"]
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered_snapshot(tmp_path, recovered) == snapshot(90, 4)
    assert recovered.entries == entries(91, 93, term=4)
    assert recovered.hard_state == hard_state(4, 90)


async def test_an_own_snapshot_never_undoes_the_leaders_newer_one(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 20)
    await written(
        journal,
        JournalWrite(
            token=2, snapshot=arrived(tmp_path, snapshot(90, 4)), hard_state=hard_state(4, 90)
        ),
    )
    await save(journal, snapshot(15), keep=0)
    await journal.close()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered_snapshot(tmp_path, recovered) == snapshot(90, 4)
    assert recovered.entries == ()
    assert names(tmp_path) == ["snapshot-90-4"]


async def test_one_older_snapshot_is_kept_while_the_log_reaches_it(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 50)
    for index in (10, 20, 30, 40):
        await save(journal, snapshot(index), keep=10)
    assert names(tmp_path) == ["snapshot-40-1", "snapshot-30-1"]
    await save(journal, snapshot(50), keep=5)
    assert names(tmp_path) == ["snapshot-50-1"]
    await journal.close()


async def test_a_bad_newest_snapshot_falls_back_on_the_older_one(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 50)
    for index in (30, 40):
        await save(journal, snapshot(index), keep=10)
    await journal.close()
    newest = tmp_path / "snapshot-40-1"
    newest.write_bytes(newest.read_bytes()[:-1])
    for _ in range(2):
        journal, recovered = open_journal(tmp_path)
        await journal.close()
        assert recovered.damage is None
        assert recovered_snapshot(tmp_path, recovered) == snapshot(30)
        assert recovered.entries == entries(31, 50)
        assert recovered.hard_state == hard_state(1, 50)
    assert (tmp_path / "snapshot.damaged").exists()


async def test_a_whole_log_needs_no_snapshot(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 50)
    await save(journal, snapshot(40), keep=1_000)
    await journal.close()
    (tmp_path / "snapshot-40-1").write_bytes(b"")
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is None
    assert recovered.snapshot is None
    assert recovered.entries == entries(1, 50)
    assert "snapshot-40-1" in recovered.notes[0]


async def test_s68_a_lost_snapshot_that_the_log_needs_is_damage(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 50)
    await save(journal, snapshot(40), keep=5)
    await journal.close()
    (tmp_path / "snapshot-40-1").unlink()
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered.damage is not None
    assert "no readable snapshot reaches the log, which begins at 36" in recovered.damage.what
    assert recovered.entries == ()
    assert recovered.hard_state == hard_state(1, 0)


async def test_s61_what_a_crash_left_half_done_is_cleared_away(tmp_path: Path) -> None:
    journal = await filled(tmp_path, 50)
    await save(journal, snapshot(40), keep=5)
    await journal.close()
    (tmp_path / "snapshot-45-1.tmp").write_bytes(b"half")
    stored(tmp_path, snapshot(45))  # renamed, but the log did not adopt it yet
    journal, recovered = open_journal(tmp_path)
    await journal.close()
    assert recovered_snapshot(tmp_path, recovered) == snapshot(40)
    assert recovered.entries == entries(36, 50)
    assert names(tmp_path) == ["snapshot-40-1"]
    assert not (tmp_path / "snapshot-45-1.tmp").exists()


async def test_s61_a_crash_between_adopting_and_dropping_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the segments a crash leaves: they go from the first one on."""
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", 4_096)
    journal = await filled(tmp_path / "raft", 1)
    for index in range(2, 501):
        await written(journal, JournalWrite(token=index, entries=entries(index, index)))
    monkeypatch.setattr(Journal, "_tidy_log", lambda journal: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await save(journal, snapshot(1), keep=5)
    await written(journal, JournalWrite(token=2, hard_state=hard_state(1, 500)))
    with pytest.raises(ZeroDivisionError):
        await save(journal, snapshot(400), keep=5)
    await journal.close()
    monkeypatch.undo()
    segments = segment_numbers(tmp_path / "raft")
    assert len(segments) > 10
    gone, damaged = 0, False
    while not damaged:
        crashed = tmp_path / f"crashed-{gone}"
        shutil.copytree(tmp_path / "raft", crashed)
        for number in segments[:gone]:
            (crashed / segment_name(number)).unlink()
        journal, recovered = open_journal(crashed)
        await journal.close()
        damaged = recovered.damage is not None
        if not damaged:
            assert recovered_snapshot(crashed, recovered) == snapshot(400)
            assert recovered.entries == entries(396, 500)
            gone += 1
    assert 5 < gone < len(segments), "then one was gone that the log needs"


def framed(frames: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in (*frames, b""))


# --- the files ----------------------------------------------------------------------------------


def test_a_snapshot_larger_than_a_slice_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "SYNC_BYTES", 1_000)
    whole = snapshot(7, 3, size=12_345)
    stored(tmp_path, whole)
    assert read(tmp_path, SnapshotName(Index(7), Term(3))) == whole
    assert list_snapshots(tmp_path) == (SnapshotName(Index(7), Term(3)),)


def test_what_cannot_be_deflated_is_stored_and_read_back_as_well(tmp_path: Path) -> None:
    noise = [hashlib.blake2b(bytes([i])).digest() for i in range(40)]
    slices = [*(b"a" * 10_000 for _ in range(3)), *noise, *(b"b" * 10_000 for _ in range(60))]
    meta = SnapshotMeta(Index(7), Term(1), CONF)
    done = write_snapshot(tmp_path, CLUSTER, meta, slices)
    name = SnapshotName(Index(7), Term(1))
    assert slices == list(read_slices(tmp_path / str(name), name))
    stored_at_most = STORED_AT_ONCE * 10_000 + 40 * 100
    assert done.size < stored_at_most + 50 * 200, "what can be deflated is, soon again"


def test_names_sort_by_number_newest_first(tmp_path: Path) -> None:
    for index in (9, 10, 100):
        stored(tmp_path, snapshot(index))
    (tmp_path / "snapshot-11-x").write_bytes(b"")
    (tmp_path / "snapshot-11-1.tmp").write_bytes(b"")
    assert names(tmp_path) == ["snapshot-100-1", "snapshot-10-1", "snapshot-9-1"]


def test_another_clusters_snapshot_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, snapshot(7), ClusterId("other"))
    with pytest.raises(Corrupt, match="belongs to cluster other"):
        read(tmp_path, SnapshotName(Index(7), Term(1)))


def test_a_renamed_snapshot_is_refused(tmp_path: Path) -> None:
    stored(tmp_path, snapshot(7))
    (tmp_path / "snapshot-7-1").rename(tmp_path / "snapshot-8-1")
    with pytest.raises(Corrupt, match="holds another snapshot: index 7 of term 1"):
        read(tmp_path, SnapshotName(Index(8), Term(1)))


def test_every_cut_and_every_flipped_byte_of_a_snapshot_is_noticed(tmp_path: Path) -> None:
    stored(tmp_path, snapshot(7))
    path, name = tmp_path / "snapshot-7-1", SnapshotName(Index(7), Term(1))
    whole = path.read_bytes()
    flipped = [
        whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in range(len(whole))
    ]
    for damaged in (*flipped, *(whole[:i] for i in range(len(whole))), whole + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match="snapshot-7-1"):
            read(tmp_path, name)


@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.lists(st.binary(max_size=60), max_size=6).map(framed),
        st.lists(st.binary(max_size=60).map(zlib.compress), max_size=6).map(framed),
    )
)
def test_whatever_a_file_with_a_fitting_checksum_holds_only_our_errors_come(
    tmp_path_factory: pytest.TempPathFactory, body: bytes
) -> None:
    """A checksum proves that the bytes are the sender's, not that the sender was sane."""
    path = tmp_path_factory.mktemp("fuzz") / "snapshot-7-1"
    name = SnapshotName(Index(7), Term(1))
    whole = snapshots_module._MAGIC + body
    path.write_bytes(whole + hashlib.blake2b(whole, digest_size=32).digest())
    with pytest.raises(Corrupt):
        check_snapshot(path, CLUSTER, name)
    with suppress(Corrupt):
        for part in read_slices(path, name):
            assert len(part) <= snapshots_module.MAX_FRAME_BYTES


def test_a_frame_that_inflates_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "MAX_FRAME_BYTES", 10_000)
    path, name = tmp_path / "snapshot-7-1", SnapshotName(Index(7), Term(1))
    whole = snapshots_module._MAGIC + framed([zlib.compress(bytes(10_001))])
    path.write_bytes(whole + hashlib.blake2b(whole, digest_size=32).digest())
    with pytest.raises(Corrupt, match="cut short or too long"):
        check_snapshot(path, CLUSTER, name)
