"""`scenarios.txt` lists S01 to S78, each with its tests, or why there can be none (or a figure)."""

import re

from tests.support.listing import TESTS, assert_told, blocks_of, collected

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
    return found


def test_the_list_tells_what_there_is() -> None:
    assert_told(LIST, numbered_tests(), (IMPOSSIBLE, FIGURE))


def test_every_scenario_has_a_test_or_a_reason() -> None:
    blocks = blocks_of(LIST)
    assert IDS == [scenario for scenario, _ in blocks]
    assert [] == [scenario for scenario, lines in blocks if not lines]
    both = [name for name, lines in blocks if IMPOSSIBLE in lines and "::" in lines]
    assert [] == both


def test_a_scenario_file_says_its_number() -> None:
    files = (TESTS / "raft" / "scenarios").glob("S*.txt")
    wrong = [path.name for path in files if not path.read_text().startswith(f"# {path.name[:3]}: ")]
    assert [] == wrong
