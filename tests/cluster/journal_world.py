"""A journal's life as a pure function of a number, and a process that lives it until it is killed.

`state_after(n)` is what a journal must hold after the writes 1..n; terms grow, votes follow from
terms, uncommitted tails are overwritten. Run as a program it carries the writes out, several in
flight, and prints the number of each once it is acknowledged.
"""

import asyncio
import random
import resource
import sys
from collections.abc import Iterable
from functools import cache, partial
from itertools import count
from pathlib import Path

from attrs import evolve, frozen

from meshswarm.cluster import journal_segments
from meshswarm.cluster.journal import Journal, JournalWrite, Recovered
from meshswarm.cluster.journal_disk import Pace
from meshswarm.cluster.snapshots import (
    SnapshotName,
    Stored,
    check_snapshot,
    read_slices,
    write_snapshot,
)
from meshswarm.errors import MeshswarmError
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import ConfState, Entry, EntryKind, HardState, Snapshot, SnapshotMeta

CLUSTER, NODE = ClusterId("cluster"), NodeId("node-a")
CONF = ConfState((NODE, NodeId("node-b"), NodeId("node-c")))
IN_FLIGHT = 8
KEEP = 20


@frozen
class State:
    hard_state: HardState = HardState()
    entries: tuple[Entry, ...] = ()


def entries(first: int, last: int, term: int = 1, size: int = 16) -> tuple[Entry, ...]:
    """Entries `first`..`last` of a term, each with data of its own."""
    return tuple(
        Entry(Index(i), Term(term), f"{i}@{term}".encode().ljust(size, b"."))
        for i in range(first, last + 1)
    )


def hard_state(term: int, commit: int) -> HardState:
    """A hard state whose vote follows from its term, so that a mixture would show."""
    return HardState(Term(term), NodeId(f"voted-in-{term}"), Index(commit))


def snapshot(index: int, term: int = 1, size: int = 64) -> Snapshot:
    meta = SnapshotMeta(Index(index), Term(term), CONF)
    return Snapshot(meta, f"state {index}".encode().ljust(size, b"."))


async def save(journal: Journal, own: Snapshot, *, keep: int) -> Stored:
    """Let the journal store this node's own snapshot."""
    return await journal.save_snapshot(own.meta, [own.data], keep=keep)


def stored(directory: Path, whole: Snapshot, owner: ClusterId = CLUSTER) -> Stored:
    """Write a snapshot file that no log stands on."""
    return write_snapshot(directory, owner, whole.meta, [whole.data])


def arrived(directory: Path, leaders: Snapshot) -> Stored:
    """A snapshot that came from the leader, to be adopted by the journal."""
    file = stored(directory, leaders)
    (directory / str(file.name)).rename(directory / file.part)
    return file


def read(directory: Path, name: SnapshotName) -> Snapshot:
    """The snapshot of that name, checked."""
    path = directory / str(name)
    meta = check_snapshot(path, CLUSTER, name).meta
    return Snapshot(meta, b"".join(read_slices(path, name)))


def recovered_snapshot(directory: Path, recovered: Recovered) -> Snapshot | None:
    return read(directory, recovered.snapshot.name) if recovered.snapshot else None


def write_number(number: int, before: State) -> tuple[JournalWrite, State]:
    """The write of that number, and what the journal holds after it."""
    rng = random.Random(number)
    old, last = before.hard_state, len(before.entries)
    term, keep = old.term, last
    if rng.random() < 0.2:
        term, keep = Term(term + 1), rng.randint(old.commit, last)
    kept = before.entries[:keep]
    new = entries(keep + 1, keep + rng.randint(1, 5), max(1, term), rng.randint(8, 900))
    new = (evolve(new[0], kind=EntryKind.NOOP), *new[1:])
    commit = max(old.commit, keep + len(new) - 6)
    after = State(hard_state(max(1, term), commit), kept + new)
    return JournalWrite(token=number, entries=new, hard_state=after.hard_state), after


@cache
def state_after(number: int) -> State:
    state = State()
    for each in range(1, number + 1):
        state = write_number(each, state)[1]
    return state


