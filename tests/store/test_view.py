"""How a view is searched, and that it is one value."""

import pytest

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.errors import Conflict, NotFound
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.slices import (
    SLICE_BYTES,
    decode_view,
    encode_view,
    view_of_slices,
    view_slices,
)
from tests.support.builders import NOW_MS, node, service, task, view

N1, WEB = node("n1"), service("web")
HERE = view([N1, node("n2")], [WEB], [task(WEB, 1, N1, id="abc"), task(WEB, 2, id="abd")])


def test_objects_are_found_by_name_or_a_unique_prefix_of_their_id() -> None:
    assert HERE.find_service("web") == WEB
    assert HERE.find_service("id-w") == WEB
    assert HERE.find_node("n1").id == HERE.find_node("id-n1").id == N1.id
    assert HERE.find_task("abc").slot == 1


def test_a_prefix_of_several_is_refused_with_their_ids() -> None:
    with pytest.raises(Conflict) as raised:
        HERE.find_task("ab")
    assert raised.value.message == "2 tasks have ids that begin with 'ab': abc, abd"


@pytest.mark.parametrize("text", ["", "ghost"])
def test_what_nobody_is_called_is_not_found(text: str) -> None:
    with pytest.raises(NotFound) as raised:
        HERE.find_service(text)
    assert raised.value.hint == "meshswarm service ls"


def test_rows_come_in_a_stable_order() -> None:
    dead = task(WEB, 1, N1, id="aaa", created_at_ms=NOW_MS + 1)
    rows = view([N1], [WEB], [task(WEB, 2, N1), dead, task(WEB, 1, N1, id="z")])
    assert [one.id for one in rows.tasks_of(WEB.id)] == ["z", "aaa", "web-2"]
    assert [one.id for one in HERE.unplaced_tasks()] == ["abd"]
    assert [one.name for one in HERE.sorted_nodes()] == ["n1", "n2"]


def test_an_older_view_does_not_change_when_a_newer_one_is_made() -> None:
    before = encode_view(HERE)
    view([N1], [WEB], [])
    assert before == encode_view(HERE)


def test_a_large_view_is_encoded_in_small_slices_sorted_by_key() -> None:
    services = [service(f"s{number}", replicas=0) for number in range(20_000)]
    large = view([N1], services, [])
    slices = list(view_slices(large))
    assert max(map(len, slices)) < SLICE_BYTES + 1_000
    decoded = view_of_slices(slices)
    assert decoded == large
    assert list(view_slices(decoded)) == slices
    names = [row["id"] for part in slices[1:] for row in codec.loads(part)[1] if "spec" in row]  # type: ignore[index]
    assert names == sorted(one.id for one in services)


def test_a_view_that_lacks_a_slice_is_refused() -> None:
    position, *slices = view_slices(HERE)
    for missing in range(len(slices)):
        with pytest.raises(Undecodable, match=r"\d rows less than the view has"):
            view_of_slices([position, *slices[:missing], *slices[missing + 1 :]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\xa0",
        b"\0\0\0\1\xa0",
        *(encode_view(HERE)[:cut] for cut in (3, 4, 7, 30, -1)),
    ],
)
def test_bytes_that_hold_no_view_are_refused(data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_view(data)


def test_a_log_entry_of_another_shape_is_refused() -> None:
    with pytest.raises(Undecodable, match="not a log entry"):
        LogEntry.decoded(b"\x83\x01\x02\x03")
