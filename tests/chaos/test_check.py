"""The judges of chaos have teeth: hand-made histories that cannot be true are found."""

import pytest

from tools.chaos.check import by_index, by_search, findings
from tools.chaos.history import Kind, Operation, Outcome, operation_of


def op(
    kind: str,
    value: str | None,
    at: tuple[float, float],
    index: int = 0,
    *,
    outcome: Outcome = Outcome.OK,
    key: str = "k",
    expected: str | None = None,
) -> Operation:
    return Operation(
        client="c",
        key=key,
        kind=Kind(kind),
        outcome=outcome,
        invoked_ns=int(at[0] * 1e9),
        returned_ns=int(at[1] * 1e9),
        value=value,
        expected=expected,
        index=index,
    )


def test_a_history_that_can_be_true_is_accepted() -> None:
    assert [] == findings(
        [
            op("read", None, (0, 1), 1),
            op("write", "a", (0, 2), 2),
            op("write", "b", (1, 4), outcome=Outcome.UNKNOWN),
            op("write", "c", (2, 3), outcome=Outcome.FAILED),
            op("read", "a", (3, 4), 2),
            op("swap", "d", (5, 6), outcome=Outcome.REFUSED, expected="a"),
            op("read", "b", (7, 8), 9),
            op("swap", "e", (9, 10), 11, expected="b"),
            op("read", "e", (11, 12), 11),
            op("read", None, (11, 12), 11, key="other"),
            op("write", "f", (13, 16), 12),
            op("write", "g", (13, 16), 12),
            op("read", "f", (17, 18), 12),
            op("read", "f", (19, 20)),
        ]
    )


BAD: dict[str, tuple[str, list[Operation]]] = {
    "an older value is read after a newer one was acknowledged": (
        "STALE READ",
        [
            op("write", "a", (0, 1), 1),
            op("write", "b", (2, 3), 2),
            op("read", "a", (4, 5), 1),
        ],
    ),
    "an acknowledged write is gone": (
        "LOST",
        [
            op("write", "a", (0, 1), 1),
            op("write", "b", (2, 3), 2),
            op("read", "a", (4, 5), 7),
        ],
    ),
    "the first write is gone, and with it the key": (
        "LOST",
        [op("write", "a", (0, 1), 1), op("read", None, (4, 5), 7)],
    ),
    "a write that surely was not done shows": (
        "PHANTOM",
        [
            op("write", "a", (0, 1), 1),
            op("write", "b", (2, 3), outcome=Outcome.FAILED),
            op("read", "b", (4, 5), 7),
        ],
    ),
    "a refused swap shows": (
        "PHANTOM",
        [
            op("write", "a", (0, 1), 1),
            op("swap", "b", (2, 3), outcome=Outcome.REFUSED, expected="a"),
            op("read", "b", (4, 5), 7),
        ],
    ),
    "a value shows that nobody wrote": ("PHANTOM", [op("read", "b", (4, 5), 7)]),
    "a write is carried out twice": (
        "LOST",
        [
            op("write", "a", (0, 1), 1),
            op("write", "b", (2, 3), 2),
            op("read", "b", (4, 5), 2),
            op("read", "a", (6, 7), 3),
        ],
    ),
    "a later write takes effect before an earlier one": (
        "WRITE OUT OF ORDER",
        [op("write", "a", (0, 1), 5), op("write", "b", (2, 3), 4, key="other")],
    ),
    "a command is refused for no reason": (
        "REFUSED",
        [op("write", "a", (0, 1), outcome=Outcome.ODD)],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_history_that_cannot_be_true_is_found(what: str) -> None:
    verdict, history = BAD[what]
    told = findings(history)
    assert told
    assert any(finding.startswith(verdict) for finding in told), told


SEEN_WITHOUT_INDEXES = [
    what for what, (verdict, _) in BAD.items() if verdict in ("STALE READ", "LOST", "PHANTOM")
]


@pytest.mark.parametrize("what", SEEN_WITHOUT_INDEXES)
def test_the_search_finds_it_by_itself(what: str) -> None:
    assert "NOT LINEARIZABLE" in (by_search(BAD[what][1]) or "nothing")


def test_two_swaps_from_one_value_are_found_without_any_read() -> None:
    history = [
        op("write", "a", (0, 1), 1),
        op("swap", "b", (2, 3), 2, expected="a"),
        op("swap", "c", (4, 5), 3, expected="a"),
    ]
    assert [] == list(by_index(history))
    assert "NOT LINEARIZABLE" in (by_search(history) or "nothing")


def test_an_operation_is_one_line_and_back() -> None:
    swap = op("swap", "b", (2, 3), 2, expected="a")
    assert swap == operation_of(swap.line())
    assert "\n" not in swap.line()
