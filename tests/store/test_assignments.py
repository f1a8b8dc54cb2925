"""What an agent is told, and what it is spared."""

from attrs import evolve

from meshswarm.ids import Index
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.assignments import assignments_of, change_between
from tests.support.builders import node, service, task, view

WEB, N1, N2 = service("web"), node("n1"), node("n2")
RUNS, DEAD = task(WEB, 1, N1, id="runs"), task(WEB, 2, N1, TaskState.FAILED, id="dead")


def test_a_node_is_told_its_own_tasks_but_the_lost_ones() -> None:
    lost, other = task(WEB, 3, N1, TaskState.LOST, id="lost"), task(WEB, 4, N2, id="other")
    found = assignments_of(view([N1, N2], [WEB], [RUNS, DEAD, lost, other]), N1.id)
    assert {"runs", "dead"} == set(found)
    assert WEB.spec.task == found[RUNS.id].spec


def test_a_change_names_new_stopped_and_forgotten_tasks() -> None:
    before = assignments_of(view([N1], [WEB], [RUNS, DEAD]), N1.id)
    stopped = evolve(RUNS, desired=DesiredState.SHUTDOWN)
    new = task(WEB, 3, N1, id="new")
    after = assignments_of(view([N1], [WEB], [stopped, new]), N1.id)
    change = change_between(before, after, Index(5))
    assert change is not None
    assert (False, 5, ("dead",)) == (change.full, change.index, change.removed)
    assert ["new", "runs"] == [one.task.id for one in change.upserts]


def test_an_agent_is_not_told_what_it_said_itself() -> None:
    before = assignments_of(view([N1], [WEB], [RUNS]), N1.id)
    seen = task(WEB, 1, N1, TaskState.STARTING, id="runs")
    assert (
        change_between(before, assignments_of(view([N1], [WEB], [seen]), N1.id), Index(5)) is None
    )
