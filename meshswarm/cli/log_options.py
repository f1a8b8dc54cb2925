"""The options of commands that print logs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.talk import now_ms

if TYPE_CHECKING:
    from meshswarm.cli.logs import LogRequest

LogFollow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")]
LogTail = Annotated[
    int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines of each task.")
]
LogSince = Annotated[
    str | None,
    typer.Option("--since", metavar="AGO|INSTANT", help="Not before: 10m, or 2030-01-31T12:00Z."),
]
LogUntil = Annotated[
    str | None, typer.Option("--until", metavar="AGO|INSTANT", help="Not after; ends by itself.")
]
LogTimestamps = Annotated[
    bool, typer.Option("--timestamps", "-t", help="Begin each line with its instant.")
]


def request_of(
    targets: Sequence[str],
    follow: bool,
    tail: int | None,
    since: str | None,
    until: str | None,
    timestamps: bool,
) -> "LogRequest":
    """What the options say; raises a usage error for what cannot be meant."""
    from meshswarm.cli.logs import LogRequest
    from meshswarm.cli.moments import instant_of

    if follow and until is not None:
        raise typer.BadParameter("what is followed has no end", param_hint="--until")
    return LogRequest(
        targets=targets,
        follow=follow,
        tail=tail,
        since_ms=instant_of(since, now_ms(), "--since"),
        until_ms=instant_of(until, now_ms(), "--until"),
        timestamps=timestamps,
    )
