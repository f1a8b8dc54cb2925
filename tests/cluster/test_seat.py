"""Managers together: what is acknowledged survives, whoever is asked and whoever dies."""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import MethodType

import pytest
from attrs import evolve

from meshswarm.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from meshswarm.ids import ClientId, Index, NodeId, ServiceId, Term
from meshswarm.mesh.peers import Lane
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import Message, RequestVote
from meshswarm.raft.types import Role
from meshswarm.store.apply import Applied, apply
from meshswarm.store.commands import (
    Batch,
    Command,
    Group,
    RemoveService,
    ReportTasks,
    encode_command,
)
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.slices import encode_view
from meshswarm.store.view import View
from tests.support.managers import FAST, Manager, Managers, idle_service, managers, until


@asynccontextmanager
async def _led(tmp_path: Path) -> AsyncIterator[tuple[Managers, Manager]]:
    async with managers(tmp_path) as cluster:
        yield cluster, await cluster.leads()


def _others(cluster: Managers, manager: Manager) -> list[Manager]:
    return [member for member in cluster.members if member is not manager]


async def test_a_command_given_to_any_manager_is_seen_by_all(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, _):
        for member in cluster.members:
            assert member.seat is not None
            await member.seat.proposals.propose(idle_service(f"at-{member.name}"))
        for member in cluster.members:
            assert member.seat is not None
            view = await member.seat.proposals.read()
            assert ["at-n1", "at-n2", "at-n3"] == [s.spec.name for s in view.sorted_services()]


