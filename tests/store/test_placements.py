"""What controllers' commands do: verdicts, and the life of task rows."""

import pytest

from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import Index, NodeId, TaskId, Term, Version
from meshswarm.model.node import NodeState
from meshswarm.model.task import DesiredState, Fencing, Reason, TaskState
from meshswarm.store.commands import (
    AssignTask,
    Batch,
    Command,
    CreateTask,
    ExplainTask,
    ForgetTask,
    LoseTask,
    SetDesired,
    SetNodeState,
)
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, commit, node, service, task, view

WEB, N1 = service("web"), node("n1")
PLACED, PENDING = task(WEB, 1, N1, id="placed"), task(WEB, 2, id="pending")
BEFORE = view([N1], [WEB], [PLACED, PENDING])
T = TaskId("t")


def _create(**fields: object) -> CreateTask:
    defaults = {
        "task_id": T,
        "service_id": WEB.id,
        "service_version": WEB.version,
        "slot": 3,
        "revision": 1,
        "node_id": N1.id,
        "desired": DesiredState.RUNNING,
    }
    return CreateTask(**(defaults | fields))  # type: ignore[arg-type]


def _after(command: Command, before: View = BEFORE) -> View:
    applied = commit(before, command, at_ms=NOW_MS + 5)
    assert applied.outcome.error is None
    return applied.view


def test_a_task_is_created_placed_with_the_fencing_token_of_its_entry() -> None:
    created = _after(_create()).tasks[T]
    assert TaskState.ASSIGNED is created.status.state
    assert Fencing(term=Term(1), index=Index(BEFORE.index + 1)) == created.fencing
    assert NOW_MS + 5 == created.created_at_ms


def test_a_task_without_a_node_is_pending_and_says_why() -> None:
    view_after = _after(
        _create(node_id=None, reason=Reason.NO_SUITABLE_NODE, message="no node at all")
    )
    status = view_after.tasks[T].status
    assert (TaskState.PENDING, "no node at all") == (status.state, status.message)
    assert Fencing() == view_after.tasks[T].fencing
    assert T in view_after.unplaced


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        (_create(service_id="ghost"), NotFound, "service ghost is gone"),
        (_create(service_version=Version(9)), Conflict, "service web is at version 1, not 9"),
        (_create(task_id=PLACED.id), Conflict, "task placed exists"),
        (_create(revision=2), NotFound, "service web has no revision 2"),
        (_create(node_id=NodeId("ghost")), NotFound, "node ghost is gone"),
        (AssignTask(task_id=T, node_id=N1.id), NotFound, "task t is gone"),
        (
            AssignTask(task_id=PLACED.id, node_id=N1.id),
            Conflict,
            "task placed is bound to node id-n1",
        ),
        (
            AssignTask(task_id=PENDING.id, node_id=NodeId("ghost")),
            NotFound,
            "node ghost is gone",
        ),
        (
            ExplainTask(task_id=PLACED.id, reason=Reason.NONE, message=""),
            Conflict,
            "task placed is bound to node id-n1",
        ),
        (
            SetDesired(task_id=PLACED.id, desired=DesiredState.READY),
            Conflict,
            "task placed is desired running already",
        ),
        (ForgetTask(task_id=PLACED.id), Conflict, "task placed is still running"),
        (
            SetNodeState(node_id=NodeId("ghost"), state=NodeState.DOWN, message=""),
            NotFound,
            "there is no node 'ghost'",
        ),
    ],
)
def test_refusals(command: Command, kind: type[Exception], message: str) -> None:
    applied = commit(BEFORE, command)
    assert isinstance(applied.outcome.error, kind)
    assert applied.outcome.error.message == message
    assert not applied.changed


def test_a_batch_carries_out_what_it_can_and_names_what_was_refused() -> None:
    applied = commit(BEFORE, Batch(commands=(_create(), _create(), ForgetTask(task_id=PLACED.id))))
    assert T in applied.view.tasks
    assert (
        ("CreateTask", "refused: task t exists"),
        ("ForgetTask", "refused: task placed is still running"),
    ) == applied.outcome.effects


def test_a_verdict_is_dated_from_when_the_state_began() -> None:
    down = _after(SetNodeState(node_id=N1.id, state=NodeState.DOWN, message="silent"))
    assert (NodeState.DOWN, NOW_MS + 5) == (down.nodes[N1.id].state, down.nodes[N1.id].since_ms)
    still = commit(
        down,
        SetNodeState(node_id=N1.id, state=NodeState.DOWN, message="very silent"),
        at_ms=NOW_MS + 99,
    ).view.nodes[N1.id]
    assert ("very silent", NOW_MS + 5) == (still.message, still.since_ms)


def test_a_pending_task_is_explained_then_bound_for_life() -> None:
    message = "no suitable node: 1 of 1 is down"
    told = _after(ExplainTask(task_id=PENDING.id, reason=Reason.NO_SUITABLE_NODE, message=message))
    assert message == told.tasks[PENDING.id].status.message
    bound = _after(AssignTask(task_id=PENDING.id, node_id=N1.id), told)
    assert (N1.id, TaskState.ASSIGNED, "") == (
        bound.tasks[PENDING.id].node_id,
        bound.tasks[PENDING.id].status.state,
        bound.tasks[PENDING.id].status.message,
    )
    assert not bound.unplaced


def test_a_task_that_never_had_a_node_is_over_when_it_is_not_wanted() -> None:
    after = _after(SetDesired(task_id=PENDING.id, desired=DesiredState.REMOVE))
    assert TaskState.SHUTDOWN is after.tasks[PENDING.id].status.state
    assert not after.unplaced
    placed = _after(SetDesired(task_id=PLACED.id, desired=DesiredState.REMOVE))
    assert TaskState.RUNNING is placed.tasks[PLACED.id].status.state


def test_a_lost_task_is_over_and_can_be_forgotten() -> None:
    lost = _after(LoseTask(task_id=PLACED.id, message="node n1 is down"))
    status = lost.tasks[PLACED.id].status
    assert (TaskState.LOST, Reason.NODE_DOWN) == (status.state, status.reason)
    assert isinstance(commit(lost, LoseTask(task_id=PLACED.id, message="")).outcome.error, Conflict)
    assert PLACED.id not in _after(ForgetTask(task_id=PLACED.id), lost).tasks


def test_the_last_task_of_a_removed_service_takes_its_revision_along() -> None:
    dead = task(WEB, 1, N1, TaskState.SHUTDOWN, id="dead")
    after = _after(ForgetTask(task_id=dead.id), view([N1], [], [dead]))
    assert not after.tasks
    assert not after.revisions
