"""What a proposer is told when leaders change: "nothing was done" only where that is certain."""

import asyncio
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm import codec
from meshswarm.cluster.driver import Waiter
from meshswarm.cluster.proposals import Proposals
from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import ClientId, NodeId
from meshswarm.store.commands import Command, encode_command
from meshswarm.store.log_entry import Request
from meshswarm.store.outcome import Outcome
from tests.support.managers import FAST, Manager, idle_service, managers, until

SHORT = evolve(FAST, proposal_timeout_s=1.0)


async def _submit(
    manager: Manager, command: Command, request: Request | None = None
) -> Outcome | Unavailable:
    assert manager.seat is not None
    try:
        return await manager.seat.proposals.submit(encode_command(command), request, "test")
    except Unavailable as error:
        return error


async def test_s17_what_a_leader_without_a_quorum_appended_ends_unknown(tmp_path: Path) -> None:
    async with managers(tmp_path, settings=SHORT) as cluster:
        leader = await cluster.leads()
        for other in cluster.members:
            if other is not leader:
                await other.stop()
        assert "Leader" == leader.role, "it does not know yet"
        assert leader.seat is not None
        term = leader.seat.driver.core.status().term
        told = await _submit(leader, idle_service("pending"))
        assert isinstance(told, OutcomeUnknown)
        assert term == leader.seat.driver.core.status().term
        assert "Leader" != leader.role


async def test_s17_a_later_refusal_does_not_make_an_unknown_outcome_a_failure(
    tmp_path: Path,
) -> None:
    """The first leader took the command and died; then nobody led: it may still be committed."""
    async with managers(tmp_path, settings=SHORT) as cluster:
        leader = await cluster.leads()
        asked, third = (member for member in cluster.members if member is not leader)
        taken = asyncio.Event()

        def never(*_: object) -> bool:
            taken.set()
            return True

        assert leader.seat is not None
        leader.seat.proposals.append_at_once = never  # type: ignore[assignment, method-assign]
        async with asyncio.TaskGroup() as tasks:
            request = Request(client=ClientId("c"), sequence=1)
            told = tasks.create_task(_submit(asked, idle_service("named"), request), name="ask")
            await taken.wait()
            await third.stop()
            await leader.stop()
        assert isinstance(told.result(), OutcomeUnknown)


async def test_s17_nor_does_it_where_the_leader_took_the_command_at_once(tmp_path: Path) -> None:
    async with managers(tmp_path, settings=SHORT) as cluster:
        leader = await cluster.leads()
        for other in cluster.members:
            if other is not leader:
                await other.stop()
        assert leader.seat is not None

        def lose(_: bytes, waiter: Waiter) -> None:
            waiter(OutcomeUnknown("a snapshot came in between"))

        leader.seat.driver.propose = lose  # type: ignore[assignment, method-assign]
        told: list[Outcome | MeshswarmError] = []
        request = Request(client=ClientId("c"), sequence=1)
        command = encode_command(idle_service("named"))
        assert leader.seat.proposals.submit_at_once(command, request, "test", told.append)
        del leader.seat.driver.propose
        await until(lambda: bool(told))
        assert isinstance(told[0], OutcomeUnknown)


async def test_s17_what_was_never_sent_is_told_as_not_done(tmp_path: Path) -> None:
    async with managers(tmp_path, settings=SHORT) as cluster:
        leader = await cluster.leads()
        alone = next(member for member in cluster.members if member is not leader)
        for other in cluster.members:
            if other is not alone:
                await other.stop()
        await until(lambda: "Disconnected" == alone.role)
        told = await _submit(alone, idle_service("never"))
        assert isinstance(told, Unavailable)
        assert not isinstance(told, OutcomeUnknown)


async def test_s71_a_request_repeated_on_the_new_leader_is_carried_out_once(
    tmp_path: Path,
) -> None:
    """It was committed, its answer was lost with the leader; the next one knows it from its log."""
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        request = Request(client=ClientId("c"), sequence=1)
        first = await _submit(leader, idle_service("once"), request)
        await leader.stop()
        heir = await cluster.leads(not_=leader)
        again = await _submit(heir, idle_service("once"), request)
        assert isinstance(first, Outcome)
        assert isinstance(again, Outcome)
        assert codec.encode(first) == codec.encode(again)
        assert heir.seat is not None
        view = await heir.seat.proposals.read()
        assert [1] == [service.revision for service in view.sorted_services()]


async def test_s17_an_entry_that_another_leader_replaced_was_surely_not_done(
    tmp_path: Path,
) -> None:
    """The one certain "no": another term's entry stands at that index. So it is proposed anew."""
    async with managers(tmp_path, settings=evolve(FAST, proposal_timeout_s=10.0)) as cluster:
        leader = await cluster.leads()
        seat = leader.seat
        assert seat is not None
        others = [member for member in cluster.members if member is not leader]
        sent = seat.driver._send
        seat.driver._send = lambda message: True  # its appends go nowhere
        async with asyncio.TaskGroup() as tasks:
            told = tasks.create_task(_submit(leader, idle_service("replaced")), name="ask")
            await until(lambda: any("Leader" == other.role for other in others))
            seat.driver._send = sent
        outcome = told.result()
        assert isinstance(outcome, Outcome)
        view = await seat.proposals.read()
        assert view.service_named("replaced") is not None


async def test_a_new_leader_and_a_deadline_at_the_same_moment_end_nobody(tmp_path: Path) -> None:
    """Whoever asks a former leader is woken; one whose time is just over has been woken already."""
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        follower = next(member for member in cluster.members if member is not leader)
        assert follower.seat is not None
        with pytest.raises(TimeoutError):
            await _ask_until_a_leader_comes_too_late(follower.seat.proposals)


async def _ask_until_a_leader_comes_too_late(proposals: Proposals) -> None:
    async with asyncio.timeout(0) as limit:
        proposals._asking[limit] = NodeId("a former leader")
        try:
            await asyncio.Event().wait()
        finally:
            proposals._note_leader()
            del proposals._asking[limit]


async def test_a_read_that_is_given_up_as_it_is_confirmed_harms_nobody(tmp_path: Path) -> None:
    async with managers(tmp_path, count=1) as cluster:
        leader = await cluster.leads()
        assert leader.seat is not None
        driver = leader.seat.driver
        assert await driver.confirmed_index() > 0
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(driver.confirmed_index(), name="read")
            await asyncio.sleep(0)
            reading.cancel()
        assert await driver.confirmed_index() > 0
        assert "Leader" == leader.role
