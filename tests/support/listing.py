"""Pages that list numbered things, each with the tests that bear its number in their names."""

import ast
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).parent.parent


def collected() -> Iterator[tuple[str, str]]:
    """Where each test is that pytest would collect, or a scenario's file, and its name."""
    for path in (TESTS / "raft" / "scenarios").glob("*.txt"):
        yield str(path.relative_to(TESTS)), path.stem
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(TESTS)}::{node.name}", node.name


def assert_told(page: Path, tests: Mapping[str, Sequence[str]], said: tuple[str, ...]) -> None:
    """The page lists these tests, by number, below the lines that begin with it; what begins with
    one of `said` is a person's word and stays. With `REWRITE=1` the page is written anew."""
    expected = page.read_text()
    lines: list[str] = []
    for line in expected.splitlines():
        if not line.startswith("    ") or line.strip().startswith(said):
            lines.append(line)
        if number := re.match(r"(S?\d\d) ", line):
            lines += [f"    {test}" for test in sorted(tests.get(number[1], ()))]
    actual = "\n".join(lines) + "\n"
    if os.environ.get("REWRITE"):
        page.write_text(actual)
    else:
        assert expected == actual


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Each number, and the lines below it."""
    return re.findall(r"^(S?\d\d) .+\n((?:    .+\n)*)", page.read_text(), re.MULTILINE)
