"""Commands that change something: what is proposed, what is waited for, and how a wait ends."""

import json
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.cli import progress as waits
from meshswarm.cli.main import main
from meshswarm.cli.waiting import Goal, SlotProgress, is_reached, progress
from meshswarm.errors import Unavailable, WaitTimedOut
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.service import Mode, RestartCondition, RestartPolicy
from meshswarm.model.task import DesiredState, Health, Reason, TaskState, TaskStatus
from meshswarm.store.commands import (
    ForgetTask,
    PutStack,
    RemoveService,
    RemoveStack,
    ReportTasks,
    ScaleService,
    SetDesired,
    TaskReport,
)
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    service,
    stack,
    then,
    with_stack,
    with_task,
)

Capture = pytest.CaptureFixture[str]

COMPOSE = """
services:
  web:
    x-meshswarm: {runtime: process}
    command: ["sleep", "1000"]
    deploy: {replicas: 2}
"""


def fill(view: View) -> View:
    """One controllers' and agents' step: a slot that lacks a task gets one, stray tasks go."""
    for row in view.sorted_services():
        taken = {task.slot for task in view.tasks_of(row.id)}
        for slot in range(1, row.spec.replicas + 1):
            if slot not in taken:
                return with_task(view, row.spec.name, slot, "n1", TaskState.RUNNING)
    for task in view.tasks.values():
        owner = view.services.get(task.service_id)
        if owner is None or task.slot > owner.spec.replicas:
            status = TaskStatus(state=TaskState.SHUTDOWN)
            report = TaskReport(task_id=task.id, status=status)
            return then(
                view,
                SetDesired(task_id=task.id, desired=DesiredState.REMOVE),
                ReportTasks(node_id=NodeId("idn1"), reports=(report,)),
                ForgetTask(task_id=task.id),
            )
    return view


@pytest.fixture
def client() -> FakeClient:
    """A cluster that does what it is told."""
    client = FakeClient(with_stack(cluster_of("n1"), stack("shop", web=2)))
    client.on_change = fill
    return client


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)
    return file


def test_complaint_44_deploy_waits_until_every_slot_runs(
    client: FakeClient, compose: Path, capsys: Capture
) -> None:
    assert main(["deploy", str(compose), "--name", "blog"], client.connect) == 0
    out, err = capsys.readouterr()
    assert out.split() == ["NAME", "EFFECT", "blog_web", "created"]
    assert err.splitlines() == [
        "blog_web.1 missing: no task was made for it yet",
        "blog_web.2 missing: no task was made for it yet",
        "blog_web.1 running on n1",
        "blog_web.2 running on n1",
        "stack blog runs as the file says",
    ]


def test_deploy_detached_waits_for_nothing(
    client: FakeClient, compose: Path, capsys: Capture
) -> None:
    client.on_change = None
    arguments = ["deploy", str(compose), "--name", "blog", "--detach", "-o", "json"]
    assert main(arguments, client.connect) == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "blog_web", "effect": "created"}]


