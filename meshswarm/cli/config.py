"""`meshswarm config`: files that the cluster keeps for services, and those from which it forms."""

from pathlib import Path
from typing import Annotated

import typer

from meshswarm.cli import files
from meshswarm.cli.talk import say

app = typer.Typer(
    no_args_is_help=True,
    help="Keep files for services; `init` writes the settings that a cluster starts from.",
)
files.add_to(app, "config")


@app.command("init")
def init(
    out: Annotated[Path, typer.Option("--out", help="Where to write them.", metavar="DIR")],
    node: Annotated[
        list[str],
        typer.Option(
            "--node",
            metavar="NAME=HOST:PORT",
            help="A manager and where the others reach it; three or five of them survive a loss.",
        ),
    ],
    worker: Annotated[
        list[str] | None,
        typer.Option("--worker", metavar="NAME", help="A node that only runs tasks; it dials out."),
    ] = None,
    cluster: Annotated[
        str, typer.Option("--cluster", metavar="NAME", help="The cluster's name.")
    ] = "meshswarm",
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite: new keys, a new cluster.")
    ] = False,
) -> None:
    """Write settings and a key for each node, and a client context.

    Example: `meshswarm config init --node n1=10.0.0.1:4747 --node n2=10.0.0.2:4747
    --node n3=10.0.0.3:4747 --out ./cluster`
    """
    from meshswarm.cli.config_files import nodes_on_hosts, write_cluster

    nodes = nodes_on_hosts(out, [_parse_node(text) for text in node], worker or [])
    files = write_cluster(
        nodes, name=cluster, client=out / "client.toml", client_key=out / "client.key", force=force
    )
    for file in files:
        print(file)
    say("")
    say(f"Next, on each host: copy its NAME.toml and NAME.key from {out}, then")
    say("  meshswarm node start --config NAME.toml")
    if len(node) > 1:
        say("(the cluster begins once all its managers run; from then on a majority is enough)")
    say(f"and from wherever {out / 'client.toml'} and its key are:")
    say(f"  meshswarm --context {out / 'client.toml'} cluster status")
    if len(node) % 2 == 0:
        say(f"warning: {len(node)} managers survive no more losses than {len(node) - 1} would")


def _parse_node(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not separator or not name or ":" not in address:
        raise typer.BadParameter(f"{text!r} is not NAME=HOST:PORT", param_hint="--node")
    return name, address
