"""Nodes lose their disks in the midst of everything, as long as enough others are whole (S48)."""

from collections.abc import Callable

import pytest

from tests.sim.mutants import losses
from tests.support.loss_walk import FoundingWalk, LossWalk

Mistake = Callable[[pytest.MonkeyPatch], None]


def walked(kind: type[LossWalk], seed: int) -> LossWalk:
    walk = kind(seed)
    walk.go(walk.chance.choice(kind.LENGTHS))
    walk.is_whole = walk.come_to_rest()
    return walk


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "first", "count", "whole", "losses_made", "replaced"),
    [
        *((LossWalk, first, 20, 10, 50, 5) for first in range(1, 81, 20)),
        *((FoundingWalk, first, 60, 15, 600, 0) for first in range(1, 121, 60)),
    ],
)
def test_s48_disks_are_lost_and_nothing_that_was_committed(
    kind: type[LossWalk], first: int, count: int, whole: int, losses_made: int, replaced: int
) -> None:
    walks = [walked(kind, seed) for seed in range(first, first + count)]
    assert sum(walk.is_whole for walk in walks) >= whole
    assert sum(walk.losses_made for walk in walks) >= losses_made
    assert sum(walk.replaced for walk in walks) >= replaced


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "mistake"),
    [
        (LossWalk, losses.counts_who_recovers),
        (LossWalk, losses.vouches_at_once),
        (LossWalk, losses.confirms_reads_although_it_lost),
        (LossWalk, losses.commits_what_was_lost),
        (FoundingWalk, losses.founds_without_all),
        (FoundingWalk, losses.vouches_at_once),
    ],
)
def test_walks_notice_mistakes_with_who_lost_its_disk(
    monkeypatch: pytest.MonkeyPatch, kind: type[LossWalk], mistake: Mistake
) -> None:
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match=r"another|committed|reads at|lead term"):
        [walked(kind, seed) for seed in range(1, 301)]