def test_a_dry_run_proposes_nothing(client: FakeClient, compose: Path, capsys: Capture) -> None:
    assert main(["-o", "json", "deploy", str(compose), "--name", "blog", "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["services"][0]["replicas"] == 2
    assert client.proposed == []


def test_a_wait_that_ends_says_why_for_each_slot(
    client: FakeClient, compose: Path, capsys: Capture
) -> None:
    def stuck(view: View) -> View:
        row = view.service_named("blog_web")
        if row is None or view.tasks_of(row.id):
            return view
        reason, message = Reason.NO_SUITABLE_NODE, "no suitable node: 1 of 1 is down"
        return with_task(
            view, "blog_web", 1, "n1", TaskState.REJECTED, reason=reason, message=message
        )

    client.on_change = stuck
    arguments = ["deploy", str(compose), "--name", "blog", "--timeout", "0.05"]
    assert main(arguments, client.connect) == 8
    assert capsys.readouterr().err.splitlines()[-4:] == [
        "error: 2 of 2 slots not as wanted after 0.05 s",
        "  - blog_web.1 rejected on n1: no suitable node: 1 of 1 is down",
        "  - blog_web.2 missing: no task was made for it yet",
        " hint: meshswarm why blog_web",
    ]


def test_only_slots_are_counted_as_slots() -> None:
    """What is told of the service as a whole is none."""
    done = SlotProgress(name="web.1", service="web", state="running", is_done=True)
    slot = SlotProgress(name="web.2", service="web", state="starting")
    whole = SlotProgress(name="web", service="web", state="updating")
    ended = waits._failed(WaitTimedOut, (done, slot, whole), "after 1 s")
    assert "1 of 2 slots not as wanted after 1 s" == ended.message
    assert len(ended.details) == 2
    ended = waits._failed(WaitTimedOut, (done, whole), "after 1 s")
    assert "web not as wanted after 1 s" == ended.message


def test_a_wait_that_ends_before_anything_is_known_says_that() -> None:
    ended = waits._failed(WaitTimedOut, (), "after 0 s")
    assert "the cluster said nothing of it after 0 s" == ended.message


def test_faults_in_the_file_change_nothing(
    client: FakeClient, compose: Path, capsys: Capture
) -> None:
    compose.write_text("services: {web: {imag: nginx}}")
    assert main(["deploy", str(compose)], client.connect) == 3
    assert client.proposed == []
    assert "compose.yml:1" in capsys.readouterr().err
    assert main(["deploy", "nowhere.yml"], client.connect) == 5


def test_scale_up_and_down(client: FakeClient, capsys: Capture) -> None:
    for replicas in (3, 1):
        assert main(["service", "scale", f"shop_web={replicas}"], client.connect) == 0
        row = client.view.find_service("shop_web")
        assert len(client.view.tasks_of(row.id)) == replicas
    assert [type(command) for command in client.proposed] == [ScaleService, ScaleService]


def test_complaint_44_rm_waits_until_the_tasks_are_gone(
    client: FakeClient, capsys: Capture
) -> None:
    assert main(["service", "scale", "shop_web=2"], client.connect) == 0
    assert main(["service", "rm", "shop_web"], client.connect) == 0
    assert dict(client.view.tasks) == {}
    client.view = with_stack(client.view, stack("blog", web=1))
    assert main(["stack", "rm", "blog"], client.connect) == 0
    assert dict(client.view.stacks) == {}
    assert [type(c) for c in client.proposed] == [ScaleService, RemoveService, RemoveStack]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["service", "ps", "nosuch"], 5, "error: there is no service 'nosuch'"),
        (["service", "rm", "nosuch"], 5, "error: there is no service 'nosuch'"),
        (["stack", "ps", "nosuch"], 5, "error: there is no stack 'nosuch'"),
        (["node", "inspect", "nosuch"], 5, "error: there is no node 'nosuch'"),
        (["service", "scale", "shop_web"], 2, "is not SERVICE=N"),
        (["service", "sclae", "shop_web=1"], 2, "No such command 'sclae'"),
        (["--nonsense"], 2, "No such option: --nonsense"),
        (["node", "start"], 2, "Missing option '--config'"),
    ],
)
def test_what_cannot_be_done_is_said(
    client: FakeClient, capsys: Capture, arguments: list[str], exit_code: int, message: str
) -> None:
    assert main(arguments, client.connect) == exit_code
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True), err
    assert client.proposed == []


def test_without_a_quorum_each_manager_is_named(client: FakeClient, capsys: Capture) -> None:
    client.unreachable = Unavailable(
        "no manager could answer within 10 s; nothing was changed",
        details=["n1 (h:1): no leader", "n2 (h:2): not connected"],
        hint="`meshswarm cluster status` shows what each manager can tell",
    )
    assert main(["service", "ls"], client.connect) == 7
    assert capsys.readouterr().err.splitlines() == [
        "error: no manager could answer within 10 s; nothing was changed",
        "  - n1 (h:1): no leader",
        "  - n2 (h:2): not connected",
        " hint: `meshswarm cluster status` shows what each manager can tell",
    ]


def test_interrupting_a_wait_says_that_the_deploy_goes_on(
    client: FakeClient, compose: Path, capsys: Capture
) -> None:
    def interrupt(_: View) -> View:
        raise KeyboardInterrupt

    client.on_change = interrupt
    assert main(["deploy", str(compose), "--name", "blog"], client.connect) == 130
    assert "the deploy of blog goes on" in capsys.readouterr().err
    assert [type(command) for command in client.proposed] == [PutStack]


