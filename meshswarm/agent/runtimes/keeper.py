"""The keeper of a plain process: a shell of five lines that outlives the agent.

It leads the task's session, runs the command in the foreground and writes its exit code down. So
the code is known even if the agent was away when the command ended, for less than 1 MB a task.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from meshswarm.agent import probes
from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.agent.runtimes import cgroup, proc, process_spec
from meshswarm.agent.runtimes.port import STREAMS
from meshswarm.agent.runtimes.task_dir import Life, Record, TaskDir
from meshswarm.ids import ServiceId
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import Fencing, Health

SCRIPT = """
# 3: the life file, which the launcher keeps from the command; 4: the command's stderr.
exec 3>&0 0</dev/null 4>&2 2>/dev/null
# What is sent to the whole group ends the command, not its keeper; handlers are not inherited.
trap : HUP INT QUIT TERM ALRM USR1 USR2
"$@" 2>&4 4>&-
echo "exit $?" >&3
"""

LAUNCHER = str(Path(__file__).with_name("launch.py"))

LAUNCH_TIMEOUT_S = 10.0
"""From starting a keeper until its command is executed."""


def spawn(task_dir: TaskDir, name: str) -> None:
    """Start a keeper, which starts what the launch file says; `name` is what `ps` shows."""
    shell = ["/bin/sh", "-c", SCRIPT, f"meshswarm:{name}"]
    launcher = [sys.executable, "-I", "-S", LAUNCHER, str(task_dir.launch_file)]
    task_dir.note(f"starting {proc.boot_id()} {time.time_ns() // 1_000_000}")
    with contextlib.ExitStack() as stack:
        life = task_dir.open_life()
        stack.callback(os.close, life)
        logs = []
        for stream in STREAMS:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            logs.append(os.open(task_dir.log(stream), flags, 0o600))
            stack.callback(os.close, logs[-1])
        process = subprocess.Popen(
            shell + launcher,
            stdin=life,
            stdout=logs[0],
            stderr=logs[1],
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )
    process.returncode = 0  # not Popen's to wait for: it may outlive us, and pidfds tell its end


async def settled(task_dir: TaskDir) -> Life:
    """The life of a task once it is known whether its command was executed.

    Looked at every few milliseconds: a start takes about 20 of them.
    """
    life = task_dir.life()
    if life.boot_id is None or life.boot_id != proc.boot_id():
        return life
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAUNCH_TIMEOUT_S):
            while not life.is_settled and (life.keeper is None or life.keeper.is_alive):
                await asyncio.sleep(0.003)
                life = task_dir.life()
    return task_dir.life()


def exit_of(life: Life, cgroups: list[Path]) -> Exit:
    """How a task ended whose keeper is gone."""
    if life.failure is not None:
        reason, message = life.failure
        return Exit(code=life.exit_code, failure=reason, message=message)
    if life.exit_code is not None:
        out_of_memory = life.exit_code != 0 and cgroup.ran_out_of_memory(cgroups)
        return Exit(code=life.exit_code, out_of_memory=out_of_memory)
    if life.boot_id != proc.boot_id():
        return Exit(code=None, message="its host was restarted")
    return Exit(code=None, message="its keeper was killed, so its exit code is unknown")


def held_of(task_dir: TaskDir, record: Record | None) -> Held:
    """What the directory tells, before it is known whether it ended.

    Without a readable record it is still known whose directory it is, so that it can be stopped.
    """
    life = task_dir.life()
    task = record.assignment.task if record else None
    spec = record.assignment.spec if record else TaskSpec()
    running, checked = life.boot_id is not None, probes.check_of(spec) is not None
    return Held(
        task_id=task_dir.task_id,
        service_id=task.service_id if task else ServiceId(""),
        slot=task.slot if task else 0,
        fencing=task.fencing if task else Fencing(),
        runtime=RuntimeKind.PROCESS,
        runtime_id=str(life.task.pid) if life.task else "",
        state=HeldState.RUNNING if running else HeldState.CREATED,
        started_at_ms=life.started_at_ms if running else None,
        health=life.health or (Health.STARTING if running and checked else Health.NONE),
        published=process_spec.published(spec.ports),
        address=probes.LOOPBACK,
        grace_s=spec.stop_grace_period_s,
        stop_after_s=spec.stop_after_s,
    )
