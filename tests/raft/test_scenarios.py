"""Runs the scenario files: each is a talk with a cluster, and what came of every command.

A file is blocks of `# comment`, a command, `----` and the expected trace. REWRITE=1 writes what
really came; the reviewer reads the diff. The commands are the methods of `Script`.
"""

import os
from pathlib import Path

import pytest

from tests.support.raft_script import Script

FOLDER = Path(__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    expected = path.read_text()
    actual = replayed(expected)
    if os.environ.get("REWRITE"):
        path.write_text(actual)
    else:
        assert expected == actual


def replayed(text: str) -> str:
    """The same talk, with what really comes of each command."""
    script = Script()
    said: list[str] = []
    is_trace = False
    for line in text.splitlines():
        if line == "----":
            is_trace = True
            continue
        if is_trace and line:
            continue
        is_trace = False
        said.append(line)
        if line and not line.startswith("#"):
            said += ["----", *script.run(line)]
    return "\n".join(said).rstrip("\n") + "\n"
