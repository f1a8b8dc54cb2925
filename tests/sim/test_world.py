"""The world around the nodes does what it says: time, processes, connections, disks."""

import random
from functools import partial

import pytest

from meshswarm.errors import OutcomeUnknown, Unavailable
from meshswarm.ids import Index, NodeId, Term
from meshswarm.model.node import NodeRole
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    HardState,
    Snapshot,
    SnapshotMeta,
)
from meshswarm.sim.clock import Bell, Clock, Life, Promise
from meshswarm.sim.cluster_faults import _have_changed
from meshswarm.sim.disk import RETRY_MS, Adopt, Append, Disk, Drop
from meshswarm.sim.hosts import Host
from meshswarm.sim.network import GIVE_UP_MS, Door, Network, Stream
from meshswarm.sim.scene import Scene
from meshswarm.sim.shape import EPOCH_MS, Shape
from meshswarm.sim.trace import Trace
from meshswarm.sim.world import World


class Echo:
    """A process that says what it hears."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    async def say(self, number: int) -> int:
        self.heard.append(number)
        return number


def network(clock: Clock) -> Network:
    return Network(clock, random.Random(1), Trace(clock))


def opened(clock: Clock) -> tuple[Door[Echo], Echo, Life]:
    door: Door[Echo] = Door("there")
    echo, life = Echo(), Life(clock)
    door.open(life, echo)
    return door, echo, life


# --- time and processes -----------------------------------------------------------------------


def test_what_is_due_at_one_instant_happens_in_order() -> None:
    clock, seen = Clock(), list[int]()
    for number in (1, 2, 3):
        clock.after(5, partial(seen.append, number))
    clock.run_until(4)
    assert [] == seen
    clock.run_until(5)
    assert ([1, 2, 3], 5) == (seen, clock.now_ms)


def test_a_paused_process_makes_up_for_it_and_a_dead_one_never() -> None:
    clock, seen = Clock(), list[str]()
    paused, dead = Life(clock), Life(clock)
    paused.after(10, lambda: seen.append("paused"))
    dead.after(10, lambda: seen.append("dead"))
    paused.pause()
    dead.end()
    clock.run_until(20)
    assert [] == seen
    paused.resume()
    clock.run_until(20)
    assert ["paused"] == seen


def test_a_script_waits_for_promises_bells_and_errors() -> None:
    clock, seen = Clock(), list[object]()
    life = Life(clock)
    bell, promise = Bell(life), Promise[int](life)

    async def script() -> None:
        seen.append(await bell.wait(100))
        seen.append(await bell.wait(100))
        try:
            seen.append(await promise)
        except Unavailable as error:
            seen.append(error.message)

    life.spawn(script())
    life.after(50, bell.ring)
    life.after(60, lambda: promise.fail(Unavailable("no")))
    clock.run_until(300)
    assert [True, False, "no"] == seen


# --- connections ------------------------------------------------------------------------------


def test_a_call_is_answered_refused_or_unknown() -> None:
    clock = Clock()
    net, me = network(clock), Life(clock)
    door, echo, _ = opened(clock)
    seen: list[object] = []

    async def ask(number: int) -> None:
        try:
            seen.append(
                await net.ask(me, "here", door, "say", lambda there: there.say(number), 1_000)
            )
        except Unavailable as error:
            seen.append(type(error))

    me.spawn(ask(1))
    clock.run_until(100)
    net.cuts.add(("there", "here"))
    me.spawn(ask(2))
    clock.run_until(2_000)
    door.close()
    net.cuts.clear()
    me.spawn(ask(3))
    clock.run_until(3_000)
    assert [1, OutcomeUnknown, Unavailable] == seen
    assert [1, 2] == echo.heard


@pytest.mark.parametrize(("silently", "until_ms"), [(False, 50), (True, 1_000)])
def test_a_process_that_dies_breaks_its_calls_but_not_without_power(
    silently: bool, until_ms: int
) -> None:
    clock = Clock()
    net, me = network(clock), Life(clock)
    door, _, there = opened(clock)
    there.pause()
    answer = net.ask(me, "here", door, "say", lambda echo: echo.say(1), 1_000)
    clock.run_until(20)
    there.end(silently=silently)
    assert not answer.is_settled
    clock.run_until(until_ms)
    assert answer.is_settled


def test_a_stream_keeps_its_order_over_a_short_cut_and_breaks_in_a_long_one() -> None:
    clock = Clock()
    net, reader, writer = network(clock), Life(clock), Life(clock)
    stream: Stream[int] = Stream(net, ("w", writer), ("r", reader), "numbers")
    seen: list[object] = []

    async def read() -> None:
        try:
            while True:
                if (number := await stream.next(10_000)) is not None:
                    seen.append(number)
        except Unavailable:
            seen.append("broken")

    reader.spawn(read())
    net.cuts.add(("w", "r"))
    for number in (1, 2, 3):
        stream.push(number)
    clock.run_until(GIVE_UP_MS // 2)
    net.cuts.clear()
    clock.run_until(GIVE_UP_MS)
    assert [1, 2, 3] == seen
    net.cuts.add(("w", "r"))
    stream.push(4)
    clock.run_until(3 * GIVE_UP_MS)
    assert ([1, 2, 3, "broken"], True) == (seen, stream.is_over)


# --- disks ------------------------------------------------------------------------------------


def write(token: int, *indexes: int) -> Append:
    entries = tuple(Entry(Index(index), Term(token), b"") for index in indexes)
    ready = Ready(token=token, hard_state=HardState(Term(token)), entries=entries)
    return Append(ready=ready, is_incomplete=False)


def test_a_crash_keeps_a_beginning_of_what_was_on_its_way() -> None:
    assert {(1, (1, 1)), (2, (1, 2, 2)), (3, (1, 2, 2, 3))} == {crashed(seed) for seed in range(20)}


def crashed(seed: int) -> tuple[int, tuple[int, ...]]:
    """The term and the entries' terms on a disk that was at work on its second and third write."""
    clock, done = Clock(), list[int]()
    disk, life = Disk(random.Random(seed)), Life(clock)
    disk.submit(life, write(1, 1, 2), lambda: done.append(1))
    clock.run_until(10)
    disk.submit(life, write(2, 2, 3), lambda: done.append(2))
    disk.submit(life, write(3, 4), lambda: done.append(3))
    life.end()
    disk.crash()
    assert [1] == done
    return disk.hard_state.term, tuple(entry.term for entry in disk.entries)


