"""Starting a dev cluster: in the foreground with its live view, or in the background."""

import asyncio
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from attrs import frozen

from meshswarm.cli.deploy import load_stack, put_files, put_stack
from meshswarm.cli.dev import control, engine, layout, processes
from meshswarm.cli.dev.cluster import START_S, wait_until_up
from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.dev.live import Screen, example_of, try_next
from meshswarm.cli.dev.supervisor import cancel_on_signal, supervising
from meshswarm.cli.options import WAIT_S, Options
from meshswarm.cli.talk import say
from meshswarm.errors import MeshswarmError
from meshswarm.store.commands import PutStack

if TYPE_CHECKING:
    from meshswarm.compose.load import Loaded

POLL_S = 0.02


@frozen(kw_only=True)
class Wanted:
    """What `meshswarm dev` was asked for; None: the default."""

    nodes: int | None
    deploy: Path | None
    data_dir: Path | None

    def stack(self) -> "Loaded | None":
        """The stack to deploy; its faults are raised before anything is started."""
        return None if self.deploy is None else load_stack(self.deploy, None)

    def layout(self, root: Path) -> Layout:
        """The cluster's files in `root`, made if need be."""
        return layout.make(root, nodes=self.nodes, with_docker=engine.answers())


def in_foreground(options: Options, wanted: Wanted) -> int:
    """Run the cluster until Ctrl-C; the exit code."""
    stack = wanted.stack()
    with ExitStack() as ends:
        root = wanted.data_dir
        if root is None:
            root = Path(ends.enter_context(TemporaryDirectory(prefix="meshswarm-dev-")))
        files = wanted.layout(root)
        with layout.claimed(files):
            pass  # nobody else runs it
        try:
            asyncio.run(_run(options, files, stack))
        except KeyboardInterrupt:
            return 130
        except asyncio.CancelledError:  # SIGTERM, SIGHUP: asked to end, and did
            return 0
        finally:
            if wanted.data_dir is not None:
                say(f"its data stays in {root}")
    return 0


async def _run(options: Options, files: Layout, stack: "Loaded | None") -> None:
    cancel_on_signal(signal.SIGTERM, signal.SIGHUP)
    screen = Screen(files, example_of(stack.spec if stack else None))
    screen.tell(f"starting {', '.join(node.name for node in files.nodes())} in {files.root}")
    async with supervising(files, screen.tell), options.connect(files.client) as client:
        await wait_until_up(client, files, screen.tell)
        if stack is not None:
            await put_files(client, stack)
            outcome = await client.propose(PutStack(spec=stack.spec))
            for name, effect in outcome.effects:
                screen.tell(f"{name} {effect}")
        await screen.run(client, options)


def in_background(options: Options, wanted: Wanted) -> None:
    """Start the cluster, deploy, and leave it running; on failure to start nothing is left."""
    stack = wanted.stack()
    files = wanted.layout(wanted.data_dir or layout.default_root())
    with layout.claimed(files):
        pass  # nobody else runs it
    say(f"starting {', '.join(node.name for node in files.nodes())} in {files.root}")
    supervisor = _detached(files)
    try:
        _wait_for(supervisor, files)
        asyncio.run(_wait_until_up(options, files))
    except (MeshswarmError, KeyboardInterrupt):
        control.stop(files)
        raise
    if stack is not None:
        asyncio.run(_deploy(options, files, stack))
    say("try next, in any terminal:")
    for line in try_next(example_of(stack.spec if stack else None)):
        say(f"  {line}")


async def _wait_until_up(options: Options, files: Layout) -> None:
    async with options.connect(files.client) as client:
        await wait_until_up(client, files, say)


async def _deploy(options: Options, files: Layout, stack: "Loaded") -> None:
    async with options.connect(files.client) as client:
        await put_stack(client, options, stack, detach=False, timeout_s=WAIT_S)


def _detached(files: Layout) -> "subprocess.Popen[bytes]":
    """A supervisor in the background, in a session of its own."""
    command = [sys.executable, "-m", "meshswarm", "dev", "supervise", "--data-dir"]
    with files.log.open("wb") as log:
        return subprocess.Popen(
            [*command, str(files.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for(supervisor: "subprocess.Popen[bytes]", files: Layout) -> None:
    """Return once the supervisor has started every node."""
    deadline = time.monotonic() + START_S
    while processes.noted(files.supervisor) is None:
        if supervisor.poll() is not None or time.monotonic() > deadline:
            words = files.log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise MeshswarmError(
                "the background process did not start", where=str(files.log), details=words[-5:]
            )
        time.sleep(POLL_S)
