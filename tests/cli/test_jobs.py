"""Jobs as users see them: listed with what is complete, waited for to their end, explained."""

import json
from pathlib import Path

import pytest
import typer
from attrs import evolve
from typer.main import get_command

from meshswarm.answers import TaskLines
from meshswarm.cli.complete import complete_service_or_job
from meshswarm.cli.main import app, main
from meshswarm.cli.options import Options
from meshswarm.model.job import JobSpec, RunPhase, RunReason, Schedule
from meshswarm.model.service import Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState
from meshswarm.store.job_commands import RunJob, SetRun
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
    running,
    service,
    then,
    with_stack,
    with_task,
)

Capture = pytest.CaptureFixture[str]

COMPOSE = """
services:
  migrate:
    x-meshswarm: {runtime: process}
    command: ["true"]
    deploy: {mode: replicated-job}
"""


def _job(completions: int = 3) -> ServiceSpec:
    return evolve(service("shop_migrate", completions), mode=Mode.REPLICATED_JOB)


def _told(view: View, phase: RunPhase, completed: int, failed: int = 0, message: str = "") -> View:
    """The view once the controllers have written this of the job's run."""
    row = view.service_named("shop_migrate")
    assert row is not None
    command = SetRun(
        service_id=row.id,
        edition=view.runs[row.id].edition,
        phase=phase,
        reason=RunReason.NONE,
        message=message,
        completed=completed,
        failed=failed,
    )
    return then(view, command)


@pytest.fixture
def client() -> FakeClient:
    """A job with one complete and one running slot of three."""
    view = with_stack(cluster_of("n1"), StackSpec(name="shop", services=(_job(),)))
    view = with_task(view, "shop_migrate", 1, "n1", TaskState.COMPLETE)
    view = with_task(view, "shop_migrate", 2, "n1", TaskState.RUNNING)
    return FakeClient(_told(view, RunPhase.RUNNING, 1))


def test_service_ls_says_how_many_are_complete(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "ls"], client.connect) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split("  ")[:3] == ["shop_migrate", "replicated-job", "1 (1/3 complete)"]
    assert main(["service", "ls", "-o", "json"], client.connect) == 0
    (row,) = json.loads(capsys.readouterr().out)
    keys = ("mode", "desired", "running", "run_phase", "completed", "failed")
    assert ["replicated-job", 3, 1, "running", 1, 0] == [row[key] for key in keys]


def test_service_inspect_tells_of_the_run(client: FakeClient, capsys: Capture) -> None:
    assert main(["service", "inspect", "shop_migrate", "-o", "json"], client.connect) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert ("running", 1, 0, None) == tuple(
        run[key] for key in ("phase", "completed", "failed", "ended_at")
    )


def test_why_tells_the_slots_that_are_not_complete(client: FakeClient, capsys: Capture) -> None:
    assert main(["why", "shop_migrate"], client.connect) == 0
    out = capsys.readouterr().out.splitlines()
    assert "1 of 3 slots of the job shop_migrate are complete; 1 runs" == out[0]
    assert "shop_migrate.3 missing: no task was created for this slot yet" in out
    assert not [line for line in out if line.startswith(("shop_migrate.1", "shop_migrate.2"))]


def test_deploy_waits_until_a_job_is_complete(tmp_path: Path, capsys: Capture) -> None:
    client = FakeClient(cluster_of("n1"))
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)

    def step(view: View) -> View:
        row = view.service_named("shop_migrate")
        assert row is not None
        if not view.tasks_of(row.id):
            return with_task(view, "shop_migrate", 1, "n1", TaskState.COMPLETE)
        return _told(view, RunPhase.COMPLETE, 1, message="1 of 1 slots are complete")

    client.on_change = step
    assert main(["deploy", str(file), "--name", "shop"], client.connect) == 0
    assert capsys.readouterr().err.splitlines() == [
        "shop_migrate.1 missing: no task was made for it yet",
        "shop_migrate running: 0 of its slots are complete",
        "shop_migrate.1 complete on n1",
        "stack shop runs as the file says",
    ]


def test_deploy_says_that_a_job_failed(tmp_path: Path, capsys: Capture) -> None:
    client = FakeClient(cluster_of("n1"))
    file = tmp_path / "compose.yml"
    file.write_text(COMPOSE)
    client.on_change = lambda view: _told(view, RunPhase.FAILED, 0, 1, "1 of 1 slots failed")
    assert main(["deploy", str(file), "--name", "shop"], client.connect) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: job shop_migrate failed: 1 of 1 slots failed",
        " hint: meshswarm why shop_migrate",
    ]


# --- the section `jobs` -------------------------------------------------------------------------

