"""Hosts with an engine each: what they keep through kills, and that nothing of them stays."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.dev import eventually, is_alive
from tests.support.docker_engine import IMAGE, put_image
from tools.rig.engine import Engine
from tools.rig.rig import CONTROL_GROUPS, Rig, raised, sweep

pytestmark = [pytest.mark.engines, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
SERVE = "echo well > /tmp/index.html; exec httpd -f -h /tmp -p 80"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with raised("a", "b") as rig:
        yield rig


def booted(rig: Rig, host: str, *, live_restore: bool = False) -> Engine:
    engine = Engine(rig, host, live_restore=live_restore)
    engine.boot()
    api = docker.APIClient(base_url=engine.url, version="auto")
    assert put_image(api) is None
    api.close()
    return engine


def run(engine: Engine, *options: str) -> str:
    """The id of a container that serves."""
    return engine.docker("run", "--detach", *options, IMAGE, "sh", "-c", SERVE)


def began(engine: Engine, container: str) -> tuple[str, str]:
    """The container's state, and since when."""
    told = engine.docker("inspect", "-f", "{{.State.Status}} {{.State.StartedAt}}", container)
    state, since = told.split()
    return state, since


def of_the_machine() -> list[str]:
    """What an engine in the machine's own network would change."""
    looks = (["ip", "-o", "link"], ["iptables-save"])
    outputs = [subprocess.run(look, check=True, capture_output=True, text=True) for look in looks]
    changing = ("#", ":")  # comments and counters
    return sorted(
        line
        for done in outputs
        for line in done.stdout.splitlines()
        if not line.startswith(changing)
    )


def test_published_ports_are_reached_from_other_hosts_and_the_machine_sees_nothing() -> None:
    before, groups = of_the_machine(), sorted(CONTROL_GROUPS.iterdir())
    with raised("a", "b") as rig:
        run(booted(rig, "a"), "--publish", "8080:80")
        with rig.entered("b"):
            fetch = ["busybox", "wget", "-qO-", f"http://{rig.address('a')}:8080/"]
            eventually(lambda: subprocess.run(fetch, capture_output=True).stdout == b"well\n")
        assert before == of_the_machine()
        assert str(rig.scratch) not in Path("/proc/self/mounts").read_text()
        assert list(CONTROL_GROUPS.glob(f"**/{rig.group}/a"))
    assert groups == sorted(CONTROL_GROUPS.iterdir())
    assert [] == list(CONTROL_GROUPS.glob(f"*/{rig.group}"))
    assert not rig.scratch.exists()


def test_a_crash_ends_every_container_of_its_host_and_they_are_there_after_the_boot(
    rig: Rig,
) -> None:
    engine, other = booted(rig, "a"), booted(rig, "b")
    container, bystander = run(engine), run(other)
    pid = engine.docker("inspect", "-f", "{{.State.Pid}}", container)
    assert int(pid) > 1, "a number of the host's own"
    since = began(other, bystander)
    engine.crash()
    assert not engine.answers()
    engine.boot()
    assert "exited" == began(engine, container)[0]
    assert since == began(other, bystander)
    engine.docker("start", container)
    assert "running" == began(engine, container)[0]


def test_containers_outlive_the_daemon_if_they_are_told_to(rig: Rig) -> None:
    engine = booted(rig, "a", live_restore=True)
    container = run(engine)
    since = began(engine, container)
    engine.kill()
    assert not engine.answers()
    engine.start()
    assert since == began(engine, container)
    engine.stop()
    engine.start()
    assert since == began(engine, container)


def test_who_is_gone_between_two_questions_is_left_out(rig: Rig) -> None:
    engine = booted(rig, "a")
    gone, stays = run(engine), run(engine)
    engine.docker("rm", "--force", gone)
    assert [stays] == [container["Id"] for container in engine.inspected(gone, stays)]
    assert [] == engine.inspected(gone)
    engine.stop()
    with pytest.raises(RuntimeError, match="Cannot connect"):
        engine.inspected(stays)


DRIVER = """
import subprocess, sys, time
from tools.rig.engine import Engine
from tools.rig.rig import raised
with raised("a") as rig:
    engine = Engine(rig, "a")
    engine.boot()
    print(rig.name, engine._first.pid, rig.scratch, flush=True)
    time.sleep(1000)
"""


def test_what_a_killed_driver_left_of_its_engines_is_removed_by_the_next_run() -> None:
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        name, first, scratch = driver.stdout.readline().split()
        driver.kill()
    eventually(lambda: not is_alive(first))
    assert Path(scratch).exists()
    assert name in sweep()
    assert not Path(scratch).exists()
    assert [] == list(CONTROL_GROUPS.glob(f"*/meshswarm-rig-{name}"))
