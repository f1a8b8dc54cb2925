"""Killed, or without power, between any two calls of the system: the log is whole, or its end is
cut where nothing was acknowledged; it never looks damaged."""

import asyncio
import os
import random
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from attrs import Factory, define, field

from meshswarm.cluster.journal import Journal
from meshswarm.cluster.journal_scan import segment_numbers
from tests.cluster.journal_world import (
    State,
    holds,
    open_journal,
    quick,
    save,
    snapshot,
    state_after,
    write_number,
)
from tests.support.managers import until
from tests.support.power_cuts import Disk, Image

WRITES = 48
CUTS = 2
"""Power cuts at each step, each with an outcome of its own."""


@define(eq=False)
class Life:
    """A journal's life, and what would be left of it at each step."""

    directory: Path
    left: list[tuple[str, int, int, Image]] = Factory(list)
    """What happened; what was acknowledged and what was submitted by then; what is there."""
    acknowledged: int = 0
    submitted: int = 0
    disk: Disk = field(init=False)

    @disk.default
    def _watched(self) -> Disk:
        return Disk(self.directory, random.Random(7), self.note)

    def note(self, call: str) -> None:
        state = (self.acknowledged, self.submitted)
        self.left.append((f"kill at {call}", *state, self.disk.killed()))
        self.left += ((f"cut at {call}", *state, self.disk.cut()) for _ in range(CUTS))

    async def live(self) -> None:
        """Write some at once, some in groups; save snapshots; close and open now and then."""
        journal = self._opened()
        for number in range(1, WRITES + 1):
            write, state = write_number(number, state_after(number - 1))
            self.submitted = number
            if number % 3 or not journal.write_at_once(write):
                journal.submit(write, lambda number=number: self._done(number))  # type: ignore[misc]
                if number % 4:
                    await self._settled()
            else:
                self._done(number)
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


def lived(directory: Path) -> Life:
    directory.mkdir()
    life = Life(directory)
    with life.disk.watched():
        asyncio.run(life.live())
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


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_s62_killed_or_without_power_at_any_call_nothing_acknowledged_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshswarm.cluster.journal_segments.SEGMENT_BYTES", 8_192)
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    seen = Counter[str]()
    with tempfile.TemporaryDirectory(dir=memory) as root:
        life = lived(Path(root) / "raft")
        assert segment_numbers(life.directory)[0] > 3, "segments came and went"
        for at, (what, acknowledged, submitted, image) in enumerate(life.left):
            crashed = Path(root) / f"{at}"
            crashed.mkdir()
            try:
                judged(image, crashed, acknowledged, submitted)
            except AssertionError as error:
                raise AssertionError(f"{what}, step {at}, {[*image]}") from error
            seen[what] += 1
    for call in ("pwritev", "pwrite", "fdatasync", "fsync", "rename", "unlink", "write"):
        assert seen[f"kill at {call}"] > 2, f"{call} was never the last call"
