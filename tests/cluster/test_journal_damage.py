"""Damaged files: the journal tells the truth or says that it cannot; it never guesses."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meshswarm.cluster.journal import Damage, JournalWrite, Recovered
from meshswarm.cluster.journal_check import inspect
from meshswarm.cluster.journal_mark import SLOT_BYTES, Mark, MarkFile
from meshswarm.cluster.journal_records import Head, read_segment, records_after
from meshswarm.cluster.journal_recovery import MAX_DAMAGED
from meshswarm.cluster.journal_scan import segment_name, segment_numbers
from meshswarm.ids import Index
from meshswarm.raft.types import HardState
from tests.cluster.journal_world import (
    CLUSTER,
    NODE,
    entries,
    hard_state,
    holds,
    live,
    number_of,
    open_journal,
    save,
    snapshot,
    state_after,
    write_number,
    written,
)

WRITES = 60
SEGMENT = 16_384


@pytest.fixture(scope="module", autouse=True)
def small_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", SEGMENT)
        yield


async def _lived(
    directory: Path, writes: int, copies: dict[int, Path], *, saves: bool, reserved_bytes: int = 1
) -> None:
    """Live that many writes one by one; copy the files, as a crash would leave them, after some."""
    journal, _ = open_journal(directory, reserved_bytes=reserved_bytes)
    for number in range(1, writes + 1):
        write, state = write_number(number, state_after(number - 1))
        await written(journal, write)
        if saves and number in (writes // 2, writes * 3 // 4):
            commit = state.hard_state.commit
            await save(journal, snapshot(commit, state.entries[commit - 1].term), keep=20)
        if number in copies:
            shutil.copytree(directory, copies[number])
    await journal.close()


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory as a kill leaves it (`crashed`), and as a clean end does (`closed`).

    In both the log is in several segments, of which some had been others before.
    """
    root = tmp_path_factory.mktemp("journal")
    asyncio.run(_lived(root / "closed", WRITES, {WRITES: root / "crashed"}, saves=True))
    numbers = segment_numbers(root / "crashed")
    assert numbers[0] > 1
    assert len(numbers) > 1
    return {"crashed": root / "crashed", "closed": root / "closed"}


def reopened(directory: Path) -> Recovered:
    async def read() -> Recovered:
        journal, recovered = open_journal(directory)
        await journal.close()
        return recovered

    return asyncio.run(read())


def is_recovering(recovered: Recovered, old: HardState) -> bool:
    """Whether nothing is claimed but what is known: an empty log, the old term and vote."""
    base = recovered.snapshot.meta.index if recovered.snapshot else 0
    return (
        recovered.damage is not None
        and recovered.entries == ()
        and recovered.hard_state == HardState(old.term, old.vote, Index(base))
    )


@pytest.mark.parametrize("life", ["crashed", "closed"])
def test_undamaged_copies_are_complete(lives: dict[str, Path], life: str, tmp_path: Path) -> None:
    shutil.copytree(lives[life], tmp_path / "copy")
    recovered = reopened(tmp_path / "copy")
    assert recovered.damage is None
    assert number_of(recovered, [WRITES]) == WRITES


