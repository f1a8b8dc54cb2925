"""Killed, or without power, between any two calls of the system: the log is whole, or its end is
cut where nothing was acknowledged; it never looks damaged."""

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define, field

from meshswarm.cluster.journal import Journal
from meshswarm.cluster.journal_scan import segment_name, segment_numbers
from tests.cluster.journal_world import (
    State,
    holds,
    ignore,
    number_of,
    open_journal,
    quick,
    save,
    snapshot,
    state_after,
    write_number,
    written,
)
from tests.support.managers import until
from tests.support.power_cuts import Disk, Image

WRITES = 48
CUTS = 3
"""Power cuts at each step, each with an outcome of its own."""


@define(eq=False)
class Life:
    """A journal's life, and what would be left of it at each step."""

    directory: Path
    left: list[tuple[str, int, int, Image]] = Factory(list)
    """What happened; what was acknowledged and what was submitted by then; what is there."""
    acknowledged: int = 0
    submitted: int = 0
    kept: list[tuple[int, int, Disk]] = Factory(list)
    """At each change of a name, what the next process would find."""
    disk: Disk = field(init=False)

    @disk.default
    def _watched(self) -> Disk:
        return Disk(self.directory, random.Random(7), self.note)

    def note(self, call: str) -> None:
        state = (self.acknowledged, self.submitted)
        self.left.append((f"kill at {call}", *state, self.disk.killed()))
        if call == "rename":
            self.kept.append((*state, self.disk.kept()))
        self.left += ((f"cut at {call}", *state, self.disk.cut()) for _ in range(CUTS))

    async def live_through_a_failed_sync(self) -> None:
        """The sync of one write fails, which ends the node; another one starts on what is there."""
        journal = self._opened()
        await self._write(journal, 1, 6)
        self.disk.is_broken, self.submitted = True, 7
        journal.submit(write_number(7, state_after(6))[0], lambda: self._done(7))
        await until(lambda: journal.stats()["last_error"] is not None)
        await journal.close()
        assert 6 == self.acknowledged
        self.disk.is_broken = False
        journal, recovered = open_journal(self.directory, reserved_bytes=1)
        self.acknowledged = number_of(recovered, [6, 7])
        assert 7 == self.acknowledged, "the kernel's cache still has it; others may hear of it"
        await self._write(journal, 8, 10)
        await journal.close()

    async def _write(self, journal: Journal, first: int, last: int) -> None:
        for number in range(first, last + 1):
            self.submitted = number
            await written(journal, write_number(number, state_after(number - 1))[0])
            self.acknowledged = number

    async def go_on(self) -> None:
        """Open what a killed process left, whatever of it is durable, and write a little."""
        journal, recovered = open_journal(self.directory, reserved_bytes=1)
        number = number_of(recovered, range(self.acknowledged, self.submitted + 1))
        self.acknowledged = number
        await self._write(journal, number + 1, number + 2)
        await journal.close()

    async def live(self) -> None:
        """Write some at once, some in groups; save snapshots; close and open now and then."""
        journal = self._opened()
        for number in range(1, WRITES + 1):
            write, state = write_number(number, state_after(number - 1))
            self.submitted = number
            done = partial(self._done, number)
            if number % 3 or not journal.write_at_once(write, done, ignore):
                journal.submit(write, done)
                if number % 4:
                    await self._settled()
            if number % 9 == 0:
                await self._settled()
                await self._save(journal, state)
            if number % 13 == 0:
                await self._settled()
                await journal.close()
                journal = self._opened()
        await self._settled()
        await journal.close()

    def _opened(self) -> Journal:
        return quick(open_journal(self.directory, reserved_bytes=1)[0])

    def _done(self, number: int) -> None:
        assert number == self.acknowledged + 1
        self.acknowledged = number

    async def _settled(self) -> None:
        await until(lambda: self.acknowledged == self.submitted)

    async def _save(self, journal: Journal, state: State) -> None:
        commit = state.hard_state.commit
        await save(journal, snapshot(commit, state.entries[commit - 1].term), keep=8)


