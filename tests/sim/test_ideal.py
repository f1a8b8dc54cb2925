"""Ideal worlds: controllers and agents under fire, without consensus; and their checkers bite."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from attrs import frozen

from meshswarm.model.rollout import RolloutPhase
from meshswarm.sim.ideal_faults import Woe
from meshswarm.sim.ideal_run import run
from tests.sim.mutants import controllers, tasks

SEEDS = 40
"""Within so many seeds every mistake must show."""

TROUBLE_MS = 20_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 16))
def test_whatever_happens_to_nodes_and_leaders_the_cluster_becomes_whole(seed: int) -> None:
    assert None is run(seed, safety_ms=TROUBLE_MS, is_wild=True).violation


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 16))
def test_a_rollout_ends_in_trouble_as_it_does_in_peace(seed: int) -> None:
    assert None is run(seed, is_wild=False).violation


def test_equal_seeds_give_equal_runs() -> None:
    first, again, other = (run(seed, safety_ms=5_000, is_wild=True) for seed in (3, 3, 4))
    assert (first.digest, first.counts) == (again.digest, again.counts)
    assert first.digest != other.digest


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_leaders_fall_in_the_phases_of_rollouts_and_every_trouble_happens() -> None:
    happened = Counter[str]()
    for seed in range(1, 13):
        result = run(seed, safety_ms=TROUBLE_MS, kinds=tuple(Woe), is_wild=seed % 2 == 0)
        assert None is result.violation
        happened.update(result.counts)
    assert {f"of {kind.value}" for kind in Woe} <= set(happened)
    # The others are rare: a thousand seeds have them, a dozen need not.
    phases = (RolloutPhase.UPDATING, RolloutPhase.PAUSED, RolloutPhase.COMPLETED)
    assert {f"without a leader while {phase.value}" for phase in phases} <= set(happened)


# --- the checkers bite ----------------------------------------------------------------------------


@frozen
class Bite:
    """How a mistake shows: `words` of the violation, in which kind of run."""

    mistake: Callable[[pytest.MonkeyPatch], None]
    words: str
    is_wild: bool = False


BITES = (
    Bite(controllers.surges_without_limit, "two tasks|live tasks of"),
    Bite(controllers.restores_something_else, "which was"),
    Bite(controllers.counts_from_its_own_beginning, "ends otherwise|in vain"),
    Bite(controllers.moves_without_a_budget, "lack a task", is_wild=True),
    Bite(controllers.moves_beside_what_runs_alone, "still runs on", is_wild=True),
    Bite(controllers.moves_on_and_on, "while .* still do", is_wild=True),
    Bite(controllers.leaves_dead_nodes_tasks, "not whole", is_wild=True),
    Bite(tasks.starts_successors_at_once, "still runs", is_wild=True),
)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("bite", BITES, ids=lambda bite: bite.mistake.__name__)
def test_a_mistake_of_the_controllers_is_found(monkeypatch: pytest.MonkeyPatch, bite: Bite) -> None:
    bite.mistake(monkeypatch)
    runs = (run(seed, safety_ms=TROUBLE_MS, is_wild=bite.is_wild) for seed in range(1, SEEDS + 1))
    found = next((one.violation for one in runs if one.violation is not None), "nothing found")
    assert re.search(bite.words, found)


def test_every_mistake_of_the_controllers_has_its_bite() -> None:
    made = {
        mistake
        for mistake in vars(controllers).values()
        if getattr(mistake, "__module__", "") == controllers.__name__ and mistake.__doc__
    }
    bitten = {bite.mistake for bite in BITES}
    assert made == {mistake for mistake in bitten if mistake.__module__ == controllers.__name__}
