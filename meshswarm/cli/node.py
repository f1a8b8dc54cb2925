"""`meshswarm node`: run this host's node, and see them all."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.arguments import Node
from meshswarm.cli.complete import complete_node
from meshswarm.cli.listing import Filters, Watch, show_list
from meshswarm.cli.options import Format, Output, Timeout, options_of
from meshswarm.cli.talk import now_ms

if TYPE_CHECKING:
    from meshswarm.answers import Answer
    from meshswarm.cli.show import Listing
    from meshswarm.client import Client
    from meshswarm.store.view import View

app = typer.Typer(no_args_is_help=True, help="Run a node; see, label, drain and pause the nodes.")

DRAIN_WAIT_S = 900.0
"""How long `node drain` waits unless told otherwise."""

NoWait = Annotated[
    bool,
    typer.Option("--no-wait", "--detach", "-d", help="Do not wait; the cluster goes on by itself."),
]


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
    import gc
    import os

    gc.disable()  # what is made now stays; the node has it enabled once it serves
    from meshswarm import node
    from meshswarm.settings import load_settings

    if die_with is not None:
        from meshswarm.cli.dev.processes import die_with_parent

        die_with_parent(die_with)
    raise typer.Exit(node.run(load_settings(config, os.environ)))


@app.command("ls")
def ls(
    ctx: typer.Context, filters: Filters = None, watch: Watch = False, output: Output = None
) -> None:
    """List the nodes: which are up, which one leads, how many tasks each has.

    Example: `meshswarm node ls --filter label=disk=ssd -o json`
    """
    from meshswarm.cli import managers, rows
    from meshswarm.store.view import Table

    async def make(client: "Client", view: "View") -> "Listing":
        leader = managers.leader_of(await client.statuses())
        return rows.nodes(view, None if leader is None else leader.id)

    tables = (Table.NODES, Table.TASKS)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("ps")
def ps(
    ctx: typer.Context,
    node: Node,
    filters: Filters = None,
    watch: Watch = False,
    output: Output = None,
) -> None:
    """List the tasks of a node, those that ended lately included.

    Example: `meshswarm node ps n1 --filter state=running`
    """
    from meshswarm.cli import rows
    from meshswarm.store.view import Table

    async def make(_: "Client", view: "View") -> "Listing":
        return rows.tasks(view, view.tasks_on(view.find_node(node).id), now_ms())

    tables = (Table.NODES, Table.TASKS)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("update")
def update(
    ctx: typer.Context,
    node: Node,
    label_add: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a label; may be repeated.")
    ] = None,
    label_rm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Remove a label.")
    ] = None,
    output: Output = None,
) -> None:
    """Change the labels of a node, which constraints and spread preferences go by.

    Example: `meshswarm node update n1 --label-add disk=ssd --label-rm old`
    """
    from meshswarm.cli import edit
    from meshswarm.cli.reach import ask
    from meshswarm.cli.rows import effects
    from meshswarm.cli.show import show
    from meshswarm.store.commands import UpdateNode
    from meshswarm.store.view import Table

    options = options_of(ctx, output)
    if not label_add and not label_rm:
        raise typer.BadParameter("nothing to change", param_hint="--label-add, --label-rm")

    async def change(client: "Client") -> str:
        found = (await client.read(Table.NODES)).find_node(node)
        labels = edit.labelled(found.labels, label_add or (), label_rm or ())
        if labels == dict(found.labels):
            return "unchanged"
        await client.propose(UpdateNode(node_id=found.id, labels=labels))
        return "updated"

    show(options, effects([(node, ask(options, change))]))


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


Nodes = Annotated[
    list[str],
    typer.Argument(
        help="Names, or prefixes of ids.", metavar="NODE...", autocompletion=complete_node
    ),
]


@app.command("drain")
def drain(
    ctx: typer.Context,
    nodes: Nodes,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="DURATION",
            help="After so long (`10m`) what is still there is stopped regardless.",
            show_default="tasks that find no other node stay",
        ),
    ] = None,
    detach: NoWait = False,
    timeout: Timeout = DRAIN_WAIT_S,
    output: Output = None,
) -> None:
    """Empty nodes, for good or until `node activate`; waits until nothing runs there any more.

    Services that start first have their tasks started elsewhere before; of the others one task is
    moved at a time, or `max_unavailable` of them. Global tasks go last.

    Example: `meshswarm node drain n2 --deadline 10m`
    """
    from meshswarm.cli import edit
    from meshswarm.compose import texts

    limit_s = 0.0 if deadline is None else edit.parsed(texts.duration, deadline, "--deadline")
    _set(ctx, nodes, "drain", limit_s, detach, timeout, output)


@app.command("pause")
def pause(ctx: typer.Context, nodes: Nodes, output: Output = None) -> None:
    """Give nodes no new tasks; what runs there stays.

    Example: `meshswarm node pause n2`
    """
    _set(ctx, nodes, "pause", 0.0, True, 0.0, output)


@app.command("activate")
def activate(ctx: typer.Context, nodes: Nodes, output: Output = None) -> None:
    """Let nodes have tasks again; `meshswarm rebalance` gives them some of those there are.

    Example: `meshswarm node activate n2`
    """
    _set(ctx, nodes, "active", 0.0, True, 0.0, output)


def _set(
    ctx: typer.Context,
    nodes: list[str],
    word: str,
    drain_s: float,
    detach: bool,
    timeout_s: float,
    output: "Format | None",
) -> None:
    from meshswarm.cli.change import set_availability
    from meshswarm.model.node import Availability

    options, wanted = options_of(ctx, output), Availability(word)
    set_availability(options, nodes, wanted, drain_s=drain_s, detach=detach, timeout_s=timeout_s)


async def nodes_and_managers(client: "Client") -> "tuple[View, list[Answer]]":
    """The nodes with their tasks, and what each manager says of itself, asked at once."""
    import asyncio

    from meshswarm.store.view import Table

    async with asyncio.TaskGroup() as group:
        view = group.create_task(client.read(Table.NODES, Table.TASKS), name="read nodes")
        answers = group.create_task(client.statuses(), name="ask managers")
    return view.result(), answers.result()
