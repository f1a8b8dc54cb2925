"""`meshswarm node`: run this host's node, and see them all."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.arguments import Node
from meshswarm.cli.options import Output, options_of

if TYPE_CHECKING:
    from meshswarm.answers import Answer
    from meshswarm.client import Client
    from meshswarm.store.view import View

app = typer.Typer(no_args_is_help=True, help="Run a node; see the nodes.")


@app.command("start")
def start(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The node's settings.", metavar="FILE")
    ],
    die_with: Annotated[
        int | None, typer.Option("--die-with", hidden=True, help="End when this parent does.")
    ] = None,
) -> None:
    """Run this host's node until it is told to stop; its containers outlive it.

    Example: `meshswarm node start --config /etc/meshswarm/node.toml`
    """
    import os

    from meshswarm import node
    from meshswarm.settings import load_settings

    if die_with is not None:
        from meshswarm.cli.dev.processes import die_with_parent

        die_with_parent(die_with)
    raise typer.Exit(node.run(load_settings(config, os.environ)))


@app.command("ls")
def ls(ctx: typer.Context, output: Output = None) -> None:
    """List the nodes: which are up, which one leads, how many tasks each has.

    Example: `meshswarm node ls -o json`
    """
    from meshswarm.cli import managers, rows
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show

    options = options_of(ctx, output)
    view, answers = ask(options, nodes_and_managers)
    leader = managers.leader_of(answers)
    show(options, rows.nodes(view, None if leader is None else leader.id))


@app.command("inspect")
def inspect(
    ctx: typer.Context,
    node: Node,
    output: Output = None,
) -> None:
    """Print all that is known of a node: its description, its state, its tasks.

    Example: `meshswarm node inspect n1 -o json`
    """
    from meshswarm.cli import managers, rows
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show_document

    options = options_of(ctx, output)
    view, answers = ask(options, nodes_and_managers)
    leader = managers.leader_of(answers)
    found = view.find_node(node)
    row = dict(rows.node_row(view, found, None if leader is None else leader.id))
    live = [task for task in view.tasks_on(found.id) if task.is_live]
    document = {
        **row,
        "description": rows.plain(found.description),
        "incarnation": found.incarnation,
        "running": [dict(rows.task_row(view, task)) for task in live],
    }
    show_document(options, document)


async def nodes_and_managers(client: "Client") -> "tuple[View, list[Answer]]":
    """The nodes with their tasks, and what each manager says of itself, asked at once."""
    import asyncio

    from meshswarm.store.view import Table

    async with asyncio.TaskGroup() as group:
        view = group.create_task(client.read(Table.NODES, Table.TASKS), name="read nodes")
        answers = group.create_task(client.statuses(), name="ask managers")
    return view.result(), answers.result()
