"""What users are promised of containers on several hosts: probes, fencing, secrets, networks."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshswarm.cli.reach import connect
from meshswarm.errors import Unavailable
from meshswarm.model.node import NodeState
from meshswarm.model.task import Health, Reason, TaskState
from meshswarm.store.view import View
from tests.support.dev import Dev, eventually
from tests.support.docker_engine import IMAGE
from tools.rig.fleet import Fleet, fleet

pytestmark = [pytest.mark.engines, pytest.mark.timeout(120)]

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """Where agents keep files; an engine of the rig has a /run of its own, and sees this."""
    made = Path(tempfile.mkdtemp(prefix="meshswarm-test-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def hosts(memory: Path) -> Iterator[Fleet]:
    with fleet(*NAMES, environment={"MESHSWARM_AGENT_FILES_DIR": str(memory)}) as made:
        eventually(lambda: are_ready(made))
        yield made


@pytest.fixture
def dev(hosts: Fleet) -> Iterator[Dev]:
    dev = Dev(hosts.folder)
    yield dev
    dev.try_("stack", "rm", "t")
    eventually(lambda: not any(hosts.running(service) for service in ("t_web", *EVERY)))


def view(hosts: Fleet) -> View:
    """What the cluster knows, read without a process of its own: tests ask often."""

    async def read() -> View:
        async with connect(hosts.context) as client:
            return await client.read()

    return asyncio.run(read())


def are_ready(hosts: Fleet) -> bool:
    try:
        rows = view(hosts).nodes.values()
    except Unavailable:
        return False
    return [NodeState.READY] * 3 == [row.state for row in rows]


def compose(shell: str, more: str, below: str = "") -> str:
    return f"services:\n{part('web', shell, more)}\n{below}\n"


def part(name: str, shell: str, more: str) -> str:
    return f"""
  {name}:
    image: {IMAGE}
    command: ["sh", "-c", {json.dumps(shell)}]
    stop_grace_period: 500ms
{more}
"""


# --- probes ---------------------------------------------------------------------------------------

SLEEP = "exec sleep 1000"
SERVE = f"mkdir /tmp/w; httpd -h /tmp/w -p 80; {SLEEP}"
LISTEN = "while sleep 0.05; do [ -e /tmp/ready ] && nc -l -p 90 -e /bin/true; done"
CHECKS = {
    "http": (SERVE, "http: {port: 80, path: /ready}", "/tmp/w/ready"),
    "tcp": (LISTEN, "tcp: {port: 90}", "/tmp/ready"),
    "command": (SLEEP, "command: [test, -e, /tmp/ready]", "/tmp/ready"),
}
"""What a container runs, what is asked of it, and the file whose presence makes the answer good."""

PACE = "interval: 200ms, timeout: 2s, failure_threshold: 2"
LONG = "interval: 200ms, failure_threshold: 1000"
EVERY = [f"t_{kind}" for kind in CHECKS]


def deploy(dev: Dev, probes: dict[str, str]) -> None:
    """A service of each kind, with these probes."""
    parts = [
        part(kind, runs, f"    x-meshswarm: {{probes: {{{probes[kind]}}}}}")
        for kind, (runs, _, _) in CHECKS.items()
    ]
    dev.deploy("\n".join(["services:", *parts]), "--detach")


def health(hosts: Fleet) -> list[Health]:
    """What is said of each running task."""
    live = (one for one in view(hosts).tasks.values() if one.is_live)
    return [one.status.health for one in live if one.status.state is TaskState.RUNNING]


def ids(hosts: Fleet) -> list[str]:
    return [one.id for service in EVERY for one in hosts.running(service)]


def test_a_container_is_unready_until_its_probe_passes(hosts: Fleet, dev: Dev) -> None:
    deploy(dev, {kind: f"readiness: {{{check}, {PACE}}}" for kind, (_, check, _) in CHECKS.items()})
    eventually(lambda: health(hosts) == [Health.NOT_READY] * 3)
    before = ids(hosts)
    for kind, (_, _, ready) in CHECKS.items():
        dev.run("exec", f"t_{kind}.1", "--", "touch", ready)
    eventually(lambda: health(hosts) == [Health.HEALTHY] * 3)
    assert before == ids(hosts), "who is not ready is not restarted"


def test_a_container_has_time_to_start_and_is_restarted_if_its_liveness_fails_then(
    hosts: Fleet, dev: Dev
) -> None:
    deploy(
        dev,
        {
            kind: f"startup: {{{check}, {LONG}}}, liveness: {{{check}, {PACE}}}"
            for kind, (_, check, _) in CHECKS.items()
        },
    )
    eventually(lambda: health(hosts) == [Health.STARTING] * 3)
    before = ids(hosts)
    for kind, (_, _, ready) in CHECKS.items():
        dev.run("exec", f"t_{kind}.1", "--", "touch", ready)
    eventually(lambda: health(hosts) == [Health.HEALTHY] * 3)
    assert before == ids(hosts)
    for kind, (_, _, ready) in CHECKS.items():
        dev.run("exec", f"t_{kind}.1", "--", "rm", ready)
    eventually(lambda: len(now := ids(hosts)) == 3 and not set(now) & set(before))
    ended = [one for one in view(hosts).tasks.values() if one.status.state is TaskState.FAILED]
    assert [Reason.UNHEALTHY] * 3 == [one.status.reason for one in ended]


# --- fencing --------------------------------------------------------------------------------------


def test_a_host_that_is_cut_off_stops_what_may_run_only_once_before_it_runs_elsewhere(
    hosts: Fleet, dev: Dev
) -> None:
    dev.deploy(compose(SLEEP, "    x-meshswarm: {stop_after: 5s}"))
    (before,) = hosts.running("t_web")
    hosts.rig.unplug(before.host)
    try:
        eventually(lambda: not hosts.running("t_web"))
        eventually(lambda: len(hosts.running("t_web")) == 1)
        (after,) = hosts.running("t_web")
        assert before.host != after.host
        finished = "{{.State.FinishedAt}}"
        ended_at = hosts.engines[before.host].docker("inspect", "-f", finished, before.id)
        assert ended_at < after.since, "one clock, one form: as text it compares as time does"
    finally:
        hosts.rig.plug(before.host)
    eventually(lambda: are_ready(hosts))
    assert [after] == hosts.running("t_web")


# --- secrets --------------------------------------------------------------------------------------


def test_a_secret_is_in_memory_of_hosts_that_use_it_and_nowhere_else(
    hosts: Fleet, dev: Dev, memory: Path
) -> None:
    def put(verb: str, content: str) -> None:
        (hosts.folder / "content").write_text(content)
        dev.run("secret", verb, "token", str(hosts.folder / "content"))

    def read(*command: str) -> str:
        return dev.run("exec", "t_web.1", "--", *command)

    put("create", "sesame")
    there = "placement: {constraints: [node.hostname == b]}"
    used = f"    secrets: [token]\n    deploy: {{{there}, update_config: {{monitor: 500ms}}}}"
    external = "secrets: {token: {external: true}}"
    dev.deploy(compose(SLEEP, used, external))
    assert "sesame" == read("cat", "/run/secrets/token")
    assert "tmpfs" in read("sh", "-c", "grep /run/secrets /proc/mounts")
    assert {"b"} == holders(hosts, memory, b"sesame")
    on_disk = [
        path
        for path in hosts.folder.rglob("*")
        if path.is_file() and path.name != "content" and b"sesame" in path.read_bytes()
    ]
    assert [] == on_disk, "no journal, log or container has it"
    refused = dev.try_("secret", "rm", "token")
    assert (6, True) == (refused.returncode, "t_web" in refused.stderr)
    (before,) = hosts.running("t_web")
    put("update", "open")
    eventually(lambda: [one.id for one in hosts.running("t_web")] not in ([], [before.id]))
    eventually(lambda: len(dev.tasks("t_web")) == 1)
    assert "open" == read("cat", "/run/secrets/token")
    dev.run("stack", "rm", "t")
    eventually(lambda: not holders(hosts, memory, b"open"))
    dev.run("secret", "rm", "token")


def test_a_secret_that_changes_under_a_running_container_is_told_by_a_signal(
    hosts: Fleet, dev: Dev
) -> None:
    (hosts.folder / "content").write_text("sesame\n")
    dev.run("secret", "create", "word", str(hosts.folder / "content"))
    tells = "trap 'cat /run/secrets/word' HUP; while :; do sleep 0.1; done"
    used = "    secrets: [word]\n    x-meshswarm: {on_config_change: {signal: SIGHUP}}"
    dev.deploy(compose(tells, used, "secrets: {word: {external: true}}"))
    before = hosts.running("t_web")
    (hosts.folder / "content").write_text("open\n")
    dev.run("secret", "update", "word", str(hosts.folder / "content"))
    eventually(lambda: "open" in dev.run("service", "logs", "t_web"))
    assert before == hosts.running("t_web")
    assert "sesame" not in dev.run("service", "logs", "t_web")
    dev.run("stack", "rm", "t")
    dev.run("secret", "rm", "word")


def holders(hosts: Fleet, memory: Path, content: bytes) -> set[str]:
    """The nodes that have a file with this content in memory."""
    found = view(hosts).nodes.values()
    return {node.name for node in found if content in contents(memory / node.id)}


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


# --- networks -------------------------------------------------------------------------------------

POOLS = ("172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16")
"""All of an engine's usual ranges but the one that its own bridge has."""


def test_an_engine_without_an_address_range_left_is_told_and_waited_for(
    hosts: Fleet, dev: Dev
) -> None:
    engine = hosts.engines["c"]
    for pool in POOLS:
        engine.docker("network", "create", "--subnet", pool, f"full-{pool.split('.')[1]}")
    try:
        there = "    deploy: {placement: {constraints: [node.hostname == c]}}"
        dev.deploy(compose(SLEEP, there), "--detach")
        eventually(lambda: Reason.ADDRESS_POOL_EXHAUSTED in reasons(hosts))
        assert "no address range left" in dev.run("why", "t_web")
    finally:
        for pool in POOLS:
            engine.docker("network", "rm", f"full-{pool.split('.')[1]}")
    eventually(lambda: [one.host for one in hosts.running("t_web")] == ["c"])


def reasons(hosts: Fleet) -> set[Reason]:
    return {task.status.reason for task in view(hosts).tasks.values()}
