"""This side's terminal: raw while it is borrowed, its size, and standard input as it comes."""

import os
import pty
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshswarm.cli import terminal
from meshswarm.model.pipe import WindowSize


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    master, slave = pty.openpty()
    yield master, slave
    os.close(master)
    os.close(slave)


def test_keys_go_through_as_they_are_and_then_no_more(pair: tuple[int, int]) -> None:
    _, slave = pair
    before = termios.tcgetattr(slave)
    with terminal.raw(slave):
        flags = termios.tcgetattr(slave)[3]
        assert not flags & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert before == termios.tcgetattr(slave)


def test_the_size_is_the_terminals_or_the_usual_one(pair: tuple[int, int], tmp_path: Path) -> None:
    _, slave = pair
    termios.tcsetwinsize(slave, (40, 120))
    assert WindowSize(rows=40, columns=120) == terminal.window_size(slave)
    termios.tcsetwinsize(slave, (0, 0))
    assert WindowSize(rows=1, columns=1) == terminal.window_size(slave)
    with (tmp_path / "file").open("w") as file:
        assert WindowSize() == terminal.window_size(file.fileno())


async def test_a_change_of_size_is_told() -> None:
    told = []
    with terminal.on_resize(lambda: told.append("changed")):
        os.kill(os.getpid(), signal.SIGWINCH)
        async for _ in terminal.typed(_empty()):
            raise AssertionError("there is nothing to read")
    assert ["changed"] == told


def _empty() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


async def test_input_is_read_from_pipes_and_from_files(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    assert [b"abc"] == [piece async for piece in terminal.typed(reader)]
    os.close(reader)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000)
    descriptor = os.open(path, os.O_RDONLY)
    pieces = [piece async for piece in terminal.typed(descriptor)]
    os.close(descriptor)
    assert [65_536, 34_464] == [len(piece) for piece in pieces]
