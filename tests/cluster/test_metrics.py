"""What managers measure: quantiles of the recent, and each measure under its name in `status`."""

from pathlib import Path

import attrs
import pytest

from meshswarm.answers import ManagerMetrics, ManagerStatus
from meshswarm.cluster.metrics import KEPT, Largest, Quantiles, Recent
from meshswarm.mesh.faults import Fault
from meshswarm.model.service import RuntimeKind, ServiceSpec, TaskSpec
from meshswarm.store.commands import PutService
from tests.support.managers import Manager, managers, until


@pytest.mark.parametrize(
    ("added", "p50", "p99"),
    [
        ([], None, None),
        ([4.0], 4.0, 4.0),
        ([3.0, 1.0, 2.0], 2.0, 3.0),
        ([float(n) for n in range(100)], 50.0, 99.0),
        ([float(n) for n in range(200)], 100.0, 198.0),
        ([9_999.0] * 500 + [1.0] * KEPT, 1.0, 1.0),
    ],
)
def test_quantiles_are_of_the_recent_ones(
    added: list[float], p50: float | None, p99: float | None
) -> None:
    recent = Recent()
    for duration in added:
        recent.add(duration)
    assert Quantiles(p50=p50, p99=p99) == recent.quantiles()


def test_the_largest_is_never_forgotten() -> None:
    largest = Largest()
    for duration in [1.0, 7.0, *[2.0] * KEPT]:
        largest.add(duration)
    assert (7.0, Quantiles(p50=2.0, p99=2.0)) == (largest.max, largest.recent.quantiles())


def _status(manager: Manager) -> dict[str, object]:
    assert manager.seat is not None
    return manager.seat.status()


async def test_status_has_every_measure_under_the_name_that_clients_know(tmp_path: Path) -> None:
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        for name in ("a", "b", "c"):
            task = TaskSpec(runtime=RuntimeKind.PROCESS, command=("sleep", "9"))
            put = PutService(spec=ServiceSpec(name=name, replicas=0, task=task))
            assert leader.seat is not None
            await leader.seat.proposals.propose(put)
        status = _status(leader)
        named = {field.name for field in attrs.fields(ManagerStatus)}
        assert named <= status.keys(), "a client would show a default for what was never told"
        measured = status["metrics"]
        assert isinstance(measured, dict)
        assert {field.name for field in attrs.fields(ManagerMetrics)} == measured.keys()
        assert {fault.value for fault in Fault} == measured["dropped"].keys()
        assert 1 <= measured["elections"]
        assert 0 < measured["fsync_p50_ms"] <= measured["fsync_p99_ms"]
        assert measured["loop_lag_p99_ms"] <= measured["loop_lag_max_ms"]
        assert 0 < measured["journal_bytes"] < measured["free_bytes"]


async def test_leader_changes_are_counted_by_those_who_see_them(tmp_path: Path) -> None:
    async with managers(tmp_path) as cluster:
        leader = await cluster.leads()
        others = [member for member in cluster.members if member is not leader]
        await until(lambda: all(member.follows for member in others))
        seen = [_changes(member) for member in others]
        assert others[0].seat is not None
        await others[0].seat.proposals.hand_over(others[0].keys.id)
        await until(lambda: cluster.leader is others[0])
        await until(lambda: all(_changes(m) > n for m, n in zip(others, seen, strict=True)))


def _changes(manager: Manager) -> int:
    assert manager.seat is not None
    return manager.seat.driver.metrics.leader_changes
