"""`meshswarm stack`: what was deployed together."""

from typing import TYPE_CHECKING

import typer

from meshswarm.cli.arguments import Stack
from meshswarm.cli.listing import Filters, Watch, show_list
from meshswarm.cli.log_options import (
    LogFollow,
    LogSince,
    LogTail,
    LogTimestamps,
    LogUntil,
    request_of,
)
from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of
from meshswarm.cli.talk import now_ms, say

if TYPE_CHECKING:
    from meshswarm.cli.show import Listing
    from meshswarm.client import Client
    from meshswarm.store.view import View

app = typer.Typer(no_args_is_help=True, help="See and remove stacks.")


@app.command("ls")
def ls(
    ctx: typer.Context, filters: Filters = None, watch: Watch = False, output: Output = None
) -> None:
    """List the stacks.

    Example: `meshswarm stack ls -o json`
    """
    from meshswarm.cli import rows
    from meshswarm.store.view import Table

    async def make(_: "Client", view: "View") -> "Listing":
        return rows.stacks(view)

    tables = (Table.STACKS, Table.SERVICES)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("ps")
def ps(
    ctx: typer.Context,
    stack: Stack,
    filters: Filters = None,
    watch: Watch = False,
    output: Output = None,
) -> None:
    """List the tasks of a stack, those that ended included.

    Example: `meshswarm stack ps shop --filter node=n1 -o wide`
    """
    from meshswarm.cli import rows
    from meshswarm.errors import NotFound
    from meshswarm.store.view import Table

    async def make(_: "Client", view: "View") -> "Listing":
        if stack not in view.stacks:
            raise NotFound(f"there is no stack {stack!r}", hint="meshswarm stack ls")
        chosen = [task for task in view.tasks.values() if task.stack == stack]
        return rows.tasks(view, chosen, now_ms())

    tables = (Table.STACKS, Table.SERVICES, Table.TASKS, Table.NODES)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("logs")
def logs(
    ctx: typer.Context,
    stack: Stack,
    follow: LogFollow = False,
    tail: LogTail = None,
    since: LogSince = None,
    until: LogUntil = None,
    timestamps: LogTimestamps = False,
    output: Output = None,
) -> None:
    """Print what the tasks of a stack wrote, by time, as `service logs` does.

    Example: `meshswarm stack logs shop --since 5m`
    """
    from meshswarm.cli.logs import print_logs
    from meshswarm.cli.reach import ask
    from meshswarm.errors import NotFound
    from meshswarm.store.view import Table

    options = options_of(ctx, output)

    async def run(client: "Client") -> None:
        view = await client.read(Table.STACKS, Table.SERVICES)
        if stack not in view.stacks:
            raise NotFound(f"there is no stack {stack!r}", hint="meshswarm stack ls")
        names = [service.spec.name for service in view.services_of(stack)]
        request = request_of(names, follow, tail, since, until, timestamps)
        await print_logs(client, options, request)

    ask(options, run)


@app.command("rm")
def rm(
    ctx: typer.Context,
    stack: Stack,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Remove a stack with all its services, and wait until their tasks are gone.

    Example: `meshswarm stack rm shop`
    """
    from meshswarm.cli.change import carry_out
    from meshswarm.store.commands import RemoveStack

    options = options_of(ctx, output)
    carry_out(options, lambda _: RemoveStack(name=stack), detach=detach, timeout_s=timeout)
    say(f"stack {stack} removed")
