"""`meshswarm journal`: a manager's log as it lies on its disk, without its node."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.options import Format, Output, options_of
from meshswarm.cli.talk import say

if TYPE_CHECKING:
    from meshswarm.cluster.journal_check import Report

app = typer.Typer(no_args_is_help=True, help="Look at a manager's log on this host's disk.")


@app.callback()
def journal() -> None:
    """Look at a manager's log on this host's disk."""


@app.command("check")
def check(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A manager's data directory, or the `raft` in it."),
    ],
    output: Output = None,
) -> None:
    """Say what a manager's log holds, what is damaged, and what to do; changes nothing.

    Exits with 0 if it is sound, 1 if it is damaged, 5 if there is none, 6 if another version
    wrote it. The node may run meanwhile.

    Example: `meshswarm journal check /var/lib/meshswarm -o json`
    """
    from meshswarm.cli.show import show_document
    from meshswarm.cluster.journal_check import inspect

    options = options_of(ctx, output)
    report = inspect(directory)
    match options.format:
        case Format.JSON | Format.YAML:
            show_document(options, document(report))
        case Format.NAME:
            print(report.directory)
        case Format.TABLE | Format.WIDE:
            print("\n".join(lines(report)))
    if not report.is_sound:
        say("the journal is damaged")
        raise typer.Exit(1)


def document(report: "Report") -> dict[str, object]:
    """The report for programs; its keys stay: those of `Report`, `sound`, `advice`, and of the hard
    state `term`, `vote` and `commit_index`. What is not known is null.
    """
    from meshswarm.cli.rows import plain

    known = plain(report)
    assert isinstance(known, dict), "an attrs value is a map"
    del known["hard_state"]
    hard = report.hard_state
    return {
        **known,
        "term": hard.term if hard else None,
        "vote": hard.vote if hard else None,
        "commit_index": hard.commit if hard else None,
        "sound": report.is_sound,
        "advice": list(report.advice),
    }


def lines(report: "Report") -> list[str]:
    """The report for people: what is there, what is wrong, what to do."""
    from meshswarm.cli.managers import size
    from meshswarm.cli.talk import count

    hard = report.hard_state
    entries = "none"
    if report.first_index is not None:
        entries = f"{report.first_index}..{report.last_index}, the last of term {report.last_term}"
    unreadable = {False: ", UNREADABLE", True: ""}
    there = [
        ("directory", report.directory),
        ("used by", "nobody" if report.used_by_pid is None else f"process {report.used_by_pid}"),
        ("node", f"{report.node_id or 'unknown'} of cluster {report.cluster_id or 'unknown'}"),
        ("managers", ", ".join(report.voters) or "unknown"),
        ("term", str(hard.term) if hard else "unknown"),
        ("vote", (hard.vote or "none") if hard else "unknown"),
        ("commit index", str(hard.commit) if hard else "unknown"),
        ("entries", entries),
        *(
            ("snapshot", f"{file.name}, {size(file.size_bytes)}{unreadable[file.is_readable]}")
            for file in report.snapshots
        ),
        ("log", size(report.log_bytes)),
        ("opened", count(report.incarnation, "time")),
        *(("moved aside", name) for name in report.moved_aside),
        *(("damaged", fault) for fault in report.faults),
        *(("harmless", note) for note in report.notes),
        *([("diverged", report.diverged)] if report.diverged else []),
        *([("recovering", report.damage)] if report.damage else []),
        *(("what to do", sentence) for sentence in report.advice),
    ]
    return [f"{name:14}{text}" for name, text in there]
