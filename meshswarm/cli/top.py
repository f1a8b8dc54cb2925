"""`meshswarm top`: who uses what, live, as the nodes' agents measure it when asked."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.options import Format, Options, Output, options_of
from meshswarm.cli.talk import say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from meshswarm.answers import NodeStats
    from meshswarm.cli.usage import Usage
    from meshswarm.client import Client
    from meshswarm.ids import NodeId
    from meshswarm.store.view import View

NODES_TOGETHER = 32
"""Nodes asked at once."""

ANSWER_S = 3.0
"""How long a node may take; one that does not answer is shown without measures."""

SNAPSHOT_S = 1.0
"""Between the two measures of a single look."""

ROWS_SPARE = 12
"""Lines of a terminal that are not tasks: headings, and what stands around them."""


class Sort(Enum):
    """What comes first."""

    CPU = "cpu"
    MEMORY = "memory"
    NAME = "name"


def top(
    ctx: typer.Context,
    interval: Annotated[
        float, typer.Option("--interval", "-n", min=0.5, metavar="SECONDS", help="Between looks.")
    ] = 2.0,
    sort: Annotated[Sort, typer.Option(help="What comes first.")] = Sort.CPU,
    once: Annotated[bool, typer.Option("--once", help="One look, as in a pipe.")] = False,
    output: Output = None,
) -> None:
    """Show what nodes, services and tasks use of processors and memory; `q` ends it.

    100% is one processor; of a node all it has. In a pipe it prints one look and ends.

    Example: `meshswarm top --sort memory`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import is_terminal

    options = options_of(ctx, output)
    is_live = not once and is_terminal(options) and options.format in (Format.TABLE, Format.WIDE)
    try:
        ask(
            options,
            lambda client: (
                _live(client, interval, sort.value)
                if is_live
                else _print_once(client, options, sort.value)
            ),
        )
    except KeyboardInterrupt:
        if not is_live:
            raise


async def _print_once(client: "Client", options: Options, sort: str) -> None:
    import asyncio

    from meshswarm.cli.show import show, show_document
    from meshswarm.cli.usage import usage

    view = await _read(client)
    before = await measured(client, view)
    await asyncio.sleep(SNAPSHOT_S)
    after = await measured(client, view)
    for node in view.sorted_nodes():
        if node.id not in after:
            say(f"warning: {node.name} is {node.state.value} and was not measured")
    looked = usage(view, before, after, sort)
    match options.format:
        case Format.JSON | Format.YAML:
            show_document(options, looked.document())
        case Format.NAME:
            show(options, looked.tasks)
        case Format.TABLE | Format.WIDE:
            for number, listing in enumerate((looked.nodes, looked.services, looked.tasks)):
                if number:
                    print()
                show(options, listing)


async def _live(client: "Client", interval_s: float, sort: str) -> None:
    import asyncio
    from contextlib import suppress

    from rich.console import Console
    from rich.live import Live

    from meshswarm.cli.terminal import key_pressed
    from meshswarm.cli.usage import usage

    console = Console()
    before: dict[NodeId, NodeStats] = {}
    with (
        Live(console=console, screen=True, auto_refresh=False) as live,
        key_pressed(b"q") as ends,
    ):
        while not ends.is_set():
            view = await _read(client)
            after = await measured(client, view)
            looked = usage(view, before, after, sort)
            live.update(drawn(looked, console.height, interval_s), refresh=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s if before else SNAPSHOT_S):
                    await ends.wait()
            before = after


async def _read(client: "Client") -> "View":
    from meshswarm.store.view import Table

    return await client.read(Table.NODES, Table.SERVICES, Table.TASKS)


async def measured(client: "Client", view: "View") -> "dict[NodeId, NodeStats]":
    """What the nodes that answer in time say; those that are down are not asked."""
    import asyncio

    from meshswarm.errors import MeshswarmError
    from meshswarm.model.node import NodeState

    found: dict[NodeId, NodeStats] = {}
    places = asyncio.Semaphore(NODES_TOGETHER)

    async def measure(node_id: "NodeId") -> None:
        async with places:
            try:
                async with asyncio.timeout(ANSWER_S):
                    found[node_id] = await client.stats(node_id)
            except (MeshswarmError, TimeoutError):  # its row has no measures, which says it
                return

    async with asyncio.TaskGroup() as group:
        for node in view.sorted_nodes():
            if node.state is not NodeState.DOWN:
                group.create_task(measure(node.id), name=f"measure {node.name}")
    return found


def drawn(looked: "Usage", height: int, interval_s: float) -> "RenderableType":
    """The screen: nodes and services, and as many tasks as there is room for."""
    from attrs import evolve
    from rich.console import Group
    from rich.text import Text

    from meshswarm.cli.show import cells, rich_table

    room = max(3, height - ROWS_SPARE - len(looked.nodes.rows))
    services = evolve(looked.services, rows=looked.services.rows[: max(1, room // 2)])
    room = max(1, room - len(services.rows))
    tasks = evolve(looked.tasks, rows=looked.tasks.rows[:room])
    parts: list[RenderableType] = [
        Text(
            f"meshswarm top: {len(looked.nodes.rows)} nodes, {len(looked.services.rows)} services, "
            f"{len(looked.tasks.rows)} tasks; every {interval_s:g} s, q ends",
            style="bold",
        )
    ]
    for whole, listing in (
        (looked.nodes, looked.nodes),
        (looked.services, services),
        (looked.tasks, tasks),
    ):
        parts += [Text(""), rich_table(*cells(listing))]
        if len(listing.rows) < len(whole.rows):
            left = len(whole.rows) - len(listing.rows)
            parts.append(Text(f"and {left} more", style="dim"))
    return Group(*parts)
