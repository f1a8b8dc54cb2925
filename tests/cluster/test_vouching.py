"""Which beats a manager may vouch for: those of which the leader said that it knows."""

from meshswarm.cluster.vouching import MAX_BEATS, MAX_REPORTS, Vouching
from meshswarm.ids import NodeId

ME, LEADER, OTHER, W = NodeId("n1"), NodeId("n2"), NodeId("n3"), NodeId("w")


def test_the_leader_itself_knows_what_it_hears() -> None:
    vouching = Vouching(ME)
    vouching.heard(W, 7, 1_000)
    assert 7 == vouching.vouched(W, ME)
    assert 0 == vouching.vouched(OTHER, ME)


def test_a_follower_vouches_for_what_was_heard_before_a_report_that_the_leader_has() -> None:
    vouching = Vouching(ME)
    vouching.heard(W, 1, 1_000)
    first = vouching.reporting(1_500)
    vouching.heard(W, 2, 2_000)
    second = vouching.reporting(2_500)
    assert 0 == vouching.vouched(W, LEADER)
    vouching.confirmed(LEADER, first)
    assert 1 == vouching.vouched(W, LEADER)
    vouching.confirmed(LEADER, second)
    vouching.confirmed(LEADER, first)
    assert 2 == vouching.vouched(W, LEADER)


def test_another_leaders_word_does_not_count() -> None:
    vouching = Vouching(ME)
    vouching.heard(W, 1, 1_000)
    vouching.confirmed(LEADER, vouching.reporting(1_500))
    assert 0 == vouching.vouched(W, OTHER)
    assert 0 == vouching.vouched(W, None)


def test_another_process_of_the_agent_begins_anew() -> None:
    vouching = Vouching(ME)
    vouching.heard(W, 900, 1_000)
    vouching.forget(W)
    vouching.heard(W, 1, 2_000)
    assert 1 == vouching.vouched(W, ME)


def test_nothing_is_kept_without_a_limit() -> None:
    vouching = Vouching(ME)
    first = vouching.reporting(0)
    for number in range(2 * MAX_REPORTS + MAX_BEATS):
        vouching.heard(W, number + 1, number)
        vouching.reporting(number)
    vouching.confirmed(LEADER, first)
    assert 0 == vouching.vouched(W, LEADER)
    assert 2 * MAX_REPORTS + MAX_BEATS == vouching.vouched(W, ME)
