"""What the benchmarks share: a dev cluster to measure, a client to watch it, figures as JSON lines.

Everything runs on this host, is bounded in count and time, and is gone afterwards.
"""

import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

from meshswarm.cli.reach import connect
from meshswarm.client import Client, connected
from meshswarm.mesh import keys
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.settings import load_client_context
from meshswarm.store.view import Table, View

PATIENCE_S = 60.0
"""The longest that one measured step may take before the benchmark gives up."""


def emit(bench: str, case: str, **figures: object) -> None:
    """Print one result as one JSON object on one line."""
    print(json.dumps({"bench": bench, "case": case, **figures}), flush=True)


def spread(values: Sequence[float], unit: str) -> dict[str, object]:
    """The figures of repeated measurements: median, least and most, and how many there were."""
    return {
        f"p50_{unit}": round(statistics.median(values), 1),
        f"min_{unit}": round(min(values), 1),
        f"max_{unit}": round(max(values), 1),
        "runs": len(values),
    }


def say(text: str) -> None:
    """Tell the person who waits how far it is."""
    print(text, file=sys.stderr, flush=True)


class Lab:
    """One dev cluster in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *arguments: str) -> str:
        """What `meshswarm ARGUMENTS` prints; raises with its stderr if it fails."""
        done = subprocess.run(
            command(*arguments),
            env={**os.environ, "MESHSWARM_CONTEXT": str(self.context)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"meshswarm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def dev(self, *arguments: str) -> str:
        """What `meshswarm dev ARGUMENTS` prints, of this cluster."""
        return self.run("dev", *arguments, "--data-dir", str(self.directory))

    def nodes(self) -> list[dict[str, object]]:
        """`dev status` as rows."""
        rows: list[dict[str, object]] = json.loads(self.dev("status", "-o", "json"))
        return rows

    def leader(self) -> str:
        """The leader's name, as soon as there is one."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for row in self.nodes():
                if row["leader"]:
                    return str(row["name"])
            time.sleep(0.1)
        raise TimeoutError("no leader")

    @property
    def context(self) -> Path:
        """The client context that `dev` wrote."""
        return self.directory / "client.toml"

    @asynccontextmanager
    async def client(self, *, last: str = "") -> AsyncIterator[Client]:
        """A client of this cluster, which asks the manager of that name last."""
        if not last:
            async with connect(self.context) as client:
                yield client
            return
        context = load_client_context(self.context)
        peers = [
            Peer(name=m.name, role=PeerRole.MANAGER, public_key=m.public_key, address=m.address)
            for m in sorted(context.managers, key=lambda manager: manager.name == last)
        ]
        own = keys.load(context.client.key_file)
        async with connected(own, name=context.client.name, managers=peers) as client:
            yield client


def command(*arguments: str) -> list[str]:
    """The command line that runs `meshswarm` with these arguments."""
    return [sys.executable, "-m", "meshswarm", *arguments]


@contextmanager
def cluster(*arguments: str) -> Iterator[Lab]:
    """A running dev cluster; stopped and removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="meshswarm-bench-"))
    lab = Lab(directory)
    try:
        lab.dev("--detach", *arguments)
        yield lab
    finally:
        if lab.context.exists():
            lab.dev("stop")
        shutil.rmtree(directory, ignore_errors=True)


def set_raft(lab: Lab, values: Mapping[str, int]) -> None:
    """Give every node these `[raft]` settings and start the cluster again."""
    lab.dev("stop")
    for file in lab.directory.glob("*/node.toml"):
        text = file.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.M)
            if not count:
                text = text.replace("[raft]\n", f"[raft]\n{name} = {value}\n")
        if "[raft]" not in text:
            text += "\n[raft]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())
        file.write_text(text)
    lab.dev("--detach")
    lab.leader()


async def seen(
    client: Client, holds: Callable[[View], bool], patience_s: float = PATIENCE_S
) -> View:
    """The first view of which `holds` is true."""
    async with (
        asyncio.timeout(patience_s),
        aclosing(client.watch(Table.TASKS, Table.SERVICES, Table.NODES)) as views,
    ):
        async for view in views:
            if holds(view):
                return view
    raise RuntimeError("the watch ended")


def all_run(view: View, *services: str) -> bool:
    """Whether every slot of these services runs and is healthy, and nothing else is going on."""
    for name in services:
        service = view.service_named(name)
        if service is None:
            return False
        live = [task for task in view.tasks_of(service.id) if task.is_live]
        if len(live) != service.spec.replicas or not all(task.is_healthy for task in live):
            return False
    return True
