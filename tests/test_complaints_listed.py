"""`complaints.txt` lists what Swarm's users complain about, each with its tests, or what lacks.

The list is that of the notes on orchestrators, with their numbers. A test counts that bears the
number in its name: `test_complaint_07_...`.
"""

import os
import re
from pathlib import Path

from tests.test_scenarios_listed import collected

LIST = Path(__file__).parent / "complaints.txt"
NUMBERS = [f"{number:02}" for number in range(1, 45)]
LACKS = ("not yet: ", "later: ", "partly: ", "no: ")
"""What is said where something is lacking; with `partly` there are tests as well."""


def numbered_tests() -> dict[str, list[str]]:
    """The tests of each complaint."""
    found: dict[str, list[str]] = {}
    for where, name in collected():
        number = re.match(r"test_complaint_(\d\d)_", name)
        if number:
            found.setdefault(number[1], []).append(where)
    return {number: sorted(tests) for number, tests in found.items()}


def told_again(text: str) -> str:
    """The same list with the tests that there are now."""
    found = numbered_tests()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ") and not line.strip().startswith(LACKS):
            continue
        lines.append(line)
        if re.match(r"\d\d ", line):
            lines += [f"    {test}" for test in found.get(line[:2], [])]
    return "\n".join(lines) + "\n"


def test_the_list_tells_what_there_is() -> None:
    expected = LIST.read_text()
    actual = told_again(expected)
    if os.environ.get("REWRITE"):
        LIST.write_text(actual)
    else:
        assert expected == actual


def test_every_complaint_has_a_test_or_says_what_is_lacking() -> None:
    blocks = re.findall(r"^(\d\d) .+\n((?:    .+\n)*)", LIST.read_text(), re.MULTILINE)
    assert NUMBERS == [number for number, _ in blocks]
    assert [] == [number for number, lines in blocks if not lines]
    unclear = [
        number
        for number, lines in blocks
        if "::" in lines and any(f"    {lack}" in lines for lack in LACKS if lack != "partly: ")
    ]
    assert [] == unclear
    untested = [n for n, lines in blocks if "    partly: " in lines and "::" not in lines]
    assert [] == untested
