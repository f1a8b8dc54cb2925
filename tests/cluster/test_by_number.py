"""Numbered scenarios of managers together: membership, and wrong clocks."""

from pathlib import Path

import pytest

from meshswarm.cluster import proposals
from meshswarm.errors import Denied, Unavailable
from meshswarm.model.service import RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.raft.types import ConfChange, ConfChangeKind
from meshswarm.store.commands import PutService
from tests.support.managers import managers, until

HOUR_MS = 3_600_000


def put(name: str) -> PutService:
    task = TaskSpec(runtime=RuntimeKind.PROCESS, command=("sleep", "9"))
    return PutService(spec=ServiceSpec(name=name, replicas=0, task=task))


async def test_s47_a_removed_manager_is_told_and_stops(tmp_path: Path) -> None:
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        removed, other = [member for member in cluster.members if member is not leader]
        await removed.stop()
        assert leader.seat is not None
        change = ConfChange(ConfChangeKind.REMOVE, removed.peer.id)
        leader.seat.driver.change_members(change)
        await leader.seat.proposals.propose(put("without-it"))
        removed.start()
        await until(lambda: isinstance(removed.failure, ExceptionGroup))
        assert isinstance(removed.failure, ExceptionGroup)
        [failure] = removed.failure.exceptions
        assert isinstance(failure, Denied)
        assert "Leader" == leader.role
        again = ConfChange(ConfChangeKind.ADD_LEARNER, removed.peer.id)
        with pytest.raises(Unavailable, match="was removed, for ever"):
            leader.seat.driver.change_members(again)
        await until(lambda: other.follows)


async def test_s72_a_wall_clock_that_jumps_elects_nobody_and_turns_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ticks, sessions and deadlines go by the time since boot; only log time is the wall's."""
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        assert leader.seat is not None
        before = leader.seat.driver.core.status()
        right = proposals._wall_ms
        clocks: list[int] = []
        for jump_ms in (0, HOUR_MS, -HOUR_MS, 0):
            monkeypatch.setattr(proposals, "_wall_ms", lambda jump=jump_ms: right() + jump)
            for member in cluster.members:
                assert member.seat is not None
                await member.seat.proposals.propose(put(f"{member.name}-{len(clocks)}"))
            clocks.append(leader.seat.driver.hub.view.clock_ms)
        after = leader.seat.driver.core.status()
        assert (before.term, before.leader) == (after.term, after.leader)
        assert clocks == sorted(clocks)
        assert clocks[-1] - clocks[1] < HOUR_MS // 2
