"""A short-lived command beside a task: run it, keep its output small, never let it linger."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from attrs import frozen

from meshswarm.agent.runtimes.port import MAX_EXEC_OUTPUT, Executed

TIMED_OUT = 124
"""The exit code of a command that was killed for taking too long, as `timeout` gives it."""

NOT_STARTED = 127


@frozen(kw_only=True)
class User:
    """Whom to run as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


async def run_command(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    working_dir: str,
    user: User | None,
    timeout_s: float,
) -> Executed:
    """Run `argv` in a session of its own; whatever it leaves in its process group is killed."""
    loop = asyncio.get_running_loop()
    output = bytearray()
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 -- 2 ms; asyncio's own takes a thread each
            argv,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer,
            cwd=working_dir,
            env=dict(environment),
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=user.groups if user else None,
        )
    except OSError as error:
        os.close(reader)
        return Executed(code=NOT_STARTED, output=str(error))
    finally:
        os.close(writer)
    ended = watch_end(process)

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reader, 65536):
                output.extend(data[: MAX_EXEC_OUTPUT - len(output)])
            loop.remove_reader(reader)

    loop.add_reader(reader, read)
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.shield(ended)
        read()
        code = process.returncode
        return Executed(code=code if code >= 0 else 128 - code, output=_text(output))
    except TimeoutError:
        return Executed(code=TIMED_OUT, output=f"took longer than {timeout_s:g} s")
    finally:
        # The group keeps its number as long as a member lives or the leader is not reaped.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        loop.remove_reader(reader)
        os.close(reader)


def watch_end(process: "subprocess.Popen[bytes]") -> "asyncio.Future[None]":
    """Done as soon as the process ended, and reaps it then, even if nobody waits any more."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    pidfd = os.pidfd_open(process.pid)

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        process.wait()
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, reap)
    return ended


def _text(output: bytearray) -> str:
    return output.decode(errors="replace")
