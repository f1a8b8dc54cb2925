"""A cluster on three hosts with an engine each: what users see when hosts, links, engines fail.

Hosts `a` and `b` have engines whose containers outlive the daemon (`live-restore`), `c` has not.
"""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meshswarm.cli.reach import connect
from meshswarm.model.node import Availability
from meshswarm.store.commands import UpdateNode
from tests.support.dev import Dev, eventually
from tests.support.docker_engine import IMAGE
from tools.rig.fleet import Fleet, Running, fleet

pytestmark = [pytest.mark.engines, pytest.mark.timeout(120)]

NAMES = ("a", "b", "c")
PORT = 8080
SERVICE = "t_web"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Fleet]:
    with fleet(*NAMES, live_restore=("a", "b")) as made:
        dev = Dev(made.folder)
        eventually(lambda: states(dev) == dict.fromkeys(NAMES, "ready"))
        yield made


@pytest.fixture
def dev(hosts: Fleet) -> Iterator[Dev]:
    dev = Dev(hosts.folder)
    yield dev
    dev.run("stack", "rm", "t")
    eventually(lambda: not hosts.running(SERVICE))


def states(dev: Dev) -> dict[str, str]:
    done = dev.try_("node", "ls", "-o", "json")
    rows = json.loads(done.stdout) if done.returncode == 0 else []
    return {row["name"]: row["state"] for row in rows}


def leader(dev: Dev) -> str:
    name: str = dev.rows("cluster", "status")["leader"]
    return name


def web(replicas: int, said: str = "one", more: str = "") -> str:
    serve = f"echo {said} > /tmp/index.html; exec httpd -f -h /tmp -p 80"
    return f"""
services:
  web:
    image: {IMAGE}
    command: ["sh", "-c", {json.dumps(serve)}]
    stop_grace_period: 500ms
    deploy:
      replicas: {replicas}
{more}
"""


def slots(running: list[Running]) -> list[int]:
    return sorted(one.slot for one in running)


def is_settled(hosts: Fleet, dev: Dev, replicas: int) -> bool:
    """Whether there is one running container a slot, and it is the one the cluster names."""
    running = hosts.running(SERVICE)
    if slots(running) != list(range(1, replicas + 1)):
        return False
    told = {row["runtime_id"] for row in dev.tasks(SERVICE)}
    return told == {one.id for one in running}


# --- deploying ------------------------------------------------------------------------------------


def test_replicas_are_spread_over_the_hosts(hosts: Fleet, dev: Dev) -> None:
    dev.deploy(web(6))
    assert ["a", "a", "b", "b", "c", "c"] == [one.host for one in hosts.running(SERVICE)]
    assert is_settled(hosts, dev, 6)


class Visitors:
    """Ask for a page all the time, of any host that serves it, as a load balancer would."""

    def __init__(self, addresses: list[str]) -> None:
        self.pages: list[str] = []
        self.failed: list[str] = []
        self._addresses = addresses
        self._is_over = threading.Event()

    def run(self) -> None:
        turn = 0
        while not self._is_over.is_set():
            turn += 1
            tried = [self._addresses[(turn + n) % len(self._addresses)] for n in range(3)]
            troubles: list[str] = []
            for address in tried:
                try:
                    self.pages.append(self._get(address))
                    break
                except (OSError, http.client.HTTPException) as error:
                    troubles.append(f"{address}: {error!r}")
            else:
                self.failed.append("; ".join(troubles))
            time.sleep(0.002)

    @contextmanager
    def visiting(self) -> Iterator["Visitors"]:
        visitor = threading.Thread(target=self.run, name="visitors")
        visitor.start()
        try:
            yield self
        finally:
            self._is_over.set()
            visitor.join()

    def _get(self, address: str) -> str:
        connection = http.client.HTTPConnection(address, PORT, timeout=2)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode().strip()
        finally:
            connection.close()


def test_no_request_fails_while_a_service_is_updated_start_first(hosts: Fleet, dev: Dev) -> None:
    """Two replicas on three hosts: each new one starts where none is, then an old one stops."""
    rolling = f"""
      update_config: {{order: start-first, parallelism: 1, monitor: 500ms}}
    ports: ["{PORT}:80"]
    healthcheck: {{test: ["CMD", "wget", "-qO-", "http://127.0.0.1/"], interval: 200ms}}
"""
    dev.deploy(web(2, "one", rolling))
    visitors = Visitors([hosts.rig.address(name) for name in NAMES])
    with visitors.visiting():
        eventually(lambda: len(visitors.pages) > 20)
        dev.deploy(web(2, "two", rolling))
        seen = len(visitors.pages)
        eventually(lambda: len(visitors.pages) > seen + 20)
    assert [] == visitors.failed, f"of {len(visitors.pages)}"
    assert {"one", "two"} == set(visitors.pages)
    assert {"two"} == set(visitors.pages[seen:])
    assert is_settled(hosts, dev, 2)


