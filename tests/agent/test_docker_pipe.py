"""What is left of a command in a container is killed, whatever the engine knows of it by then."""

import subprocess
from typing import Any

import pytest

from meshswarm.agent.runtimes import docker_pipe
from meshswarm.agent.runtimes.docker_pipe import CODE_POLLS

ANYWHERE = "/"
"""A container's name that every process of this host has in its cgroup."""


class Engine:
    """Tells of one session what it is to tell, the last of it again and again."""

    def __init__(self, *told: dict[str, Any]) -> None:
        self._told = list(told)
        self.asked = 0

    def look_at_exec(self, _: str) -> dict[str, Any]:
        self.asked += 1
        return self._told.pop(0) if len(self._told) > 1 else self._told[0]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_pipe, "CODE_POLL_S", 0.0)


def _of(pid: int, *, running: bool = True, code: int | None = None) -> dict[str, Any]:
    return {"Running": running, "Pid": pid, "ExitCode": code}


def test_a_command_whose_process_the_engine_has_yet_to_note_is_killed_then() -> None:
    """Its output may be here before the engine's call that began it has ended."""
    with subprocess.Popen(["sleep", "98765"], start_new_session=True) as child:
        engine = Engine(_of(0), _of(0), _of(child.pid))
        docker_pipe._kill(engine, ANYWHERE, "made")  # type: ignore[arg-type]
        assert child.wait(10) == -9


@pytest.mark.parametrize("told", [_of(0, running=False), _of(0, running=False, code=0)])
def test_a_command_that_does_not_run_is_asked_for_once(told: dict[str, Any]) -> None:
    engine = Engine(told)
    docker_pipe._kill(engine, ANYWHERE, "made")  # type: ignore[arg-type]
    assert engine.asked == 1


def test_an_engine_that_never_notes_it_is_not_asked_for_ever() -> None:
    engine = Engine(_of(0))
    docker_pipe._kill(engine, ANYWHERE, "made")  # type: ignore[arg-type]
    assert engine.asked == CODE_POLLS
