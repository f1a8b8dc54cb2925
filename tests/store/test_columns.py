"""Commands side by side: what was put into columns comes out as it was, or is refused."""

from collections.abc import Callable

import pytest
from attrs import Factory, frozen
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.columns import Columns
from meshswarm.ids import Version
from meshswarm.making import maker
from meshswarm.model.config import Config
from meshswarm.store.commands import (
    Batch,
    Command,
    Group,
    PutConfig,
    RemoveConfig,
    Simple,
    decode_command,
    encode_command,
)
from meshswarm.store.config_table import Configs
from meshswarm.store.gathered import sent, waiting
from meshswarm.store.slices import decode_view, encode_view
from meshswarm.store.view import View
from tests.support.commands import simple

alike = st.lists(simple, max_size=12).map(
    lambda some: tuple(sorted(some, key=lambda command: type(command).__name__))
)


@given(alike)
def test_commands_of_a_kind_come_out_of_their_columns_as_they_went_in(
    commands: tuple[Simple, ...],
) -> None:
    for whole in (Batch(commands=commands, cause="x"), Group(commands=commands)):
        assert whole == decode_command(encode_command(whole))
        assert whole == decode_command(codec.encode(whole, Simple | Batch | Group))


sizes = st.sampled_from((0, 1, 23, 24, 255, 256, 65_535, 65_536))


@given(st.sampled_from(("", "web", "n" * 23, "n" * 24, "\u00fc" * 11, "\u00fc" * 12)), sizes)
def test_a_config_is_read_as_in_the_general_way(name: str, size: int) -> None:
    command = PutConfig(name=name, data=bytes(size))
    assert command == decode_command(encode_command(command))
    assert command == _in_general(encode_command(command))


@given(st.data())
def test_no_bytes_are_taken_for_a_config_that_are_none(data: st.DataObject) -> None:
    put = PutConfig(name="name", data=bytes(data.draw(st.sampled_from((0, 9, 30, 300)))))
    encoded = bytearray(encode_command(put))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(encoded), 40) - 1))
        value = data.draw(st.integers(0, 255))
        match data.draw(st.sampled_from(("change", "cut", "insert"))):
            case "change":
                encoded[at] = value
            case "cut":
                del encoded[max(1, at) :]
            case _:
                encoded.insert(at, value)
    assert _read(decode_command, bytes(encoded)) == _read(_in_general, bytes(encoded))


def _in_general(encoded: bytes) -> Command:
    command: Command = codec.structure(codec.loads(encoded), Command)
    return command


def _read(decode: Callable[[bytes], Command], encoded: bytes) -> Command | None:
    try:
        return decode(encoded)
    except Undecodable:
        return None


@given(alike)
def test_what_an_earlier_version_logged_as_maps_is_read_alike(
    commands: tuple[Simple, ...],
) -> None:
    maps = [codec.unstructure(command, Simple) for command in commands]
    logged = codec.dumps({"$": "Batch", "commands": maps, "cause": ""})
    assert Batch(commands=commands) == decode_command(logged)


def test_columns_take_less_than_maps() -> None:
    puts = tuple(PutConfig(name=f"k{number}", data=bytes(9)) for number in range(100))
    plain = codec.loads(encode_command(Batch(commands=puts)))
    columns = {"name": [put.name for put in puts], "data": [put.data for put in puts]}
    assert {"$": "Batch", "commands": [["PutConfig", columns]]} == plain


def test_a_run_in_which_all_hold_the_default_still_says_how_many() -> None:
    @frozen(kw_only=True)
    class Idle:
        words: str = ""
        labels: dict[str, str] = Factory(dict)

    runs = codec.loads(encode_command(Batch(commands=(RemoveConfig(name="a"),) * 3)))
    assert {"$": "Batch", "commands": [["RemoveConfig", {"name": ["a"] * 3}]]} == runs
    idle = Columns(Idle)
    assert (Idle(),) * 3 == idle.run(idle.encoded([Idle()] * 3))


@pytest.mark.parametrize(
    "run",
    [
        [],
        ["PutConfig"],
        ["PutConfig", {}],
        ["PutConfig", {"name": []}],
        ["PutConfig", {"name": ["a"]}],
        ["PutConfig", {"name": ["a"], "data": []}],
        ["PutConfig", {"name": ["a"], "data": [b"", b""]}],
        ["PutConfig", {"name": ["a"], "data": ["text"]}],
        ["PutConfig", {"name": [1], "data": [b""]}],
        ["PutConfig", {"name": "a", "data": b"1"}],
        ["PutConfig", {"name": ["a"], "data": [b""], "labels": [7]}],
        ["PutConfig", {"name": ["a"], "data": [b""], "colour": ["red"]}],
        ["PutConfig", {"name": ["a"], "data": [b""]}, 1],
        ["PutConfig", [["a"], [b""]]],
        ["PutConfig", 7],
        ["Nonsense", {"name": ["a"]}],
        [7, {"name": ["a"]}],
        [["PutConfig"], {"name": ["a"]}],
        ["Batch", {"commands": [[], []]}],
    ],
)
def test_what_are_no_columns_is_refused(run: list[object]) -> None:
    with pytest.raises(Undecodable):
        decode_command(codec.dumps({"$": "Batch", "commands": [run]}))


@pytest.mark.parametrize("commands", [7, {"name": "a"}, "PutConfig", b"PutConfig"])
def test_what_is_no_list_of_commands_is_refused(commands: object) -> None:
    with pytest.raises(Undecodable):
        decode_command(codec.dumps({"$": "Batch", "commands": commands}))


@given(st.lists(simple | alike.map(lambda some: Batch(commands=some)), min_size=1, max_size=6))
def test_what_waits_is_sent_as_it_was_and_takes_no_more_than_it_says(
    commands: list[Simple | Batch],
) -> None:
    parts = [waiting(command) for command in commands]
    for command, (_, size) in zip(commands, parts, strict=True):
        assert len(encode_command(command)) <= size
    whole = commands[0] if len(commands) == 1 else Group(commands=tuple(commands))
    assert whole == decode_command(sent([part for part, _ in parts]))


def test_a_value_made_quickly_is_like_any_other() -> None:
    slowly = PutConfig(name="a", data=b"1", labels={"k": "v"}, version=Version(1))
    quickly = maker(PutConfig)("a", b"1", {"k": "v"}, Version(1))
    assert type(quickly) is PutConfig
    assert slowly == quickly
    assert repr(slowly) == repr(quickly)
    with pytest.raises(AttributeError):
        quickly.name = "b"  # type: ignore[misc]


@given(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    st.integers(0, 2**63),
)
def test_a_row_is_canonical_however_it_is_encoded(
    name: str, data: bytes, labels: dict[str, str], number: int
) -> None:
    row = Config(
        name=name,
        data=data,
        labels=labels,
        version=Version(number),
        created_at_ms=0,
        updated_at_ms=number,
    )
    assert codec.dumps(codec.unstructure(row)) == codec.encode(row)
    view = View(configs=Configs.of([row]))
    assert view == decode_view(encode_view(view))