@settings(max_examples=40)  # each opens a journal, with real syncs
@given(
    life=st.sampled_from(["crashed", "closed"]),
    pick=st.integers(0, 1 << 16),
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_s64_a_flipped_bit_is_harmless_or_found(
    lives: dict[str, Path], life: str, pick: int, where: float, bit: int
) -> None:
    old = state_after(WRITES)
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "copy"
        shutil.copytree(lives[life], directory)
        files = sorted(path for path in directory.iterdir() if path.name != "lock")
        path = files[pick % len(files)]
        data = bytearray(path.read_bytes())
        offset = int(where * len(data))
        data[offset] ^= 1 << bit
        path.write_bytes(data)
        told = inspect(directory)
        recovered = reopened(directory)
        if recovered.damage is None:
            assert recovered.hard_state == old.hard_state
            assert holds(recovered, old)
        else:
            assert is_recovering(recovered, old.hard_state)
            assert told.faults
        again = reopened(directory)
        assert again.damage == recovered.damage
        assert again.hard_state == recovered.hard_state
        assert again.incarnation == recovered.incarnation + 1


@settings(max_examples=40)  # each opens a journal, with real syncs
@given(data=st.data(), pick=st.integers(0, 1 << 16))
def test_garbage_and_cuts_never_break_the_start(
    lives: dict[str, Path], data: st.DataObject, pick: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "copy"
        shutil.copytree(lives["crashed"], directory)
        names = [*map(segment_name, segment_numbers(directory)), "journal.mark"]
        path = directory / names[pick % len(names)]
        whole = path.read_bytes()
        start = data.draw(st.integers(0, len(whole) - 1))
        garbage = data.draw(st.binary(max_size=4_096))
        keeps_the_rest = data.draw(st.booleans())
        rest = whole[start + len(garbage) :] if keeps_the_rest else b""
        path.write_bytes(whole[:start] + garbage + rest)
        recovered = reopened(directory)
        old = state_after(WRITES)
        if recovered.damage is None:
            assert recovered.hard_state == old.hard_state
            assert holds(recovered, old)
        else:
            assert is_recovering(recovered, old.hard_state)


class Torn(NamedTuple):
    """A directory after 20 writes, and after 40."""

    early: Path
    late: Path


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Torn]:
    """Once with segments that were made beforehand, once with some that end at their last record.

    Of a manager's segments any may be the one or the other: the next is made on another thread.
    """
    root = tmp_path_factory.mktemp("torn")
    found = {}
    for kind, reserved_bytes in {"made before": 1, "grown": 0}.items():
        found[kind] = Torn(root / f"early {kind}", root / f"late {kind}")
        copies = {20: found[kind].early, 40: found[kind].late}
        life = _lived(root / kind, 40, copies, saves=False, reserved_bytes=reserved_bytes)
        asyncio.run(life)
    return found


def _commits(directory: Path) -> list[tuple[int, int, int]]:
    """All commits of a sound log, in order: segment, where it begins, where it ends."""
    found = list[tuple[int, int, int]]()
    for number in segment_numbers(directory):
        data = (directory / segment_name(number)).read_bytes()
        segment = read_segment(data, "")
        records = records_after(data, segment.start, segment)
        found += ((number, record.at, record.end) for record in records)
    return found


@settings(max_examples=40)  # each opens a journal, with real syncs
@given(
    kind=st.sampled_from(["made before", "grown"]),
    pick=st.integers(0, 19),
    where=st.floats(0, 1),
    rest=st.sampled_from(["cut", "zero", "old"]),
)
# The bytes that lay there before happen to be those that were to be written.
@example(kind="grown", pick=3, where=0.875, rest="old")
def test_s62_s63_a_torn_tail_that_was_never_acknowledged_is_cut(
    torn: dict[str, Torn], kind: str, pick: int, where: float, rest: str
) -> None:
    """After a power cut the mark is older than the log, and the log may end anywhere after it."""
    early, late = torn[kind]
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "copy"
        shutil.copytree(late, directory)
        shutil.copy(early / "journal.mark", directory / "journal.mark")
        before, (number, at, end) = _commits(late)[pick - 21 :][:2]
        path = directory / segment_name(number)
        whole, cut = path.read_bytes(), at + round(where * (end - at))
        beyond = {
            "cut": b"",
            "zero": bytes(len(whole) - cut),
            "old": whole[::-1][: len(whole) - cut],
        }
        left = whole[:cut] + beyond[rest]
        path.write_bytes(left)
        is_whole = left[:end] == whole[:end]
        # A segment has its name only once its first commit is durable.
        is_nameless = not is_whole and before[0] < number
        for later in segment_numbers(directory):
            if later > number or (later == number and is_nameless):
                (directory / segment_name(later)).unlink()
        recovered = reopened(directory)
        assert recovered.damage is None
        expected = 20 + pick + is_whole
        assert expected == number_of(recovered, [expected])
        assert holds(reopened(directory), state_after(expected))


async def test_s07_a_vote_cut_anywhere_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    directory = tmp_path / "raft"
    journal, _ = open_journal(directory)
    await written(journal, JournalWrite(token=1, hard_state=hard_state(1, 0)))
    shutil.copytree(directory, tmp_path / "early")
    await written(journal, JournalWrite(token=2, hard_state=hard_state(2, 0)))
    shutil.copytree(directory, tmp_path / "late")
    await journal.close()
    shutil.copy(tmp_path / "early" / "journal.mark", tmp_path / "late" / "journal.mark")
    whole = (tmp_path / "late" / "log-1").read_bytes()
    durable = _commits(tmp_path / "early")[-1][2]
    assert durable < len(whole)
    found = []
    for end in range(durable, len(whole) + 1):
        copy = tmp_path / f"cut-{end}"
        shutil.copytree(tmp_path / "late", copy)
        (copy / "log-1").write_bytes(whole[:end])
        journal, recovered = open_journal(copy)
        await journal.close()
        shutil.rmtree(copy)
        assert recovered.damage is None
        found.append(recovered.hard_state)
    assert {hard_state(1, 0)} == {*found[:-1]}
    assert hard_state(2, 0) == found[-1]


@settings(max_examples=40)  # each opens a journal, with real syncs
@given(
    kind=st.sampled_from(["made before", "grown"]),
    pick=st.integers(0, 19),
    hole=st.floats(0, 1),
    length=st.integers(1, 20_000),
)
def test_s69_a_later_part_that_came_before_an_earlier_one_is_cut(
    torn: dict[str, Torn], kind: str, pick: int, hole: float, length: int
) -> None:
    """Of a commit under way a power cut may leave the end without the middle; it was the last one.

    A hole in one that others follow is not that: those were written once it was durable.
    """
    early, late = torn[kind]
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root) / "copy"
        shutil.copytree(late, directory)
        shutil.copy(early / "journal.mark", directory / "journal.mark")
        number, at, end = _commits(late)[pick - 20]
        data = bytearray((directory / segment_name(number)).read_bytes())
        start = min(end - 1, at + round(hole * (end - at)))
        hole_end = min(start + length, end)
        if not any(data[start:hole_end]):
            return  # a hole in nothing but zeros
        data[start:hole_end] = bytes(hole_end - start)
        (directory / segment_name(number)).write_bytes(data)
        recovered = reopened(directory)
        if pick == 19:
            assert recovered.damage is None
            assert 39 == number_of(recovered, [39])
        else:
            assert recovered.damage is not None
            assert is_recovering(recovered, state_after(40).hard_state)