BACKUP = JobSpec(
    name="shop_backup",
    stack="shop",
    service=evolve(service("shop_backup", 1), mode=Mode.REPLICATED_JOB),
    schedule=Schedule(cron="*/5 * * * *", timezone="Europe/Paris"),
)


def _jobs() -> FakeClient:
    spec = StackSpec(name="shop", services=(), jobs=(BACKUP,))
    return FakeClient(with_stack(cluster_of("n1"), spec))


def _ended(view: View, name: str, state: TaskState, exit_code: int) -> View:
    """The view once the run of that name has ended so."""
    view = with_task(view, name, 1, "n1", state, exit_code=exit_code)
    row = view.service_named(name)
    assert row is not None
    is_good = state is TaskState.COMPLETE
    command = SetRun(
        service_id=row.id,
        edition=1,
        phase=RunPhase.COMPLETE if is_good else RunPhase.FAILED,
        reason=RunReason.DONE if is_good else RunReason.TASKS_FAILED,
        message="it ended",
        completed=int(is_good),
        failed=int(not is_good),
    )
    return then(view, command)


def _ran(client: FakeClient) -> FakeClient:
    """One run that failed, and one that completed."""
    job = client.view.job_named("shop_backup")
    assert job is not None
    for name, state, code in (
        ("shop_backup-1", TaskState.FAILED, 3),
        ("shop_backup-2", TaskState.COMPLETE, 0),
    ):
        client.view = _ended(then(client.view, RunJob(job_id=job.id)), name, state, code)
    return client


def test_job_ls(capsys: Capture) -> None:
    client = _ran(_jobs())
    assert main(["job", "ls", "-o", "json"], client.connect) == 0
    (row,) = json.loads(capsys.readouterr().out)
    keys = ("name", "trigger", "timezone", "state", "paused", "last_run", "last_phase")
    assert [row[key] for key in (*keys, "last_exit_code")] == [
        "shop_backup",
        "*/5 * * * *",
        "Europe/Paris",
        "idle",
        False,
        2,
        "complete",
        0,
    ]
    assert main(["job", "ls"], client.connect) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "NAME"
    assert line.startswith("shop_backup  */5 * * * *  idle   no      complete (")


def test_job_history_has_the_newest_first_and_service_ls_none_of_them(capsys: Capture) -> None:
    client = _ran(_jobs())
    assert main(["job", "history", "shop_backup", "-o", "json"], client.connect) == 0
    rows = json.loads(capsys.readouterr().out)
    found = [(row["number"], row["phase"], row["exit_code"], row["trigger"]) for row in rows]
    assert [(2, "complete", 0, "manual"), (1, "failed", 3, "manual")] == found
    assert main(["service", "ls", "-o", "name"], client.connect) == 0
    assert "" == capsys.readouterr().out


def test_jobs_and_their_runs_are_filtered_and_watched(capsys: Capture) -> None:
    client = _ran(_jobs())
    history = ["job", "history", "shop_backup"]
    assert main([*history, "-f", "phase=failed", "-o", "name"], client.connect) == 0
    assert "shop_backup-1" == capsys.readouterr().out.strip()
    assert main(["job", "ls", "-f", "paused=yes", "-o", "name"], client.connect) == 0
    assert "" == capsys.readouterr().out

    views = iter([client.view, _ran(client).view])

    def change(_: View) -> View:
        if (newer := next(views, None)) is None:
            raise KeyboardInterrupt
        return newer

    client.on_change = change
    assert main([*history, "--watch", "-o", "json"], client.connect) == 130
    told = [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()]
    assert [2, 1, 4, 3] == told


def test_job_run_waits_until_it_is_complete_or_says_that_it_failed(capsys: Capture) -> None:
    for state, code, last in (
        (TaskState.COMPLETE, 0, "run shop_backup-1 is complete"),
        (TaskState.FAILED, 1, " hint: meshswarm why shop_backup-1"),
    ):
        client = _jobs()

        def step(view: View, state: TaskState = state) -> View:
            is_over = any(run.phase.is_over for run in view.runs.values())
            return view if is_over else _ended(view, "shop_backup-1", state, 1)

        client.on_change = step
        assert code == main(["job", "run", "shop_backup"], client.connect)
        assert last == capsys.readouterr().err.splitlines()[-1]


def test_job_run_detached_says_where_to_look(capsys: Capture) -> None:
    assert main(["job", "run", "shop_backup", "-d"], _jobs().connect) == 0
    said = "run shop_backup-1 has begun; `meshswarm job history shop_backup` shows how it went"
    assert [said] == capsys.readouterr().err.splitlines()


