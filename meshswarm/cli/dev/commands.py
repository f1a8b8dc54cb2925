"""`meshswarm dev` and what can be done to the cluster that it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.options import Format, Options, Output, options_of
from meshswarm.cli.talk import count, say, seconds

if TYPE_CHECKING:
    from meshswarm.answers import Answer
    from meshswarm.cli.dev.layout import Layout

app = typer.Typer()

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where the cluster lives.",
        show_default="the one that runs on this host",
    ),
]
Node = Annotated[str, typer.Argument(help="The node's name.", metavar="NODE")]
NodeOrLeader = Annotated[
    str, typer.Argument(help="The node's name, or `leader`.", metavar="NODE|leader")
]


@app.callback(invoke_without_command=True)
def dev(
    ctx: typer.Context,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, max=9, help="How many nodes.", show_default="3"),
    ] = None,
    deploy: Annotated[
        Path | None, typer.Option("--deploy", metavar="FILE", help="A Compose file to deploy.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where the cluster lives; named again, it is resumed with its services.",
            show_default="a temporary one; with --detach ~/.local/share/meshswarm/dev",
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run it in the background until `dev stop`.")
    ] = False,
) -> None:
    """Start a whole cluster on this host and show it live; Ctrl-C ends all that it started.

    Each node is a process of its own, with real elections, disks and encryption.

    Example: `meshswarm dev --deploy compose.yml`
    """
    if ctx.invoked_subcommand is not None:
        return
    from meshswarm.cli.dev import run

    options = options_of(ctx)
    wanted = run.Wanted(nodes=nodes, deploy=deploy, data_dir=data_dir)
    if detach:
        run.in_background(options, wanted)
    else:
        raise typer.Exit(run.in_foreground(options, wanted))


@app.command("supervise", hidden=True)
def supervise(data_dir: Annotated[Path, typer.Option("--data-dir")]) -> None:
    """Run the nodes of a cluster that was made; what `dev --detach` leaves in the background.

    Example: `meshswarm dev supervise --data-dir DIR`
    """
    import asyncio

    from meshswarm.cli.dev import layout, supervisor

    asyncio.run(supervisor.supervise(layout.find(data_dir)))


@app.command("status")
def status(ctx: typer.Context, data_dir: DataDir = None, output: Output = None) -> None:
    """List the nodes with their processes, and which one leads.

    Example: `meshswarm dev status -o json`
    """
    from meshswarm.cli.dev.processes import Pulse, noted, pulse
    from meshswarm.cli.show import Column, Listing, show

    options = options_of(ctx, output)
    layout = _layout(ctx, data_dir)
    any_runs = any(noted(node.mark) is not None for node in layout.nodes())
    leader = _leader(options, layout) if any_runs else None
    rows: list[dict[str, object]] = []
    for node in layout.nodes():
        mark = noted(node.mark)
        how = pulse(mark)
        rows.append(
            {
                "name": node.name,
                "pid": None if mark is None else mark.pid,
                "running": how is not Pulse.ENDED,
                "leader": node.name == leader,
                "state": how.value,
                "log": str(node.log),
            }
        )
    columns = (
        Column("NAME", "name"),
        Column("PID", "pid"),
        Column("STATE", "state"),
        Column("LEADER", "leader"),
        Column("LOG", "log", is_wide=True),
    )
    show(options, Listing(columns=columns, rows=rows))


@app.command("stop")
def stop(ctx: typer.Context, data_dir: DataDir = None) -> None:
    """End the cluster: its nodes and all tasks. Its data stays, to be resumed.

    Example: `meshswarm dev stop`
    """
    from meshswarm.cli.dev import control

    control.stop(_layout(ctx, data_dir))


@app.command("kill")
def kill(
    ctx: typer.Context, node: NodeOrLeader, data_dir: DataDir = None, output: Output = None
) -> None:
    """Lose a host: its node and all that runs on it die at once, without a word.

    `kill leader` waits until the cluster has recovered, and prints what that took.

    Example: `meshswarm dev kill leader`
    """
    from meshswarm.cli.dev import control

    layout = _layout(ctx, data_dir)
    if node == "leader":
        _kill_leader(options_of(ctx, output), layout)
        return
    control.aim(layout.node(node))()
    say(f"{node} is lost; `meshswarm dev start {node}` brings it back")


def _kill_leader(options: Options, layout: "Layout") -> None:
    import asyncio

    from meshswarm.cli.dev import control
    from meshswarm.cli.dev.cluster import Cost, cost_of_losing_leader
    from meshswarm.cli.rows import plain
    from meshswarm.cli.show import show_document

    async def measure() -> Cost:
        async with options.connect(layout.client) as client:
            return await cost_of_losing_leader(client, lambda name: control.aim(layout.node(name)))

    cost = asyncio.run(measure())
    if options.format in (Format.JSON, Format.YAML):
        show_document(options, plain(cost))
    else:
        print(f"{cost.lost} led, and is lost")
        print(f"new leader {cost.leader}, in term {cost.term}, after {seconds(cost.leader_s)}")
        if cost.replaced_s is not None:
            replicas = count(cost.replicas, "replica")
            print(f"{replicas} replaced on other nodes after {seconds(cost.replaced_s)}")
    say(f"`meshswarm dev start {cost.lost}` brings {cost.lost} back")


@app.command("start")
def start(ctx: typer.Context, node: Node, data_dir: DataDir = None) -> None:
    """Bring a lost host back: its node starts again, with what its disk holds.

    Example: `meshswarm dev start n1`
    """
    from meshswarm.cli.dev import control

    layout = _layout(ctx, data_dir)
    control.start(layout, layout.node(node))
    say(f"{node} started")


@app.command("pause")
def pause(ctx: typer.Context, node: NodeOrLeader, data_dir: DataDir = None) -> None:
    """Freeze a node: it neither hears nor answers, while its tasks run on.

    Example: `meshswarm dev pause n2`
    """
    from meshswarm.cli.dev import control

    layout = _layout(ctx, data_dir)
    name = _leader_name(options_of(ctx), layout) if node == "leader" else node
    control.pause(layout.node(name))
    say(f"{name} is frozen; `meshswarm dev resume {name}` lets it go on")


@app.command("resume")
def resume(ctx: typer.Context, node: Node, data_dir: DataDir = None) -> None:
    """Let a frozen node go on.

    Example: `meshswarm dev resume n2`
    """
    from meshswarm.cli.dev import control

    control.resume(_layout(ctx, data_dir).node(node))
    say(f"{node} goes on")


def _layout(ctx: typer.Context, data_dir: Path | None) -> "Layout":
    """The cluster meant by this command's `--data-dir`, or by the one before the command."""
    from meshswarm.cli.dev import layout

    above: str | None = ctx.parent.params.get("data_dir") if ctx.parent is not None else None
    return layout.find(data_dir or (Path(above) if above else None))


def _leader(options: Options, layout: "Layout") -> str | None:
    """The name of the node that leads, if one does."""
    import asyncio

    from meshswarm.cli.managers import leader_of

    async def statuses() -> "list[Answer]":
        async with options.connect(layout.client) as client:
            return await client.statuses()

    leader = leader_of(asyncio.run(statuses()))
    return None if leader is None else leader.name


def _leader_name(options: Options, layout: "Layout") -> str:
    from meshswarm.errors import Unavailable

    name = _leader(options, layout)
    if name is None:
        raise Unavailable("there is no leader now", hint="meshswarm cluster status")
    return name
