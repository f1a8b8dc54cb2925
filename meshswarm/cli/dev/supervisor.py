"""The process that runs a dev cluster's nodes: starts them, notices their ends, ends them.

It restarts nothing by itself. `dev start` asks by a file and SIGUSR1; `dev stop` by SIGTERM. The
nodes die with it: the kernel sees to that, see `processes.die_with_parent`.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from attrs import frozen

from meshswarm.cli.dev import layout as layouts
from meshswarm.cli.dev import processes
from meshswarm.cli.dev.hosts import end_all
from meshswarm.cli.dev.layout import Layout, NodeFiles
from meshswarm.cli.talk import count, say

STOP_S = 1.5
"""How long nodes may take to stop before they are killed. They are made to be killed, and a leader
would wait in vain for another to hand over to."""

LOG_BYTES_MAX = 4 << 20
"""A larger log is begun anew when its node starts; the one before is kept."""

Tell = Callable[[str], None]


@frozen(eq=False)
class Child:
    """A node's process, and a descriptor that tells when it ends."""

    process: subprocess.Popen[bytes]
    pidfd: int


class Supervisor:
    """The running nodes of one layout; `tell` is given what happens to them, in words."""

    def __init__(self, layout: Layout, tell: Tell) -> None:
        self.layout = layout
        self.tell = tell
        self._children: dict[str, Child] = {}
        self._is_stopping = False
        self._none_left = asyncio.Event()

    def start(self, node: NodeFiles) -> None:
        """Start the node, unless it runs."""
        present = self._children.get(node.name)
        if present is not None:
            if present.process.poll() is None:
                return
            self._ended(node, present)
        if node.log.exists() and node.log.stat().st_size > LOG_BYTES_MAX:
            node.log.replace(node.log.with_suffix(".log.before"))
        command = [sys.executable, "-m", "meshswarm", "node", "start", "--config", str(node.config)]
        with node.log.open("ab") as log:
            log.write(f"{layouts.STARTS}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [*command, "--die-with", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at the terminal is for us alone
                env=_environment(),
            )
        processes.note(node.mark, process.pid)
        child = Child(process, os.pidfd_open(process.pid))
        self._children[node.name] = child
        asyncio.get_running_loop().add_reader(child.pidfd, partial(self._ended, node, child))

    def start_requested(self) -> None:
        """Start the nodes that `dev start` asked for."""
        for node in self.layout.nodes():
            if node.request.exists():
                node.request.unlink()
                self.start(node)
                self.tell(f"{node.name} started")

    async def stop(self) -> None:
        """End every node, then every task that they ran."""
        self._is_stopping = True
        running = sorted(self._children)
        for child in self._children.values():
            child.process.send_signal(signal.SIGTERM)
            child.process.send_signal(signal.SIGCONT)  # a paused node could not stop
        try:
            async with asyncio.timeout(STOP_S):
                await self._wait_for_none()
        except TimeoutError:
            for child in self._children.values():
                child.process.kill()
            await self._wait_for_none()
        left = end_all(self.layout.nodes())
        nodes = count(len(running), "node")
        self.tell(f"ended {nodes} and {left} processes and containers of their tasks")

    async def _wait_for_none(self) -> None:
        while self._children:
            self._none_left.clear()
            await self._none_left.wait()

    def _ended(self, node: NodeFiles, child: Child) -> None:
        if self._children.get(node.name) is not child:
            return
        del self._children[node.name]
        asyncio.get_running_loop().remove_reader(child.pidfd)
        os.close(child.pidfd)
        code = child.process.wait()
        node.mark.unlink(missing_ok=True)
        if not self._is_stopping:
            how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with {code}"
            words = node.last_words(1) if code > 0 else []
            self.tell(f"{node.name} {how}{': ' if words else ''}{''.join(words)}")
        if not self._children:
            self._none_left.set()


@asynccontextmanager
async def supervising(layout: Layout, tell: Tell) -> AsyncIterator[Supervisor]:
    """All nodes of the layout, run as long as the block lasts; this host's default meanwhile."""
    with layouts.claimed(layout):
        supervisor = Supervisor(layout, tell)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, supervisor.start_requested)
        layouts.record(layout)
        try:
            for node in layout.nodes():
                node.request.unlink(missing_ok=True)
                supervisor.start(node)
            processes.note(layout.supervisor, os.getpid())
            yield supervisor
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, tell, "ending already; a moment")
            layouts.forget(layout)
            await supervisor.stop()
            layout.supervisor.unlink(missing_ok=True)


def cancel_on_signal(*numbers: signal.Signals) -> None:
    """Have these signals cancel the running task, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None, "called from a coroutine"
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def supervise(layout: Layout) -> None:
    """Run the nodes until told to stop: the life of a detached supervisor."""
    stop = asyncio.Event()
    async with supervising(layout, say):
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


def _environment() -> dict[str, str]:
    """Ours, without settings that are meant for another node; the engine is the one we found."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("MESHSWARM_")}
    engine = os.environ.get("DOCKER_HOST")
    return kept | ({"MESHSWARM_AGENT_DOCKER_HOST": engine} if engine else {})
