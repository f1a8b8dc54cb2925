"""Jobs as users see them: listed with what is complete, waited for to their end, explained."""

import json
from pathlib import Path

import pytest
from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.model.job import RunPhase, RunReason
from meshswarm.model.service import Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import TaskState
from meshswarm.store.commands import SetRun
from meshswarm.store.view import View
from tests.support.fake_cluster import (
    FakeClient,
    cluster_of,
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