def number_of(recovered: Recovered, candidates: Iterable[int]) -> int:
    """After which of the writes the journal stands exactly so; fails if after none."""
    for number in candidates:
        state = state_after(number)
        if recovered.hard_state == state.hard_state and holds(recovered, state):
            return number
    raise AssertionError(f"recovered {recovered.hard_state}, as after no write")


def holds(recovered: Recovered, state: State) -> bool:
    """Whether snapshot and entries together are this state's log, without a gap."""
    base = recovered.snapshot.meta.index if recovered.snapshot else 0
    found = recovered.entries
    first = found[0].index if found else base + 1
    return first <= base + 1 and found == state.entries[first - 1 :]


def open_journal(directory: Path, *, reserved_bytes: int = 0) -> tuple[Journal, Recovered]:
    return Journal.open(
        directory,
        cluster_id=CLUSTER,
        node_id=NODE,
        initial_conf=CONF,
        reserved_bytes=reserved_bytes,
    )


class _AlwaysQuick(Pace):
    @property
    def is_quick(self) -> bool:
        return True


def quick(journal: Journal) -> Journal:
    """The journal, on a disk for which an event loop waits whatever it does."""
    journal.disk.pace = _AlwaysQuick()
    return journal


def ignore() -> None:
    """The callback of a write whose end nobody waits for."""


async def written(journal: Journal, write: JournalWrite) -> None:
    """Submit, and return once it is durable."""
    done = asyncio.Event()
    journal.submit(write, done.set)
    async with asyncio.timeout(10):
        await done.wait()


async def live(directory: Path, start: int, end: int, *, snapshots: bool) -> None:
    """Carry out the writes after `start` up to `end`, printing each acknowledged number."""
    journal = quick(open_journal(directory, reserved_bytes=1)[0])
    state = state_after(start)
    room = asyncio.Semaphore(IN_FLIGHT)
    saving: asyncio.Task[Stored] | None = None

    def acknowledge(number: int) -> None:
        print(number, flush=True)  # noqa: T201 -- the parent reads it
        room.release()

    async with asyncio.TaskGroup() as parts:
        for number in range(start + 1, end + 1):
            async with asyncio.timeout(10):
                await room.acquire()
            write, state = write_number(number, state)
            for _ in range(IN_FLIGHT - 1 if number % 4 == 0 else 0):
                await room.acquire()  # until nothing else is under way
            for _ in range(IN_FLIGHT - 1 if number % 4 == 0 else 0):
                room.release()
            done = partial(acknowledge, number)
            if number % 4 or not journal.write_at_once(write, done, ignore):
                journal.submit(write, done)
            if snapshots and number % 40 == 0:
                if saving is not None:
                    await saving
                # Only what is written may be saved: as Raft's applied index, the commit of a
                # write that is no longer in flight.
                commit = state_after(number - IN_FLIGHT).hard_state.commit
                own = snapshot(commit, state.entries[commit - 1].term, size=50_000)
                saving = parts.create_task(save(journal, own, keep=KEEP), name="save")
    await journal.close()


async def live_until_refused(directory: Path) -> None:
    """Write until the disk refuses; then the journal must refuse too, and say why."""
    journal, _ = open_journal(directory)
    state = State()
    try:
        for number in count(1):
            write, state = write_number(number, state)
            done = asyncio.Event()
            journal.submit(write, done.set)
            while not done.is_set():
                journal.raise_if_failed()
                await asyncio.sleep(0)
            print(number, flush=True)  # noqa: T201 -- the parent reads it
    except MeshswarmError as error:
        print(f"refused {error.code}: {error.message}", flush=True)  # noqa: T201
    await journal.close()


def main(arguments: list[str]) -> None:
    match arguments:
        case ["live", directory, start]:
            journal_segments.SEGMENT_BYTES = 1 << 16  # so that many begin, and go
            asyncio.run(live(Path(directory), int(start), int(start) + 10_000, snapshots=True))
        case ["fill", directory, limit]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
            asyncio.run(live_until_refused(Path(directory)))
        case _:
            raise SystemExit(f"unknown arguments: {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
