"""What agents' commands do: nodes register, observed states move forward only."""

from attrs import evolve

from meshswarm.errors import Conflict
from meshswarm.ids import NodeId
from meshswarm.model.node import NodeDescription, NodeRole, NodeState
from meshswarm.model.task import Health, Reason, TaskState, TaskStatus
from meshswarm.store.agents import MAX_MESSAGE
from meshswarm.store.commands import RegisterNode, ReportTasks, TaskReport
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, commit, node, service, task, view

REGISTRATION = RegisterNode(
    node_id=NodeId("id-n1"),
    name="n1",
    role=NodeRole.MANAGER,
    address="10.0.0.1:4747",
    incarnation=7,
    labels={"disk": "ssd"},
    description=NodeDescription(hostname="h1"),
)
WEB = service("web")
N1, N2 = node("n1"), node("n2")


def _registered() -> View:
    return commit(View(), REGISTRATION, at_ms=NOW_MS).view


def test_a_new_node_is_unknown_until_it_is_heard() -> None:
    found = _registered().nodes[REGISTRATION.node_id]
    assert (NodeState.UNKNOWN, NOW_MS) == (found.state, found.since_ms)
    assert ("n1", {"disk": "ssd"}, 7) == (found.name, found.labels, found.incarnation)


def test_registering_again_refreshes_what_the_agent_says_and_keeps_what_users_set() -> None:
    again = evolve(
        REGISTRATION, incarnation=8, labels={}, description=NodeDescription(arch="arm64")
    )
    found = commit(_registered(), again).view.nodes[REGISTRATION.node_id]
    assert ("arm64", 8, {"disk": "ssd"}) == (
        found.description.arch,
        found.incarnation,
        found.labels,
    )
    unchanged = commit(_registered(), REGISTRATION)
    assert (("n1", "unchanged"),) == unchanged.outcome.effects
    assert not unchanged.changed


def test_a_name_belongs_to_the_key_that_took_it() -> None:
    error = commit(_registered(), evolve(REGISTRATION, node_id=NodeId("other"))).outcome.error
    assert isinstance(error, Conflict)
    assert error.message == "a node named 'n1' exists already, with another key (id-n1)"
    renamed = commit(_registered(), evolve(REGISTRATION, name="n2")).outcome.error
    assert isinstance(renamed, Conflict)
    assert renamed.message == "this key belongs to node 'n1', not 'n2'"


def test_an_older_process_of_a_node_is_refused() -> None:
    error = commit(_registered(), evolve(REGISTRATION, incarnation=6)).outcome.error
    assert isinstance(error, Conflict)
    assert error.hint == "two processes run with the same key: stop one of them"


def _report(before: TaskState, status: TaskStatus, by: NodeId = N1.id) -> TaskStatus:
    """The task's status after its node said this."""
    old = task(WEB, 1, N1, before)
    report = ReportTasks(node_id=by, reports=(TaskReport(task_id=old.id, status=status),))
    return commit(view([N1, N2], [WEB], [old]), report).view.tasks[old.id].status


def test_states_move_forward_only() -> None:
    running = TaskStatus(state=TaskState.RUNNING, health=Health.HEALTHY, runtime_id="c1")
    assert _report(TaskState.STARTING, running) == running
    assert _report(TaskState.RUNNING, running) == running
    assert _report(TaskState.FAILED, running).state is TaskState.FAILED
    starting = TaskStatus(state=TaskState.STARTING)
    assert _report(TaskState.RUNNING, starting).state is TaskState.RUNNING


def test_a_terminal_state_stands_against_another_one() -> None:
    failed = TaskStatus(state=TaskState.FAILED)
    assert _report(TaskState.SHUTDOWN, failed).state is TaskState.SHUTDOWN


def test_a_node_speaks_for_its_own_tasks_only() -> None:
    running = TaskStatus(state=TaskState.RUNNING)
    assert _report(TaskState.ASSIGNED, running, by=N2.id).state is TaskState.ASSIGNED


def test_a_returned_node_says_what_became_of_a_lost_task() -> None:
    stopped = TaskStatus(state=TaskState.SHUTDOWN, message="stopped it")
    after = _report(TaskState.LOST, stopped)
    assert (TaskState.LOST, Reason.NODE_RETURNED, "stopped it") == (
        after.state,
        after.reason,
        after.message,
    )


def test_long_messages_are_cut() -> None:
    said = TaskStatus(state=TaskState.FAILED, message="x" * 5_000)
    assert len(_report(TaskState.RUNNING, said).message) == MAX_MESSAGE
