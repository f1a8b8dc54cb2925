"""Managers whose states differ find it out, and the one that is alone with its own stops."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster.diverged_note import read_note
from meshswarm.cluster.journal_check import inspect
from meshswarm.cluster.state_hash import (
    SAMPLED_EVERY,
    Comparison,
    Fingerprint,
    Kind,
    RollingHash,
    Verdict,
    state_fingerprint,
)
from meshswarm.errors import Corrupt
from meshswarm.ids import Index, NodeId
from meshswarm.store.apply import Applied
from meshswarm.store.commands import PutService
from meshswarm.store.slices import decode_view, encode_view
from meshswarm.store.view import View
from tests.support.builders import commit, service_spec
from tests.support.managers import FAST, PATIENCE_S, Manager, idle_service, managers, until

WINDOW = 2 * SAMPLED_EVERY
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


# --- the rolling hash -----------------------------------------------------------------------------


def _history(length: int, *, replicas_at: dict[int, int] | None = None) -> list[Applied]:
    """Entries that put service after service, the names coming round again."""
    view, history = View(), list[Applied]()
    for index in range(1, length + 1):
        replicas = (replicas_at or {}).get(index, 1)
        put = PutService(spec=service_spec(f"s{index % 7}", replicas=replicas))
        applied = commit(view, put, at_ms=index * 1_000)
        history.append(applied)
        view = applied.view
    return history


HISTORY = _history(3 * WINDOW)


def _told(history: Sequence[Applied], start: int = 0) -> tuple[list[Fingerprint], list[Index]]:
    """The windows' fingerprints, and where a whole state was due, from entry `start` + 1 on."""
    windows, states = list[Fingerprint](), list[Index]()
    first = history[start - 1].view if start else View()
    rolling = RollingHash(first, window=WINDOW, state_every_ms=60_000)
    rolling.tell = windows.append
    rolling.due = lambda view: states.append(view.index)
    for applied in history[start:]:
        rolling.note(applied.view, applied.outcome, applied.changed)
    return windows, states


def test_every_window_has_a_fingerprint_and_every_minute_a_state() -> None:
    windows, states = _told(HISTORY)
    assert [WINDOW, 2 * WINDOW, 3 * WINDOW] == [window.index for window in windows]
    assert 3 == len({window.digest for window in windows})
    assert list(range(60, 3 * WINDOW + 1, 60)) == states


@given(st.integers(0, 3 * WINDOW))
def test_whoever_starts_anywhere_tells_the_same_from_the_next_window_on(start: int) -> None:
    windows, states = _told(HISTORY)
    assert (
        [window for window in windows if window.index - WINDOW >= start],
        [index for index in states if index > start],
    ) == _told(HISTORY, start)


@pytest.mark.parametrize("index", [SAMPLED_EVERY, WINDOW])
def test_another_row_in_a_sampled_entry_shows(index: int) -> None:
    windows, _ = _told(HISTORY)
    others, _ = _told(_history(3 * WINDOW, replicas_at={index: 5}))
    assert windows[0] != others[0]


def test_another_outcome_of_any_entry_shows() -> None:
    windows, _ = _told(HISTORY)
    others, _ = _told(_history(3 * WINDOW, replicas_at={5: 1_000_000}))  # too many: refused
    assert windows[0] != others[0]
    assert windows[1:] == others[1:]


def test_equal_states_have_equal_fingerprints_and_one_row_shows() -> None:
    view = HISTORY[-1].view
    assert state_fingerprint(view) == state_fingerprint(decode_view(encode_view(view)))
    assert state_fingerprint(view) != state_fingerprint(_spoilt(view))


def _spoilt(view: View) -> View:
    """The view with a bit flipped in one row."""
    key = min(view.services)
    row = view.services[key]
    spec = evolve(row.spec, replicas=row.spec.replicas ^ 4)
    return evolve(view, services=view.services.set(key, evolve(row, spec=spec)))


