"""`meshswarm events`: what happened to nodes, services and tasks, when, and why."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import frozen

from meshswarm.cli.arguments import Service
from meshswarm.cli.listing import Filter, parse_filters
from meshswarm.cli.options import Format, Options, Output, options_of
from meshswarm.cli.talk import now_ms

if TYPE_CHECKING:
    from meshswarm.cli.happenings import Event
    from meshswarm.client import Client
    from meshswarm.store.view import Table, View

LOG_ENTRIES = 2_000
"""Entries of the log in which users' commands are looked for, from its end."""

TAIL = 50
"""Events that are shown unless told otherwise."""

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as more happens.")]
EventFilters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="KEY=VALUE",
        help="Only events with this; KEY!=VALUE: without. Keys as in -o json; all must hold.",
    ),
]
Since = Annotated[
    str | None, typer.Option(metavar="AGO|INSTANT", help="Not before: 10m, or 2030-01-31T12:00Z.")
]
Tail = Annotated[
    int | None,
    typer.Option(
        "--tail", "-n", min=0, help="Only the last ones.", show_default=f"{TAIL}; all with --since"
    ),
]


def events(
    ctx: typer.Context,
    follow: Follow = False,
    since: Since = None,
    tail: Tail = None,
    filters: EventFilters = None,
    output: Output = None,
) -> None:
    """Tell what happened to each object: what, when and why; and what users asked for.

    The past is told as far as the cluster keeps it: ended tasks, ten revisions of a service, the
    last state of a node. With `-o json` each event is an object in a line.

    Example: `meshswarm events --since 10m --filter kind=task --filter event=failed`
    """
    wanted = _wanted(since, tail, follow, filters)
    _run(options_of(ctx, output), wanted)


def service_events(
    ctx: typer.Context,
    service: Service,
    follow: Follow = False,
    since: Since = None,
    tail: Tail = None,
    filters: EventFilters = None,
    output: Output = None,
) -> None:
    """Tell what happened to a service, its rollouts and its tasks, and who asked for what.

    Example: `meshswarm service events shop_web --follow`
    """
    wanted = _wanted(since, tail, follow, filters)
    _run(options_of(ctx, output), wanted, service)


@frozen(kw_only=True)
class Wanted:
    """Which events."""

    since_ms: int
    tail: int | None
    follow: bool
    filters: tuple[Filter, ...]

    def chosen(self, events: "Iterable[Event]") -> "list[Event]":
        """Those that pass, of any age that is wanted."""
        return [
            event
            for event in events
            if event.at_ms >= self.since_ms and all(f.holds(event.row()) for f in self.filters)
        ]


def _wanted(since: str | None, tail: int | None, follow: bool, filters: list[str] | None) -> Wanted:
    from meshswarm.cli.happenings import Event
    from meshswarm.cli.moments import instant_of

    found = parse_filters(filters)
    known = Event(at_ms=0, kind="", name="", event="").row()
    for each in found:
        if each.key not in known:
            raise typer.BadParameter(
                f"events have no {each.key!r}; they have {', '.join(known)}", param_hint="--filter"
            )
    return Wanted(
        since_ms=instant_of(since, now_ms(), "--since") or 0,
        tail=TAIL if tail is None and since is None else tail,
        follow=follow,
        filters=found,
    )


def _run(options: Options, wanted: Wanted, service: str | None = None) -> None:
    from meshswarm.cli.reach import ask

    ask(options, lambda client: _tell(client, options, wanted, service))


async def _tell(client: "Client", options: Options, wanted: Wanted, service: str | None) -> None:
    import asyncio

    from meshswarm.cli.happenings import past

    view = await client.read(*_tables())
    is_meant = _chooser(view, service)
    known = [event for event in await _asked(client, view) if is_meant(event)]
    told = wanted.chosen([*known, *(event for event in past(view) if is_meant(event))])
    told.sort(key=lambda event: event.at_ms)
    _show(options, told if wanted.tail is None else told[max(0, len(told) - wanted.tail) :])
    if wanted.follow:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                _follow_log(client, options, view, wanted, is_meant), name="follow the log"
            )
            await _follow(client, options, view, wanted, is_meant)


def _tables() -> "tuple[Table, ...]":
    """What `happenings` looks at."""
    from meshswarm.store.view import Table

    return (
        Table.NODES,
        Table.SERVICES,
        Table.REVISIONS,
        Table.ROLLOUTS,
        Table.STACKS,
        Table.TASKS,
        Table.CONFIGS,
        Table.SECRETS,
    )


def _chooser(view: "View", service: str | None) -> "Callable[[Event], bool]":
    from meshswarm.cli.happenings import concerns

    if service is None:
        return lambda _: True
    found = view.find_service(service)
    return lambda event: concerns(event, found)


async def _asked(client: "Client", view: "View") -> "list[Event]":
    """What users asked for, as far as the end of the log tells."""
    from contextlib import aclosing

    from meshswarm.cli.happenings import asked

    async with aclosing(client.log(tail=LOG_ENTRIES)) as lines:
        return [
            asked(line.at_ms, line.by, line.words)
            async for line in lines
            if line.at_ms is not None and _is_user(view, line.by)
        ]


def _is_user(view: "View", by: str) -> bool:
    """Whether a command came from outside: nodes propose by their names."""
    return by not in view.node_ids and by not in ("raft", "?")


async def _follow(
    client: "Client",
    options: Options,
    view: "View",
    wanted: Wanted,
    is_meant: "Callable[[Event], bool]",
) -> None:
    from contextlib import aclosing

    from meshswarm.cli.happenings import changes

    async with aclosing(client.watch(*_tables())) as newer:
        async for after in newer:
            if after.index > view.index:
                found = [event for event in changes(view, after) if is_meant(event)]
                _show(options, wanted.chosen(found))
                view = after


async def _follow_log(
    client: "Client",
    options: Options,
    view: "View",
    wanted: Wanted,
    is_meant: "Callable[[Event], bool]",
) -> None:
    from contextlib import aclosing

    from meshswarm.cli.happenings import asked
    from meshswarm.ids import Index

    lines = client.log(start=Index(view.index + 1), follow=True)
    async with aclosing(lines) as entries:
        async for line in entries:
            if line.at_ms is not None and _is_user(view, line.by):
                event = asked(line.at_ms, line.by, line.words)
                _show(options, wanted.chosen([event] if is_meant(event) else []))


def _show(options: Options, events: "Iterable[Event]") -> None:
    from meshswarm.cli.show import is_terminal, show_json_line

    for event in events:
        if options.format in (Format.JSON, Format.YAML):
            show_json_line(event.row())
        elif options.format is Format.NAME:
            print(event.name, flush=True)
        elif is_terminal(options):
            _print_styled(event)
        else:
            print(event, flush=True)


def _print_styled(event: "Event") -> None:
    from rich.console import Console
    from rich.text import Text

    from meshswarm.cli.show import STYLES

    text = Text(str(event))
    text.stylize("dim", 0, 24)
    text.highlight_words([event.event], STYLES.get(event.event, "bold"))
    Console(highlight=False, soft_wrap=True).print(text)
