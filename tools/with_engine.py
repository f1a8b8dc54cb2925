"""Run a command while a container engine answers: `python3 tools/with_engine.py COMMAND [ARG ...]`.

An engine that answers already is used and left alone. Otherwise, on Debian as root, `docker.io` and
`busybox-static` are installed, a daemon is started with its data in a temporary directory, and it
ends with the command; nothing stays behind. Where that is not possible the command runs all the
same: the tests themselves skip, or fail in CI, and say why.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

USUAL_SOCKET = "/var/run/docker.sock"
PACKAGES = ("docker.io", "busybox-static")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """The command's exit code, 128 + n if signal n ended it; 2 if there is no command."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    with _engine():
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command; wait for its end
        code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code


def answers() -> bool:
    """Whether an engine answers a ping where $DOCKER_HOST points, or on the usual socket."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{USUAL_SOCKET}"
    if not host.startswith("unix://"):
        return True  # someone chose a remote engine: its errors are theirs to see
    with socket.socket(socket.AF_UNIX) as ping, contextlib.suppress(OSError):
        ping.settimeout(5)
        ping.connect(host.removeprefix("unix://"))
        ping.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in ping.recv(64)
    return False


@contextlib.contextmanager
def _engine() -> Iterator[None]:
    obstacle = None if answers() else _obstacle()
    if answers():
        yield
    elif obstacle:
        print(f"engine: none answers, and none is started: {obstacle}", file=sys.stderr)
        yield
    else:
        with _daemon():
            yield


def _obstacle() -> str | None:
    """Why no daemon can be started here; None when everything it needs is installed."""
    if "DOCKER_HOST" in os.environ:
        return "DOCKER_HOST names another"
    if os.geteuid() != 0:
        return "that takes root"
    if shutil.which("dockerd") and shutil.which("busybox"):
        return None
    if not shutil.which("apt-get"):
        return f"install {' and '.join(PACKAGES)} (this is no Debian)"
    print(f"engine: installing {' '.join(PACKAGES)}", file=sys.stderr)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-qq", *arguments], env=quiet, stdout=sys.stderr, check=False
        )
        if done.returncode != 0:
            return f"`apt-get {' '.join(arguments)}` failed"
    return None


@contextlib.contextmanager
def _daemon() -> Iterator[None]:
    """A daemon on the usual socket; stopped, and its data removed, on the way out."""
    bridges = _bridges()
    with tempfile.TemporaryDirectory(prefix="meshswarm-engine-") as directory:
        log = Path(directory, "log")
        with log.open("wb") as output:
            daemon = subprocess.Popen(
                [
                    "dockerd",
                    f"--host=unix://{USUAL_SOCKET}",
                    f"--data-root={directory}/data",
                    f"--exec-root={directory}/exec",
                    f"--pidfile={directory}/pid",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the command
                preexec_fn=_die_with_parent,
            )
        try:
            _wait_until_it_answers(daemon, log)
            yield
        finally:
            _stop(daemon)
            for bridge in sorted(_bridges() - bridges):
                subprocess.run(["ip", "link", "delete", bridge], check=False)


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers():
        if daemon.poll() is not None or time.monotonic() > deadline:
            last_words = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
            print(f"engine: dockerd does not answer:\n{last_words}", file=sys.stderr)
            return
        time.sleep(0.1)
    print(f"engine: started dockerd, pid {daemon.pid}", file=sys.stderr)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon; it ends its containers and its containerd itself."""
    daemon.terminate()
    try:
        daemon.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
    print("engine: stopped", file=sys.stderr)


def _die_with_parent() -> None:
    """Have the kernel stop the daemon should this process be killed outright (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _bridges() -> set[str]:
    """The network bridges of this host; the daemon makes `docker0` and leaves it behind."""
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
