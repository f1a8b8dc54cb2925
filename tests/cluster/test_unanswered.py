"""What a leader was given and cannot carry out is answered all the same, once and in time."""

import asyncio
from pathlib import Path

from attrs import evolve

from meshswarm.cluster.seat import Seat
from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import Index, Term
from meshswarm.store.commands import encode_command
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View
from tests.support.managers import FAST, idle_service, managers, until

COMMAND = encode_command(idle_service("web"))

BRIEF = evolve(FAST, proposal_timeout_s=0.3, election_timeout_ms=1_000)
"""What waits is given up before the leader finds that it has no quorum."""


async def test_what_no_majority_confirms_is_given_up(tmp_path: Path) -> None:
    async with managers(tmp_path, settings=BRIEF) as cluster:
        leader = await cluster.leads()
        for member in cluster.members:
            if member is not leader:
                await member.stop()
        seat = leader.seat
        assert seat is not None
        told: list[Outcome | MeshswarmError] = []
        read: list[View | MeshswarmError] = []
        assert seat.proposals.submit_at_once(COMMAND, None, "test", told.append)
        assert seat.proposals.read_at_once(read.append)
        seat.driver.end_turn()
        await until(lambda: bool(told and read))
        assert [type(one) for one in told] == [OutcomeUnknown]
        assert [type(one) for one in read] == [Unavailable]


async def test_whose_entry_another_leader_replaced_is_told_so_when_its_place_is_taken(
    tmp_path: Path,
) -> None:
    async with managers(tmp_path, count=1) as cluster:
        leader = await cluster.leads()
        seat = leader.seat
        assert seat is not None
        told: list[Outcome | Unavailable] = []
        await _lost_at_the_next_index(seat, told)
        await seat.proposals.submit(COMMAND, None, "test")
        assert [type(one) for one in told] == [OutcomeUnknown]


async def _lost_at_the_next_index(seat: Seat, told: list[Outcome | Unavailable]) -> None:
    """As if this manager had led before, and lost what it had appended where its log ends now."""
    status = seat.driver.core.status()
    await seat.driver.applied(status.last_index)
    lost = Index(status.last_index + 1)
    now_s = asyncio.get_running_loop().time()
    seat.driver._waiting[lost] = (Term(status.term - 1), told.append, now_s)
