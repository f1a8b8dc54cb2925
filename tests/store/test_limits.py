"""Every table has a limit, and says so when it is reached."""

import pytest
from attrs import evolve

from meshswarm.errors import Invalid
from meshswarm.ids import ClientId, Index, NodeId, TaskId
from meshswarm.model.node import NodeDescription, NodeRole
from meshswarm.model.task import DesiredState
from meshswarm.store import agents, apply, placements, users
from meshswarm.store.commands import Command, CreateTask, PutService, RegisterNode, ScaleService
from meshswarm.store.log_entry import Request
from meshswarm.store.outcome import ClientSession
from meshswarm.store.view import View
from tests.support.builders import commit, node, service, service_spec, task, view

WEB, N1 = service("web"), node("n1")
BEFORE = view([N1], [WEB], [task(WEB, 1, N1)])

ONE_MORE_NODE = RegisterNode(
    node_id=NodeId("id-n2"),
    name="n2",
    role=NodeRole.WORKER,
    address="",
    incarnation=1,
    labels={},
    description=NodeDescription(),
)
ONE_MORE_TASK = CreateTask(
    task_id=TaskId("t"),
    service_id=WEB.id,
    service_version=WEB.version,
    slot=2,
    revision=1,
    node_id=None,
    desired=DesiredState.RUNNING,
)


@pytest.mark.parametrize(
    ("room", "limit", "command", "message"),
    [
        (agents, "MAX_NODES", ONE_MORE_NODE, "the cluster has 1 nodes, its limit"),
        (users, "MAX_SERVICES", PutService(spec=service_spec("db")), "the cluster has 1 services"),
        (placements, "MAX_TASKS", ONE_MORE_TASK, "the cluster has 1 tasks, its limit"),
        (
            users,
            "MAX_REPLICAS",
            ScaleService(service_id=WEB.id, replicas=2),
            "service web asks for 2 replicas; at most 1",
        ),
    ],
)
def test_one_more_is_refused(
    room: object, limit: str, command: Command, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, limit, 1)
    applied = commit(BEFORE, command)
    assert isinstance(applied.outcome.error, Invalid)
    assert applied.outcome.error.message.startswith(message)
    assert not applied.changed


def test_the_client_unused_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MAX_CLIENTS", 2)
    clients = View().clients
    for name, used_at in (("old", 3), ("older", 2)):
        session = ClientSession(id=ClientId(name), used_at=Index(used_at))
        clients = clients.set(session.id, session)
    request = Request(client=ClientId("new"), sequence=1)
    full = evolve(BEFORE, clients=clients)
    after = commit(full, PutService(spec=service_spec("db")), request=request).view
    assert sorted(after.clients) == ["new", "old"]
