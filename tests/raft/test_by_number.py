"""Scenarios that a talk with a cluster cannot show, for they are about chance, counts and sizes."""

import random

import pytest

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from meshswarm.raft.messages import (
    Heartbeat,
    HeartbeatReply,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.progress import ProgressState
from meshswarm.raft.types import HardState
from tests.raft.driving import A, B, C, ack, core_of, elected, entries_of, sent_by
from tests.support.raft_script import Script
from tests.support.raft_world import World

CONFIG = RaftConfig(node_id=NodeId("-"))


def world_of(names: str, seed: int, config: RaftConfig = CONFIG) -> World:
    return World.of(names, config=config, rng_of=lambda node: random.Random(f"{seed}{node}"))


def settled(world: World) -> None:
    while world.wire:
        world.deliver(world.wire[0])


def test_s08_voters_that_ask_first_do_not_split() -> None:
    """All four time out at once, and messages take a tick: three stand back for the fourth."""
    elections = [_election(seed, pre_vote=True) for seed in range(100)]
    round_trips = 2
    assert set(elections) == {(1, CONFIG.election_ticks + 2 * round_trips)}


def test_s08_voters_that_split_decide_within_three_rounds() -> None:
    """The same without pre-votes. A round raises the term once."""
    elections = [_election(seed, pre_vote=False) for seed in range(100)]
    terms, ticks = (sorted(figures) for figures in zip(*elections, strict=True))
    assert terms[0] == 2  # the first round is split, by design
    assert terms[int(0.95 * len(terms))] <= 3
    assert ticks[int(0.95 * len(ticks))] <= 3 * CONFIG.election_ticks_max


def _election(seed: int, pre_vote: bool) -> tuple[int, int]:
    """In how many terms there was a leader, and after how many ticks."""
    world = world_of("abcd", seed, RaftConfig(node_id=NodeId("-"), pre_vote=pre_vote))
    for node in world.alive():
        world.store(node.id, entries_of([1]), HardState(term=Term(1)))
        node.running._state.election_timeout = CONFIG.election_ticks
    ticks = 0
    while world.leader() is None:
        arriving = list(world.wire)
        for node in world.alive():
            world.tick(node.id)
        for message in arriving:
            world.deliver(message)
        ticks += 1
    return max(node.running.status().term for node in world.alive()) - 1, ticks


@pytest.mark.parametrize("runs", [1, 3, 10])
def test_s22_a_refusal_a_term_not_one_an_entry(runs: int) -> None:
    """Tails of 10,000 entries whose terms alternate: the follower's odd, the leader's even."""
    each = 10_000 // runs

    def log_of(parity: int) -> RaftLog:
        tail = [2 * run + parity for run in range(1, runs + 1) for _ in range(each)]
        return RaftLog(
            snapshot=None, entries=entries_of([1, *tail]), committed=Index(1), applied=Index(1)
        )

    follower, leader = log_of(1), log_of(0)
    prev = leader.last_index
    refusals = 0
    while not follower.matches(prev, leader.term(prev)):
        refusals += 1
        hint, term = follower.find_conflict_by_term(
            min(prev, follower.last_index), leader.term(prev)
        )
        prev, _ = leader.find_conflict_by_term(hint, term)
    assert prev == 1
    assert refusals <= runs + 1


def test_s30_bytes_in_flight_stay_within_the_limit_and_one_message() -> None:
    large = b"x" * (16 << 20)
    config = RaftConfig(
        node_id=A,
        max_append_bytes=32 << 20,
        max_inflight_bytes=40 << 20,
        max_uncommitted_bytes=1 << 30,
    )
    core = elected(core_of(config=config))
    sent_by(core)
    core.step(ack(B, 1, 1))
    sent_by(core)
    reign = core._state.reign
    assert reign is not None
    window = reign.peers[B].inflights
    limit = config.max_inflight_bytes + 2 * (len(large) + ENTRY_OVERHEAD_BYTES)
    most = 0
    for index in range(2, 12):
        core.propose([large])
        sent_by(core)
        most = max(most, window.bytes)
        if index % 3 == 0:
            core.step(ack(B, 1, index // 3 + 1))
            sent_by(core)
            most = max(most, window.bytes)
    assert config.max_inflight_bytes <= most < limit
    core.unreachable(B)
    assert (window.bytes, len(window)) == (0, 0)


def test_s32_a_burst_out_of_order_costs_one_episode_of_probing() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        world = world_of("ab", seed)
        while world.leader() is None:
            for node in world.alive():
                world.tick(node.id)
            settled(world)
        leader = world.leader()
        assert leader is not None
        reign = leader.running._state.reign
        assert reign is not None
        [(_, progress)] = reign.peers.items()
        for number in range(16):
            leader.running.propose([b"%d" % number])
            world.pump(leader.id)
        chance.shuffle(world.wire)
        episodes, was = 0, progress.state
        while world.wire:
            world.deliver(world.wire[0])
            episodes += was is not ProgressState.PROBE and progress.state is ProgressState.PROBE
            was = progress.state
        assert episodes <= 1
        assert progress.match == leader.running.status().last_index


def test_s40_a_read_that_is_asked_again_is_another_read() -> None:
    """Under a context of its own: the answer to the first comes to nobody's harm."""
    core = elected(core_of())
    sent_by(core)
    core.step(ack(B, 1, 1))
    core.read_index(1)
    sent_by(core)
    core.read_index(2)
    [position] = {m.read_position for m in sent_by(core) if hasattr(m, "read_position")}
    core.step(HeartbeatReply(from_=B, to=A, term=Term(1), read_position=position - 1))
    assert [read.context for read in core.ready().read_states] == [1]
    core.step(HeartbeatReply(from_=B, to=A, term=Term(1), read_position=position))
    assert [read.context for read in core.ready().read_states] == [2]


def test_s73_a_peer_that_is_gone_holds_nothing_back() -> None:
    """Under full load for long: what is kept for it is bounded, whatever it misses."""
    config = RaftConfig(node_id=NodeId("-"), max_inflight=4)
    world = world_of("abc", 1, config)
    while world.leader() is None:
        for node in world.alive():
            world.tick(node.id)
        settled(world)
    leader = world.leader()
    assert leader is not None
    reign = leader.running._state.reign
    assert reign is not None
    gone = next(iter(reign.peers))
    world.crash(gone)
    for number in range(600):
        leader.running.propose([b"%d" % number] * 10)
        world.pump(leader.id)
        settled(world)
        if number % 10 == 0:
            for node in world.alive():
                world.tick(node.id)
            settled(world)
            world.compact(leader.id, keep=50)
    status = leader.running.status()
    assert status.commit == status.last_index > 6_000
    assert status.last_index - status.first_index < 200
    assert len(reign.peers[gone].inflights) <= config.max_inflight
    assert leader.running._state.outbox.is_empty
    assert not world.wire


@pytest.mark.parametrize("blank", [True, False])
def test_s48_who_is_blank_asks_first_though_told_to_run(blank: bool) -> None:
    """What was granted to it before it was wiped may still come, and in that very term."""
    core = core_of(term=1, blank=blank)
    core.step(Heartbeat(from_=B, to=A, term=Term(1), commit=Index(0)))
    sent_by(core)
    core.step(TimeoutNow(from_=B, to=A, term=Term(1)))
    asked = [message for message in sent_by(core) if isinstance(message, RequestVote)]
    assert [blank, blank] == [request.pre_vote for request in asked]
    core.step(VoteReply(from_=C, to=A, term=Term(2), granted=True))
    assert blank is not core.leads


@pytest.mark.parametrize("ticks", range(20, 30))
def test_s48_a_pair_survives_a_wipe_whenever_the_leader_checks_its_quorum(ticks: int) -> None:
    """Even between two heartbeats, one of which would have told that it vouches."""
    script = Script()
    for line in (
        "nodes a b election=10 heartbeat=3",
        "elect a",
        "propose a x",
        "settle",
        f"run {ticks}",
        "crash b",
        "wipe b",
        "restart b",
        "run 60",
    ):
        script.run(line)
    assert [" ".join(line.split()[1:]) for line in script.run("show")] == [
        "Leader term=1 vote=a leader=a log=1..3 durable=3 commit=3 applied=3",
        "Follower term=1 vote=a leader=a log=1..3 durable=3 commit=3 applied=3",
    ]
