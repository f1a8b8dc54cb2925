"""Jobs and start order on real nodes: what waits, what runs to its end, and a leader's loss.

That a schedule fires once, whoever leads, is `tests/sim/test_jobs.py`: here it would take a minute.
"""

from pathlib import Path

import pytest

from tests.support.dev import Dev, dev_cluster

pytestmark = pytest.mark.timeout(180)

COMPOSE = """\
services:
  db:
    x-meshswarm: {runtime: process}
    command: ["sh", "-c", "sleep 1; touch UP; exec sleep 1000"]
    healthcheck: {test: [CMD, test, -e, UP], interval: 300ms, retries: 100}
  web:
    x-meshswarm: {runtime: process}
    command: ["sh", "-c", "test -e MIGRATED && exec sleep 1000"]
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate:
    x-meshswarm: {runtime: process}
    command: ["sh", "-c", "test -e UP && touch MIGRATED"]
    depends_on: {db: {condition: service_healthy}}
    deploy: {mode: replicated-job, restart_policy: {condition: none}}
jobs:
  report:
    x-meshswarm: {runtime: process}
    command: ["sh", "-c", "echo nothing to tell; exit 3"]
    triggers: {manual: true}
    depends_on: [db]
  tick:
    x-meshswarm: {runtime: process}
    command: ["sh", "-c", "echo tick"]
    triggers: {schedule: [{cron: "* * * * *", timezone: Europe/Paris}]}
"""


def _states(dev: Dev, service: str) -> list[str]:
    return [task["state"] for task in dev.rows("service", "ps", service)]


def test_services_start_in_order_and_jobs_run_to_their_end(tmp_path: Path) -> None:
    text = COMPOSE.replace("UP", str(tmp_path / "up"))
    text = text.replace("MIGRATED", str(tmp_path / "migrated"))
    with dev_cluster(tmp_path) as dev:
        dev.deploy(text)
        assert ["complete"] == _states(dev, "t_migrate")
        assert ["running"] == _states(dev, "t_web"), "its first task found what it waited for"
        rows = {row["name"]: row for row in dev.rows("service", "ls")}
        assert ("complete", 1) == (rows["t_migrate"]["run_phase"], rows["t_migrate"]["completed"])

        failed = dev.try_("job", "run", "t_report")
        assert 1 == failed.returncode
        assert "exit code 3" in failed.stderr
        (run,) = dev.rows("job", "history", "t_report")
        assert ("failed", 3, "manual") == (run["phase"], run["exit_code"], run["trigger"])
        assert "nothing to tell" in dev.run("job", "logs", "t_report")

        before = {row["name"]: row for row in dev.rows("job", "ls")}["t_tick"]["next_fire"]
        assert before is not None
        dev.dev("kill", "leader", timeout_s=90)
        assert 1 == dev.try_("job", "run", "t_report").returncode
        numbers = [row["number"] for row in dev.rows("job", "history", "t_report")]
        assert [2, 1] == numbers, "what the lost leader knew, the next one knows"
        dev.run("job", "pause", "t_tick")
        assert None is {row["name"]: row for row in dev.rows("job", "ls")}["t_tick"]["next_fire"]
        dev.run("stack", "rm", "t")
        assert [] == dev.rows("job", "ls")