def lived(directory: Path, live: Callable[[Life], Coroutine[Any, Any, None]]) -> Life:
    directory.mkdir()
    life = Life(directory)
    with life.disk.watched():
        asyncio.run(live(life))
    return life


def judged(image: Image, root: Path, acknowledged: int, submitted: int) -> None:
    """Open what is left; it must be what was written, up to something that may be there."""
    for name, content in image.items():
        (root / name).write_bytes(content)
    journal, recovered = open_journal(root)
    asyncio.run(journal.close())
    assert recovered.damage is None
    assert recovered.notes == ()
    candidates = [
        number
        for number in range(acknowledged, submitted + 1)
        if recovered.hard_state == state_after(number).hard_state
        and holds(recovered, state_after(number))
    ]
    assert candidates


def all_judged(life: Life) -> "Counter[str]":
    """Open what was left at each step; how often which call was the last one."""
    seen = Counter[str]()
    for at, (what, acknowledged, submitted, image) in enumerate(life.left):
        crashed = life.directory.parent / f"{at}"
        crashed.mkdir()
        try:
            judged(image, crashed, acknowledged, submitted)
        except AssertionError as error:
            raise AssertionError(f"{what}, step {at}, {[*image]}") from error
        seen[what] += 1
    return seen


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in memory, where there is one, for journals of small segments and few spares:
    what is freed is soon overwritten."""
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", 8_192)
    monkeypatch.setattr("meshswarm.cluster.journal_segments.MAX_SPARES", 2)
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as root:
        yield Path(root)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_s62_killed_or_without_power_at_any_call_nothing_acknowledged_is_lost(memory: Path) -> None:
    life = lived(memory / "raft", Life.live)
    assert segment_numbers(life.directory)[0] > 3, "segments came and went"
    seen = all_judged(life)
    for call in ("pwritev", "pwrite", "fdatasync", "fsync", "rename", "unlink", "write"):
        assert seen[f"kill at {call}"] > 2, f"{call} was never the last call"


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_s65_what_is_found_after_a_failed_sync_is_made_durable_first(memory: Path) -> None:
    """The kernel shows what it could not write, and will not try again."""
    all_judged(lived(memory / "raft", Life.live_through_a_failed_sync))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_s62_what_a_killed_process_left_is_made_durable_by_the_next_one(memory: Path) -> None:
    """First a kill, between a change of a name and its sync; later, without power, a cut."""
    first = lived(memory / "raft", Life.live)
    assert len(first.kept) > 30
    for at, (acknowledged, submitted, kept) in enumerate(first.kept):
        directory = memory / f"kept-{at}" / "raft"
        directory.mkdir(parents=True)
        life = Life(directory, acknowledged=acknowledged, submitted=submitted)
        life.disk = kept.in_place(directory, life.note)
        with life.disk.watched():
            asyncio.run(life.go_on())
        del life.left[: -8 * (CUTS + 1)]  # the last steps, when all that was unsynced is used
        all_judged(life)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", ["log", "mark"])
def test_s64_killed_or_without_power_while_damage_is_put_right_it_is_not_forgotten(
    memory: Path, what: str
) -> None:
    whole = lived(memory / "raft", Life.live)
    name = segment_name(segment_numbers(whole.directory)[1]) if what == "log" else "journal.mark"
    data = (whole.directory / name).read_bytes()
    (whole.directory / name).write_bytes(data[:200] + b"?" + data[201:] if what == "log" else b"?")
    life = Life(whole.directory)
    life.disk.settle()
    with life.disk.watched():
        journal, recovered = open_journal(life.directory)
        asyncio.run(journal.close())
    assert recovered.damage is not None
    known = state_after(WRITES).hard_state
    for at, (step, _, _, image) in enumerate(life.left):
        crashed = memory / f"{at}"
        crashed.mkdir()
        for file, content in image.items():
            (crashed / file).write_bytes(content)
        journal, again = open_journal(crashed)
        asyncio.run(journal.close())
        found = again.hard_state
        assert again.damage is not None, step
        assert again.entries == (), step
        assert (known.term, known.vote) == (found.term, found.vote), step
        assert again.snapshot == recovered.snapshot
