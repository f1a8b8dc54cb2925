"""The log by itself: cursors, conflicts, limits, and what a completed write vouches for."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from meshswarm.ids import Index, Term
from meshswarm.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from meshswarm.raft.types import Entry, EntryKind, Snapshot, SnapshotMeta
from tests.raft.driving import THREE, entries_of


def log_of(
    terms: Sequence[int], *, committed: int = 0, snapshot: SnapshotMeta | None = None
) -> RaftLog:
    first = snapshot.index + 1 if snapshot else 1
    return RaftLog(
        snapshot=snapshot,
        entries=entries_of(terms, first),
        committed=Index(committed),
        applied=snapshot.index if snapshot else Index(0),
    )


def meta(index: int, term: int) -> SnapshotMeta:
    return SnapshotMeta(Index(index), Term(term), THREE)


terms_of_logs = st.lists(st.integers(1, 4), max_size=12).map(sorted)


@given(terms_of_logs, terms_of_logs)
def test_back_tracking_never_passes_the_last_agreement(mine: list[int], others: list[int]) -> None:
    """Logs that both began as copies of one: they agree on their common prefix."""
    agreed = 0
    for one, other in zip(mine, others, strict=False):
        if one != other:
            break
        agreed += 1
    follower, leader = log_of(mine), log_of(others)
    prev = Index(len(others))
    for _ in range(len(mine) + len(others) + 1):
        if follower.matches(prev, leader.term(prev)):
            break
        hint, hint_term = follower.find_conflict_by_term(
            min(prev, follower.last_index), leader.term(prev)
        )
        retry, _ = leader.find_conflict_by_term(hint, hint_term)
        assert agreed <= retry < prev
        prev = retry
    assert follower.matches(prev, leader.term(prev))


def test_a_hint_needs_one_step_a_term() -> None:
    log = log_of([1, 1, 1, 4, 4, 5, 5, 6])
    assert log.find_conflict_by_term(Index(8), Term(5)) == (7, 5)
    assert log.find_conflict_by_term(Index(8), Term(3)) == (3, 1)
    assert log.find_conflict_by_term(Index(99), Term(9)) == (8, 6)
    assert log.find_conflict_by_term(Index(2), Term(0)) == (0, 0)


def test_terms_before_the_offset_are_forgotten() -> None:
    log = log_of([3, 3], snapshot=meta(5, 2))
    assert log.find_conflict_by_term(Index(4), Term(3)) == (4, 0)
    assert log.find_conflict_by_term(Index(6), Term(1)) == (5, 2)
    assert log.matches(Index(5), Term(2))
    assert not log.matches(Index(4), Term(2))


def test_slices_keep_to_both_limits_but_hold_one_entry() -> None:
    entries = [Entry(Index(i), Term(1), b"x" * 10) for i in range(1, 6)]
    log = RaftLog(snapshot=None, entries=entries, committed=Index(0), applied=Index(0))
    each = 10 + ENTRY_OVERHEAD_BYTES

    def indexes(first: int, max_entries: int, max_bytes: int) -> list[int]:
        got = log.slice(Index(first), Index(5), max_entries=max_entries, max_bytes=max_bytes)
        return [entry.index for entry in got]

    assert indexes(1, 99, 9_999) == [1, 2, 3, 4, 5]
    assert indexes(2, 2, 9_999) == [2, 3]
    assert indexes(2, 99, 3 * each) == [2, 3, 4]
    assert indexes(2, 99, 3 * each - 1) == [2, 3]
    assert indexes(2, 99, 1) == [2]
    assert indexes(6, 99, 9_999) == []
    assert log.uncommitted_bytes == 5 * each


def test_compaction_keeps_indexes_terms_and_sizes() -> None:
    log = log_of([1, 1, 2, 2], committed=4)
    log.take_committed(max_entries=9, max_bytes=999)
    log.applied_to(Index(4))
    size = log.size_bytes(Index(3), Index(4))
    log.compact(Index(3))
    assert (log.first_index, log.last_index, log.term(Index(3))) == (4, 4, 2)
    assert log.size_bytes(Index(3), Index(4)) == size
    log.compact(Index(2))
    assert log.first_index == 4


def test_s70_an_older_write_does_not_vouch_for_a_rewritten_entry() -> None:
    """Written A, overwritten by B, overwritten by A again, all under way at once."""
    log = log_of([])
    for token, term in enumerate([1, 2, 1], 1):
        if log.last_index:
            log.truncate_from(Index(1))
        log.append([Entry(Index(1), Term(term), b"")])
        log.take_unwritten()
        log.write_submitted(token)
    for token, durable in [(1, 0), (2, 0), (3, 1)]:
        log.write_completed(token)
        assert log.durable == durable


def test_a_write_keeps_vouching_for_what_was_not_rewritten() -> None:
    log = log_of([])
    log.append(entries_of([1, 1, 1]))
    log.take_unwritten()
    log.write_submitted(1)
    log.truncate_from(Index(3))
    log.append(entries_of([2], 3))
    log.write_completed(1)
    assert (log.durable, log.submitted, log.last_index) == (2, 2, 3)


def test_a_snapshot_is_durable_with_its_own_write_only() -> None:
    log = log_of([1, 1], committed=1)
    log.append(entries_of([1], 3))
    log.take_unwritten()
    log.write_submitted(1)
    log.install(Snapshot(meta(9, 3), b""))
    assert log.is_installing
    log.append(entries_of([3], 10))
    snapshot, entries = log.take_unwritten()
    assert snapshot is not None
    assert [entry.index for entry in entries] == [10]
    log.write_submitted(2)
    log.write_completed(1)
    assert log.durable == 1
    log.write_completed(2)
    assert log.durable == 10
    log.applied_to(Index(9))
    assert not log.is_installing


def test_membership_changes_are_known_until_applied_or_truncated() -> None:
    log = log_of([1])
    for index in (2, 3):
        log.append([Entry(Index(index), Term(1), b"", EntryKind.CONF_CHANGE)])
    assert log.unapplied_conf_change == 2
    log.truncate_from(Index(3))
    log.commit_to(Index(2))
    log.take_committed(max_entries=9, max_bytes=999)
    assert [entry.index for entry in log.applied_to(Index(2))] == [2]
    assert log.unapplied_conf_change is None


def test_trailing_entries_survive_a_restart() -> None:
    log = RaftLog(
        snapshot=meta(4, 2),
        entries=entries_of([1, 2, 2, 2], 2),
        committed=Index(4),
        applied=Index(4),
    )
    assert (log.first_index, log.last_index, log.term(Index(2))) == (3, 5, 1)


def test_entries_that_do_not_lead_up_to_the_snapshot_were_replaced_by_it() -> None:
    for stale in (entries_of([1, 1, 1], 1), entries_of([1, 1, 1, 1, 1], 1)):
        log = RaftLog(snapshot=meta(4, 2), entries=stale, committed=Index(4), applied=Index(4))
        assert (log.first_index, log.last_index) == (5, 4)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=12),
    compacted=st.integers(0, 12),
    max_entries=st.integers(0, 12),
    max_bytes=st.integers(0, 400),
)
def test_what_is_kept_behind_a_snapshot_stays_within_both_limits_and_is_the_most_that_does(
    sizes: list[int], compacted: int, max_entries: int, max_bytes: int
) -> None:
    log = log_of([])
    log.append([Entry(Index(i), Term(1), bytes(size)) for i, size in enumerate(sizes, start=1)])
    through = log.last_index
    log.commit_to(through)
    log.applying = log.applied = through
    log.compact(Index(min(compacted, through)))
    after = log.first_within(through, max_entries, max_bytes)
    assert through - after <= max_entries
    assert log.size_bytes(after, through) <= max_bytes
    if after > log.offset:
        one_more = Index(after - 1)
        assert through - one_more > max_entries or log.size_bytes(one_more, through) > max_bytes
