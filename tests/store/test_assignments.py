"""What an agent is told, and what it is spared."""

import pytest
from attrs import evolve

from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.assignments import Told, assignments_of
from meshswarm.store.view import Key, Table
from tests.support.builders import node, service, task, view

WEB, N1, N2 = service("web"), node("n1"), node("n2")
RUNS, DEAD = task(WEB, 1, N1, id="runs"), task(WEB, 2, N1, TaskState.FAILED, id="dead")


def test_a_node_is_told_its_own_tasks_but_the_lost_ones() -> None:
    lost, other = task(WEB, 3, N1, TaskState.LOST, id="lost"), task(WEB, 4, N2, id="other")
    found = assignments_of(view([N1, N2], [WEB], [RUNS, DEAD, lost, other]), N1.id)
    assert {"runs", "dead"} == set(found)
    assert WEB.spec.task == found[RUNS.id].spec


def keys(*names: str) -> frozenset[Key]:
    return frozenset((Table.TASKS, name) for name in names)


@pytest.mark.parametrize("changed", [None, keys("runs", "dead", "new", "other")])
def test_a_change_names_new_stopped_and_forgotten_tasks(changed: frozenset[Key] | None) -> None:
    told = Told(N1.id)
    first = told.all(view([N1], [WEB], [RUNS, DEAD]))
    assert (True, ["runs", "dead"]) == (first.full, [one.task.id for one in first.upserts])
    stopped = evolve(RUNS, desired=DesiredState.SHUTDOWN)
    new, other = task(WEB, 3, N1, id="new"), task(WEB, 4, N2, id="other")
    later = view([N1, N2], [WEB], [stopped, new, other])
    change = told.next(later, changed)
    assert change is not None
    assert (False, later.index, ("dead",)) == (change.full, change.index, change.removed)
    assert ["new", "runs"] == [one.task.id for one in change.upserts]
    assert told.next(later, changed) is None


def test_a_task_that_was_lost_is_the_nodes_no_longer() -> None:
    told = Told(N1.id)
    told.all(view([N1], [WEB], [RUNS]))
    lost = task(WEB, 1, N1, TaskState.LOST, id="runs")
    change = told.next(view([N1], [WEB], [lost]), keys("runs"))
    assert change is not None
    assert ((), ("runs",)) == (change.upserts, change.removed)


def test_an_agent_is_not_told_what_it_said_itself() -> None:
    told = Told(N1.id)
    told.all(view([N1], [WEB], [RUNS]))
    seen = task(WEB, 1, N1, TaskState.STARTING, id="runs")
    assert told.next(view([N1], [WEB], [seen]), keys("runs")) is None
