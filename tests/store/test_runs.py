"""Commands of one kind that follow each other are carried out together, as if they were not."""

from collections.abc import Sequence
from itertools import chain

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.errors import MeshswarmError
from meshswarm.ids import Index, Term, Version
from meshswarm.store import configs
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import (
    Batch,
    Group,
    PutConfig,
    RemoveConfig,
    decode_command,
    encode_command,
)
from meshswarm.store.configs import MAX_CONFIG_BYTES
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Key, View

names = st.sampled_from("abc")
puts = st.builds(
    PutConfig,
    name=names,
    data=st.sampled_from([b"", b"1", b"2", bytes(MAX_CONFIG_BYTES + 1)]),
    labels=st.sampled_from([{}, {"a": "b"}]),
    version=st.none() | st.integers(0, 3).map(Version),
)
runs = st.lists(puts | st.builds(RemoveConfig, name=names), max_size=12)


plain_puts = st.builds(
    PutConfig,
    name=st.sampled_from("abcd"),
    data=st.sampled_from([b"1", b"2", b"3", b"4", b"x4", b"", bytes(MAX_CONFIG_BYTES + 1)]),
)
"""As they come by the thousand: in columns, without labels or versions."""


@given(
    st.lists(puts | plain_puts, max_size=4),
    st.lists(st.lists(plain_puts, min_size=2, max_size=4), min_size=2, max_size=3),
    st.booleans(),
)
def test_what_is_carried_out_by_the_column_is_what_one_by_one_would_be(
    earlier: list[PutConfig], batches: list[list[PutConfig]], is_pinned: bool
) -> None:
    _assert_alike(earlier, batches, is_pinned)


@pytest.mark.parametrize("is_pinned", [False, True])
@pytest.mark.parametrize("present", ["ab", "abc", "abcd"])
@pytest.mark.parametrize(
    "batches",
    [
        ["a1 b1", "c1 d1"],
        ["a1 b2", "a2 b1"],
        ["a1 b2", "a1 b1"],
        ["a0 b2", "b1 b3"],
        ["a1 a0", "b1 b2"],
        ["a1 b1", "b2 a0"],
        ["c1 c2", "d1 d2"],
        ["a1 b1", "c1 e1"],
    ],
)
def test_by_the_column_too_what_is_special_is_seen(
    present: str, batches: list[str], is_pinned: bool
) -> None:
    earlier = [PutConfig(name=name, data=b"0") for name in present]
    asked = [
        [PutConfig(name=put[0], data=put[1:].encode()) for put in batch.split()]
        for batch in batches
    ]
    _assert_alike(earlier, asked, is_pinned)


def _assert_alike(
    earlier: Sequence[PutConfig], batches: Sequence[Sequence[PutConfig]], is_pinned: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "MAX_CONFIGS", 4)
        view = evolve(View(), index=Index(7), term=Term(1), clock_ms=5)
        for command in earlier:
            view = apply_command(view, command).view
        pins = Map({"config/a": Map({Version(7): Map({"S/1": None})})}) if is_pinned else Map()
        begun = view = evolve(view, index=Index(8), clock_ms=9, pins=pins)
        parts, changed = list[list[Outcome]](), frozenset[Key]()
        for batch in batches:
            parts.append([])
            for command in batch:
                applied = apply_command(view, command)
                view = applied.view
                parts[-1].append(applied.outcome)
                changed |= applied.changed
        of_batches = _read(Group(commands=tuple(Batch(commands=tuple(some)) for some in batches)))
        together = apply_command(begun, of_batches)
        assert (view, changed) == (together.view, together.changed)
        assert [_refused(*pair) for pair in zip(batches, parts, strict=True)] == [
            list(part.effects) for part in together.outcome.parts
        ]
        singly = apply_command(begun, _read(Group(commands=tuple(chain.from_iterable(batches)))))
        assert (view, changed) == (singly.view, singly.changed)
        assert tuple(chain.from_iterable(parts)) == singly.outcome.parts


def _read(group: Group) -> Group:
    """The same, as a manager has it."""
    found = decode_command(encode_command(group))
    assert isinstance(found, Group)
    return found


def _refused(commands: Sequence[object], parts: Sequence[Outcome]) -> list[tuple[str, str]]:
    return [
        (type(command).__name__, f"refused: {error.message}")
        for command, part in zip(commands, parts, strict=True)
        if isinstance(error := part.error, MeshswarmError)
    ]


@given(runs)
def test_a_run_does_what_its_commands_do_one_by_one(commands: list[PutConfig]) -> None:
    begun = evolve(View(), index=Index(7), term=Term(1), clock_ms=5)
    view, parts = begun, list[Outcome]()
    changed = frozenset[Key]()
    for command in commands:
        applied = apply_command(view, command)
        view = applied.view
        parts.append(applied.outcome)
        changed |= applied.changed
    together = apply_command(begun, Group(commands=tuple(commands)))
    assert (view, tuple(parts), changed) == (
        together.view,
        together.outcome.parts,
        together.changed,
    )
    batch = apply_command(begun, Batch(commands=tuple(commands)))
    assert (view, changed) == (batch.view, batch.changed)
    assert _refused(commands, parts) == list(batch.outcome.effects)


@given(puts)
def test_a_put_of_a_config_is_read_back_as_it_was(command: PutConfig) -> None:
    assert command == decode_command(encode_command(command))


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"name": "a"},
        {"name": 1, "data": b""},
        {"name": "a", "data": "text"},
        {"name": "a", "data": b"", "more": 1},
        {"name": "a", "data": b"", "labels": 1},
        {"name": "a", "data": b"", "version": "one"},
    ],
    ids=str,
)
def test_what_is_no_put_of_a_config_is_not_taken_for_one(plain: dict[str, object]) -> None:
    data = codec.dumps({**plain, codec.TAG: "PutConfig"})
    with pytest.raises(Undecodable):
        decode_command(data)
