"""When lines of a plain file were written: marks beside it."""

import os
from pathlib import Path

import pytest

from meshswarm.agent.runtimes.log_file import LogReader
from meshswarm.agent.runtimes.log_times import MARK, MAX_BYTES, Times, mark


class Log:
    """A log with its marks; writing to it sets its time."""

    def __init__(self, directory: Path) -> None:
        self.path, self.marks = directory / "stdout", directory / "stdout.times"
        self.size = 0

    def write(self, text: str, at_ms: int) -> None:
        with self.path.open("a") as file:
            file.write(text)
        os.utime(self.path, ns=(0, at_ms * 1_000_000))

    def mark(self) -> None:
        self.size = mark(self.path, self.marks, self.size)

    def lines(self) -> list[tuple[int, str]]:
        times = Times(self.path, self.marks)
        reader = LogReader(self.path, None, 1_000)
        found = [(times.at(end), text) for end, text in reader.lines(last=True)]
        reader.close()
        return found


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_line_is_as_old_as_the_first_mark_behind_it(log: Log) -> None:
    log.write("one\n", 100)
    log.mark()
    log.mark()
    log.write("two\nthree", 250)
    log.mark()
    log.write(" and more\nfour\n", 900)
    assert [(100, "one"), (250, "two"), (900, "three and more"), (900, "four")] == log.lines()
    assert 2 * MARK.size == log.marks.stat().st_size, "what did not grow gets no mark"


def test_without_marks_lines_are_as_old_as_the_file(log: Log) -> None:
    log.write("one\n", 100)
    assert [(100, "one")] == log.lines()


def test_a_log_that_was_emptied_begins_anew(log: Log) -> None:
    log.write("a long line that will be gone\n", 100)
    log.mark()
    log.path.write_text("")
    log.write("new\n", 500)
    log.mark()
    assert [(500, "new")] == log.lines()


def test_marks_are_bounded_and_the_newest_stay(log: Log) -> None:
    for number in range(MAX_BYTES // MARK.size + 2):
        log.write("x\n", 1_000 + number)
        log.mark()
    assert log.marks.stat().st_size <= MAX_BYTES
    *_, last = log.lines()
    assert 1_000 + MAX_BYTES // MARK.size + 1 == last[0]


def test_a_torn_mark_counts_for_nothing(log: Log) -> None:
    log.write("one\n", 100)
    log.mark()
    with log.marks.open("ab") as file:
        file.write(b"\x00\x00")
    assert [(100, "one")] == log.lines()


def test_offsets_are_those_of_the_file_wherever_reading_stops(log: Log, tmp_path: Path) -> None:
    log.write("ab\ncd", 1)
    reader = LogReader(log.path, None, 1_000)
    assert [(3, "ab")] == reader.lines(last=False)
    log.write("ef\n" + "g" * 2_500, 2)
    assert [(8, "cdef"), (1_008, "g" * 1_000), (2_008, "g" * 1_000)] == reader.lines(last=False)
    assert [(2_508, "g" * 500)] == reader.lines(last=True)
    reader.close()
