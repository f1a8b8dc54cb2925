"""Majorities and single-server changes, against their definitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.ids import NodeId
from meshswarm.raft import confchange
from meshswarm.raft.quorum import VoteResult, majority_of, majority_value, vote_result
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState

nodes = st.sampled_from([NodeId(name) for name in "abcdefg"])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=7))
def test_majority_value_is_the_greatest_that_a_majority_reached(values: list[int]) -> None:
    reached = majority_value(values)
    assert sum(value >= reached for value in values) >= majority_of(len(values))
    assert sum(value > reached for value in values) < majority_of(len(values))


def test_nobody_reaches_nothing() -> None:
    assert majority_value([]) == 0


@given(st.sets(nodes, min_size=1), st.dictionaries(nodes, st.booleans()))
def test_an_election_is_decided_when_no_vote_can_change_it(
    voters: set[NodeId], votes: dict[NodeId, bool]
) -> None:
    missing = sum(1 for voter in voters if voter not in votes)
    granted = sum(1 for voter in voters if votes.get(voter))
    needed = majority_of(len(voters))
    if granted >= needed:
        expected = VoteResult.WON
    elif granted + missing < needed:
        expected = VoteResult.LOST
    else:
        expected = VoteResult.PENDING
    assert expected is vote_result(voters, votes)


@given(st.sets(nodes, min_size=1), st.sets(nodes), nodes, st.sampled_from(ConfChangeKind))
def test_majorities_before_and_after_a_change_overlap(
    voters: set[NodeId], learners: set[NodeId], node: NodeId, kind: ConfChangeKind
) -> None:
    """Thesis section 4.1, Figure 4.3."""
    before = ConfState(tuple(voters), tuple(learners - voters))
    try:
        after = confchange.changed(before, ConfChange(kind, node))
    except ConfChangeRefused:
        return
    assert after != before
    assert after.voters
    assert not set(after.voters) & set(after.learners)
    together = set(before.voters) | set(after.voters)
    both = majority_of(len(before.voters)) + majority_of(len(after.voters))
    assert both > len(together)


@pytest.mark.parametrize(
    ("kind", "node", "reason"),
    [
        (ConfChangeKind.ADD_VOTER, "a", "`a` is a voter already"),
        (ConfChangeKind.ADD_LEARNER, "b", "`b` is a learner already"),
        (ConfChangeKind.REMOVE, "z", "`z` is not a member"),
        (ConfChangeKind.REMOVE, "a", "`a` is the last voter"),
        (ConfChangeKind.DEMOTE, "a", "`a` is the last voter"),
        (ConfChangeKind.DEMOTE, "b", "`b` is no voter"),
        (ConfChangeKind.ADD_LEARNER, "a", "`a` is a voter already"),
        (ConfChangeKind.ADD_LEARNER, "r", "`r` was removed, for ever"),
        (ConfChangeKind.ADD_VOTER, "r", "`r` was removed, for ever"),
        (ConfChangeKind.REMOVE, "r", "`r` was removed, for ever"),
    ],
)
def test_refusals_say_why(kind: ConfChangeKind, node: str, reason: str) -> None:
    conf = ConfState((NodeId("a"),), (NodeId("b"),), (NodeId("r"),))
    with pytest.raises(ConfChangeRefused, match=reason):
        confchange.changed(conf, ConfChange(kind, NodeId(node)))


@given(st.sampled_from(ConfChangeKind), nodes)
def test_a_change_survives_its_entry(kind: ConfChangeKind, node: NodeId) -> None:
    change = ConfChange(kind, node)
    assert change == confchange.decode(confchange.encode(change))
