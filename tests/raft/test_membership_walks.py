"""Memberships that change all the time, under faults, and then some members die for good.

The stateful machine beside this revives everybody at the end; what keeps a cluster with too few
living members from electing shows only here (`membership_learner_has_a_tail.txt` is such a case).
"""

import pytest

from meshswarm.raft import election
from tests.support.raft_walk import Walk


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", range(80, 160, 20))
def test_whoever_is_left_of_a_changing_cluster_goes_on(first: int) -> None:
    whole = changes = 0
    for seed in range(first, first + 20):
        walk = Walk(seed)
        walk.found()
        walk.go(walk.chance.choice((100, 300, 800)))
        whole += walk.come_to_rest()
        changes += walk.changes
    assert whole >= 10
    assert changes >= 8


def test_a_vote_that_tells_no_commit_leaves_a_walk_without_a_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Walks notice that mistake; if not with this seed any more, look for another one."""
    monkeypatch.setattr(election, "learn_commit", lambda state, reply: None)
    walk = Walk(111)
    walk.found()
    walk.go(walk.chance.choice((100, 300, 800)))
    with pytest.raises(AssertionError, match="no leader among"):
        walk.come_to_rest()