def test_s64_an_acknowledged_write_that_is_gone_is_damage(
    lives: dict[str, Path], tmp_path: Path
) -> None:
    """The log alone would seem to end before it: as if the vote had never been given."""
    directory = tmp_path / "copy"
    shutil.copytree(lives["crashed"], directory)
    number, _, end = _commits(directory)[-1]
    path = directory / segment_name(number)
    path.write_bytes(path.read_bytes()[: end - 1])
    recovered = reopened(directory)
    assert recovered.damage is not None
    assert "acknowledged" in recovered.damage.what
    assert is_recovering(recovered, state_after(WRITES).hard_state)


def test_s68_a_missing_mark_is_damage(lives: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(lives["closed"], directory)
    (directory / "journal.mark").unlink()
    recovered = reopened(directory)
    assert recovered.damage is not None
    assert "journal.mark is missing" in recovered.damage.what
    assert is_recovering(recovered, state_after(WRITES).hard_state)


def test_s68_a_missing_file_is_damage(lives: dict[str, Path], tmp_path: Path) -> None:
    """Any segment of the log, and all of them."""
    names = [segment_name(number) for number in segment_numbers(lives["closed"])]
    for missing in ([name] for name in names), [names]:
        for gone in missing:
            directory = tmp_path / f"without-{len(gone)}-{gone[0]}"
            shutil.copytree(lives["closed"], directory)
            for name in gone:
                (directory / name).unlink()
            recovered = reopened(directory)
            assert recovered.damage is not None
            assert is_recovering(recovered, state_after(WRITES).hard_state)


@pytest.mark.parametrize("left", ["log-*", "spare-*", "snapshot-*", "journal.mark"])
def test_s68_what_is_left_of_a_journal_without_its_main_files_is_no_empty_disk(
    lives: dict[str, Path], tmp_path: Path, left: str
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(lives["crashed"], directory)
    (directory / "spare-9").write_bytes(bytes(SEGMENT))  # there or not, as compaction was so far
    kept, *_ = sorted(directory.glob(left))
    for path in directory.iterdir():
        if path.name not in ("lock", kept.name):
            path.unlink()
    assert reopened(directory).damage is not None


def test_lost_term_and_vote_are_told_and_the_incarnation_still_grows(
    lives: dict[str, Path], tmp_path: Path
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(lives["closed"], directory)
    (directory / "journal.mark").unlink()
    for number in segment_numbers(directory):
        (directory / segment_name(number)).write_bytes(b"nothing like a log")
    recovered = reopened(directory)
    assert recovered.damage is not None
    assert "term and vote are lost" in recovered.damage.what
    assert recovered.snapshot is not None
    assert recovered.hard_state == HardState(
        recovered.snapshot.meta.term, None, recovered.snapshot.meta.index
    )
    assert recovered.incarnation > 1_000_000
    assert reopened(directory).incarnation == recovered.incarnation + 1


async def test_damage_is_remembered_until_it_is_healed(
    lives: dict[str, Path], tmp_path: Path
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(lives["closed"], directory)
    for number in segment_numbers(directory):
        (directory / segment_name(number)).unlink()
    journal, first = open_journal(directory)
    await journal.close()
    journal, second = open_journal(directory)
    assert isinstance(first.damage, Damage)
    assert second.damage == first.damage
    start = second.hard_state.commit
    term = second.hard_state.term
    await written(journal, JournalWrite(token=1, entries=entries(start + 1, start + 3, term=term)))
    await journal.mark_healed()
    assert journal.stats()["damage"] is None
    await journal.close()
    journal, third = open_journal(directory)
    await journal.close()
    assert third.damage is None
    assert third.entries == entries(start + 1, start + 3, term=term)


def test_evidence_is_kept_but_not_without_limit(lives: dict[str, Path], tmp_path: Path) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(lives["closed"], directory)
    for number in range(1, MAX_DAMAGED + 3):
        last = segment_numbers(directory)[-1]
        (directory / segment_name(last)).write_bytes(b"garbage %d" % number)
        assert reopened(directory).damage is not None
        assert [1] == segment_numbers(directory)
    kept = sorted(path.name for path in directory.glob("*.damaged-?"))
    assert kept == [f"log.damaged-{n}" for n in range(1, MAX_DAMAGED + 1)]
    numbers = segment_numbers(directory / "log.damaged-1")
    assert segment_numbers(lives["closed"]) == numbers, "the whole log"
    assert (directory / f"log.damaged-{MAX_DAMAGED}" / "log-1").read_bytes() == b"garbage 10"


async def test_a_start_that_a_crash_ended_is_begun_again(tmp_path: Path) -> None:
    journal, _ = open_journal(tmp_path / "new")
    await journal.close()
    mark = (tmp_path / "new" / "journal.mark").read_bytes()
    # The first slot says that nothing was ever acknowledged; the log was not finished.
    (tmp_path / "new" / "journal.mark").write_bytes(mark[:SLOT_BYTES])
    for left in (b"", None):
        (tmp_path / "new" / "log-1").unlink()
        if left is not None:
            (tmp_path / "new" / "log-1").write_bytes(left)
        copy = tmp_path / f"copy-{left!r}"
        shutil.copytree(tmp_path / "new", copy)
        (tmp_path / "new" / "log-1").write_bytes(b"")
        journal, recovered = open_journal(copy)
        await written(journal, JournalWrite(token=1, hard_state=hard_state(1, 0)))
        await journal.close()
        assert recovered.damage is None
        assert recovered.incarnation == 1


async def test_a_mark_as_old_as_the_directory_disowns_nothing(tmp_path: Path) -> None:
    """A power cut may leave the mark far behind; the log is right all the same."""
    await live(tmp_path / "raft", 0, 5, snapshots=False)
    mark = Mark(CLUSTER, NODE, Head())
    MarkFile.create(tmp_path / "raft" / "journal.mark", mark).close()
    journal, recovered = open_journal(tmp_path / "raft")
    await journal.close()
    assert recovered.damage is None
    assert number_of(recovered, [5]) == 5
