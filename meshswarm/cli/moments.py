"""Instants as people give them: `10m` ago, or a date with its time."""

from datetime import UTC, datetime

import typer

from meshswarm.compose import texts
from meshswarm.compose.report import Unfit


def instant_of(text: str | None, now_ms: int, option: str) -> int | None:
    """Milliseconds of `90s`, `1h30m` (so long ago) or `2030-01-31T12:00:00Z`; local without a zone.

    Raises a usage error for anything else.
    """
    if text is None:
        return None
    try:
        return now_ms - round(texts.duration(text) * 1_000)
    except Unfit:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is neither a duration, as 10m, nor an instant, as {_example(now_ms)}"
        raise typer.BadParameter(message, param_hint=option) from None
    return round(at.timestamp() * 1_000)


def _example(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
