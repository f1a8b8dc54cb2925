"""The evidence of who lives: direct, by way of other managers, and never in circles."""

from meshswarm.cluster.heard import Heard, HeardReport
from meshswarm.ids import NodeId

ME, N2, N3, W = NodeId("n1"), NodeId("n2"), NodeId("n3"), NodeId("w")


def test_a_node_is_as_silent_as_the_last_thing_heard_of_it() -> None:
    heard = Heard(ME, 100.0)
    heard.note(N2, 101.0)
    liveness = heard.liveness(103.5)
    assert {ME: 0, N2: 2_500} == dict(liveness.silent_ms)
    assert liveness.observing_ms == 3_500


def test_another_managers_evidence_counts_from_when_it_heard() -> None:
    heard = Heard(ME, 100.0)
    heard.note(W, 100.0)
    heard.merge(N2, HeardReport(ages_ms={W: 400}, sessions={W: 7}), 105.0)
    assert heard.liveness(106.0).silent_ms[W] == 1_400
    assert heard.server_of(W) == N2
    assert heard.liveness(106.0).incarnations[W] == 7


def test_what_others_said_is_not_passed_on() -> None:
    heard = Heard(ME, 100.0)
    heard.merge(N2, HeardReport(ages_ms={W: 0}, sessions={}), 101.0)
    assert {} == dict(heard.report({}, 102.0).ages_ms)


def test_older_evidence_never_replaces_newer() -> None:
    heard = Heard(ME, 100.0)
    heard.merge(N2, HeardReport(ages_ms={W: 0}, sessions={}), 110.0)
    heard.merge(N3, HeardReport(ages_ms={W: 9_000}, sessions={}), 110.0)
    assert heard.liveness(110.0).silent_ms[W] == 0


def test_a_session_that_moved_is_found_where_it_is() -> None:
    heard = Heard(ME, 100.0)
    heard.merge(N2, HeardReport(ages_ms={}, sessions={W: 7}), 101.0)
    heard.merge(N2, HeardReport(ages_ms={}, sessions={}), 102.0)
    assert heard.server_of(W) is None
    heard.merge(N3, HeardReport(ages_ms={}, sessions={W: 7}), 103.0)
    assert heard.server_of(W) == N3


def test_forgotten_nodes_leave_nothing() -> None:
    heard = Heard(ME, 100.0)
    heard.note(N2, 101.0)
    heard.merge(N3, HeardReport(ages_ms={W: 0}, sessions={}), 101.0)
    heard.forget({ME})
    assert {ME: 0} == dict(heard.liveness(102.0).silent_ms)


def test_a_broken_connection_is_a_doubt_until_the_node_is_heard_again() -> None:
    heard = Heard(ME, 100.0)
    heard.note(N2, 101.0)
    heard.note(W, 101.0)
    heard.doubt(N2, 102.0)
    assert {N2} == heard.liveness(102.5).doubted
    heard.note(N2, 103.0)
    assert set() == heard.liveness(103.5).doubted


def test_what_another_manager_doubts_is_doubted_unless_it_was_heard_since() -> None:
    heard = Heard(ME, 100.0)
    heard.note(W, 101.0)
    heard.merge(N2, HeardReport(ages_ms={}, sessions={}, doubts_ms={W: 500}), 102.0)
    assert {W} == heard.liveness(102.0).doubted
    heard.merge(N3, HeardReport(ages_ms={W: 100}, sessions={W: 7}), 103.0)
    assert set() == heard.liveness(103.0).doubted


def test_how_long_this_manager_leads_is_part_of_the_evidence() -> None:
    heard = Heard(ME, 100.0)
    assert 0 == heard.liveness(105.0).leading_ms
    assert 3_000 == heard.liveness(105.0, 102.0).leading_ms


def test_nodes_whose_manager_died_have_time_to_find_another_one() -> None:
    heard = Heard(ME, 100.0)
    heard.note(N2, 110.0)
    heard.merge(N2, HeardReport(ages_ms={W: 900, N2: 0}, sessions={W: 7, N2: 7}), 110.0)
    assert {W: 1_800, N2: 900} == _silence(heard, 110.9), "the manager may yet speak"
    assert {W: 0, N2: 1_500} == _silence(heard, 111.5)
    assert {W: 2_000, N2: 4_000} == _silence(heard, 114.0), "its own node went with it"
    heard.merge(N3, HeardReport(ages_ms={W: 0}, sessions={W: 7}), 114.0)
    assert {W: 4_500, N2: 8_500} == _silence(heard, 118.5)


def test_a_node_that_dies_while_its_manager_lives_has_no_such_time() -> None:
    heard = Heard(ME, 100.0)
    heard.note(N2, 110.0)
    heard.merge(N2, HeardReport(ages_ms={W: 0}, sessions={W: 7}), 110.0)
    heard.note(N2, 114.0)
    assert 4_000 == _silence(heard, 114.0)[W]


def _silence(heard: Heard, now: float) -> dict[NodeId, int]:
    return {n: ms for n, ms in heard.liveness(now).silent_ms.items() if n in (W, N2)}
