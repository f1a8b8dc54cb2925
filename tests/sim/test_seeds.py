"""A fixed set of worlds: under faults nothing breaks, and afterwards everything becomes whole.

CI runs many more (`python3 tools/run.py ci`); here is what a laptop can wait for.
"""

from pathlib import Path

import pytest

from meshswarm.raft.core import RaftCore
from meshswarm.sim.__main__ import parser, playing
from meshswarm.sim.faults import NEEDS_TASKS, Fault
from meshswarm.sim.run import idle, run

TROUBLE_MS = 20_000

REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.txt"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_three_managers(seed: int) -> None:
    assert None is run(seed, is_bare=True).violation


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_three_managers_and_what_they_run(seed: int) -> None:
    assert None is run(seed, safety_ms=TROUBLE_MS, is_bare=False).violation


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("managers", [1, 5])
def test_other_numbers_of_managers(managers: int, seed: int) -> None:
    assert None is run(seed, safety_ms=TROUBLE_MS, managers=managers).violation


@pytest.mark.slow
@pytest.mark.parametrize("kind", Fault)
def test_one_kind_of_trouble_alone(kind: Fault) -> None:
    is_bare = kind not in NEEDS_TASKS
    result = run(1, safety_ms=TROUBLE_MS, kinds=(kind,), is_bare=is_bare)
    assert None is result.violation


@pytest.mark.slow
@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_a_seed_that_broke_something_once(path: Path) -> None:
    arguments = parser().parse_args(path.read_text().splitlines()[-1].split())
    assert None is playing(arguments)(arguments.seed).violation


@pytest.mark.slow
def test_every_kind_of_trouble_really_happens() -> None:
    kinds = tuple(kind for kind in Fault if kind not in NEEDS_TASKS)  # in the same order always
    happened = {
        kind for seed in range(1, 9) for kind in run(seed, kinds=kinds, is_bare=True).counts
    }
    assert {f"of {kind.value}" for kind in kinds} <= happened


@pytest.mark.slow
def test_without_trouble_one_leader_stays() -> None:
    result = run(1, safety_ms=30_000, kinds=(), is_bare=True)
    assert (None, 0) == (result.violation, result.counts.get("fault", 0))
    assert 1 == idle(1, simulated_ms=60_000, is_bare=True).counts["reign"]


def test_ticks_that_are_kept_back_would_have_done_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    right, seen = RaftCore.tick, list[bool]()

    def tick(core: RaftCore) -> None:
        is_quiet, was_ready = core.quiet_ticks > 0, core.has_ready()
        right(core)
        if is_quiet and not was_ready:
            seen.append(core.has_ready())

    monkeypatch.setattr(RaftCore, "tick", tick)
    assert None is run(1, safety_ms=5_000, is_bare=True).violation
    assert set(seen) == {False}
