"""The names of requests and the entries of the log: what is packed by hand is read by the rules."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.store.commands import Command, PutConfig, decode_command, encode_command
from meshswarm.store.log_entry import (
    CLIENT_CHARACTERS_MAX,
    LogEntry,
    Request,
    proposal_of,
    request_of,
)

NUMBERS = st.integers(0, (1 << 64) - 1)
REQUESTS = st.builds(
    Request,
    client=st.text(max_size=CLIENT_CHARACTERS_MAX),
    sequence=NUMBERS,
    acknowledged=NUMBERS,
    opened_at=NUMBERS,
)


@given(
    st.builds(
        LogEntry, at_ms=NUMBERS, by=st.text(), request=st.none() | REQUESTS, command=st.binary()
    )
)
def test_entries_come_back_equal(entry: LogEntry) -> None:
    assert entry == LogEntry.decoded(entry.encoded())


@given(REQUESTS, st.binary())
def test_a_proposal_names_its_command_and_its_request(request: Request, command: bytes) -> None:
    match codec.loads(proposal_of(command, request)):
        case [bytes() as arrived, name]:
            assert (command, request) == (arrived, request_of(name))
        case other:
            pytest.fail(f"{other!r}")


@pytest.mark.parametrize("size", [0, 23, 24, 255, 256, 65_535, 65_536])
def test_commands_of_every_size_come_back(size: int) -> None:
    entry = LogEntry(at_ms=1, by="n", request=None, command=bytes(size))
    assert entry == LogEntry.decoded(entry.encoded())


@pytest.mark.parametrize(
    "plain",
    [
        ["c", 1, 0],
        ["c", 1, 0, 1, 1],
        [b"c", 1, 0, 1],
        ["c" * (CLIENT_CHARACTERS_MAX + 1), 1, 0, 1],
        ["c", -1, 0, 1],
        ["c", 1, -1, 1],
        ["c", 1, 0, -1],
        ["c", "1", 0, 1],
        {},
        1,
        "c",
    ],
)
def test_what_is_no_name_of_a_request_is_refused(plain: Any) -> None:
    with pytest.raises(Undecodable):
        request_of(plain)
    with pytest.raises(Undecodable):
        LogEntry.decoded(codec.dumps([1, "n", plain, b""]))


@given(
    st.text(),
    st.binary(),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    st.none() | st.integers(0, 9),
)
def test_a_config_that_is_put_comes_back_equal(
    name: str, data: bytes, labels: dict[str, str], version: Any
) -> None:
    command = PutConfig(name=name, data=data, labels=labels, version=version)
    assert command == decode_command(encode_command(command))
    general = codec.dumps(codec.unstructure(command, Command))
    assert command == decode_command(general)
