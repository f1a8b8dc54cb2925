"""How the leader's picture of one peer changes."""

import pytest

from meshswarm.ids import Index
from meshswarm.raft.progress import Inflights, Progress, ProgressState


def progress_at(match: int, state: ProgressState = ProgressState.REPLICATE) -> Progress:
    progress = Progress(Index(match + 1), 3, 100)
    progress.recent_active = True
    progress.accepted(Index(match), Index(1))
    if state is ProgressState.SNAPSHOT:
        progress.become_snapshot(Index(20))
    elif state is ProgressState.PROBE:
        progress.become_probe()
    return progress


def test_the_window_counts_messages_and_bytes() -> None:
    window = Inflights(3, 100)
    window.add(Index(5), 60)
    assert not window.is_full
    window.add(Index(9), 60)  # the last message may pass the limit
    assert window.is_full
    window.free_to(Index(8))
    assert (len(window), window.bytes, window.is_full) == (1, 60, False)
    window.add(Index(10), 1)
    window.add(Index(11), 1)
    assert window.is_full
    with pytest.raises(AssertionError, match="window of 3"):
        window.add(Index(12), 1)
    window.free_to(Index(99))
    assert (len(window), window.bytes) == (0, 0)


def test_a_probe_that_matches_begins_to_stream() -> None:
    progress = progress_at(0, ProgressState.PROBE)
    progress.sent_append(2, 10, Index(0))
    assert progress.paused
    assert progress.next == 1
    assert progress.accepted(Index(2), Index(1))
    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 2, 3)


def test_a_full_window_pauses_and_an_ack_resumes() -> None:
    progress = progress_at(5)
    for _ in range(3):
        progress.sent_append(1, 10, Index(5))
    assert (progress.paused, progress.next) == (True, 9)
    assert not progress.accepted(Index(5), Index(1))
    assert progress.paused
    assert progress.accepted(Index(6), Index(1))
    assert (progress.paused, len(progress.inflights)) == (False, 2)


def test_stale_refusals_change_nothing() -> None:
    progress = progress_at(5)
    assert not progress.rejected(Index(4), Index(1))
    assert progress.rejected(Index(8), Index(3))
    assert (progress.state, progress.next) == (ProgressState.PROBE, 6)
    assert not progress.rejected(Index(9), Index(7))  # not the probe under way


def test_s30_any_transition_empties_the_window() -> None:
    progress = progress_at(5)
    progress.sent_append(1, 90, Index(5))
    progress.become_probe()
    assert progress.inflights.bytes == 0
    assert progress.next == 6


def test_s56_an_older_snapshot_is_enough_if_the_log_goes_on_from_it() -> None:
    progress = progress_at(5, ProgressState.SNAPSHOT)
    assert progress.accepted(Index(8), first_index=Index(12))
    assert progress.state is ProgressState.SNAPSHOT
    assert progress.accepted(Index(11), first_index=Index(12))
    assert (progress.state, progress.next) == (ProgressState.REPLICATE, 12)


def test_a_delivered_snapshot_is_probed_after_and_a_failed_one_before() -> None:
    progress = progress_at(5, ProgressState.SNAPSHOT)
    progress.snapshot_delivered()
    assert (progress.state, progress.next, progress.paused) == (ProgressState.PROBE, 21, True)
    progress = progress_at(5, ProgressState.SNAPSHOT)
    progress.snapshot_failed()
    assert (progress.state, progress.next, progress.paused) == (ProgressState.PROBE, 6, True)
    progress.heartbeat_answered(Index(30))
    assert (progress.paused, progress.nudged) == (False, True)


def test_a_snapshot_does_not_hold_the_log_for_ever() -> None:
    progress = progress_at(5, ProgressState.SNAPSHOT)
    for _ in range(2):
        progress.recent_active = True
        progress.end_round(max_snapshot_rounds=3, committed=Index(0))
        assert progress.state is ProgressState.SNAPSHOT
    progress.recent_active = True
    progress.end_round(max_snapshot_rounds=3, committed=Index(0))
    assert progress.state is ProgressState.PROBE
    progress = progress_at(5, ProgressState.SNAPSHOT)
    progress.recent_active = False
    progress.end_round(max_snapshot_rounds=3, committed=Index(0))
    assert progress.state is ProgressState.PROBE


def test_lost_data_forgets_what_was_acknowledged() -> None:
    progress = progress_at(5)
    progress.lost_data(Index(3))
    assert (progress.match, progress.next, progress.state) == (0, 3, ProgressState.PROBE)


def test_a_peer_that_goes_on_saying_it_lost_data_gets_its_snapshot_once() -> None:
    progress = Progress(Index(10), 4, 1000)
    states = []
    for step in (
        lambda: progress.lost_data(Index(1)),
        lambda: progress.become_snapshot(Index(20)),
        lambda: progress.lost_data(Index(1)),
        lambda: progress.accepted(Index(20), Index(21)),
    ):
        step()
        states.append((progress.state.value, progress.pending_snapshot, progress.match))
    assert states == [
        ("probe", 0, 0),
        ("snapshot", 20, 0),
        ("snapshot", 20, 0),
        ("replicate", 0, 20),
    ]