# --- leaving them alone ---------------------------------------------------------------------------


def test_an_upgrade_of_every_node_leaves_containers_untouched(hosts: Fleet, dev: Dev) -> None:
    dev.deploy(web(3))
    before = hosts.running(SERVICE)
    for name in NAMES:
        assert hosts.stop_node(name) == 0
        assert before == hosts.running(SERVICE)
        hosts.start_node(name)
        eventually(lambda: states(dev) == dict.fromkeys(NAMES, "ready"))
    hosts.kill_node("a")
    hosts.start_node("a")
    eventually(lambda: states(dev) == dict.fromkeys(NAMES, "ready"))
    eventually(lambda: is_settled(hosts, dev, 3))
    assert before == hosts.running(SERVICE)


def test_an_engine_may_restart_under_its_containers(hosts: Fleet, dev: Dev) -> None:
    dev.deploy(web(3))
    before = hosts.running(SERVICE)
    hosts.engines["a"].kill()
    hosts.engines["a"].start()
    hosts.engines["b"].stop()
    hosts.engines["b"].start()
    dev.run("service", "scale", f"{SERVICE}=6", "--timeout", "40")
    eventually(lambda: is_settled(hosts, dev, 6))
    assert before == [one for one in hosts.running(SERVICE) if one in before]


def test_what_an_engine_ends_with_itself_is_replaced(hosts: Fleet, dev: Dev) -> None:
    there = '      placement: {constraints: ["node.hostname == c"]}\n'
    dev.deploy(web(1, more=there))
    (before,) = hosts.running(SERVICE)
    hosts.engines["c"].stop()
    hosts.engines["c"].start()
    eventually(lambda: is_settled(hosts, dev, 1))
    (after,) = hosts.running(SERVICE)
    assert ("c", before.slot) == (after.host, after.slot)
    assert before.id != after.id


# --- losing hosts ---------------------------------------------------------------------------------


def test_a_drained_node_runs_nothing_until_it_is_active_again(hosts: Fleet, dev: Dev) -> None:
    dev.deploy(web(3))
    set_availability(hosts, "b", Availability.DRAIN)
    eventually(lambda: is_settled(hosts, dev, 3))
    eventually(lambda: "b" not in {one.host for one in hosts.running(SERVICE)})
    assert is_settled(hosts, dev, 3)
    set_availability(hosts, "b", Availability.ACTIVE)
    dev.run("service", "scale", f"{SERVICE}=6", "--timeout", "40")
    eventually(lambda: is_settled(hosts, dev, 6))
    assert "b" in {one.host for one in hosts.running(SERVICE)}


def set_availability(hosts: Fleet, name: str, availability: Availability) -> None:
    async def change() -> None:
        async with connect(hosts.context) as client:
            node = (await client.read()).node_named(name)
            assert node is not None
            await client.propose(UpdateNode(node_id=node.id, availability=availability))

    asyncio.run(change())


def test_a_host_that_is_cut_off_is_replaced_and_gives_way_when_it_is_back(
    hosts: Fleet, dev: Dev
) -> None:
    dev.deploy(web(3))
    victim = leader(dev)
    before = hosts.running(SERVICE)
    hosts.rig.unplug(victim)
    others = [one for one in before if one.host != victim]
    eventually(lambda: len(reached(hosts, victim)) == 3)
    assert others == [one for one in reached(hosts, victim) if one in others]
    cut_off = [one for one in hosts.running(SERVICE) if one.host == victim]
    assert [one for one in before if one.host == victim] == cut_off, "without a manager it runs on"
    hosts.rig.plug(victim)
    eventually(lambda: states(dev) == dict.fromkeys(NAMES, "ready"))
    eventually(lambda: is_settled(hosts, dev, 3))
    assert others == [one for one in hosts.running(SERVICE) if one in others]


def test_a_crashed_host_is_replaced_and_comes_back_clean(hosts: Fleet, dev: Dev) -> None:
    dev.deploy(web(3))
    victim = leader(dev)
    before = hosts.running(SERVICE)
    hosts.crash(victim)
    eventually(lambda: slots(hosts.running(SERVICE)) == [1, 2, 3])
    assert victim not in {one.host for one in hosts.running(SERVICE)}
    hosts.boot(victim)
    eventually(lambda: states(dev) == dict.fromkeys(NAMES, "ready"))
    eventually(lambda: is_settled(hosts, dev, 3))
    assert [one for one in before if one.host != victim] == [
        one for one in hosts.running(SERVICE) if one in before
    ]
    dev.run("service", "scale", f"{SERVICE}=6", "--timeout", "40")
    assert victim in {one.host for one in hosts.running(SERVICE)}


def reached(hosts: Fleet, cut_off: str) -> list[Running]:
    """What runs where the cluster reaches it."""
    return [one for one in hosts.running(SERVICE) if one.host != cut_off]
