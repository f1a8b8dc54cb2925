"""Scenarios of the research that only real processes, sockets and disks can show in full.

The core shows the same rules message by message (tests/raft/scenarios); here TCP, ZeroMQ, files
and the operating system take part.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import product

import pytest

from meshswarm.errors import MeshswarmError
from meshswarm.ids import Version
from meshswarm.store.view import Table
from tools.chaos import faults
from tools.chaos.arena import Arena, opened
from tools.chaos.check import findings
from tools.chaos.cluster import Disk
from tools.chaos.faults import Begun
from tools.chaos.history import operations_in, value_of, write_of
from tools.rig.rig import can_freeze

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

ELECTION_S = 0.5
FAST = {
    "MESHSWARM_RAFT_HEARTBEAT_MS": "50",
    "MESHSWARM_RAFT_ELECTION_TIMEOUT_MS": str(int(1_000 * ELECTION_S)),
}
LONGEST_ELECTION_S = 2 * ELECTION_S


@contextmanager
def during(begun: Begun | None) -> Iterator[None]:
    """The fault lasts as long as the block."""
    assert begun is not None
    try:
        yield
    finally:
        begun.end()


@asynccontextmanager
async def checked_load(arena: Arena, *, roaming: int = 3) -> AsyncIterator[None]:
    """Clients read and write as long as the block lasts; then their history is judged."""
    load = arena.begin_load(processes=1, roaming=roaming)
    try:
        await arena.until(lambda: arena.new_operations()[0] > 0, "clients are at work")
        yield
    finally:
        await arena.end_load(load)
    await arena.same_states()
    assert [] == findings(operations_in(arena.rig.scratch))


def leader_of(arena: Arena) -> str:
    assert arena.leader is not None
    return arena.leader


def others_of(arena: Arena, name: str) -> list[str]:
    return [other for other in arena.cluster.names if other != name]


async def another_leads(arena: Arena, former: str) -> None:
    await arena.until(lambda: arena.leader not in (None, former), f"not {former} leads")


async def term_and_leader(arena: Arena) -> tuple[int, str]:
    await arena.look()
    return max(status.term for status in arena.statuses.values()), leader_of(arena)


class Elections:
    """Counts terms, and how many of them a machine too busy for the managers may have caused."""

    def __init__(self, arena: Arena, term: int) -> None:
        self._arena, self._term, self._stalled_s = arena, term, arena.cluster.stalled_s

    async def caused(self) -> int:
        """The new terms since then that only the test can have caused."""
        term, _ = await term_and_leader(self._arena)
        stalled_s = self._arena.cluster.stalled_s - self._stalled_s
        return max(0, term - self._term - int(stalled_s / ELECTION_S))


async def test_s13_an_isolated_follower_returns_without_an_election() -> None:
    async with opened(3, environment=FAST) as arena:
        term, leader = await term_and_leader(arena)
        follower, elections = others_of(arena, leader)[0], Elections(arena, term)
        async with checked_load(arena):
            with during(faults.unplug_these(arena, [follower])):
                await asyncio.sleep(8 * ELECTION_S)
            await arena.writable(follower)
        await arena.settled()
        assert await elections.caused() == 0


@pytest.mark.parametrize("deaf", ["leader", "follower"])
async def test_s16_one_direction_lost_costs_one_change_of_leader_at_most(deaf: str) -> None:
    """The leader hears nobody, or a follower hears everybody but the leader."""
    async with opened(3, environment=FAST) as arena:
        term, leader = await term_and_leader(arena)
        others, elections = others_of(arena, leader), Elections(arena, term)
        pairs = product(others, [leader]) if deaf == "leader" else [(leader, others[0])]
        async with checked_load(arena):
            with during(faults.drop(arena, list(pairs), "one way")):
                await arena.writable(others[1])
                await asyncio.sleep(4 * LONGEST_ELECTION_S)
                await arena.writable(others[1])
            await arena.settled()
        assert await elections.caused() <= 1


async def test_s20_all_are_killed_at_once_and_know_everything_after() -> None:
    async with opened(3, environment=FAST) as arena:
        before, _ = await term_and_leader(arena)
        async with checked_load(arena):
            await asyncio.sleep(1)
            with during(faults.kill_these(arena, arena.cluster.names)):
                pass
            await arena.until(partial(speaks_of_more, arena, before), "a later term")
            for name in arena.cluster.names:
                await arena.writable(name)


def speaks_of_more(arena: Arena, term: int) -> bool:
    """Whether some manager knows of a later term."""
    return any(status.term > term for status in arena.statuses.values())


async def test_s36_a_single_manager_killed_right_after_its_answer_keeps_the_write() -> None:
    async with opened(1, environment=FAST) as arena:
        (manager,) = arena.cluster.managers.values()
        for number in range(3):
            await arena.writable(manager.name)
            outcome = await arena.client.propose(write_of("kept", f"v{number}"))
            with during(faults.kill_these(arena, [manager.name])):
                pass
            await arena.writable(manager.name)
            kept = value_of(await arena.client.read(Table.SERVICES), "kept")
            assert (f"v{number}", Version(outcome.index)) == kept


async def test_s41_a_leader_that_was_stopped_serves_no_stale_read() -> None:
    """Clients that know only this one manager ask it the moment it goes on."""
    async with opened(3, environment=FAST) as arena, checked_load(arena):
        leader = leader_of(arena)
        with during(faults.pause_these(arena, [leader])):
            await another_leads(arena, leader)
            await asyncio.sleep(3 * ELECTION_S)
        await arena.writable(leader)
        await arena.settled()


async def test_s66_full_disks_end_by_themselves() -> None:
    """The leader's disk, then a follower's: the others go on, and nobody repairs or restarts it."""
    async with opened(3, environment=FAST, disk=Disk.SMALL) as arena, checked_load(arena):
        leader = leader_of(arena)
        with during(faults.fill_these(arena, [leader], 0)):
            await another_leads(arena, leader)
            await arena.writable(others_of(arena, leader)[0])
        await arena.writable(leader)
        await arena.settled()
        follower = others_of(arena, leader_of(arena))[0]
        with during(faults.fill_these(arena, [follower], 0)):
            await arena.writable(leader_of(arena))
            await asyncio.sleep(2 * LONGEST_ELECTION_S)
            await arena.writable(leader_of(arena))
        await arena.writable(follower)
        assert [] == [
            exit_ for manager in arena.cluster.managers.values() for exit_ in manager.exits
        ]


@pytest.mark.skipif(not can_freeze(), reason="no loop devices, or no mkfs.ext4 or fsfreeze")
async def test_a_disk_that_hangs_in_the_midst_of_a_commit_holds_up_its_own_manager_alone() -> None:
    """Small commits are written by the event loop itself, while the disk is quick: so it is stuck
    with it, silent as with any stuck loop, and the others go on without it."""
    async with opened(3, environment=FAST, disk=Disk.FREEZABLE) as arena, checked_load(arena):
        leader = leader_of(arena)
        with during(faults.stall_this(arena, leader)):
            await another_leads(arena, leader)
            await arena.writable(others_of(arena, leader)[0])
        await arena.writable(leader)
        await arena.settled()
        follower = others_of(arena, leader_of(arena))[0]
        with during(faults.stall_this(arena, follower)):
            await arena.writable(leader_of(arena))
            await asyncio.sleep(2 * LONGEST_ELECTION_S)
            await arena.writable(leader_of(arena))
        await arena.writable(follower)


async def test_s73_a_peer_that_is_down_costs_the_others_no_memory() -> None:
    """Its host is silent, its links are still open: nothing may pile up for it."""
    small_log = {"MESHSWARM_RAFT_SNAPSHOT_ENTRIES": "100", "MESHSWARM_RAFT_TRAILING_ENTRIES": "100"}
    async with opened(3, environment=FAST | small_log) as arena:
        silent = others_of(arena, leader_of(arena))[0]
        others = others_of(arena, silent)
        await write_big(arena, WARM_UP)
        before = {name: arena.cluster.managers[name].rss_bytes() for name in others}
        with during(faults.unplug_these(arena, [silent])):
            await write_big(arena, WRITES)
            after = {name: arena.cluster.managers[name].rss_bytes() for name in others}
        await arena.writable(silent)
        await arena.same_states()
    grown = {name: (after[name] - before[name]) / 1e6 for name in others}
    assert all(megabytes < BIG_BYTES * WRITES / 1e6 * 3 / 4 for megabytes in grown.values()), grown


BIG_BYTES = 65_536
WARM_UP, WRITES = 800, 1_500
"""A manager's log may hold 32 MiB in memory, and a snapshot comes and goes: what would pile up for
a peer is twice that, and nearly all of it would have to be there."""


async def write_big(arena: Arena, count: int) -> None:
    """So many acknowledged writes of 64 KiB to eight keys, by eight clients at once."""
    numbers = iter(range(count))

    async def some(key: str) -> None:
        for number in numbers:
            value = f"{number}-{'x' * BIG_BYTES}"
            await arena.until(partial(is_written, key, value), "a write is acknowledged")

    async def is_written(key: str, value: str) -> bool:
        try:
            await arena.client.propose(write_of(key, value))
        except MeshswarmError:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        for client in range(8):
            group.create_task(some(f"big-{client}"), name=f"big {client}")
