"""Configs as packed rows: what is put in comes out, and what is no row is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.ids import Index, Version
from meshswarm.model.config import Config
from meshswarm.store.config_table import Configs, packed
from meshswarm.store.feed import Delta, follow
from meshswarm.store.slices import (
    SLICE_BYTES,
    decode_view,
    encode_view,
    framed,
    view_of_slices,
    view_slices,
)
from meshswarm.store.view import View

numbers = st.integers(0, 2**63)
config = st.builds(
    Config,
    name=st.text(max_size=3),
    data=st.binary(max_size=40),
    labels=st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    version=numbers.map(Version),
    created_at_ms=numbers,
    updated_at_ms=numbers,
)
configs = st.lists(config, max_size=12, unique_by=lambda one: one.name)


@given(configs)
def test_a_table_holds_what_it_is_made_of(rows: list[Config]) -> None:
    table = Configs.of(rows)
    assert {row.name: row for row in rows} == dict(table)
    assert len(rows) == len(table)
    assert None is table.get("longer than any")
    for row in rows:
        assert row.name in table
        assert Configs.of(one for one in rows if one is not row) == table.without(row.name)


@given(configs)
def test_equal_tables_encode_alike_and_come_back(rows: list[Config]) -> None:
    view = View(configs=Configs.of(rows))
    encoded = encode_view(view)
    assert view == decode_view(encoded)
    assert encoded == encode_view(View(configs=Configs.of(reversed(rows))))


def test_slices_end_with_the_row_that_passes_their_size() -> None:
    sizes = [10, SLICE_BYTES, 1, *[1_000] * 2_000]
    rows = [
        Config(
            name=f"{number:04}",
            data=bytes(size),
            version=Version(1),
            created_at_ms=2,
            updated_at_ms=3,
        )
        for number, size in enumerate(sizes)
    ]
    view = View(configs=Configs.of(rows))
    _, *slices = view_slices(view)
    assert 2 == len(codec.loads(slices[0])[1])  # type: ignore[index]
    assert max(map(len, slices[1:])) < SLICE_BYTES + 2_000
    assert view == view_of_slices(view_slices(view))


@pytest.mark.parametrize(
    "table",
    [
        [6, ["a"], [b"short"]],
        [6, ["a"], [bytes(27)]],
        [6, ["a"], [bytes(27) + b"\1"]],
        [6, ["a"], [bytes(27) + b"\1\x01"]],
        [6, ["a"], []],
        [6, [1], [bytes(28)]],
        [6, ["a"], ["text" * 10]],
        [6, ["a", "b"], [bytes(28)]],
        [5, ["a"], [bytes(28)]],
        [6, [{"name": "a", "data": b"", "version": 1, "created_at_ms": 1, "updated_at_ms": 1}]],
    ],
    ids=str,
)
def test_what_are_no_packed_rows_is_refused(table: list[object]) -> None:
    parts = (codec.dumps([0, 0, 0, 0, 1]), codec.dumps(table))
    with pytest.raises(Undecodable):
        decode_view(b"".join(map(framed, parts)))


def test_numbers_that_no_row_has_are_refused() -> None:
    wrong = Config(name="a", data=b"", version=Version(-1), created_at_ms=0, updated_at_ms=0)
    with pytest.raises(Undecodable):
        packed(wrong)
    with pytest.raises(Undecodable):
        follow(View(), Delta(index=Index(1), term=View().term, clock_ms=0, configs=(wrong,)))
