"""Nodes as on real hosts: files of `config init`, processes of `node start`, all on loopback."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from meshswarm.agent.runtimes import process as runtime
from tests.support.dev import Dev, eventually
from tools.bench.lab import command

NAMES = ("a", "b", "c")


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Hosts:
    """Three nodes on one host, each with its files in one directory."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.settings = settings or {}
        """Variables that override each node's settings."""
        self.dev = Dev(directory)
        nodes = zip(NAMES, _free_ports(len(NAMES)), strict=True)
        options = [f"--node={name}=127.0.0.1:{port}" for name, port in nodes]
        self.dev.run("config", "init", *options, "--out", str(directory))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.wrapper: list[str] = []
        """What stands for `meshswarm` in the command line, if something else does."""

    def environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "MESHSWARM_NODE_DATA_DIR": str(self.directory / f"{name}.data"),
            "MESHSWARM_AGENT_RUNTIMES": "process",
            **self.settings,
        }

    def command(self, name: str) -> list[str]:
        arguments = ("node", "start", "--config", str(self.directory / f"{name}.toml"))
        return [*self.wrapper, *arguments] if self.wrapper else command(*arguments)

    def start(self, name: str, *, as_: str | None = None, **more: str) -> None:
        """Start a node; its output goes to a log, and it is known here as `as_` or its name."""
        known = as_ or name
        with self.log(known).open("ab") as log:
            self.processes[known] = subprocess.Popen(
                self.command(name), env=self.environment(name) | more, stdout=log, stderr=log
            )

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def refused(self, name: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        """A start that must fail by itself."""
        return subprocess.run(
            self.command(name),
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def stop(self, name: str) -> int:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=20)

    def leader(self) -> str | None:
        done = self.dev.try_("cluster", "status", "-o", "json")
        leader: str | None = json.loads(done.stdout)["leader"] if done.stdout else None
        return leader


@contextmanager
def hosts_of_one_machine(directory: Path, **settings: str) -> Iterator[Hosts]:
    """Three running nodes with a leader; all are gone at the end, with their tasks."""
    hosts = Hosts(directory, settings)
    try:
        for name in NAMES:
            hosts.start(name)
        eventually(lambda: hosts.leader() is not None)
        yield hosts
    finally:
        for process in hosts.processes.values():
            process.kill()
            process.wait()
        for agent in directory.glob("*/agent"):  # also those of copies that a test made
            runtime.kill_all(agent)
