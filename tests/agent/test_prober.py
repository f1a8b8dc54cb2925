"""Probes against real sockets and real processes: one agent's supervisor, runtime and prober."""

import asyncio
import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshswarm.agent import checks
from meshswarm.agent.runtimes.process import root_of
from meshswarm.ids import TaskId
from meshswarm.model.probe import CommandCheck, HttpCheck, Probe, Probes, TcpCheck
from meshswarm.model.task import Health, Reason, TaskState
from tests.agent.cards import assignment, full, spec
from tests.agent.probing import DEADLINE_S, running

T1 = TaskId("t1")


class Answers(http.server.BaseHTTPRequestHandler):
    """200 on /ok if the header is as it should be, else 503; nothing at all on /hang."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/hang":
            self.server.release.wait(DEADLINE_S)  # type: ignore[attr-defined]  # ours, set below
        is_well = self.path.startswith("/ok") and self.headers["X-Probe"] == "yes"
        self.send_response(200 if is_well else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[int]:
    """The port of such a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.release = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.release.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


def _check(port: int, path: str, **more: object) -> HttpCheck:
    return HttpCheck(port=port, path=path, headers={"X-Probe": "yes"}, **more)  # type: ignore[arg-type]


async def test_a_get_is_well_by_its_status_and_nothing_else() -> None:
    with serving() as port:
        well = await checks.get(_check(port, "/ok?x=1"), "127.0.0.1", port, 5.0)
        assert checks.Found(True, "/ok?x=1 answers 200 OK") == well
        ill = await checks.get(_check(port, "/ill"), "127.0.0.1", port, 5.0)
        assert checks.Found(False, "/ill answers 503 Service Unavailable") == ill
        wanted = _check(port, "/ill", status_low=503, status_high=503)
        assert (await checks.get(wanted, "127.0.0.1", port, 5.0)).is_well
        hangs = await checks.get(_check(port, "/hang"), "127.0.0.1", port, 0.05)
        assert checks.Found(False, f"no answer from 127.0.0.1:{port} within 0.05 s") == hangs


async def test_what_speaks_no_http_is_not_well() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await checks.get(_check(port, "/"), "127.0.0.1", port, 5.0)
        assert not found.is_well
        assert "answers no HTTP" in found.output
        assert (await checks.connect("127.0.0.1", port, 5.0)).is_well
    found = await checks.connect("127.0.0.1", port, 5.0)
    assert (False, True) == (found.is_well, "refused" in found.output.lower())


# --- with a real process ------------------------------------------------------------------------


QUICK = {"interval_s": 0.05, "timeout_s": 5.0}


def _file_exists(path: Path, **more: object) -> Probe:
    command = CommandCheck(argv=("/bin/sh", "-c", f"test -e {path}"))
    return Probe(check=command, **{**QUICK, **more})  # type: ignore[arg-type]


async def test_startup_then_ready_then_not_then_ready_again_without_a_restart(
    tmp_path: Path,
) -> None:
    started, ready = tmp_path / "started", tmp_path / "ready"
    probes = Probes(
        startup=_file_exists(started, failure_threshold=1_000),
        readiness=_file_exists(ready, failure_threshold=2),
    )
    async with running(tmp_path / "agent") as rig:
        rig.supervisor.told(full(assignment(runs=spec("sleep", "60", probes=probes))))
        await rig.until(lambda: rig.health == [Health.STARTING])
        ready.touch()
        started.touch()
        await rig.until(lambda: rig.health == [Health.STARTING, Health.HEALTHY])
        ready.unlink()
        await rig.until(lambda: rig.health[-1] is Health.NOT_READY)
        assert Reason.NOT_READY is rig.said[-1].reason
        assert "its readiness probe failed: exit code 1" == rig.said[-1].message
        ready.touch()
        await rig.until(lambda: rig.health[-1] is Health.HEALTHY)
        # The same process all along.
        assert 1 == len({one.runtime_id for one in rig.said if one.state is TaskState.RUNNING})


async def test_what_stops_living_is_stopped_and_reported_as_failed(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    probes = Probes(liveness=_file_exists(alive, failure_threshold=2))
    async with running(tmp_path / "agent") as rig:
        rig.supervisor.told(full(assignment(runs=spec("sleep", "60", probes=probes))))
        await rig.until(lambda: rig.health == [Health.STARTING, Health.HEALTHY])
        alive.unlink()
        await rig.until(lambda: rig.said[-1].state.is_terminal)
        end = rig.said[-1]
        assert (TaskState.FAILED, Reason.UNHEALTHY) == (end.state, end.reason)
        assert "its liveness probe failed: exit code 1" == end.message
        assert T1 in rig.supervisor.cards


async def test_a_process_is_asked_at_its_own_port(tmp_path: Path) -> None:
    server = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=0, bind='127.0.0.1')"
    command = (sys.executable, "-u", "-c", server)
    async with running(tmp_path / "agent") as rig:
        rig.supervisor.told(full(assignment(runs=spec(*command))))
        log = root_of(tmp_path / "agent") / T1 / "stdout"
        await rig.until(lambda: log.exists() and " port " in log.read_text())
        port = int(log.read_text().split(" port ")[1].split()[0])
        get = Probe(check=HttpCheck(port=port, status_low=200, status_high=200), **QUICK)  # type: ignore[arg-type]
        tcp = Probe(check=TcpCheck(port=port), **QUICK)  # type: ignore[arg-type]
        probes = Probes(readiness=get, liveness=tcp)
        # The probes of a second task ask the first one's server: a port is a host's.
        asker = assignment("t2", slot=2, runs=spec("sleep", "60", probes=probes))
        rig.supervisor.told(full(assignment(runs=spec(*command)), asker))
        await rig.until(lambda: Health.HEALTHY in rig.health)


async def test_checks_that_hang_are_ended_and_tell_so(tmp_path: Path) -> None:
    probe = Probe(check=CommandCheck(argv=("sleep", "60")), interval_s=0.01, timeout_s=0.05)
    async with running(tmp_path / "agent") as rig:
        tasks = [
            assignment(f"t{n}", slot=n, runs=spec("sleep", "60", probes=Probes(readiness=probe)))
            for n in range(1, 4)
        ]
        rig.supervisor.told(full(*tasks))
        await rig.until(lambda: sum(s.health is Health.NOT_READY for s in rig.said) == len(tasks))
        assert rig.said[-1].message == "its readiness probe failed: took longer than 0.05 s"
