"""Printing what was learnt: one listing, five formats, on stdout.

On a terminal tables have colours and wrap; in a pipe the same columns come plain and whole.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, assert_never

from attrs import frozen

from meshswarm.cli.options import Format, Options, When

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Row = Mapping[str, object]
"""One object for programs: its keys are documented and stay."""

STYLES = {
    "running": "green",
    "ready": "green",
    "healthy": "green",
    "complete": "green",
    "leader": "bold green",
    "active": "default",
    "down": "bold red",
    "failed": "red",
    "rejected": "red",
    "lost": "red",
    "unhealthy": "red",
    "disconnected": "bold red",
    "pending": "yellow",
    "paused": "yellow",
    "unreachable": "bold red",
    "unknown": "yellow",
    "candidate": "yellow",
    "shutdown": "dim",
}
"""The colour of a cell that says nothing but this state."""


@frozen
class Column:
    """One column of a table: its heading, and the row's key or a function of the row."""

    heading: str
    value: str | Callable[[Row], object]
    is_wide: bool = False
    """Shown by `-o wide` only."""

    def text(self, row: Row) -> str:
        """The cell of this row."""
        value = row[self.value] if isinstance(self.value, str) else self.value(row)
        return cell(value)


@frozen(kw_only=True)
class Listing:
    """Rows, and the columns in which people see them."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]
    name_key: str = "name"
    """What `-o name` prints."""
    id_key: str | None = None
    """What tells rows apart, if names do not."""
    document: object = None
    """What programs get instead of the list of rows, if it is more than that."""

    @property
    def key(self) -> str:
        """What tells rows apart."""
        return self.id_key or self.name_key


def show(options: Options, listing: Listing, *, headings: bool = True) -> None:
    """Print the listing as the user asked for it; a table with its headings, or without."""
    match options.format:
        case Format.TABLE | Format.WIDE:
            _print_table(options, listing, headings=headings)
        case Format.NAME:
            for row in listing.rows:
                print(row[listing.name_key])
        case Format.JSON | Format.YAML:
            whole = [dict(row) for row in listing.rows]
            show_document(options, whole if listing.document is None else listing.document)
        case _:
            assert_never(options.format)


def show_document(options: Options, document: object) -> None:
    """Print one whole object: as JSON if asked for, else as YAML."""
    if options.format is Format.JSON:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(document, sys.stdout)


def show_json_line(document: Row) -> None:
    """Print one object of an endless listing."""
    print(json.dumps(document, ensure_ascii=False), flush=True)


def is_terminal(options: Options) -> bool:
    """Whether stdout may have colours and be drawn anew."""
    if options.color is When.AUTO:
        return sys.stdout.isatty()
    return options.color is When.ALWAYS


def cell(value: object) -> str:
    """A value as people read it in a table."""
    match value:
        case None | "" | () | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(str(item) for item in value)
        case Mapping() if not value:
            return "-"
        case Mapping():
            return ",".join(f"{key}={item}" for key, item in value.items())
        case _:
            return " ".join(str(value).split())


def _print_table(options: Options, listing: Listing, *, headings: bool) -> None:
    if is_terminal(options):
        from rich.console import Console

        force = True if options.color is When.ALWAYS else None
        console = Console(force_terminal=force, highlight=False)
        console.print(rich_listing(options, listing))
        return
    names, rows = cells(listing, wide=options.format is Format.WIDE)
    lines = plain_table(names, rows)
    print("\n".join(lines if headings else lines[1:]), flush=True)


def rich_listing(options: Options, listing: Listing) -> "RichTable":
    """The listing as a table for a terminal."""
    return rich_table(*cells(listing, wide=options.format is Format.WIDE))


def cells(listing: Listing, *, wide: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headings and rows, as people read them."""
    columns = [column for column in listing.columns if wide or not column.is_wide]
    rows = [[column.text(row) for column in columns] for row in listing.rows]
    return [column.heading for column in columns], rows


def plain_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table without colours, boxes or truncation."""
    widths = [max(len(line[i]) for line in (headings, *rows)) for i in range(len(headings))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in (headings, *rows)
    ]


def rich_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> "RichTable":
    """The table for a terminal: states have their colour, and what says nothing is left out.

    Where it is too wide the last column, which holds sentences, is the first to be folded.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    told = [n for n in range(len(headings)) if not rows or any(row[n] != "-" for row in rows)]
    for number in told:
        is_last = number == told[-1]
        table.add_column(
            headings[number], no_wrap=not is_last, overflow="fold" if is_last else "ellipsis"
        )
    for row in rows:
        table.add_row(*(Text(row[n], style=STYLES.get(row[n].lower(), "")) for n in told))
    return table