async def test_managers_that_applied_the_same_hold_equal_bytes(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        for number in range(20):
            await leader.seat.proposals.propose(idle_service(f"s{number}"))
        seats = [member.seat for member in cluster.members]
        await until(lambda: len({seat.driver.hub.view.index for seat in seats if seat}) == 1)
        states = {encode_view(seat.driver.hub.view) for seat in seats if seat}
        assert len(states) == 1


async def test_each_manager_works_each_entry_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_out = Counter[tuple[Index, Term]]()

    def counting(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        worked_out[index, term] += 1
        return apply(view, index=index, term=term, data=data)

    monkeypatch.setattr("meshswarm.cluster.foresight.apply", counting)
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        for number in range(20):
            await leader.seat.proposals.propose(idle_service(f"s{number}"))
        seats = [member.seat for member in cluster.members if member.seat is not None]
        await until(lambda: len({seat.driver.hub.view.index for seat in seats}) == 1)
    assert 20 <= list(worked_out.values()).count(3)
    assert {1, 3} >= set(worked_out.values()), "once where a leader was deposed meanwhile"


async def test_what_a_leader_foresees_nobody_sees(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        driver = leader.seat.driver
        await leader.seat.proposals.propose(idle_service("before"))
        for other in _others(cluster, leader):
            await other.stop()
        view = driver.hub.view
        command = encode_command(idle_service("alone"))
        entry = LogEntry(at_ms=view.clock_ms, by="test", request=None, command=command)
        driver.propose(entry.encoded(), lambda _: None)
        driver.end_turn()
        assert driver.core.status().last_index > driver.core.commit
        assert view is driver.hub.view
        assert ["before"] == [service.spec.name for service in view.sorted_services()]


async def test_a_refusal_reaches_whoever_asked_through_a_follower(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        follower = _others(cluster, leader)[0]
        assert follower.seat is not None
        with pytest.raises(NotFound, match="no service"):
            await follower.seat.proposals.propose(RemoveService(service_id=ServiceId("nope")))


@pytest.mark.parametrize(
    "command",
    [
        idle_service("not an agent's"),
        ReportTasks(node_id=NodeId("another"), reports=()),
        Batch(commands=(ReportTasks(node_id=NodeId("another"), reports=()),)),
        Group(commands=(idle_service("hidden"),)),
    ],
)
async def test_an_agent_speaks_of_its_own_node_and_of_nothing_else(
    tmp_path: Path, command: Command
) -> None:
    async with _led(tmp_path) as (cluster, leader):
        agent = _others(cluster, leader)[0]
        assert agent.endpoint is not None
        link, body = agent.endpoint.link(leader.peer), [encode_command(command), None]
        with pytest.raises(Denied):
            await link.call(Lane.DATA, "propose", body, timeout_s=5)


async def test_what_was_acknowledged_survives_the_leader(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        await leader.seat.proposals.propose(idle_service("kept"))
        await leader.stop()
        heir = await cluster.leads(not_=leader)
        assert heir.seat is not None
        assert (await heir.seat.proposals.read()).service_named("kept") is not None
        leader.start()
        await until(lambda: leader.follows)
        assert leader.seat is not None
        assert (await leader.seat.proposals.read()).service_named("kept") is not None


async def test_a_command_under_way_to_a_dead_leader_goes_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _led(tmp_path) as (cluster, leader), asyncio.TaskGroup() as tasks:
        seat = _others(cluster, leader)[0].seat
        assert seat is not None
        assert leader.seat is not None
        has_it = asyncio.Event()

        def never_answer(*_: object) -> bool:
            has_it.set()
            return True

        monkeypatch.setattr(leader.seat.proposals, "append_at_once", never_answer)
        request = Request(client=ClientId("c"), sequence=1)
        submit = seat.proposals.submit(encode_command(idle_service("late")), request, "c")
        under_way = tasks.create_task(submit, name="the command")
        await has_it.wait()
        await leader.stop()
        assert (await under_way).error is None
        assert (await seat.proposals.read()).service_named("late") is not None


async def test_s64_a_manager_whose_journal_is_damaged_is_repaired_by_its_peers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with _led(tmp_path) as (cluster, leader):
        hurt = _others(cluster, leader)[0]
        assert leader.seat is not None
        for number in range(20):
            await leader.seat.proposals.propose(idle_service(f"s{number}"))
        await hurt.stop()
        (tmp_path / hurt.name / "log-1").write_bytes(b"rubbish" * 2_000)
        hurt.start()
        await until(lambda: "the log is not complete" in caplog.text)
        await until(lambda: "voting again" in caplog.text)
        assert hurt.seat is not None
        assert len((await hurt.seat.proposals.read()).services) == 20
        assert hurt.seat.journal_stats()["damage"] is None
        # It counts again: with the third one gone, the two make a majority.
        third = next(m for m in cluster.members if m not in (hurt, leader))
        await third.stop()
        await leader.seat.proposals.propose(idle_service("after"))


async def test_s48_a_wiped_manager_does_not_outvote_what_it_acknowledged(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        behind, wiped = _others(cluster, leader)
        await behind.stop()
        assert leader.seat is not None
        await leader.seat.proposals.propose(idle_service("acknowledged"))
        await leader.stop()
        await wiped.stop()
        shutil.rmtree(tmp_path / wiped.name)
        behind.start()
        wiped.start()
        # The two are a majority, but one of them has forgotten what it promised.
        await until(lambda: Role.DISCONNECTED.value == behind.role == wiped.role)
        leader.start()
        again = await cluster.leads()
        assert again is leader
        assert leader.seat is not None
        await until(lambda: wiped.follows and behind.follows)
        for member in cluster.members:
            assert member.seat is not None
            view = await member.seat.proposals.read()
            assert view.service_named("acknowledged") is not None


async def test_a_broken_invariant_ends_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _led(tmp_path) as (cluster, leader):
        victim = _others(cluster, leader)[0]
        assert victim.seat is not None

        def broken(_: RaftCore, message: Message) -> None:
            raise AssertionError(f"4 is not 5 at {message.to}")

        core = victim.seat.driver.core
        monkeypatch.setattr(core, "step", MethodType(broken, core))
        await until(lambda: victim.seat is None)
        assert isinstance(victim.failure, ExceptionGroup)
        assert "4 is not 5" in str(victim.failure.exceptions[0])


async def test_s20_everything_survives_a_restart_of_all(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        await leader.seat.proposals.propose(idle_service("kept"))
        for member in cluster.members:
            await member.stop()
        for member in cluster.members:
            member.start()
        again = await cluster.leads()
        assert again.seat is not None
        assert (await again.seat.proposals.read()).service_named("kept") is not None


async def test_s48_a_new_cluster_waits_for_all_its_managers_and_says_for_whom(
    tmp_path: Path,
) -> None:
    async with managers(tmp_path) as cluster:
        await cluster.leads()  # else they do not know each other's addresses
        for member in cluster.members:
            await member.stop()
            shutil.rmtree(tmp_path / member.name)
        *present, absent = cluster.members
        for member in present:
            member.start()
        await until(lambda: all(member.role == Role.DISCONNECTED.value for member in present))
        assert present[0].seat is not None
        with pytest.raises(Unavailable, match=f"a new cluster begins with all.*: {absent.name}\n"):
            await present[0].seat.proposals.read()
        absent.start()
        await cluster.leads()


async def test_s39_without_a_quorum_a_manager_is_disconnected_and_refuses(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        for other in _others(cluster, leader):
            await other.stop()
        await until(lambda: leader.role == Role.DISCONNECTED.value)
        assert leader.seat is not None
        with pytest.raises(Unavailable, match="reaches no quorum"):
            await leader.seat.proposals.propose(idle_service("lost"))
        with pytest.raises(Unavailable, match="reaches no quorum"):
            await leader.seat.proposals.read()
        for other in _others(cluster, leader):
            other.start()
        await cluster.leads()
        await until(lambda: leader.role in (Role.LEADER.value, Role.FOLLOWER.value))


async def test_s52_leadership_is_handed_over_on_demand(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        heir, asked = _others(cluster, leader)
        assert asked.seat is not None
        led_by, term = await asked.seat.proposals.hand_over(heir.keys.id)
        assert heir.keys.id == led_by
        assert term > 1
        await until(lambda: cluster.leader is heir)
        with pytest.raises(Invalid, match="only managers"):
            await asked.seat.proposals.hand_over(NodeId("stranger"))


async def test_leadership_is_not_handed_to_a_manager_that_is_gone(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        gone, asked = _others(cluster, leader)
        await gone.stop()
        assert asked.seat is not None
        with pytest.raises(Conflict, match=f"{gone.name} did not take leadership over"):
            await asked.seat.proposals.hand_over(gone.keys.id)
        assert leader.seat is not None
        await leader.seat.proposals.propose(idle_service("led"))


async def test_a_dead_leader_is_missed_by_its_connections_before_its_heartbeats(
    tmp_path: Path,
) -> None:
    async with _led(tmp_path) as (cluster, leader):
        others = _others(cluster, leader)
        await until(lambda: all(member.follows for member in others))
        for member in others:
            assert member.seat is not None
            member.seat.driver.core._state.election_timeout = 1 << 30  # silence decides nothing
        await leader.stop()
        assert await cluster.leads(not_=leader) in others


async def test_a_stopping_leader_hands_over(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        await leader.seat.leave_leadership(2.0)
        assert (await cluster.leads(not_=leader)) is not leader


async def test_s71_a_repeated_request_is_carried_out_once(tmp_path: Path) -> None:
    async with _led(tmp_path) as (cluster, leader):
        request = Request(client=ClientId("c"), sequence=1)
        command = encode_command(idle_service("once"))
        first, *rest = [member.seat for member in (leader, *_others(cluster, leader))]
        assert first is not None
        outcome = await first.proposals.submit(command, request, "c")
        for seat in rest:
            assert seat is not None
            assert outcome == await seat.proposals.submit(command, request, "c")


async def test_s55_a_lagging_manager_is_caught_up_by_a_snapshot(tmp_path: Path) -> None:
    settings = evolve(FAST, snapshot_entries=100, trailing_entries=10)
    async with managers(tmp_path, settings=settings) as cluster:
        leader = await cluster.leads()
        sleeper = _others(cluster, leader)[0]
        await sleeper.stop()
        assert leader.seat is not None
        for number in range(250):
            await leader.seat.proposals.propose(idle_service(f"s{number % 7}-{number}"))
        seat = leader.seat
        await until(lambda: seat.driver.core.status().first_index > 50)
        sleeper.start()
        await until(lambda: sleeper.follows)
        assert sleeper.seat is not None
        view = await sleeper.seat.proposals.read()
        assert len(view.services) == 250
        await leader.seat.proposals.propose(idle_service("after"))
        assert (await sleeper.seat.proposals.read()).service_named("after") is not None


async def test_what_a_peer_says_to_a_manager_that_has_stopped_is_not_taken_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The mesh outlives the seat by a moment; a vote then would be a write to a closed journal."""
    async with _led(tmp_path) as (cluster, leader):
        assert leader.seat is not None
        driver = leader.seat.driver
        term = driver.core.status().term
        await leader.stop()
        late = RequestVote(
            from_=_others(cluster, leader)[0].keys.id,
            to=leader.keys.id,
            term=Term(term + 1),
            last_index=Index(1_000),
            last_term=Term(term + 1),
            leadership_transfer=True,
        )
        driver.step(late)
        await asyncio.sleep(0)
        assert term == driver.core.status().term
        assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
