"""A real cluster of processes for tests: what `meshswarm dev --detach` starts, and its commands."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.bench.lab import command

PATIENCE_S = 40.0
"""How long a test waits for what must happen; a bound against hanging, not a measure."""


class Dev:
    """One dev cluster, spoken to as a user does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def context(self) -> Path:
        return self.directory / "client.toml"

    def try_(self, *arguments: str, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """`meshswarm ARGUMENTS` against this cluster, whatever its exit code."""
        environment = {
            **os.environ,
            "MESHSWARM_CONTEXT": str(self.context),
            "XDG_STATE_HOME": str(self.directory.parent / "state"),
            "NO_COLOR": "1",
        }
        return subprocess.run(
            command(*arguments),
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def run(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """What the command prints; it must succeed."""
        done = self.try_(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def rows(self, *arguments: str) -> Any:
        """What the command prints as JSON."""
        return json.loads(self.run(*arguments, "-o", "json"))

    def dev(self, *arguments: str, timeout_s: float = 60.0) -> str:
        return self.run("dev", *arguments, "--data-dir", str(self.directory), timeout_s=timeout_s)

    def nodes(self) -> dict[str, Any]:
        """`dev status`, by node name."""
        rows = json.loads(self.dev("status", "-o", "json"))
        return {row["name"]: row for row in rows}

    def leader(self) -> str:
        """The leader's name, as soon as there is one."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [name for name, row in self.nodes().items() if row["leader"]]
            return len(found) == 1

        eventually(look)
        return found[0]

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """The service's running tasks."""
        rows = self.rows("service", "ps", service)
        return [row for row in rows if row["state"] == "running" and row["desired"] == "running"]

    def deploy(self, text: str, *arguments: str, name: str = "t") -> str:
        file = self.directory.parent / "compose.yml"
        file.write_text(text)
        return self.run("deploy", str(file), "--name", name, "--timeout", "40", *arguments)


@contextmanager
def dev_cluster(directory: Path, *arguments: str) -> Iterator[Dev]:
    """A running cluster of three nodes; ended, with all its tasks, whatever happens."""
    dev = Dev(directory / "dev")
    try:
        dev.dev("--detach", *arguments)
        yield dev
    finally:
        if dev.directory.exists():
            dev.try_("dev", "stop", "--data-dir", str(dev.directory))


def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; fail after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


def is_alive(pid: int | str) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def process_service(*, replicas: int = 2, command_: str = "exec sleep 1000", more: str = "") -> str:
    """A Compose file with one service, `web`, of plain processes."""
    return f"""
services:
  web:
    x-meshswarm: {{runtime: process}}
    command: ["sh", "-c", {json.dumps(command_)}]
    stop_grace_period: 1s
    deploy:
      replicas: {replicas}
{more}
"""
