"""What is said to the person at the terminal, on stderr, so that stdout stays data."""

import sys
import time

from meshswarm.errors import MeshswarmError


def say(text: str) -> None:
    """One line on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def say_error(error: MeshswarmError) -> None:
    """What went wrong, its details, where, and the command that helps."""
    say(f"error: {error.message}")
    for detail in error.details:
        say(f"  - {detail}")
    if error.where:
        say(f"   at: {error.where}")
    if error.hint:
        say(f" hint: {error.hint}")


def seconds(duration_s: float) -> str:
    """A duration in words for a sentence: `0.82 s`, `12.3 s`."""
    return f"{duration_s:.2f} s" if duration_s < 10 else f"{duration_s:.1f} s"


def now_ms() -> int:
    """This host's wall clock."""
    return time.time_ns() // 1_000_000


def age(since_ms: int, now_ms: int) -> str:
    """How long ago, in its largest unit: `12s`, `5m`, `3h`, `2d`."""
    passed_s = max(0, now_ms - since_ms) // 1000
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if passed_s >= unit_s:
            return f"{passed_s // unit_s}{unit}"
    return f"{passed_s}s"


def count(number: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
