"""A fixed set of worlds: under faults nothing breaks, and afterwards everything becomes whole."""

import pytest

from meshswarm.sim.faults import Fault
from meshswarm.sim.run import idle, run

TROUBLE_MS = 20_000

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(1, 51))
def test_three_managers(seed: int) -> None:
    result = run(seed, safety_ms=TROUBLE_MS)
    assert result.violation is None, f"python3 -m meshswarm.sim --seed {seed} --ms {TROUBLE_MS}"


@pytest.mark.parametrize("seed", range(1, 9))
def test_five_managers(seed: int) -> None:
    assert None is run(seed, safety_ms=TROUBLE_MS, managers=5).violation


@pytest.mark.parametrize("seed", range(1, 3))
def test_one_manager(seed: int) -> None:
    assert None is run(seed, safety_ms=TROUBLE_MS, managers=1).violation


@pytest.mark.parametrize("kind", Fault)
def test_one_kind_of_trouble_alone(kind: Fault) -> None:
    assert None is run(1, safety_ms=10_000, kinds=(kind,)).violation


def test_without_trouble_one_leader_stays() -> None:
    result = run(1, safety_ms=30_000, kinds=())
    assert (None, 0) == (result.violation, result.counts.get("fault", 0))
    assert 1 == idle(1, simulated_ms=60_000).counts["reign"]