def test_the_context_comes_from_the_option_or_the_environment(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["--context", "a.toml", "service", "ls"], client.connect)
    monkeypatch.setenv("MESHSWARM_CONTEXT", "b.toml")
    main(["service", "ls"], client.connect)
    assert client.contexts == [Path("a.toml"), Path("b.toml")]


# --- what a rollout still lacks -------------------------------------------------------------------

WEB = Goal(whole=frozenset({"shop_web"}))


def shop(replicas: int = 1) -> View:
    return with_stack(cluster_of("n1", "n2"), stack("shop", web=replicas))


def lines(view: View, goal: Goal = WEB) -> list[str]:
    return [str(slot) for slot in progress(view, goal)]


def test_a_slot_is_done_when_it_runs_and_no_check_says_otherwise() -> None:
    for health, done in (
        (Health.NONE, True),
        (Health.HEALTHY, True),
        (Health.STARTING, False),
        (Health.UNHEALTHY, False),
    ):
        view = with_task(shop(), "shop_web", 1, "n1", TaskState.RUNNING, health=health)
        assert is_reached(progress(view, WEB)) is done


def test_slots_need_not_be_numbered_without_gaps() -> None:
    view = with_task(shop(2), "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 3, "n2", TaskState.RUNNING)
    assert lines(view) == ["shop_web.1 running on n1", "shop_web.3 running on n2"]
    assert is_reached(progress(view, WEB))


def test_more_slots_than_replicas_are_not_the_goal() -> None:
    view = with_task(shop(1), "shop_web", 1, "n1", TaskState.RUNNING)
    view = with_task(view, "shop_web", 2, "n2", TaskState.RUNNING)
    assert lines(view)[-1] == "shop_web surplus: 1 of 2 slots are still to be removed"
    assert not is_reached(progress(view, WEB))


def test_a_predecessor_that_still_stops_is_waited_for() -> None:
    view = with_task(shop(), "shop_web", 1, "n1", TaskState.RUNNING)
    [old] = view.tasks.values()
    view = then(view, SetDesired(task_id=old.id, desired=DesiredState.SHUTDOWN))
    view = with_task(view, "shop_web", 1, "n2", TaskState.RUNNING)
    assert lines(view) == ["shop_web.1 running on n2: the task that it replaces still stops"]
    assert not is_reached(progress(view, WEB))


def test_a_task_that_ran_to_its_end_is_done_unless_it_is_to_run_for_ever() -> None:
    for condition, done in ((RestartCondition.ANY, False), (RestartCondition.NONE, True)):
        view = _with_condition(condition, TaskState.COMPLETE)
        assert is_reached(progress(view, WEB)) is done


def test_a_failed_task_that_is_never_replaced_is_hopeless() -> None:
    for condition, hopeless in ((RestartCondition.ANY, False), (RestartCondition.NONE, True)):
        view = _with_condition(condition, TaskState.FAILED)
        assert [slot.is_hopeless for slot in progress(view, WEB)] == [hopeless]


def _with_condition(condition: RestartCondition, state: TaskState) -> View:
    spec = service("shop_web", 1)
    task = evolve(spec.task, restart=RestartPolicy(condition=condition))
    one = evolve(stack("shop"), services=(evolve(spec, task=task),))
    return with_task(with_stack(cluster_of("n1"), one), "shop_web", 1, "n1", state)


def test_a_global_service_has_a_slot_on_every_ready_node() -> None:
    one = evolve(stack("shop"), services=(service("shop_web", 1, Mode.GLOBAL),))
    view = with_task(
        with_stack(cluster_of("n1", "n2"), one), "shop_web", 0, "n1", TaskState.RUNNING
    )
    assert lines(view) == [
        "shop_web.n1 running on n1",
        "shop_web.n2 missing: no task was made for it yet",
    ]


def test_a_removed_service_is_gone_when_its_tasks_have_ended() -> None:
    goal = Goal(gone=frozenset({"shop_web"}))
    view = with_task(shop(), "shop_web", 1, "n1", TaskState.RUNNING)
    view = then(view, RemoveStack(name="shop"))
    assert lines(view, goal) == ["shop_web.1 stopping on n1"]
    [task] = view.tasks.values()
    report = TaskReport(task_id=TaskId(task.id), status=TaskStatus(state=TaskState.SHUTDOWN))
    view = then(view, ReportTasks(node_id=NodeId("idn1"), reports=(report,)))
    assert is_reached(progress(view, goal))
