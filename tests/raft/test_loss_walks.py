"""Nodes lose their disks in the midst of everything, as long as enough others are whole (S48)."""

from collections.abc import Callable

import pytest

from tests.sim.mutants import losses
from tests.support.loss_walk import FoundingWalk, LossWalk


def walked(seed: int) -> LossWalk:
    walk = LossWalk(seed)
    walk.go(walk.chance.choice((100, 300, 800)))
    walk.is_whole = walk.come_to_rest()
    return walk


def founded(seed: int) -> FoundingWalk:
    walk = FoundingWalk(seed)
    walk.go(walk.chance.choice((80, 150, 300)))
    walk.is_whole = walk.come_to_rest()
    return walk


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(1, 81, 20))
def test_s48_disks_are_lost_and_nothing_that_was_committed(first: int) -> None:
    walks = [walked(seed) for seed in range(first, first + 20)]
    assert sum(walk.is_whole for walk in walks) >= 10
    assert sum(walk.losses_made for walk in walks) >= 50
    assert sum(walk.replaced for walk in walks) >= 5


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(1, 121, 60))
def test_s48_founders_lose_their_disks_and_nothing_that_was_committed(first: int) -> None:
    walks = [founded(seed) for seed in range(first, first + 60)]
    assert sum(walk.is_whole for walk in walks) >= 15
    assert sum(walk.losses_made for walk in walks) >= 600


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mistake", [losses.founds_without_all, losses.vouches_at_once])
def test_walks_notice_mistakes_at_the_founding(
    monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=r"another|committed|reads at|lead term"):
        [founded(seed) for seed in range(1, 301)]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "mistake",
    [
        losses.counts_who_recovers,
        losses.vouches_at_once,
        losses.confirms_reads_although_it_lost,
        losses.commits_what_was_lost,
    ],
)
def test_walks_notice_mistakes_with_who_lost_its_disk(
    monkeypatch: pytest.MonkeyPatch, mistake: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=r"another|committed|reads at"):
        [walked(seed) for seed in range(1, 101)]
