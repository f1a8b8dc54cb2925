"""Commands of one kind that follow each other are carried out together, as if they were not."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.errors import MeshswarmError
from meshswarm.ids import Index, Term, Version
from meshswarm.store.apply import apply_command
from meshswarm.store.commands import (
    Batch,
    Group,
    PutConfig,
    RemoveConfig,
    decode_command,
    encode_command,
)
from meshswarm.store.outcome import Outcome
from meshswarm.store.users import MAX_CONFIG_BYTES
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
    refused = [
        (type(command).__name__, f"refused: {error.message}")
        for command, part in zip(commands, parts, strict=True)
        if isinstance(error := part.error, MeshswarmError)
    ]
    assert refused == list(batch.outcome.effects)


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
