"""A cluster on hosts of the rig: on each one an engine and a meshswarm node that runs containers.

with fleet("a", "b", "c") as hosts:      # this thread is on a fourth host, `clients`
    hosts.crash("a")                     # the power goes: node, engine, containers
    hosts.boot("a")
    hosts.stop_node("b")                 # an upgrade: containers run on
    hosts.start_node("b")
"""

import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import docker
from attrs import frozen

from meshswarm.cli.config_files import NewNode, write_cluster
from meshswarm.model.service import RuntimeKind
from tests.support.docker_engine import put_image
from tools.rig.engine import Engine
from tools.rig.rig import Rig, raised

CLIENTS = "clients"
"""The host where whoever drives the cluster is."""

PORT = 4747
STOP_S = 20.0
LABEL = "io.meshswarm."


@frozen
class Running:
    """A container that runs a replica."""

    host: str
    slot: int
    id: str
    since: str
    """As the engine says it, to the nanosecond."""


class Fleet:
    """Hosts that are managers and workers at once; made by `fleet`."""

    def __init__(
        self, rig: Rig, live_restore: Collection[str], environment: Mapping[str, str]
    ) -> None:
        self.rig = rig
        self.names = [host for host in rig.hosts if host != CLIENTS]
        self.folder = rig.scratch
        self.context = rig.scratch / "client.toml"
        self.engines = {
            name: Engine(rig, name, live_restore=name in live_restore) for name in self.names
        }
        self._environment = {**os.environ, **environment}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        nodes = [self._node(name) for name in self.names]
        key = rig.scratch / "client.key"
        write_cluster(nodes, name="fleet", client=self.context, client_key=key)

    def _node(self, name: str) -> NewNode:
        return NewNode(
            name=name,
            config=self.folder / f"{name}.toml",
            key=self.folder / f"{name}.key",
            address=f"{self.rig.address(name)}:{PORT}",
            data_dir=f"{name}.data",
            runtimes=(RuntimeKind.DOCKER,),
        )

    # --- hosts ------------------------------------------------------------------------------------

    def boot(self, host: str) -> None:
        """Start the host: its engine, which gets the image if it lacks it, and its node."""
        engine = self.engines[host]
        engine.boot()
        api = docker.APIClient(base_url=engine.url, version="auto")
        try:
            if not api.images() and (obstacle := put_image(api)):
                raise RuntimeError(obstacle)
        finally:
            api.close()
        self.start_node(host)

    def crash(self, host: str) -> None:
        """End everything on the host at once."""
        self.engines[host].crash()
        self._nodes.pop(host, None)

    def start_node(self, host: str) -> None:
        """Start the host's node; does not wait for it."""
        command = [sys.executable, "-m", "meshswarm", "node", "start"]
        own = {"MESHSWARM_AGENT_DOCKER_HOST": self.engines[host].url}
        with (self.folder / f"{host}.log").open("ab") as log:
            self._nodes[host] = self.rig.spawn(
                host,
                [*command, "--config", str(self.folder / f"{host}.toml")],
                log,
                environment=self._environment | own,
            )

    def stop_node(self, host: str) -> int:
        """Tell the host's node to end; its exit code."""
        node = self._nodes.pop(host)
        node.send_signal(signal.SIGTERM)
        return node.wait(STOP_S)

    def kill_node(self, host: str) -> None:
        """`kill -9` to the host's node alone."""
        node = self._nodes.pop(host)
        node.kill()
        node.wait()

    # --- what runs --------------------------------------------------------------------------------

    def running(self, service: str) -> list[Running]:
        """The service's running containers on all hosts whose engine answers, by host and slot."""
        found = [
            one
            for host, engine in self.engines.items()
            if engine.answers()
            for one in self._running_on(host, engine, service)
        ]
        return sorted(found, key=lambda one: (one.host, one.slot))

    def _running_on(self, host: str, engine: Engine, service: str) -> Iterator[Running]:
        mine = f"label={LABEL}service={service}"
        ids = engine.docker("ps", "--quiet", "--no-trunc", "--filter", mine).split()
        for container in engine.inspected(*ids):
            if container["State"]["Running"]:
                slot = int(container["Config"]["Labels"][f"{LABEL}slot"])
                yield Running(host, slot, container["Id"], container["State"]["StartedAt"])


@contextmanager
def fleet(
    *names: str, live_restore: Collection[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Fleet]:
    """These hosts, booted, and this thread on a further one; all of it is gone afterwards."""
    with raised(*names, CLIENTS) as rig, rig.entered(CLIENTS):
        made = Fleet(rig, live_restore, environment or {})
        for name in names:
            made.boot(name)
        yield made
