"""`meshswarm cluster`: the managers and the log that they agree on."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.complete import complete_node
from meshswarm.cli.options import Format, Options, Output, options_of
from meshswarm.cli.talk import say

if TYPE_CHECKING:
    from meshswarm.answers import Elected
    from meshswarm.client import Client

app = typer.Typer(no_args_is_help=True, help="See the managers, their log, and who leads.")


@app.command("status")
def status(ctx: typer.Context, output: Output = None) -> None:
    """Show every manager's state, term and log indexes; works without a quorum.

    Exits with 7 if none of them leads. `-o wide` adds what they measured (LAG: how late
    the event loop was) and how far the leader's peers have got.

    Example: `meshswarm cluster status -o json`
    """
    from meshswarm.cli import managers
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show
    from meshswarm.client import denied
    from meshswarm.errors import KeyRefused

    options = options_of(ctx, output)
    answers = ask(options, lambda client: client.statuses())
    if answers and all(isinstance(answer.error, KeyRefused) for answer in answers):
        raise denied([f"{answer.name} ({answer.address})" for answer in answers])
    leader = managers.leader_of(answers)
    show(options, managers.cluster_status(answers))
    if leader is not None and leader.brake:
        say(f"warning: {leader.brake}")
    for here, there, index in managers.differences(answers):
        say(f"warning: {here} found that the state of {there} differs, up to entry {index}")
    if options.format is Format.WIDE:
        print()
        show(options, managers.measures(answers))
    if leader is None:
        say(managers.without_leader(answers))
        raise typer.Exit(7)
    if options.format is Format.WIDE:
        print()
        show(options, managers.peer_progress(leader))


@app.command("log")
def log(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as more is committed.")
    ] = False,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="How many of the last entries.")
    ] = 50,
    start: Annotated[
        int | None, typer.Option("--from", min=1, help="Begin at this index instead.")
    ] = None,
    output: Output = None,
) -> None:
    """Print the replicated log: index, term, time, who, and the command in words.

    Example: `meshswarm cluster log --follow`
    """
    from meshswarm.cli.reach import ask

    options = options_of(ctx, output)
    ask(options, lambda client: _print_log(client, options, start, tail, follow))


async def _print_log(
    client: "Client", options: Options, start: int | None, tail: int, follow: bool
) -> None:
    from contextlib import aclosing

    from meshswarm.cli.rows import instant
    from meshswarm.cli.show import show_document, show_json_line
    from meshswarm.ids import Index

    first = None if start is None else Index(start)
    held: list[dict[str, object]] = []
    lines = client.log(start=first, tail=None if start is not None else tail, follow=follow)
    async with aclosing(lines) as entries:
        async for line in entries:
            row: dict[str, object] = {
                "index": line.index,
                "term": line.term,
                "at": None if line.at_ms is None else instant(line.at_ms),
                "by": line.by,
                "words": line.words,
            }
            if options.format in (Format.TABLE, Format.WIDE, Format.NAME):
                at = row["at"] or "-"
                print(
                    f"{line.index:>7} {line.term:>4}  {at:24}  {line.by:12}  {line.words}",
                    flush=follow,
                )
            elif follow:
                show_json_line(row)
            else:
                held.append(row)
    if options.format in (Format.JSON, Format.YAML) and not follow:
        show_document(options, held)


@app.command("elect")
def elect(
    ctx: typer.Context,
    node: Annotated[
        str | None,
        typer.Argument(
            help="The manager to lead; without it, the one best suited.",
            metavar="[NODE]",
            autocompletion=complete_node,
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Hand leadership over, without a pause in service.

    Example: `meshswarm cluster elect n2`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import Column, Listing, show

    options = options_of(ctx, output)
    elected = ask(options, lambda client: _elect(client, node))
    row = {"leader": elected.leader, "term": elected.term}
    columns = (Column("LEADER", "leader"), Column("TERM", "term"))
    show(options, Listing(columns=columns, rows=[row], name_key="leader", document=row))


async def _elect(client: "Client", node: str | None) -> "Elected":
    from meshswarm.store.view import Table

    if node is None:
        return await client.elect()
    view = await client.read(Table.NODES)
    return await client.elect(view.find_node(node).id)
