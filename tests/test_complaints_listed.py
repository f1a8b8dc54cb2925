"""`complaints.txt` lists what Swarm's users complain about, each with its tests, or what lacks.

The list is that of the notes on orchestrators, with their numbers. A test counts that bears the
number in its name: `test_complaint_07_...`.
"""

import re

from tests.support.listing import TESTS, assert_told, blocks_of, collected

LIST = TESTS / "complaints.txt"
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
    return found


def test_the_list_tells_what_there_is() -> None:
    assert_told(LIST, numbered_tests(), LACKS)


def test_every_complaint_has_a_test_or_says_what_is_lacking() -> None:
    blocks = blocks_of(LIST)
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