def test_writes_become_durable_in_groups() -> None:
    clock, done = Clock(), list[int]()
    disk, life = Disk(random.Random(1), sync_ms=(10, 10)), Life(clock)
    for token in (1, 2, 3):
        disk.submit(life, write(token, token), partial(done.append, token))
    clock.run_until(10)
    assert [1] == done
    clock.run_until(20)
    assert [1, 2, 3] == done


def test_a_stalled_disk_syncs_nothing_until_it_goes_on() -> None:
    clock, done = Clock(), list[int]()
    disk, life = Disk(random.Random(1), stalled_until_ms=500), Life(clock)
    disk.submit(life, write(1, 1), lambda: done.append(1))
    clock.run_until(499)
    assert [] == done
    clock.run_until(510)
    assert [1] == done


def test_a_disk_that_fails_ends_its_manager_and_acknowledges_nothing() -> None:
    clock, done = Clock(), list[str]()
    disk = Disk(random.Random(1), on_failure=lambda: done.append("ended"))
    disk.sync_fails = True
    disk.submit(Life(clock), write(1, 1), lambda: done.append("durable"))
    clock.run_until(1_000)
    assert ["ended"] == done


def test_a_full_disk_is_waited_out_and_acknowledges_nothing() -> None:
    clock, done = Clock(), list[str]()
    disk = Disk(random.Random(1))
    disk.is_full = True
    disk.submit(Life(clock), write(1, 1), lambda: done.append("durable"))
    clock.run_until(5_000)
    assert [] == done
    assert disk.has_refused
    disk.is_full = False
    clock.run_until(5_000 + RETRY_MS)
    assert ["durable"] == done
    assert not disk.has_refused