# --- the verdict ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digests", "voters", "differing", "is_decided", "is_mine_wrong"),
    [
        ({A: b"1", B: b"1"}, [A, B, C], set(), True, False),
        ({A: b"1", B: b"2"}, [A, B, C], {B}, False, False),
        ({A: b"1", B: b"2", C: b"1"}, [A, B, C], {B}, True, False),
        ({A: b"1", B: b"2", C: b"2"}, [A, B, C], {B, C}, True, True),
        ({A: b"1", B: b"2", C: b"3"}, [A, B, C], {B, C}, False, False),
        ({A: b"1", B: b"2"}, [A, B], {B}, False, False),
        ({A: b"1", B: b"2", C: b"2"}, [A, B], {B, C}, False, False),  # c is no voter
    ],
)
def test_a_majority_of_the_voters_decides(
    digests: dict[NodeId, bytes],
    voters: list[NodeId],
    differing: set[NodeId],
    is_decided: bool,
    is_mine_wrong: bool,
) -> None:
    for mine_comes_last in (False, True):
        comparison, verdict = Comparison(A), None
        for node in sorted(digests, reverse=mine_comes_last):
            fingerprint = Fingerprint(Kind.STATE, Index(7), digests[node])
            verdict = comparison.add(node, fingerprint, voters)
        assert verdict == Verdict(
            index=Index(7),
            differing=frozenset(differing),
            agreeing=frozenset(digests.keys() - differing - {A}),
            is_decided=is_decided,
            is_mine_wrong=is_mine_wrong,
        )


def test_only_the_like_is_compared_and_old_ones_are_forgotten() -> None:
    comparison = Comparison(A)
    assert None is comparison.add(A, Fingerprint(Kind.STATE, Index(7), b"1"), [A, B, C])
    assert None is comparison.add(B, Fingerprint(Kind.STATE, Index(8), b"2"), [A, B, C])
    assert None is comparison.add(B, Fingerprint(Kind.ENTRIES, Index(7), b"2"), [A, B, C])
    for index in range(100, 300):
        comparison.add(B, Fingerprint(Kind.STATE, Index(index), b"2"), [A, B, C])
    assert None is comparison.add(B, Fingerprint(Kind.STATE, Index(7), b"2"), [A, B, C])


# --- managers -------------------------------------------------------------------------------------

OFTEN = evolve(FAST, state_every_ms=50)


async def _put(manager: Manager, name: str) -> None:
    assert manager.seat is not None
    await manager.seat.proposals.propose(idle_service(name))


async def _put_until(manager: Manager, condition: Callable[[], bool]) -> None:
    """Let log time and log go on until the condition holds."""
    number = 0
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            number += 1
            await _put(manager, f"s{number}")


async def test_a_manager_that_diverged_stops_says_what_to_do_and_is_rebuilt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with managers(tmp_path, settings=OFTEN) as cluster:
        leader = await cluster.leads()
        victim, witness = (member for member in cluster.members if member is not leader)
        await _put(leader, "kept")
        assert victim.seat is not None
        hub = victim.seat.driver.hub
        await until(lambda: bool(hub.view.services))
        hub.view = _spoilt(hub.view)
        await _put_until(leader, lambda: victim.seat is None)
        assert "the managers' states differ" in caplog.text
        directory = tmp_path / victim.name
        assert "up to entry" in (read_note(directory) or "")
        report = inspect(directory)
        assert (False, read_note(directory)) == (report.is_sound, report.diverged)
        assert "start the node again" in report.advice[1]
        for other in (leader, witness):
            assert other.seat is not None
            status = other.seat.status()
            differing = status["differing"]
            assert isinstance(differing, dict)
            assert [victim.name] == list(differing)
        await _put(leader, "without it")

        # As it is, it must not run; moved away, all comes anew from the others.
        await _refuses_to_start(victim)
        directory.rename(tmp_path / "kept for a bug report")
        victim.start()
        await until(lambda: victim.follows)
        assert victim.seat is not None
        view = await victim.seat.proposals.read()
        assert {"kept", "without it"} <= set(view.service_ids)
        await _put_until(leader, lambda: not _differing(leader) and not _differing(witness))


def _differing(manager: Manager) -> dict[NodeId, Index]:
    assert manager.seat is not None
    return manager.seat.divergence.differing


async def _refuses_to_start(victim: Manager) -> None:
    victim.failure = None
    victim.start()
    await until(lambda: victim.failure is not None)
    assert isinstance(victim.failure, Corrupt)
    assert "this manager's state has diverged" in str(victim.failure)
    assert "mv " in str(victim.failure)


async def test_where_only_two_differ_nobody_stops_and_both_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with managers(tmp_path, count=2, settings=OFTEN) as cluster:
        leader = await cluster.leads()
        other = next(member for member in cluster.members if member is not leader)
        await _put(leader, "one")
        assert other.seat is not None
        hub = other.seat.driver.hub
        await until(lambda: bool(hub.view.services))
        hub.view = _spoilt(hub.view)
        with caplog.at_level(logging.ERROR):
            await _put_until(leader, lambda: bool(_differing(leader) and _differing(other)))
        assert "no majority agrees" in caplog.text
        await _put(leader, "and on")
        assert None is read_note(tmp_path / other.name)