def test_job_logs_are_those_of_the_last_run_or_of_the_one_asked_for(capsys: Capture) -> None:
    client = _ran(_jobs())
    for task in client.view.tasks.values():
        client.written[task.id] = [TaskLines(stream="stdout", lines=(f"by {task.service_name}",))]
    assert main(["job", "logs", "shop_backup"], client.connect) == 0
    assert "by shop_backup-2" in capsys.readouterr().out
    assert main(["job", "logs", "shop_backup", "--run", "1"], client.connect) == 0
    assert "by shop_backup-1" in capsys.readouterr().out
    assert main(["job", "logs", "shop_backup", "--run", "9"], client.connect) == 5
    assert "kept are 1, 2" in capsys.readouterr().err


def test_pause_and_resume(capsys: Capture) -> None:
    client = _jobs()
    for verb, effect, is_paused in (
        ("pause", "paused", True),
        ("pause", "unchanged", True),
        ("resume", "resumed", False),
    ):
        assert main(["job", verb, "shop_backup", "-o", "json"], client.connect) == 0
        assert [{"name": "shop_backup", "effect": effect}] == json.loads(capsys.readouterr().out)
        job = client.view.job_named("shop_backup")
        assert job is not None
        assert is_paused == job.is_paused


def _under_way() -> FakeClient:
    """Two runs under way, each with a task."""
    client = _jobs()
    job = client.view.find_job("shop_backup")
    for number in (1, 2):
        client.view = then(client.view, RunJob(job_id=job.id))
        client.view = with_task(client.view, f"shop_backup-{number}", 1, "n1", TaskState.RUNNING)
    client.on_change = running
    return client


def test_all_runs_of_a_job_are_cancelled_or_the_one_that_is_named(capsys: Capture) -> None:
    for target, phases in (
        ("shop_backup", ["failed", "failed"]),
        ("shop_backup-1", ["failed", "running"]),
    ):
        client = _under_way()
        assert main(["job", "cancel", target, "-o", "json"], client.connect) == 0
        assert "cancelled" == json.loads(capsys.readouterr().out)[0]["effect"]
        job = client.view.find_job("shop_backup")
        assert phases == [run.phase.value for run in client.view.runs_of(job.id)]
        live = [task.service_name for task in client.view.tasks.values() if task.is_live]
        assert (["shop_backup-2"] if "running" in phases else []) == live, "it waited for that"


def test_what_is_not_under_way_cannot_be_cancelled(capsys: Capture) -> None:
    client = _ran(_jobs())
    assert main(["job", "cancel", "shop_backup"], client.connect) == 6
    said = capsys.readouterr().err
    assert "no run of job shop_backup is under way" in said
    assert "meshswarm job history shop_backup" in said
    assert main(["job", "cancel", "shop_backup-1"], client.connect) == 6
    assert "the run shop_backup-1 is over already: it is failed" in capsys.readouterr().err
    assert main(["job", "cancel", "nothing"], client.connect) == 5
    assert client.proposed == []


def test_a_job_is_removed_with_its_runs(capsys: Capture) -> None:
    client = _under_way()
    assert main(["job", "rm", "shop_backup"], client.connect) == 0
    left = (client.view.jobs, client.view.runs, client.view.services)
    assert not any(left)
    assert not [task for task in client.view.tasks.values() if task.is_live]
    assert main(["job", "rm", "shop_backup"], client.connect) == 5


def test_why_takes_jobs_and_runs(capsys: Capture) -> None:
    client = _under_way()
    assert main(["why", "shop_backup"], client.connect) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("job shop_backup fires at `*/5 * * * *` in Europe/Paris")
    assert "run 1 is under way as well" in told
    assert "0 of 1 slots of the job shop_backup-2 are complete; 1 runs" in told
    assert main(["why", "shop_backup", "-o", "json"], client.connect) == 0
    document = json.loads(capsys.readouterr().out)
    assert ("shop_backup", "shop_backup-2") == (document["job"], document["run"]["service"])
    assert main(["why", "shop_backup", "-o", "name"], client.connect) == 0
    assert "" == capsys.readouterr().out, "no slot is as it should not be"
    assert main(["why", "shop_backup-1"], client.connect) == 0
    assert "of the job shop_backup-1" in capsys.readouterr().out
    assert main(["why", "nothing"], client.connect) == 5


def test_jobs_and_their_runs_are_completed_where_both_are_meant() -> None:
    client = _under_way()
    root = typer.Context(get_command(app), obj=Options(connect=client.connect))
    every = ["shop_backup", "shop_backup-1", "shop_backup-2"]
    assert every == complete_service_or_job(root, "shop_b")
    assert ["shop_backup-2"] == complete_service_or_job(root, "shop_backup-2")


def test_an_unknown_job_is_not_found(capsys: Capture) -> None:
    assert main(["job", "run", "nothing"], _jobs().connect) == 5
    assert "there is no job 'nothing'" in capsys.readouterr().err
