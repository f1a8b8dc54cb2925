"""`scenarios.txt` lists S01 to S78, each with its tests, or why there can be none (or a figure)."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
LIST = TESTS / "scenarios.txt"
IDS = [f"S{number:02}" for number in range(1, 79)]
IMPOSSIBLE = "impossible: "
FIGURE = "figure: "
"""Where a scenario asks for a time, which no test may judge: the benchmark that tells it."""


def numbered_tests() -> dict[str, list[str]]:
    """Every test that pytest would collect and whose name bears numbers, under each of them."""
    found: dict[str, list[str]] = {}
    for where, name in collected():
        numbers = re.match(r"(?:test)?((?:_?[sS]\d\d(?=_))+)", name)
        for number in re.findall(r"\d\d", numbers[1] if numbers else ""):
            found.setdefault(f"S{number}", []).append(where)
    return {scenario: sorted(tests) for scenario, tests in found.items()}


def collected() -> Iterator[tuple[str, str]]:
    """Where each test is, and its name."""
    for path in (TESTS / "raft" / "scenarios").glob("*.txt"):
        yield str(path.relative_to(TESTS)), path.stem
    for path in TESTS.rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(TESTS)}::{node.name}", node.name


def told_again(text: str) -> str:
    """The same list with the tests that there are now."""
    found = numbered_tests()
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith(" ") or line.strip().startswith((IMPOSSIBLE, FIGURE)):
            lines.append(line)
        if re.match(r"S\d\d ", line):
            lines += [f"    {test}" for test in found.get(line[:3], [])]
    return "\n".join(lines) + "\n"


def test_the_list_tells_what_there_is() -> None:
    expected = LIST.read_text()
    actual = told_again(expected)
    if os.environ.get("REWRITE"):
        LIST.write_text(actual)
    else:
        assert expected == actual


def test_every_scenario_has_a_test_or_a_reason() -> None:
    blocks = re.findall(r"^(S\d\d) .+\n((?:    .+\n)*)", LIST.read_text(), re.MULTILINE)
    assert IDS == [scenario for scenario, _ in blocks]
    assert [] == [scenario for scenario, lines in blocks if not lines]
    both = [name for name, lines in blocks if IMPOSSIBLE in lines and "::" in lines]
    assert [] == both


def test_a_scenario_file_says_its_number() -> None:
    files = (TESTS / "raft" / "scenarios").glob("S*.txt")
    wrong = [path.name for path in files if not path.read_text().startswith(f"# {path.name[:3]}: ")]
    assert [] == wrong
