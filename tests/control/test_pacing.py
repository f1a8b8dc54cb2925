"""The leader places no faster than agents begin."""

import pytest

from meshswarm.control import pacing
from meshswarm.control.pacing import UNHEARD_MS, Pacing
from meshswarm.model.task import TaskState
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, node, service, task, view
from tests.support.deciding import carried_out, decided

N1, WEB = node("n1"), service("web", replicas=4)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> tuple[Pacing, View]:
    """Four tasks that were just given to a node, where three would be enough."""
    monkeypatch.setattr(pacing, "MAX_UNHEARD", 3)
    before = view([N1], [WEB])
    decision = decided(before)
    paced = Pacing()
    paced.note(decision.commands)
    return paced, carried_out(before, decision, now_ms=NOW_MS)


def test_enough_is_enough_until_agents_say_a_word(given: tuple[Pacing, View]) -> None:
    paced, after = given
    assert paced.is_ahead(after, NOW_MS)
    [first, *rest] = after.tasks_of(WEB.id)
    heard = task(WEB, first.slot, N1, TaskState.STARTING, id=first.id)
    assert not paced.is_ahead(view([N1], [WEB], [heard, *rest]), NOW_MS)


def test_what_was_given_long_ago_does_not_count(given: tuple[Pacing, View]) -> None:
    paced, after = given
    assert paced.is_ahead(after, NOW_MS + UNHEARD_MS - 1)
    assert not paced.is_ahead(after, NOW_MS + UNHEARD_MS)


def test_what_waits_for_a_node_was_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "MAX_UNHEARD", 3)
    before = view([], [WEB])
    decision = decided(before)
    paced = Pacing()
    paced.note(decision.commands)
    assert decision.commands
    assert not paced.is_ahead(carried_out(before, decision), NOW_MS)
