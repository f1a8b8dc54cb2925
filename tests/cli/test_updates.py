"""`service update` and what goes with it: what is proposed, and how the wait for a rollout ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.cli.waiting import Goal, ending, is_reached, progress
from meshswarm.errors import Conflict, MeshswarmError, RolledBack
from meshswarm.model.resources import Resources
from meshswarm.model.rollout import FailureAction, RolloutPhase, UpdateOrder, UpdatePolicy
from meshswarm.model.service import (
    Comparison,
    Constraint,
    RestartCondition,
    RestartPolicy,
    Service,
    TaskSpec,
)
from meshswarm.store.commands import (
    PauseRollout,
    PutService,
    RestartService,
    ResumeRollout,
    RollBackService,
)
from meshswarm.store.view import View
from tests.support.fake_cluster import FakeClient, cluster_of, running, service, then

Capture = pytest.CaptureFixture[str]
WEB = "shop_web"


def shop(**policy: object) -> View:
    """Two replicas of version `a`, running."""
    update = UpdatePolicy(**policy)  # type: ignore[arg-type]
    spec = evolve(service(WEB, 2), update=update, labels={"tier": "front"})
    view = evolve(cluster_of("n1", "n2"), clock_ms=1_700_000_000_000)
    view = then(view, PutService(spec=spec))
    for _ in range(4):
        view = running(view)
    return view


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient(shop())
    client.on_change = running
    return client


def web(client: FakeClient) -> Service:
    return client.view.find_service(WEB)


def test_service_ls_shows_a_rollout_until_it_is_over(client: FakeClient, capsys: Capture) -> None:
    def said() -> str:
        assert main(["service", "ls"], client.connect) == 0
        return capsys.readouterr().out.splitlines()[1].split("  ")[2].strip()

    assert said() == "2/2"
    assert main(["service", "update", WEB, "--env-add", "A=1", "--detach"], client.connect) == 0
    capsys.readouterr()
    assert said() == "2/2 (updating)"
    assert main(["service", "pause", WEB], client.connect) == 0
    capsys.readouterr()
    assert said() == "2/2 (paused)"


def test_an_update_changes_what_it_names_and_nothing_else(client: FakeClient) -> None:
    before = web(client).spec
    arguments = [
        *("service", "update", WEB, "--command", "serve 'a b'", "--env-add", "A=1"),
        *("--env-add", "B=x=y", "--label-add", "tier=back", "--replicas", "3"),
        *("--container-label-add", "c=d", "--constraint-add", "node.role==manager"),
        *("--parallelism", "2", "--delay", "0s", "--order", "start-first"),
        *("--failure-action", "rollback", "--monitor", "3s", "--max-failure-ratio", "0.5"),
    ]
    assert main(arguments, client.connect) == 0
    after = web(client).spec
    role = Constraint(key="node.role", comparison=Comparison.EQUAL, value="manager")
    assert after == evolve(
        before,
        replicas=3,
        labels={"tier": "back"},
        update=UpdatePolicy(
            parallelism=2,
            order=UpdateOrder.START_FIRST,
            failure_action=FailureAction.ROLLBACK,
            monitor_s=3.0,
            max_failure_ratio=0.5,
        ),
        task=evolve(
            before.task,
            command=("serve", "a b"),
            environment={"A": "1", "B": "x=y"},
            labels={"c": "d"},
            constraints=(role,),
        ),
    )
    assert client.view.rollouts[web(client).id].phase is RolloutPhase.COMPLETED
    arguments = [
        *("service", "update", WEB, "--env-rm", "A", "--label-rm", "tier"),
        *("--container-label-rm", "c", "--constraint-rm", "node.role==manager"),
    ]
    assert main(arguments, client.connect) == 0
    assert web(client).spec.task.environment == {"B": "x=y"}
    assert (web(client).spec.labels, web(client).spec.task.constraints) == ({}, ())


def test_every_option_has_its_edit_and_changes_what_it_says(client: FakeClient) -> None:
    arguments = [
        *("--entrypoint", "sh -c", "--user", "0", "--workdir", "/srv", "--priority", "3"),
        *("--limit-cpu", "0.5", "--limit-memory", "64M", "--reserve-cpu", ".25"),
        *("--reserve-memory", "32M", "--restart-condition", "on-failure"),
        *("--restart-delay", "2s", "--restart-max-attempts", "4", "--stop-signal", "SIGINT"),
        *("--stop-grace-period", "3s", "--rollback-parallelism", "0", "--rollback-delay", "1s"),
        *("--rollback-order", "start-first", "--rollback-monitor", "2s"),
        *("--rollback-max-failure-ratio", "0.1"),
    ]
    before = web(client).spec
    assert main(["service", "update", WEB, *arguments, "--detach"], client.connect) == 0
    amounts = {"nano_cpus": 500_000_000, "memory_bytes": 64 << 20}
    assert web(client).spec == evolve(
        before,
        priority=3,
        rollback=UpdatePolicy(
            parallelism=0,
            delay_s=1.0,
            order=UpdateOrder.START_FIRST,
            monitor_s=2.0,
            max_failure_ratio=0.1,
        ),
        task=evolve(
            before.task,
            entrypoint=("sh", "-c"),
            user="0",
            working_dir="/srv",
            limits=Resources(**amounts),
            reservations=Resources(nano_cpus=250_000_000, memory_bytes=32 << 20),
            restart=RestartPolicy(
                condition=RestartCondition.ON_FAILURE, delay_s=2.0, max_attempts=4
            ),
            stop_signal="SIGINT",
            stop_grace_period_s=3.0,
        ),
    )


def test_force_replaces_tasks_that_nothing_else_would(client: FakeClient) -> None:
    before = set(client.view.tasks)
    arguments = ["service", "update", WEB, "--force", "--label-add", "a=b"]
    assert main(arguments, client.connect) == 0
    assert RestartService(service_id=web(client).id) == client.proposed[-1]
    assert not before & {task.id for task in client.view.tasks.values() if task.is_live}
    assert web(client).spec.labels["a"] == "b"
    assert main(["service", "update", WEB, "--force", "--command", "x"], client.connect) == 0
    assert isinstance(client.proposed[-1], PutService), "the change replaces them anyway"
    assert web(client).revision == 3


def test_labels_and_policies_restart_nothing(client: FakeClient) -> None:
    before = set(client.view.tasks)
    arguments = ["service", "update", WEB, "--label-add", "a=b", "--parallelism", "0", "--step"]
    assert main(arguments, client.connect) == 0
    assert before == set(client.view.tasks)
    assert dict(client.view.rollouts) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env-add", "A"], "'A' is not NAME=VALUE"),
        (["--env-rm", "A"], "there is no 'A'"),
        (["--constraint-add", "disk=ssd"], "disk=ssd"),
        (["--constraint-rm", "node.role==worker"], "there is no node.role==worker"),
        (["--order", "sideways"], "'sideways' is none of stop-first, start-first"),
        (["--failure-action", "cry"], "none of pause, continue, rollback"),
        (["--delay", "5"], "is no duration"),
        (["--command", "a 'b"], "No closing quotation"),
        (["--image", "nginx"], "a plain process has no image"),
        (["--limit-memory", "much"], "much"),
        (["--restart-condition", "maybe"], "none of any, on-failure, none"),
        (["--rollback-order", "sideways"], "none of stop-first, start-first"),
    ],
)
def test_what_cannot_be_meant_is_said(
    client: FakeClient, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(["service", "update", WEB, *arguments], client.connect) == 2
    assert message in capsys.readouterr().err
    assert client.proposed == []


def test_an_update_that_fails_and_is_rolled_back_ends_with_9_and_says_why(
    client: FakeClient, capsys: Capture
) -> None:
    arguments = ["service", "update", WEB, "--command", "crash", "--failure-action", "rollback"]
    assert main(arguments, client.connect) == 9
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"error: {WEB} was rolled back to revision 1: revision 2 was given up: 1 of 2 slots "
        f"failed, more than the 0 that may: {WEB}.1: it ended with exit code 3",
        f" hint: meshswarm service ps {WEB}",
    ]
    assert web(client).spec.task.command == ("sleep", "1000")


def test_an_update_that_fails_and_is_paused_ends_with_1_and_can_be_taken_back(
    client: FakeClient, capsys: Capture
) -> None:
    assert main(["service", "update", WEB, "--command", "crash"], client.connect) == 1
    said = capsys.readouterr().err
    assert f"error: the rollout of {WEB} is paused: 1 of 2 slots failed" in said
    assert main(["why", WEB], client.connect) == 0
    told = capsys.readouterr().out
    assert "the rollout of revision 2 is paused; 0 of 2 slots are well, 1 failed" in told
    assert main(["service", "rollback", WEB], client.connect) == 0
    assert client.proposed[-1] == RollBackService(service_id=web(client).id, revision=1)
    assert client.view.rollouts[web(client).id].phase is RolloutPhase.ROLLED_BACK


@pytest.mark.parametrize("order", [order.value for order in UpdateOrder])
@pytest.mark.parametrize(("action", "code"), [("pause", 1), ("rollback", 9)])
def test_whatever_the_policy_a_failure_ends_as_it_says_and_loses_nobody_else(
    client: FakeClient, order: str, action: str, code: int
) -> None:
    arguments = [
        *("service", "update", WEB, "--command", "crash", "--replicas", "4"),
        *("--order", order, "--failure-action", action),
    ]
    assert main(arguments, client.connect) == code
    if action == "pause":
        assert main(["service", "rollback", WEB], client.connect) == 0
    live = [(t.slot, t.revision) for t in client.view.tasks.values() if t.is_live]
    assert sorted(live) == [(slot, 1) for slot in (1, 2, 3, 4)]


def test_a_deploy_that_is_rolled_back_ends_with_9(
    client: FakeClient, capsys: Capture, tmp_path: Path
) -> None:
    file = tmp_path / "compose.yml"
    text = (
        "services:\n  web:\n    x-meshswarm: {runtime: process}\n    command: [VERSION]\n"
        "    deploy: {replicas: 2, update_config: {failure_action: rollback}}\n"
    )
    file.write_text(text.replace("VERSION", "serve"))
    assert main(["deploy", str(file), "--name", "blog"], client.connect) == 0
    file.write_text(text.replace("VERSION", "crash"))
    assert main(["deploy", str(file), "--name", "blog"], client.connect) == 9
    assert "blog_web was rolled back to revision 1" in capsys.readouterr().err


def test_by_step_each_wait_ends_with_its_step(client: FakeClient) -> None:
    arguments = ["service", "update", WEB, "--command", "other", "--step"]
    assert main(arguments, client.connect) == 0
    rollout = client.view.rollouts[web(client).id]
    assert (rollout.phase, rollout.well) == (RolloutPhase.PAUSED, 1)
    assert main(["service", "resume", WEB], client.connect) == 0
    assert client.proposed[-1] == ResumeRollout(service_id=web(client).id, step=True)
    assert client.view.rollouts[web(client).id].phase is RolloutPhase.COMPLETED


def test_a_deploy_by_step_ends_well_with_its_step_and_says_how_to_go_on(
    client: FakeClient, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "compose.yml"
    text = """services: {web: {command: VERSION, deploy: {replicas: 2},
        x-meshswarm: {runtime: process, update_config: {step: true}}}}"""
    file.write_text(text)
    assert main(["deploy", str(file), "--name", "blog"], client.connect) == 0
    assert "stack blog runs as the file says" in capsys.readouterr().err
    file.write_text(text.replace("VERSION", "other"))
    assert main(["deploy", str(file), "--name", "blog"], client.connect) == 0
    said = capsys.readouterr().err
    assert "runs as the file says" not in said
    assert said.endswith(
        "blog_web waits after its step, 1 of 2 have revision 2; "
        "`meshswarm service resume blog_web` goes on\n"
    )


def test_pause_waits_for_nothing_and_resume_for_the_end(client: FakeClient) -> None:
    main(["service", "update", WEB, "--command", "other", "-d"], client.connect)
    assert main(["service", "pause", WEB], client.connect) == 0
    assert client.proposed[-1] == PauseRollout(service_id=web(client).id)
    assert main(["service", "resume", WEB, "--all"], client.connect) == 0
    assert client.view.rollouts[web(client).id].phase is RolloutPhase.COMPLETED
    assert main(["service", "pause", WEB], client.connect) == 3


def test_a_restart_renews_every_task(client: FakeClient) -> None:
    before = set(client.view.tasks)
    assert main(["service", "restart", WEB], client.connect) == 0
    assert client.proposed == [RestartService(service_id=web(client).id)]
    live = {task.id for task in client.view.tasks.values() if task.is_live}
    assert not live & before


def test_inspect_tells_the_rollout_and_the_kept_revisions(
    client: FakeClient, capsys: Capture
) -> None:
    main(["service", "update", WEB, "--command", "other"], client.connect)
    capsys.readouterr()
    assert main(["service", "inspect", WEB, "-o", "json"], client.connect) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rollout"]["phase"], told["rollout"]["stable_revision"]) == ("completed", 1)
    assert [row["number"] for row in told["revisions"]] == [1, 2]


# --- when a wait ends -----------------------------------------------------------------------------


def until(view: View, holds: Callable[[View], bool]) -> View:
    for _ in range(60):
        if holds(view):
            return view
        view = running(view)
    raise AssertionError("it never came")


def test_a_wait_goes_on_until_a_rollout_was_watched_for_long_enough() -> None:
    view = shop(monitor_s=20.0, parallelism=0)
    spec = evolve(view.find_service(WEB).spec, task=_other(view))
    goal = Goal(whole=frozenset({WEB}), specs={WEB: spec.task})
    view = then(view, PutService(spec=spec))
    view = until(view, lambda v: all(s.is_done for s in progress(v, goal) if "." in s.name))
    assert not is_reached(progress(view, goal))
    assert ending(view, goal) is None
    view = until(view, lambda v: is_reached(progress(v, goal)))
    assert view.rollouts[view.find_service(WEB).id].phase is RolloutPhase.COMPLETED


def test_a_wait_for_what_somebody_else_has_replaced_ends() -> None:
    view = shop()
    goal = Goal(whole=frozenset({WEB}), specs={WEB: view.find_service(WEB).spec.task})
    spec = evolve(view.find_service(WEB).spec, task=_other(view))
    ended = ending(then(view, PutService(spec=spec)), goal)
    assert isinstance(ended, Conflict)


def test_a_wait_for_a_way_back_goes_on_until_that_is_over() -> None:
    view = shop(failure_action=FailureAction.ROLLBACK)
    spec = evolve(view.find_service(WEB).spec, task=_other(view, "crash"))
    goal = Goal(whole=frozenset({WEB}), specs={WEB: spec.task})
    view = then(view, PutService(spec=spec))
    service_id = view.find_service(WEB).id
    view = until(view, lambda v: v.rollouts[service_id].phase.goes_back)
    if view.rollouts[service_id].phase is RolloutPhase.ROLLING_BACK:
        assert ending(view, goal) is None
    view = until(view, lambda v: v.rollouts[service_id].phase is RolloutPhase.ROLLED_BACK)
    assert isinstance(ending(view, goal), RolledBack)
    assert not is_reached(progress(view, goal))


def test_a_task_that_runs_on_beside_one_that_failed_is_what_its_slot_has() -> None:
    """Start-first: the old task is the current one again, though it is not the newest."""
    view = shop(order=UpdateOrder.START_FIRST)
    view = then(
        view, PutService(spec=evolve(view.find_service(WEB).spec, task=_other(view, "crash")))
    )
    service_id = view.find_service(WEB).id
    view = until(view, lambda v: v.rollouts[service_id].phase is RolloutPhase.PAUSED)
    view = then(view, RollBackService(service_id=service_id, revision=1))
    view = until(view, lambda v: v.rollouts[service_id].phase is RolloutPhase.ROLLED_BACK)
    goal = Goal(whole=frozenset({WEB}), specs={WEB: view.find_service(WEB).spec.task})
    assert is_reached(progress(view, goal))


def test_scaling_waits_for_no_rollout() -> None:
    view = shop(step=True)
    spec = evolve(view.find_service(WEB).spec, task=_other(view))
    view = then(view, PutService(spec=spec))
    service_id = view.find_service(WEB).id
    view = until(view, lambda v: v.rollouts[service_id].phase is RolloutPhase.PAUSED)
    patient = Goal(whole=frozenset({WEB}))
    ended = ending(view, patient)
    assert isinstance(ended, MeshswarmError)
    assert ended.hint == (
        f"meshswarm why {WEB}; then meshswarm service resume {WEB}, "
        f"or meshswarm service rollback {WEB}"
    )
    beside = Goal(whole=frozenset({WEB, "shop_late"}), is_step=True)  # another is not there yet
    assert (ending(view, beside), is_reached(progress(view, beside))) == (None, False)
    scaled = Goal(whole=frozenset({WEB}), any_revision=True)
    assert (ending(view, scaled), is_reached(progress(view, scaled))) == (None, True)


def _other(view: View, command: str = "other") -> TaskSpec:
    return evolve(view.find_service(WEB).spec.task, command=(command,))
