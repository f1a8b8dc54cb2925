"""A log that was changed anywhere: what was acknowledged is there, or it is told that it is not.

The counterpart of `test_journal_damage`, without a journal around it, so that every byte has its
turn. A log without faults whose newest commit is the one that the mark knows must be the log that
was written; one that ends earlier is behind its mark, and the journal does not trust it.
"""

import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster.journal_records import (
    FORMAT,
    Head,
    Identity,
    Segment,
    head_bytes,
    read_head,
    read_segment,
    record_at,
    record_bytes,
    records_after,
    segment_bytes,
)
from meshswarm.cluster.journal_scan import (
    Contents,
    Places,
    examine,
    segment_name,
    segment_numbers,
)
from meshswarm.cluster.journal_segments import Log
from meshswarm.errors import Conflict, Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import Entry, EntryKind, HardState
from tests.cluster.journal_world import CLUSTER, CONF, NODE, entries, hard_state

IDENTITY = Identity(CLUSTER, NODE, CONF)
SEGMENT = 1_024
SECTOR = 512


@pytest.fixture(autouse=True, scope="module")
def small_segments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", SEGMENT)
        yield


def head_after(number: int) -> Head:
    """What the log says after its commit of that number; one entry came with each."""
    return Head(
        counter=number,
        incarnation=1,
        hard_state=hard_state(1, number // 2),
        last_index=Index(number),
    )


def examined(directory: Path) -> Contents:
    contents = examine(directory)
    assert contents is not None
    return contents


def begun(directory: Path, *, reserved: int = 1) -> Log:
    directory.mkdir()
    Log.create(directory, IDENTITY, head_after(0))
    log = Log(directory, examined(directory))
    log.reserve(reserved)
    return log


def append(log: Log, first: int, last: int, size: int = 100) -> None:
    for number in range(first, last + 1):
        log.append(
            head_after(number), head_bytes(head_after(number)), entries(number, number, size=size)
        )


def test_a_spare_that_comes_while_a_segment_begins_is_for_the_next_one(tmp_path: Path) -> None:
    """Segments begin on one thread, spares are made on another; no file is forgotten."""
    directory = tmp_path / "log"
    log = begun(directory, reserved=0)
    number, sync = 0, log._sync

    def sync_meanwhile(descriptor: int) -> None:
        sync(descriptor)
        if not log._spares and log._offset + 200 > SEGMENT:
            log.reserve(2 * SEGMENT)

    log._sync = sync_meanwhile
    while len(segment_numbers(directory)) < 4:
        number += 1
        append(log, number, number)
        assert sorted(log._spares) == sorted(directory.glob("spare-*"))
    assert log._spares
    log.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three segments, of which the last was another one before."""
    directory = tmp_path_factory.mktemp("scan") / "log"
    log = begun(directory)
    number = 0
    while len(segment_numbers(directory)) < 3:
        number += 1
        append(log, number, number)
        log.tidy()
    log.close()
    last = directory / segment_name(3)
    # What is behind the record could be of an earlier use of the file.
    old = (directory / segment_name(1)).read_bytes()
    last.write_bytes((new := last.read_bytes().rstrip(b"\0")) + old[len(new) :])
    assert last_counter(directory) == number
    return directory


def last_counter(directory: Path) -> int:
    head = examined(directory).head
    assert head is not None
    return head.counter


def judge(directory: Path, whole: Contents) -> str:
    """What is made of a changed log: it is whole, it ends before its mark, or it has faults."""
    contents = examined(directory)
    assert contents.head is not None or contents.faults
    # What was read is what was written, whatever else is told.
    assert all(entry == whole.entries[entry.index - 1] for entry in contents.entries)
    if contents.faults:
        return "faults"
    assert whole.head is not None
    assert contents.head is not None
    if contents.head.counter < whole.head.counter:
        return "behind"
    assert (contents.head, contents.entries) == (whole.head, whole.entries)
    return "whole"


def spans(path: Path) -> list[tuple[int, int]]:
    """Where the head of a segment and its records are, in order."""
    return spans_of(path.read_bytes(), path)


def spans_of(data: bytes, path: Path) -> list[tuple[int, int]]:
    segment = read_segment(data, path.name)
    return [
        (0, segment.start),
        *((record.at, record.end) for record in records_after(data, segment.start, segment)),
    ]


def copied(three: Path, tmp_path: Path) -> Path:
    shutil.copytree(three, tmp_path / "log")
    return tmp_path / "log"


# --- the end of the log ---------------------------------------------------------------------------


@pytest.mark.parametrize("rest", ["nothing", "zeros", "older"])
def test_a_last_record_torn_at_any_byte_is_cut(three: Path, tmp_path: Path, rest: str) -> None:
    directory = copied(three, tmp_path)
    path = directory / segment_name(2)
    (directory / segment_name(3)).unlink()
    data = path.read_bytes()
    start, end = spans(path)[-1]
    whole = last_counter(directory)
    older = bytes(reversed(data))
    for cut in range(start, end):
        behind = {"nothing": b"", "zeros": bytes(len(data) - cut), "older": older[cut:]}[rest]
        path.write_bytes(data[:cut] + behind)
        contents = examined(directory)
        assert () == contents.faults
        assert contents.head == head_after(whole - 1)
        assert contents.entries == entries(1, whole - 1, size=100)


def test_a_commit_in_place_of_a_torn_one_is_the_only_one(three: Path, tmp_path: Path) -> None:
    """The torn one was longer: what is left of it behind the new one is none of the log."""
    directory = copied(three, tmp_path)
    (directory / segment_name(3)).unlink()
    path = directory / segment_name(2)
    data, (start, end) = path.read_bytes(), spans(path)[-1]
    whole = last_counter(directory)
    for torn in (start + 8, (start + end) // 2, end - 1):
        path.write_bytes(data[:torn] + b"?" + data[torn + 1 :])
        log = Log(directory, examined(directory))
        log.append(head_after(whole), head_bytes(head_after(whole)), entries(whole, whole, size=10))
        log.close()
        contents = examined(directory)
        assert () == contents.faults
        assert entries(1, whole - 1, size=100) + entries(whole, whole, size=10) == contents.entries


# --- any place ------------------------------------------------------------------------------------


def test_every_flipped_byte_is_harmless_or_found(three: Path, tmp_path: Path) -> None:
    directory = copied(three, tmp_path)
    whole = examined(directory)
    for number in (1, 2, 3):
        path = directory / segment_name(number)
        data = path.read_bytes()
        used = spans(path)
        for at in range(len(data)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
            is_last = number == 3 and used[-1][0] <= at < used[-1][1]
            is_used = any(start <= at < end for start, end in used)
            only_record = number == 3 and len(used) == 2
            expected = "behind" if is_last and not only_record else "faults" if is_used else "whole"
            assert expected == judge(directory, whole), f"byte {at} of {path.name}"
        path.write_bytes(data)


@pytest.mark.parametrize("what", ["zeros", "another's"])
def test_a_lost_or_misdirected_sector_is_found(three: Path, tmp_path: Path, what: str) -> None:
    """Any sector is zeros, or what belongs to another place: of this use of the file or before."""
    directory = copied(three, tmp_path)
    whole = examined(directory)
    paths = [directory / segment_name(number) for number in (1, 2, 3)]
    sectors = [(path, at) for path in paths for at in range(0, SEGMENT, SECTOR)]
    contents = {path: path.read_bytes() for path in paths}
    found = set()
    for path, at in sectors:
        data = contents[path]
        wrong = {
            "zeros": [bytes(SECTOR)],
            "another's": [
                contents[other][place : place + SECTOR]
                for other, place in sectors
                if (other, place) != (path, at)
            ],
        }[what]
        for sector in wrong:
            path.write_bytes(data[:at] + sector + data[at + SECTOR :])
            used = any(
                data[place] != sector[place - at]
                for start, end in spans_of(data, path)
                for place in range(max(start, at), min(end, at + SECTOR))
            )
            verdict = judge(directory, whole)
            assert used == (verdict != "whole")
            found.add(verdict)
        path.write_bytes(data)
    assert "faults" in found


def test_segments_that_are_missing_or_not_themselves_are_found(three: Path, tmp_path: Path) -> None:
    whole = examined(three)
    names = [segment_name(number) for number in (1, 2, 3)]
    for one in names:
        for other in names:
            directory = tmp_path / f"{one}-{other}"
            shutil.copytree(three, directory)
            if one == other:
                (directory / one).unlink()
            else:
                shutil.copy(three / one, directory / other)
            expected = "behind" if one == other == names[-1] else "faults"
            assert expected == judge(directory, whole)
    swapped = tmp_path / "swapped"
    shutil.copytree(three, swapped)
    shutil.copy(three / names[0], swapped / names[1])
    shutil.copy(three / names[1], swapped / names[0])
    assert "faults" == judge(swapped, whole)


def test_a_segment_of_another_journal_is_none(three: Path, tmp_path: Path) -> None:
    directory = copied(three, tmp_path)
    whole = examined(directory)
    other = tmp_path / "other"
    other.mkdir()
    stranger = Identity(ClusterId("other"), NODE, CONF)
    Log.create(other, stranger, head_after(0))
    log = Log(other, examined(other))
    append(log, 1, last_counter(directory))
    log.close()
    for number in (1, 2):
        shutil.copy(other / segment_name(number), directory / segment_name(number))
        assert "faults" == judge(directory, whole)


def test_a_name_that_a_crash_brought_back_is_no_matter(three: Path, tmp_path: Path) -> None:
    """Segments are removed in order; what is before a gap was removed."""
    directory = copied(three, tmp_path)
    log = Log(directory, examined(directory))
    number = last_counter(directory) + 1
    head = Head(
        counter=number,
        hard_state=HardState(Term(1), None, Index(number - 1)),
        first_index=Index(number),
        last_index=Index(number - 1),
        snapshot_index=Index(number - 1),
        snapshot_term=Term(1),
    )
    log.append(head, head_bytes(head), ())
    assert log.is_untidy
    log.tidy()
    log.close()
    assert [3] == segment_numbers(directory)
    shutil.copy(three / segment_name(1), directory / segment_name(1))
    contents = examined(directory)
    assert ((), ()) == (contents.faults, contents.entries)
    log = Log(directory, contents)
    log.tidy()
    log.close()
    assert [3] == segment_numbers(directory)


# --- what clients write ---------------------------------------------------------------------------


def test_nobody_can_tell_the_salt_of_a_segment_beforehand(three: Path) -> None:
    paths = [three / segment_name(number) for number in (1, 2, 3)]
    salts = {read_segment(path.read_bytes(), path.name).salt for path in paths}
    assert 3 == len(salts)


def test_no_content_is_taken_for_a_record(three: Path, tmp_path: Path) -> None:
    """Records of another log, and of the same one before: whole, behind a commit that is torn."""
    directory = tmp_path / "log"
    log = begun(directory)
    append(log, 1, 2)
    forged = (three / segment_name(2)).read_bytes() + (directory / "log-1").read_bytes()[64:]
    content = Entry(Index(3), Term(1), forged)
    log.append(head_after(3), head_bytes(head_after(3)), [content])
    log.close()
    path = next(path for path in directory.glob("log-*") if forged in path.read_bytes())
    if path.name == "log-1":
        data = path.read_bytes()
        at = data.index(forged)
        path.write_bytes(data[: at - 1] + b"?" + data[at:])
        contents = examined(directory)
        assert ((), head_after(2)) == (contents.faults, contents.head)
    else:
        assert content == examined(directory).entries[-1]


# --- bytes ----------------------------------------------------------------------------------------

NUMBERS = st.integers(0, (1 << 63) - 1)
HEADS = st.builds(
    Head,
    counter=NUMBERS,
    incarnation=NUMBERS,
    hard_state=st.builds(
        HardState,
        term=NUMBERS.map(Term),
        vote=st.none() | st.text(max_size=20).map(NodeId),
        commit=NUMBERS.map(Index),
    ),
    first_index=NUMBERS.map(Index),
    last_index=NUMBERS.map(Index),
    snapshot_index=NUMBERS.map(Index),
    snapshot_term=NUMBERS.map(Term),
    damage=st.text(max_size=40),
)


def segment() -> Segment:
    return read_segment(segment_bytes(7, IDENTITY, b"saltsalt"), "log-7")


@given(head=HEADS, sizes=st.lists(st.integers(0, 50), max_size=4), first=st.integers(1, 1 << 40))
def test_records_are_read_back_as_they_were_written(
    head: Head, sizes: list[int], first: int
) -> None:
    written = [
        Entry(Index(first + at), Term(size), bytes([at]) * size, list(EntryKind)[size % 3])
        for at, size in enumerate(sizes)
    ]
    data = b"before" + b"".join(record_bytes(segment(), head_bytes(head), written)) + b"behind"
    record = record_at(data, 6, segment())
    assert record is not None
    assert (head.counter, head.first_index) == (record.counter, record.first_index)
    assert (head, written) == (record.head(), record.entries())
    assert len(data) - 6 == record.end
    assert None is record_at(data, 5, segment())


@given(data=st.binary(max_size=200), at=st.integers(0, 300))
def test_whatever_is_read_only_our_errors_come(data: bytes, at: int) -> None:
    for read in (lambda: read_head(data, at), lambda: read_segment(data, "log-1")):
        with pytest.raises(Corrupt):
            read()
    assert None is record_at(data, at, segment())


@given(body=st.binary(max_size=300), count=st.integers(0, 1 << 32), data=st.data())
def test_a_record_whose_checksum_fits_may_still_make_no_sense(
    body: bytes, count: int, data: st.DataObject
) -> None:
    """A checksum proves that the bytes are the writer's, not that the writer was sane."""
    head = head_bytes(data.draw(HEADS))
    pieces = record_bytes(segment(), head + body, ())
    forged = count.to_bytes(5, "big")[1:] + data.draw(st.binary(min_size=8, max_size=8))
    whole = sealed(pieces[1][:4] + forged + pieces[1][16:])
    record = record_at(whole, 0, segment())
    assert record is not None
    for read in (record.head, record.entries):
        with suppress(Corrupt):
            read()


def sealed(body: bytes) -> bytes:
    return segment().salt + zlib.crc32(body, segment().seed).to_bytes(4, "big") + body


def test_another_format_is_refused_only_if_it_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("meshswarm.cluster.journal_records.FORMAT", FORMAT + 1)
        newer = segment_bytes(7, IDENTITY, b"saltsalt")
    with pytest.raises(Conflict, match=f"has format {FORMAT + 1}"):
        read_segment(newer, "log-7")
    with pytest.raises(Corrupt, match="log-7 is damaged"):
        read_segment(newer[:-1] + b"?", "log-7")


def test_places_know_the_last_record_of_each_entry() -> None:
    places = Places()
    for first, number, offset in ((1, 1, 10), (5, 1, 20), (9, 2, 10), (7, 2, 20), (8, 3, 10)):
        places.add(first, number, offset)
    found = [*places.between(2, 9)]
    assert [(1, 10, 5), (1, 20, 7), (2, 20, 8), (3, 10, 9)] == found
    assert [(1, 20, 6)] == [*places.between(5, 6)]
    places.drop(6, 9)
    assert [1, 2, 3] == [*places.numbers]
    places.drop(7, 8)
    assert [(2, 20, 8)] == [*places.between(1, 8)]
    places.drop(8, 8)
    assert [] == [*places.between(1, 8)]
