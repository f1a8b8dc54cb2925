"""What all lists have: a filter, the formats, and `--watch`.

A filter names a key of the rows, as JSON has them: `state=running`, `node!=n1`, `label=disk=ssd`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import evolve, frozen

from meshswarm.cli.options import Format, Options
from meshswarm.cli.show import Listing, Row, cell, is_terminal, rich_listing, show, show_json_line

if TYPE_CHECKING:
    from meshswarm.client import Client
    from meshswarm.store.view import Table, View

Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        "-f",
        metavar="KEY=VALUE",
        help="Only rows with this; KEY!=VALUE: without. Keys as in -o json; all must hold.",
    ),
]
"""The option `--filter`, which every list takes."""

Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Go on: redraw it, or print each row that changes.")
]
"""The option `--watch`, which every list takes."""

Make = Callable[["Client", "View"], Awaitable[Listing]]
"""Makes the listing of a view; may ask the cluster for more."""


@frozen
class Filter:
    """One condition on a row."""

    key: str
    value: str
    is_not: bool = False

    def holds(self, row: Row) -> bool:
        """Whether the row is to be shown; a word in a list is enough."""
        return self._is_so(row[self.key]) is not self.is_not

    def _is_so(self, found: object) -> bool:
        if isinstance(found, list | tuple):
            return any(self._is_so(item) for item in found)
        if isinstance(found, dict):
            name, equals, value = self.value.partition("=")
            return name in found and (not equals or cell(found[name]) == value)
        text = "" if found in (None, "") else cell(found)
        return text.lower() == self.value.lower()


def parse_filters(texts: Sequence[str] | None) -> tuple[Filter, ...]:
    """What the option says; raises a usage error for what is no filter."""
    found = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip("!"):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--filter")
        found.append(Filter(key.rstrip("!").replace("-", "_"), value, key.endswith("!")))
    return tuple(found)


def filtered(listing: Listing, filters: Sequence[Filter]) -> Listing:
    """The listing with the rows that pass all filters; `label` is short for `labels`."""
    if not filters or not listing.rows:
        return listing
    known = listing.rows[0].keys()
    wanted = [
        evolve(each, key="labels") if each.key == "label" and "labels" in known else each
        for each in filters
    ]
    for each in wanted:
        if each.key not in known:
            raise typer.BadParameter(
                f"rows have no {each.key!r}; they have {', '.join(known)}", param_hint="--filter"
            )
    rows = [row for row in listing.rows if all(each.holds(row) for each in wanted)]
    return evolve(listing, rows=rows)


def show_list(
    options: Options,
    tables: "Sequence[Table]",
    make: Make,
    *,
    filters: Sequence[str] | None = None,
    watch: bool = False,
) -> None:
    """Read the tables, print what `make` makes of them, and with `watch` what changes, for ever."""

    async def once(client: "Client") -> Listing:
        return await make(client, await client.read(*tables))

    async def ever(client: "Client") -> AsyncGenerator[Listing, None]:
        async with aclosing(client.watch(*tables)) as newer:
            async for view in newer:
                yield await make(client, view)

    show_listings(options, once, ever, filters=filters, watch=watch)


def show_listings(
    options: Options,
    once: Callable[["Client"], Awaitable[Listing]],
    ever: Callable[["Client"], AsyncGenerator[Listing, None]],
    *,
    filters: Sequence[str] | None,
    watch: bool,
) -> None:
    """Print the listing that `once` makes, or with `watch` those of `ever` as they come."""
    from meshswarm.cli.reach import ask

    chosen = parse_filters(filters)

    async def draw_all(client: "Client") -> None:
        with _drawing(options) as draw:
            async with aclosing(ever(client)) as listings:
                async for listing in listings:
                    draw(filtered(listing, chosen))

    if watch:
        ask(options, draw_all)
    else:
        show(options, filtered(ask(options, once), chosen))


@contextmanager
def _drawing(options: Options) -> Iterator[Callable[[Listing], None]]:
    """A way to show a listing again and again: in its place on a terminal, else what changed."""
    if not is_terminal(options) or options.format not in (Format.TABLE, Format.WIDE):
        yield Changes(options)
        return
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        yield lambda listing: live.update(rich_listing(options, listing), refresh=True)


class Changes:
    """Prints a listing, then each row that is new or differs, as a line; what left, says so."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._shown: dict[str, Row] | None = None

    def __call__(self, listing: Listing) -> None:
        """Print what this listing has that the one before had not."""
        rows = {str(row[listing.key]): row for row in listing.rows}
        before = self._shown or {}
        changed = [row for key, row in rows.items() if before.get(key) != row]
        gone = [row for key, row in before.items() if key not in rows]
        is_first, self._shown = self._shown is None, rows
        if self._options.format in (Format.JSON, Format.YAML):
            for row in changed:
                show_json_line(row)
            for row in gone:
                show_json_line({listing.key: row[listing.key], "removed": True})
        elif is_first or changed:
            show(self._options, evolve(listing, rows=changed), headings=is_first)
        if self._options.format not in (Format.JSON, Format.YAML):
            for row in gone:
                print(f"{row[listing.name_key]} is gone", flush=True)
