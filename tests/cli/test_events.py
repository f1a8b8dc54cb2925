"""`events`: what rows tell of the past, what two views tell of the change between them."""

import json
from datetime import UTC, datetime

import pytest
import typer
from attrs import evolve

from meshswarm.answers import LogLine
from meshswarm.cli.happenings import Event, asked, changes, concerns, past
from meshswarm.cli.main import main
from meshswarm.cli.moments import instant_of
from meshswarm.ids import Index, NodeId, Term
from meshswarm.model.node import Availability, NodeState
from meshswarm.model.task import DesiredState, Health, Reason, TaskState
from meshswarm.store.commands import (
    Command,
    ForgetTask,
    PutConfig,
    PutService,
    RemoveService,
    ReportTasks,
    ScaleService,
    SetDesired,
    SetNodeState,
    TaskReport,
    UpdateNode,
)
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    SINCE_MS,
    FakeClient,
    cluster_of,
    service,
    stack,
    then,
    with_stack,
    with_task,
)

Capture = pytest.CaptureFixture[str]
WEB = "shop_web"


def shop() -> View:
    """A failed task of slot 1, and its successor on another node."""
    view = evolve(cluster_of("n1", "n2"), clock_ms=SINCE_MS - 10_000)
    view = with_stack(view, stack("shop", web=1))
    view = evolve(view, clock_ms=SINCE_MS - 5_000)
    view = with_task(
        view,
        WEB,
        1,
        "n1",
        TaskState.FAILED,
        started_at_ms=SINCE_MS - 2_000,
        reason=Reason.EXITED,
        message="it ended with exit code 3",
    )
    view = evolve(view, clock_ms=SINCE_MS + 100)
    return with_task(view, WEB, 1, "n2", TaskState.RUNNING, started_at_ms=SINCE_MS + 400)


def told(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.kind, event.name, event.event) for event in events]


def after(view: View, *commands: Command) -> list[Event]:
    """What these commands did, one second later."""
    later = evolve(view, clock_ms=view.clock_ms + 1_000)
    return changes(view, then(later, *commands))


# --- the past -------------------------------------------------------------------------------------


def test_rows_tell_the_past_in_order_and_why() -> None:
    events = past(shop())
    assert [
        ("service", WEB, "created"),
        ("stack", "shop", "created"),
        ("task", f"{WEB}.1", "created"),
        ("task", f"{WEB}.1", "running"),
        ("task", f"{WEB}.1", "failed"),
        ("task", f"{WEB}.1", "created"),
        ("task", f"{WEB}.1", "running"),
    ] == [event for event in told(events) if event[0] != "node"]
    (failed,) = [event for event in events if event.event == "failed"]
    assert (failed.at_ms, failed.node, failed.reason) == (SINCE_MS, "n1", "exited")
    assert str(failed).endswith("failed on n1: it ended with exit code 3")


# --- the feed -------------------------------------------------------------------------------------


def test_nothing_happened_between_a_view_and_itself() -> None:
    assert [] == changes(shop(), shop())


def test_complaint_33_a_tasks_life_is_told_as_it_goes() -> None:
    view = shop()
    running = next(t for t in view.tasks.values() if t.status.state is TaskState.RUNNING)
    ended = next(t for t in view.tasks.values() if t.status.state is TaskState.FAILED)

    def report(**fields: object) -> ReportTasks:
        status = evolve(running.status, **fields)  # type: ignore[arg-type]
        return ReportTasks(
            node_id=NodeId("idn2"), reports=(TaskReport(task_id=running.id, status=status),)
        )

    sick = after(view, report(health=Health.UNHEALTHY, message="no answer"))
    assert [("task", f"{WEB}.1", "unhealthy")] == told(sick)
    assert sick[0].message == "no answer"
    stopped = after(view, SetDesired(task_id=running.id, desired=DesiredState.SHUTDOWN))
    assert [("task", f"{WEB}.1", "asked to stop")] == told(stopped)
    assert [("task", f"{WEB}.1", "forgotten")] == told(after(view, ForgetTask(task_id=ended.id)))
    created = changes(view, with_task(view, WEB, 2, "n1", TaskState.PREPARING))
    assert [("task", f"{WEB}.2", "created")] == told(created)
    lost = after(view, report(state=TaskState.SHUTDOWN, since_ms=SINCE_MS + 9_000))
    assert [(SINCE_MS + 9_000, "shutdown")] == [(event.at_ms, event.event) for event in lost]


def test_changes_of_services_are_told_by_what_they_are() -> None:
    view = shop()
    row = view.find_service(WEB)
    scaled = after(view, ScaleService(service_id=row.id, replicas=4))
    assert [("service", WEB, "scaled")] == told(scaled)
    assert scaled[0].message == "from 1 to 4"
    labelled = after(view, PutService(spec=evolve(row.spec, labels={"a": "b"})))
    assert [("service", WEB, "changed"), ("stack", "shop", "changed")] == told(labelled)
    other = evolve(row.spec, task=evolve(row.spec.task, command=("other",)))
    updated = after(view, PutService(spec=other))
    assert {("service", "changed"), ("rollout", "updating"), ("stack", "changed")} == {
        (event.kind, event.event) for event in updated
    }
    assert ("service", WEB, "removed") in told(after(view, RemoveService(service_id=row.id)))
    new = after(view, PutService(spec=service("blog_web", 1)))
    assert ("service", "blog_web", "created") in told(new)


