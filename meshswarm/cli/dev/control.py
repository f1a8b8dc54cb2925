"""What is done to a running dev cluster from another terminal: by files and signals."""

import signal
import time
from collections.abc import Callable

from meshswarm.agent.runtimes.proc import Mark, send
from meshswarm.cli.dev import layout as layouts
from meshswarm.cli.dev import processes
from meshswarm.cli.dev.hosts import Remains, end_all
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
    if mark is None or not _ends(mark):
        left = end_all(layout.nodes())
        say(f"ended {left} processes and containers that were left")
    layouts.forget(layout)
    say(f"stopped; `meshswarm dev --detach --data-dir {layout.root}` resumes it")


def _ends(supervisor: Mark) -> bool:
    """Whether the supervisor ends when told to; if not, it is killed."""
    send(supervisor, signal.SIGTERM)
    if processes.ended_within(supervisor, ANSWER_S):
        return True
    say(f"process {supervisor.pid} does not end; killing it")
    send(supervisor, signal.SIGKILL)  # and the kernel its nodes
    processes.ended_within(supervisor, ANSWER_S)
    return False


def aim(node: NodeFiles) -> Callable[[], None]:
    """The loss of a host, ready to be called: its node and its tasks die at once.

    :raises Conflict: if it does not run.
    """
    mark, remains = _running(node), Remains(node)

    def strike() -> None:
        send(mark, signal.SIGKILL)
        remains.end(remove=False)
        processes.ended_within(mark, ANSWER_S)

    return strike


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
