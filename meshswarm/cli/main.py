"""The command `meshswarm`: the tree of commands, global options, errors and exit codes.

Exit codes: 0 ok, 1 failed, 2 usage, 3 the spec is invalid, 4 not authorised, 5 not found,
6 conflict, 7 unreachable or no quorum, 8 the wait timed out, 9 rolled back, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import evolve
from typer.main import get_command

from meshswarm import __version__
from meshswarm.cli import (
    cluster,
    config,
    copy,
    deploy,
    events,
    execute,
    job,
    journal,
    node,
    reach,
    rebalance,
    secret,
    service,
    simulate,
    stack,
    top,
    why,
)
from meshswarm.cli.dev import commands as dev
from meshswarm.cli.options import Format, Options, When
from meshswarm.cli.talk import say, say_error
from meshswarm.errors import MeshswarmError

if TYPE_CHECKING:
    from meshswarm.client import Client

Connect = Callable[[Path | None], AbstractAsyncContextManager["Client"]]

app = typer.Typer(
    name="meshswarm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # locals may hold keys
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command(name="deploy")(deploy.deploy)
app.command(name="why")(why.why)
app.command(name="rebalance")(rebalance.rebalance)
app.command(name="simulate")(simulate.simulate)
app.command(name="events")(events.events)
app.command(name="top")(top.top)
app.command(name="exec")(execute.exec_)
app.command(name="cp")(copy.cp)
app.add_typer(cluster.app, name="cluster")
app.add_typer(node.app, name="node")
app.add_typer(stack.app, name="stack")
app.add_typer(service.app, name="service")
app.add_typer(job.app, name="job")
app.add_typer(journal.app, name="journal")
app.add_typer(config.app, name="config")
app.add_typer(secret.app, name="secret")
app.add_typer(dev.app, name="dev")


@app.callback()
def root(
    ctx: typer.Context,
    context: Annotated[
        Path | None,
        typer.Option(
            envvar="MESHSWARM_CONTEXT",
            metavar="PATH",
            help="The client context of the cluster; without it this host's `meshswarm dev`, "
            "else ~/.config/meshswarm/client.toml, else /etc/meshswarm/client.toml.",
        ),
    ] = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="How listings are printed.")
    ] = Format.TABLE,
    color: Annotated[
        When, typer.Option(help="Colours; `auto` honours NO_COLOR and pipes.")
    ] = When.AUTO,
) -> None:
    """Run containers on a few hosts: deploy a Compose file, lose a host, keep the replicas.

    Try it here with `meshswarm dev`; on hosts, begin with `meshswarm config init`.
    """
    options = ctx.obj
    assert isinstance(options, Options), "`main` makes the options"
    ctx.obj = evolve(options, context=context, format=output, color=color)


@app.command()
def version() -> None:
    """Print the version.

    Example: `meshswarm version`
    """
    print(__version__)


def main(arguments: Sequence[str] | None = None, connect: Connect = reach.connect) -> int:
    """Run one command and give its exit code; `connect` reaches the cluster."""
    if sys.flags.optimize:
        say("error: python -O drops the assertions that keep data safe; run without it")
        return 2
    try:
        result = app(
            arguments,
            prog_name="meshswarm",
            standalone_mode=False,
            obj=Options(connect=connect),
        )
        sys.stdout.flush()
    except MeshswarmError as error:
        say_error(error)
        return error.exit_code
    except typer.TyperException as error:
        return _say_usage(error, sys.argv[1:] if arguments is None else arguments)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:  # as in `meshswarm service ls | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _say_usage(error: typer.TyperException, arguments: Sequence[str]) -> int:
    """Say what is wrong with the command line itself, and where its help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _command_of(arguments)
    message = error.format_message()
    if message.startswith("Usage: "):  # nothing was asked for
        say(message)
    elif message:
        say(f"error: {message}")
        say(f" hint: {_elsewhere(message, context) or f'{path} --help'}")
    return error.exit_code


def _command_of(arguments: Sequence[str]) -> str:
    """The command that was typed, as far as there is one."""
    path, below = "meshswarm", getattr(get_command(app), "commands", {})
    for word in arguments:
        if word in below:
            path, below = f"{path} {word}", getattr(below[word], "commands", {})
    return path


def _elsewhere(message: str, context: typer.Context | None) -> str | None:
    """What may be meant by a command that there is not, if that is what is wrong."""
    if context is None or not message.startswith("No such command "):
        return None
    from meshswarm.cli.elsewhere import instead_of

    group = context.command_path.partition(" ")[2]
    tree = getattr(context.find_root().command, "commands", {})
    return instead_of(group, message.split("'")[1], tree)