def test_without_its_newest_snapshot_a_disk_has_the_one_before_if_the_log_reaches_it() -> None:
    def snapshot(index: int) -> Snapshot:
        conf = ConfState((NodeId("m1"),))
        return Snapshot(SnapshotMeta(Index(index), Term(1), conf), b"")

    clock = Clock()
    disk, life = Disk(random.Random(1)), Life(clock)
    for step in (write(1, 1, 2, 3, 4), Adopt(snapshot(2)), Adopt(snapshot(4)), Drop(Index(2))):
        disk.submit(life, step, lambda: None)
    clock.run_until(100)
    assert not disk.lose_snapshot()
    assert (disk.meta, disk.last_index) == (snapshot(2).meta, Index(4))
    assert disk.lose_snapshot()
    assert (disk.meta, disk.last_index, disk.is_damaged) == (None, Index(0), True)


def test_a_process_dies_between_two_calls_of_its_host() -> None:
    clock, seen = Clock(), list[str]()
    life = Life(clock)

    def die() -> None:
        seen.append("died")
        life.end()

    def work() -> None:
        for number in range(5):
            life.begin_io()
            seen.append(str(number))

    life.fuse = 2, die
    life.after(1, work)
    life.after(2, work)
    clock.run_until(10)
    assert ["0", "1", "died"] == seen


def test_a_clog_holds_messages_up_and_a_clock_keeps_its_jump() -> None:
    clock = Clock()
    net = network(clock)
    door, _, _ = opened(clock)
    seen: list[int] = []
    net.clogs["here", "there"] = 400
    net.tell("here", door, "hello", lambda echo: seen.append(clock.now_ms))
    clock.run_until(399)
    assert [] == seen
    clock.run_until(410)
    assert 1 == len(seen)
    host = Host(id=NodeId("h"), role=NodeRole.MANAGER, clock=clock, rng=net.rng, disk=Disk(net.rng))
    host.skew_ms += 5_000
    host.set_pace(2.0)
    clock.run_until(1_410)
    host.set_pace(1.0)
    assert EPOCH_MS + 1_410 + 5_000 + 1_000 == host.wall_ms()


def test_a_log_is_broken_only_if_enough_others_are_whole() -> None:
    world = World(random.Random(1), Shape(is_bare=True, workers=0, clients=1))
    assert not world.has_sound_quorum()
    world.clock.run_until(5_000)
    m1, m2 = NodeId("m1"), NodeId("m2")
    assert world.has_sound_quorum(without=[m1], founders=True)
    assert not world.has_sound_quorum(without=[m1, m2])
    world.hosts[m2].disk.is_damaged = True
    assert not world.has_sound_quorum(without=[m1])
    world.end()


def test_a_change_that_comes_late_is_made_only_if_enough_of_what_it_leaves_is_whole() -> None:
    world = World(random.Random(1), Shape(is_bare=True, workers=0, clients=1))
    world.clock.run_until(5_000)
    scene = Scene(world, random.Random(1), Life(world.clock), pause_ms=1_000)
    leader = scene.leader()
    assert leader is not None
    one, other = (NodeId(name) for name in world.shape.founder_ids if name != leader.id)
    life = world.hosts[leader.id].life
    assert life is not None
    life.pause()
    removal = ConfChange(ConfChangeKind.REMOVE, other)
    leader.ask_of_it(partial(_have_changed, scene, leader, removal))
    world.hosts[one].disk.is_damaged = True
    life.resume()
    world.clock.run_until(5_100)
    assert other in leader.driver.core.status().conf.voters
    world.hosts[one].disk.is_damaged = False
    leader.ask_of_it(partial(_have_changed, scene, leader, removal))
    world.clock.run_until(5_200)
    assert other not in leader.driver.core.status().conf.voters
    world.end()
