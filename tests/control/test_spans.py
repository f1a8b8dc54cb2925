"""How long something takes, in words."""

import pytest

from meshswarm.control.spans import span


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "0 s"),
        (1_540, "1.5 s"),
        (9_999, "10 s"),
        (119_400, "119 s"),
        (119_600, "2 min"),
        (750_000, "12 min 30 s"),
        (7_200_000, "2 h"),
        (84_213_000, "23 h 23 min"),
        (200_000_000, "2 d 7 h"),
    ],
)
def test_a_span_has_the_units_that_matter(ms: float, words: str) -> None:
    assert span(ms) == words