def test_what_happens_at_one_moment_is_told_cause_before_effect() -> None:
    """A node is lost, so its task is, so it gets a successor: one entry of the log, one time."""
    view = shop()
    running = next(t for t in view.tasks.values() if t.status.state is TaskState.RUNNING)
    now_ms = SINCE_MS + 9_000
    lost = evolve(running.status, state=TaskState.LOST, since_ms=now_ms)
    later = then(
        evolve(view, clock_ms=now_ms),
        SetNodeState(node_id=NodeId("idn2"), state=NodeState.DOWN, message="silent"),
        ReportTasks(node_id=NodeId("idn2"), reports=(TaskReport(task_id=running.id, status=lost),)),
    )
    later = evolve(with_task(later, WEB, 1, "n1", TaskState.ASSIGNED), clock_ms=now_ms)
    events = changes(view, later)
    assert {now_ms} == {event.at_ms for event in events}
    assert [("node", "n2", "down"), ("task", f"{WEB}.1", "lost")] == told(events)[:2]
    assert ("task", f"{WEB}.1", "created") == told(events)[2]


def test_nodes_configs_and_stacks_have_events_too() -> None:
    view = shop()
    down = SetNodeState(node_id=NodeId("idn1"), state=NodeState.DOWN, message="silent for 4 s")
    (event,) = after(view, down)
    assert (event.kind, event.event, event.message) == ("node", "down", "silent for 4 s")
    drained = UpdateNode(
        node_id=NodeId("idn1"), availability=Availability.DRAIN, labels={"disk": "ssd"}
    )
    assert {"availability drain", "labelled"} == {e.event for e in after(view, drained)}
    put = PutConfig(name="motd", data=b"hi")
    assert [("config", "motd", "created")] == told(after(view, put))
    assert [("config", "motd", "changed")] == told(
        after(then(view, put), PutConfig(name="motd", data=b"ho"))
    )
    assert ("node", "n3", "joined") in told(changes(view, cluster_of("n1", "n2", "n3")))


def test_a_service_has_its_own_events_and_what_was_asked_for_it() -> None:
    found = shop().find_service(WEB)
    words = [
        (f"scale service {WEB} to 5", True),
        ("put stack shop: 2 services", True),
        ("scale service shop_website to 5", False),
        ("remove stack blog", False),
    ]
    for said, is_its_own in words:
        assert concerns(asked(1, "ops", said), found) is is_its_own, said
    assert not concerns(Event(at_ms=1, kind="node", name="n1", event="down"), found)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient(shop())
    client.log_lines = [
        LogLine(index=Index(n), term=Term(1), at_ms=at_ms, by=by, words=words)
        for n, (at_ms, by, words) in enumerate(
            [
                (SINCE_MS - 10_000, "ops", "put stack shop: 1 service"),
                (SINCE_MS, "n1", f"report from n1: {WEB}.1 failed"),
                (None, "raft", "a leader begins term 1"),
                (SINCE_MS + 50, "ops", "scale service blog_web to 3"),
            ]
        )
    ]
    return client


def test_users_and_objects_are_told_together(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "events", WEB], client.connect) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "ops                       asked: put stack shop: 1 service" in lines[0]
    assert not any("blog_web" in line or "report from" in line for line in lines)
    assert main(["events", "-n", "2", "-o", "name"], client.connect) == 0
    assert [f"{WEB}.1", f"{WEB}.1"] == capsys.readouterr().out.split()


def test_for_programs_each_event_is_an_object_in_a_line(
    client: FakeClient, capsys: Capture
) -> None:
    filters = ["--filter", "kind=task", "--filter", "event!=created"]
    since = datetime.fromtimestamp(SINCE_MS / 1000, UTC).isoformat()
    assert main(["events", *filters, "--since", since, "-o", "json"], client.connect) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [("failed", "n1"), ("running", "n2")] == [(row["event"], row["node"]) for row in rows]
    assert {"at", "kind", "name", "event", "node", "reason", "message", "id"} <= rows[0].keys()


def test_followed_events_go_on_with_what_changes(client: FakeClient, capsys: Capture) -> None:
    seen = 0

    def change(view: View) -> View:
        nonlocal seen
        seen += 1
        if seen == 1:
            return then(view, ScaleService(service_id=view.find_service(WEB).id, replicas=2))
        if seen == 2:
            return with_task(view, WEB, 2, "n1", TaskState.STARTING)
        raise KeyboardInterrupt

    client.on_change = change
    assert main(["events", "-f", "-n", "0", "--filter", "service=" + WEB], client.connect) == 130
    lines = capsys.readouterr().out.splitlines()
    assert ["scaled: from 1 to 2", "created on n1"] == [line.split("  ")[-1] for line in lines]


@pytest.mark.parametrize(
    "arguments",
    [["--since", "yesterday"], ["--filter", "size=1"], ["--filter", "kind"], ["-n", "-1"]],
)
def test_what_cannot_be_meant_is_a_usage_error(client: FakeClient, arguments: list[str]) -> None:
    assert main(["events", *arguments], client.connect) == 2


# --- instants -------------------------------------------------------------------------------------


def test_an_instant_is_so_long_ago_or_a_date() -> None:
    now_ms = 1_900_000_000_000
    assert now_ms - 90_000 == instant_of("1m30s", now_ms, "--since")
    assert 1_893_456_000_500 == instant_of("2030-01-01T00:00:00.5Z", now_ms, "--since")
    assert 1_893_452_400_000 == instant_of("2030-01-01T00:00:00+01:00", now_ms, "--since")
    assert None is instant_of(None, now_ms, "--since")
    with pytest.raises(typer.BadParameter, match="neither a duration, as 10m, nor"):
        instant_of("soon", now_ms, "--since")
