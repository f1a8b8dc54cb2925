"""What is done to a running dev cluster from another terminal: by files and signals."""

import signal
import time

from meshswarm.agent.runtimes.proc import Mark, send
from meshswarm.cli.dev import layout as layouts
from meshswarm.cli.dev import processes
from meshswarm.cli.dev.hosts import end_tasks
from meshswarm.cli.dev.layout import Layout, NodeFiles
from meshswarm.cli.dev.processes import Pulse
from meshswarm.cli.talk import say
from meshswarm.errors import Conflict, Unavailable, WaitTimedOut

ANSWER_S = 10.0
"""How long a process may take to obey; a supervisor first ends its nodes."""

POLL_S = 0.02


def stop(layout: Layout) -> None:
    """End the cluster, also what a supervisor that was killed has left."""
    mark = processes.noted(layout.supervisor)
    if mark is not None:
        send(mark, signal.SIGTERM)
        if not processes.ended_within(mark, ANSWER_S):
            say(f"process {mark.pid} does not end; killing it")
            send(mark, signal.SIGKILL)  # and the kernel its nodes
            processes.ended_within(mark, ANSWER_S)
    left = sum(end_tasks(node) for node in layout.nodes())
    layouts.forget(layout)
    if mark is None:
        say(f"it was not running; ended {left} processes that were left")
    say(f"stopped; `meshswarm dev --detach --data-dir {layout.root}` resumes it")


def kill(node: NodeFiles) -> None:
    """The loss of a host: its node and its tasks die at once.

    :raises Conflict: if it does not run.
    """
    mark = _running(node)
    send(mark, signal.SIGKILL)
    end_tasks(node)
    processes.ended_within(mark, ANSWER_S)


def start(layout: Layout, node: NodeFiles) -> None:
    """Have the supervisor start the node.

    :raises Unavailable: if the cluster does not run.
    :raises Conflict: if the node runs.
    :raises WaitTimedOut: if the supervisor does not answer.
    """
    supervisor = processes.noted(layout.supervisor)
    if supervisor is None:
        raise Unavailable(
            "the cluster does not run, so no node of it can be started",
            where=str(layout.root),
            hint=f"meshswarm dev --detach --data-dir {layout.root}",
        )
    if processes.noted(node.mark) is not None:
        raise Conflict(f"{node.name} runs already", hint="meshswarm dev status")
    node.request.touch()
    send(supervisor, signal.SIGUSR1)
    deadline = time.monotonic() + ANSWER_S
    while node.request.exists() or processes.noted(node.mark) is None:
        if time.monotonic() > deadline:
            raise WaitTimedOut(
                f"{node.name} did not start within {ANSWER_S:g} s",
                where=str(node.log),
                details=node.last_words(),
            )
        time.sleep(POLL_S)


def pause(node: NodeFiles) -> None:
    """Freeze the node's process; raises `Conflict` if it does not run."""
    send(_running(node), signal.SIGSTOP)


def resume(node: NodeFiles) -> None:
    """Let the node's process go on; raises `Conflict` if it is not frozen."""
    mark = _running(node)
    if processes.pulse(mark) is not Pulse.PAUSED:
        raise Conflict(f"{node.name} is not paused", hint="meshswarm dev status")
    send(mark, signal.SIGCONT)


def _running(node: NodeFiles) -> Mark:
    mark = processes.noted(node.mark)
    if mark is None:
        raise Conflict(f"{node.name} does not run", hint=f"meshswarm dev start {node.name}")
    return mark
