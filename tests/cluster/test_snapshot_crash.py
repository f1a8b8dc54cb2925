"""Scenario S61: killed between any two steps of take, install, compact; the old state or the new.

A child process carries the work out on a real journal and ends at its Nth call of the system; the
parent opens what it left. What a power cut takes besides (pages that were not synced) is the
business of the journal's own tests: here every step is a step of the program.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshswarm.cluster import snapshot_receiving, snapshots
from meshswarm.cluster.journal import Journal, JournalWrite, Recovered
from meshswarm.cluster.snapshots import Stored
from meshswarm.cluster.wire import SnapshotState
from meshswarm.raft.messages import InstallSnapshot
from meshswarm.raft.types import HardState
from meshswarm.store.view import View
from tests.cluster.journal_world import (
    entries,
    hard_state,
    open_journal,
    save,
    snapshot,
    written,
)
from tests.cluster.test_snapshot_receiving import CHUNK, Follower, Source

STEPS = (
    "write",
    "pwrite",
    "pwritev",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "open",
    "ftruncate",
)
LAST = 60
LEADERS = 90

Work = Callable[[Path, Journal, Callable[[str], None]], Coroutine[Any, Any, None]]


# --- the child ----------------------------------------------------------------------------------


class Doom:
    """Counts steps, and ends the process at one of them, before or after it is carried out."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Every system call that changes a file counts from now on."""
        for name in STEPS:
            self._wrap(os, name)

    def _wrap(self, module: Any, name: str) -> None:
        call = getattr(module, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.step()
            return call(*arguments, **named)

        setattr(module, name, counted)


def in_child(directory: Path, work: Work, last: int) -> tuple[list[str], bool]:
    """What a child acknowledged until it ended at its `last` step, and whether it lived to the end.

    The child is a fork: it has this process's code, and threads only of its own.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        tell = os.write
        doom = Doom(last)

        def acknowledge(what: str) -> None:
            tell(writer, f"{what}\n".encode())

        async def run() -> None:
            journal, _ = open_journal(directory)
            doom.watch()
            await work(directory, journal, acknowledge)
            await journal.close()

        try:
            asyncio.run(run())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as told:
        lines = told.read().split()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return lines, status == 0


async def take(directory: Path, journal: Journal, tell: Callable[[str], None]) -> None:
    """A snapshot of its own, and the compaction behind it."""
    await save(journal, snapshot(40), keep=5)
    tell("saved")


async def receive(directory: Path, journal: Journal, tell: Callable[[str], None]) -> None:
    """A snapshot of the leader, from the first chunk until the log stands on it."""
    snapshot_receiving.SYNC_BYTES = snapshots.SYNC_BYTES = 2 * CHUNK  # type: ignore[attr-defined]
    source = Source(directory.parent / "leader", LEADERS)
    adopted = asyncio.Event()

    def install(message: InstallSnapshot, stored: Stored | None, view: View | None) -> None:
        assert stored is not None
        write = JournalWrite(
            token=2,
            snapshot=stored,
            entries=entries(LEADERS + 1, LEADERS + 3, term=4),
            hard_state=hard_state(4, LEADERS),
        )
        journal.submit(write, adopted.set)
        follower.core.step(message)
        follower.core.ready()
        follower.core.applied(stored.meta.index)

    async with asyncio.TaskGroup() as tasks:
        follower = Follower(directory, tasks)
        follower.receiving._install = install
        answer = await follower.offer(source)
        while answer.state is SnapshotState.WANTED:
            answer = await follower.take(source.chunk(answer.offset))
        await adopted.wait()
        tell("installed")
        follower.receiving.close()


# --- the parent ---------------------------------------------------------------------------------


async def begun(directory: Path) -> None:
    """A journal with a snapshot at 20, entries to 60, term 1."""
    journal, _ = open_journal(directory)
    first = JournalWrite(token=1, entries=entries(1, LAST), hard_state=hard_state(1, LAST))
    await written(journal, first)
    await save(journal, snapshot(20), keep=5)
    await journal.close()


def reopened(directory: Path) -> Recovered:
    async def read() -> Recovered:
        journal, recovered = open_journal(directory)
        await journal.close()
        return recovered

    return asyncio.run(read())


def what_is_there(recovered: Recovered) -> tuple[int, HardState]:
    """On which snapshot the log stands; it must be whole, and reach to its end."""
    assert recovered.damage is None
    assert recovered.notes == ()
    assert recovered.snapshot is not None
    index = recovered.snapshot.meta.index
    if index == LEADERS:
        assert recovered.entries == entries(LEADERS + 1, LEADERS + 3, term=4)
    else:
        first = recovered.entries[0].index
        assert first <= index + 1
        assert recovered.entries == entries(first, LAST)
    return index, recovered.hard_state


def every_step(tmp_path: Path, work: Work) -> Iterator[tuple[Path, list[str]]]:
    """A directory for each step at which the work was ended, and what it had acknowledged."""
    for last in range(1, 1_000):
        directory = tmp_path / f"{last}" / "raft"
        directory.parent.mkdir()
        asyncio.run(begun(directory))
        told, lived = in_child(directory, work, last)
        yield directory, told
        if lived:
            assert last > 10
            return
    raise AssertionError("the work never ends")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s61_killed_at_any_step_of_taking_and_compacting(tmp_path: Path) -> None:
    seen = set()
    for directory, told in every_step(tmp_path, take):
        index, hard = what_is_there(reopened(directory))
        assert index in ((40,) if told else (20, 40))
        assert hard == hard_state(1, LAST)
        assert list(directory.glob("*.tmp")) == []
        seen.add((index, *told))
    assert seen == {(20,), (40,), (40, "saved")}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s61_killed_at_any_step_of_receiving_and_installing(tmp_path: Path) -> None:
    seen = set()
    for directory, told in every_step(tmp_path, receive):
        index, hard = what_is_there(reopened(directory))
        assert index in ((LEADERS,) if told else (20, LEADERS))
        assert hard == (hard_state(4, LEADERS) if index == LEADERS else hard_state(1, LAST))
        seen.add((index, *told))
        if index != LEADERS:
            # The transfer goes on after the restart, and ends well.
            assert in_child(directory, receive, 0) == (["installed"], True)
            assert what_is_there(reopened(directory))[0] == LEADERS
    assert seen == {(20,), (LEADERS,), (LEADERS, "installed")}
