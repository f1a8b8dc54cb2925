"""The faults: each is begun on a running cluster, says whom it hit, and can be ended.

Who is hit is drawn when the fault begins, half the time the leader. A fault on a process or a disk
takes a manager that no other such fault has; cuts add up.
"""

import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import combinations, product
from pathlib import Path

from attrs import define, evolve, frozen

from meshswarm.errors import Unavailable
from meshswarm.raft.types import ConfChangeKind
from tools.chaos.arena import Arena
from tools.chaos.cluster import CLIENTS, MIN_FREE_BYTES, Disk, Manager

BALLAST = "ballast"
BLOCK = 1 << 16
ALMOST = 4 << 20
"""What is not simply taken, but filled block by block."""
MANY = 5
"""From so many managers on, one may be demoted and another lose its disk; fewer would not do."""


@frozen(kw_only=True)
class Begun:
    """A fault that is under way."""

    words: str
    end: Callable[[], None]
    """Undoes it, as far as it is to be undone."""
    finish: Callable[[], Awaitable[object]] | None = None
    """What takes its time after that."""


@define
class Chance:
    """Draws whom a fault hits."""

    arena: Arena
    dice: random.Random

    def one(self) -> str | None:
        """A manager without a fault of its own, half the time the leader; None: all have one."""
        free = self._free()
        if self.arena.leader in free and self.dice.random() < 0.5:
            return self.arena.leader
        return self.dice.choice(free) if free else None

    def some(self) -> list[str]:
        """Mostly one, now and then a majority or all of them; only such without a fault."""
        first = self.one()
        if first is None:
            return []
        others = [name for name in self._free() if name != first]
        self.dice.shuffle(others)
        majority = len(self.arena.cluster.names) // 2 + 1
        count = self.dice.choices([1, majority, len(self.arena.cluster.names)], [7, 2, 1])[0]
        return [first, *others[: count - 1]]

    def sides(self) -> tuple[list[str], list[str]]:
        """All managers in two groups; the leader is often the one that is alone."""
        names = self.arena.cluster.names
        if self.arena.leader and self.dice.random() < 0.5:
            few = [self.arena.leader]
        else:
            few = self.dice.sample(names, self.dice.randrange(1, len(names) // 2 + 1))
        return few, [name for name in names if name not in few]

    def doomed(self) -> str | None:
        """The one manager of this run whose disk may lose or change what it holds, if it is free.

        A minority may; which one it is must not change, or what was lost adds up to a majority.
        """
        if self.arena.demotes and len(self.arena.cluster.names) < MANY:
            return None
        if self.arena.doomed is None:
            self.arena.doomed = self.dice.choice(self.arena.cluster.names)
        return self.arena.doomed if self.arena.doomed in self._free() else None

    def _free(self) -> list[str]:
        return [name for name in self.arena.cluster.names if name not in self.arena.hit]


def take(arena: Arena, names: Iterable[str]) -> list[Manager]:
    """These managers, marked as having a fault of their own."""
    arena.hit.update(names)
    return [arena.cluster.managers[name] for name in names]


async def kill(chance: Chance) -> Begun | None:
    """`kill -9` of one, of a majority or of all; started again at the end."""
    return kill_these(chance.arena, chance.some())


def kill_these(arena: Arena, names: Sequence[str]) -> Begun | None:
    """`kill -9` of these managers at once."""
    victims = take(arena, names)
    for victim in victims:
        victim.is_held = True
        victim.kill()

    def end() -> None:
        for victim in victims:
            victim.is_held = False
            victim.start()
        arena.hit.difference_update(names)

    return Begun(words=f"kill -9 {_list(names)}", end=end) if victims else None


async def stop(chance: Chance) -> Begun | None:
    """SIGTERM to one; started again at the end, or when it has ended."""
    name = chance.one()
    if name is None:
        return None
    (victim,) = take(chance.arena, [name])
    victim.is_held = True
    victim.stop()

    def end() -> None:
        victim.is_held = False
        chance.arena.hit.discard(name)

    return Begun(words=f"SIGTERM {name}", end=end)


async def pause(chance: Chance) -> Begun | None:
    """SIGSTOP of one, of a majority or of all, SIGCONT at the end."""
    return pause_these(chance.arena, chance.some())


def pause_these(arena: Arena, names: Sequence[str]) -> Begun | None:
    """SIGSTOP of these managers."""
    victims = take(arena, names)
    for victim in victims:
        victim.send(signal.SIGSTOP)

    def end() -> None:
        for victim in victims:
            victim.send(signal.SIGCONT)
        arena.hit.difference_update(names)

    return Begun(words=f"SIGSTOP {_list(names)}", end=end) if victims else None


async def cut(chance: Chance) -> Begun | None:
    """The managers fall into two groups that do not hear each other; clients hear both."""
    few, many = chance.sides()
    if chance.dice.random() < 0.25:
        return unplug_these(chance.arena, few)
    pairs = [*product(few, many), *product(many, few)]
    return drop(chance.arena, pairs, f"cut {_list(few)} | {_list(many)}")


async def oneway(chance: Chance) -> Begun | None:
    """Somebody is not heard by others, or does not hear them, or one does not hear one other."""
    (few, many), names = chance.sides(), chance.arena.cluster.names
    how = chance.dice.randrange(3)
    if how == 0:
        return drop(chance.arena, list(product(few, many)), f"{_list(few)} heard by no other")
    if how == 1:
        return drop(chance.arena, list(product(many, few)), f"{_list(few)} hears no other")
    pairs = [*combinations(names, 2), *combinations(reversed(names), 2)]
    source, target = chance.dice.choice(pairs)
    return drop(chance.arena, [(source, target)], f"{target} does not hear {source}")


def drop(arena: Arena, pairs: Sequence[tuple[str, str]], words: str) -> Begun:
    """Nothing that the first of each pair sends reaches the second."""
    for source, target in pairs:
        arena.rig.drop(source, target)

    def end() -> None:
        for source, target in pairs:
            arena.rig.let_pass(source, target)

    return Begun(words=words, end=end)


def unplug_these(arena: Arena, names: Sequence[str]) -> Begun:
    """Pull the cables of these hosts: clients do not reach them either."""
    for name in names:
        arena.rig.unplug(name)

    def end() -> None:
        for name in names:
            arena.rig.plug(name)

    return Begun(words=f"unplugged {_list(names)}", end=end)


async def loss(chance: Chance) -> Begun | None:
    """Every host loses a share of the packets that reach it."""
    share = chance.dice.uniform(0.02, 0.25)
    hosts = [*chance.arena.cluster.names, CLIENTS]
    for host in hosts:
        chance.arena.rig.lose(host, share)

    def end() -> None:
        for host in hosts:
            chance.arena.rig.lose(host, 0)

    return Begun(words=f"{share:.0%} of all packets lost", end=end)


async def diskfull(chance: Chance) -> Begun | None:
    """The disks of one, a majority or all are full: to the last byte, or nearly."""
    room = chance.dice.choice([0, 0, MIN_FREE_BYTES // 2])
    return fill_these(chance.arena, chance.some(), room)


def fill_these(arena: Arena, names: Sequence[str], room_bytes: int) -> Begun | None:
    """Leave only so much room on the disks of these managers."""
    victims = take(arena, names)
    for victim in victims:
        fill(victim.data, room_bytes)

    def end() -> None:
        for victim in victims:
            (victim.data / BALLAST).unlink()
        arena.hit.difference_update(names)

    left = "to the last byte" if room_bytes == 0 else f"but for {room_bytes >> 20} MiB"
    return Begun(words=f"disk full {left} {_list(names)}", end=end) if victims else None


def fill(directory: Path, room_bytes: int) -> None:
    """Write a file there until no more than so much room is left."""
    with (directory / BALLAST).open("wb", buffering=0) as ballast:
        disk = os.statvfs(directory)
        most = disk.f_bavail * disk.f_frsize - room_bytes - ALMOST
        if most > 0:
            os.posix_fallocate(ballast.fileno(), 0, most)
            ballast.seek(most)
        while True:
            disk = os.statvfs(directory)
            wanted = min(BLOCK, disk.f_bavail * disk.f_frsize - room_bytes)
            if wanted <= 0:
                return
            try:
                ballast.write(bytes(wanted))
            except OSError:
                return  # The manager took the last of it: full is full.


async def wipe(chance: Chance) -> Begun | None:
    """`kill -9` of one manager, always the same, and its disk is empty when it starts again."""
    name = chance.doomed()
    if name is None:
        return None
    begun = kill_these(chance.arena, [name])
    data = chance.arena.cluster.managers[name].data
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return begun and evolve(begun, words=f"wiped {name}")


async def rot(chance: Chance) -> Begun | None:
    """`kill -9` of one manager, always the same, and some bytes of its journal are others after."""
    name = chance.doomed()
    if name is None:
        return None
    begun = kill_these(chance.arena, [name])
    files = sorted(path for path in _journal_of(chance.arena, name) if any(path.read_bytes()))
    if not files:
        return begun
    file = chance.dice.choice(files)
    # Not in the room that is kept for commits to come: nothing is there to be lost.
    count, size = chance.dice.choice([1, 16, 512]), len(file.read_bytes().rstrip(b"\0"))
    at = chance.dice.randrange(size)
    with file.open("r+b") as out:
        out.seek(at)
        present = out.read(count)
        out.seek(at)
        out.write(bytes(byte ^ 0xFF for byte in present))
    words = f"{len(present)} bytes of {size} at {at} are others in {file.name} of {name}"
    return begun and evolve(begun, words=words)


def _journal_of(arena: Arena, name: str) -> Iterator[Path]:
    folder = arena.cluster.managers[name].data / "raft"
    files = (path for path in folder.iterdir() if path.is_file() and path.name != "lock")
    return (path for path in files if not path.name.startswith("spare-"))


async def stall(chance: Chance) -> Begun | None:
    """The disk of one manager hangs: what is written to it waits."""
    name = chance.one()
    if name is None or chance.arena.cluster.disk is not Disk.FREEZABLE:
        return None
    return stall_this(chance.arena, name)


def stall_this(arena: Arena, name: str) -> Begun:
    """Freeze the disk of this manager."""
    take(arena, [name])
    arena.rig.freeze(name)

    def end() -> None:
        arena.rig.thaw(name)
        arena.hit.discard(name)

    return Begun(words=f"disk hangs {name}", end=end)


async def transfer(chance: Chance) -> Begun | None:
    """Leadership is handed over."""
    try:
        elected = await chance.arena.client.elect()
    except Unavailable as error:
        return Begun(words=f"no hand-over: {error.message}", end=lambda: None)
    return Begun(words=f"handed over to {elected.leader}", end=lambda: None)


async def members(chance: Chance) -> Begun | None:
    """One manager becomes a learner, and a voter again at the end."""
    arena = chance.arena
    name = chance.dice.choice(arena.cluster.names)
    if name in arena.demoted or (arena.doomed and len(arena.cluster.names) < MANY):
        return None
    arena.demotes = True
    arena.demoted.add(name)
    await arena.change(ConfChangeKind.DEMOTE, name)

    async def promote() -> None:
        """Ask until it is told to be a voter already; the answer to one request may be lost."""
        is_voter = partial(arena.change, ConfChangeKind.ADD_VOTER, name)
        await arena.until(is_voter, f"{name} becomes a voter again")
        arena.demoted.discard(name)

    return Begun(words=f"{name} may be but a learner", end=lambda: None, finish=promote)


def _list(names: Sequence[str]) -> str:
    return ",".join(names)


FAULTS: dict[str, Callable[[Chance], Awaitable[Begun | None]]] = {
    fault.__name__: fault
    for fault in (
        kill,
        pause,
        cut,
        oneway,
        diskfull,
        loss,
        stop,
        transfer,
        wipe,
        rot,
        members,
        stall,
    )
}
