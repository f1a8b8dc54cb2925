"""The short form of `tools/run.py chaos`: every fault once, from a fixed seed; and its teeth."""

import shutil

import pytest

from tools.chaos.__main__ import with_bug
from tools.chaos.faults import FAULTS
from tools.chaos.round import Plan, Step, Verdict, planned, played

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

BOTH_JUDGES = ("STALE READ", "NOT LINEARIZABLE")
MUST = ("kill", "pause", "cut", "oneway", "diskfull")


def one_of_each(seed: int, managers: int) -> Plan:
    """These faults one after the other, two seconds each."""
    steps = tuple(
        Step(number=number, at_s=1.5 + 2.5 * number, for_s=1.8, kind=kind)
        for number, kind in enumerate(MUST)
    )
    plan = planned(seed, 1.5 + 2.5 * len(MUST), MUST, managers)
    return Plan(
        seed=seed,
        seconds=plan.seconds,
        kinds=MUST,
        managers=managers,
        steps=steps,
        settings=plan.settings,
        disk=plan.disk,
    )


async def test_nothing_acknowledged_is_lost_or_untrue_through_every_fault() -> None:
    verdict = await played(one_of_each(4, 3))
    assert [] == verdict.violations, verdict.kept
    assert len(MUST) == verdict.figures["faults"]
    assert_busy(verdict)


def assert_busy(verdict: Verdict) -> None:
    """A round in which next to nothing was acknowledged shows nothing."""
    acknowledged = verdict.figures["writes_acknowledged"]
    assert isinstance(acknowledged, int)
    assert acknowledged > 10


async def test_a_planted_bug_is_found() -> None:
    """Managers that answer reads from their own view, cut in two; in three rounds at the most."""
    steps = (Step(number=0, at_s=1.0, for_s=5.0, kind="cut"),)
    told: list[str] = []
    for seed in range(1, 4):
        settings = planned(seed, 6.5, ("cut",), 3).settings
        honest = Plan(
            seed=seed, seconds=6.5, kinds=("cut",), managers=3, steps=steps, settings=settings
        )
        verdict = await played(with_bug(honest, "local_reads"))
        told += verdict.violations
        if verdict.kept is not None:
            assert (verdict.kept / "history-0.jsonl").exists(), "what shows it is kept"
            shutil.rmtree(verdict.kept)
        if all(any(judge in one for one in told) for judge in BOTH_JUDGES):
            return
    pytest.fail(f"not found by both judges: {told}")


def test_a_seed_is_a_schedule() -> None:
    assert planned(7, 60, tuple(FAULTS), 3) == planned(7, 60, tuple(FAULTS), 3)
    assert planned(7, 60, tuple(FAULTS), 3).steps != planned(8, 60, tuple(FAULTS), 3).steps
    assert set(FAULTS) == {step.kind for step in planned(7, 120, tuple(FAULTS), 3).steps}
