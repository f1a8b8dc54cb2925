"""`meshswarm stack`: what was deployed together."""

import typer

from meshswarm.cli.arguments import Stack
from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of
from meshswarm.cli.talk import now_ms, say

app = typer.Typer(no_args_is_help=True, help="See and remove stacks.")


@app.command("ls")
def ls(ctx: typer.Context, output: Output = None) -> None:
    """List the stacks.

    Example: `meshswarm stack ls -o json`
    """
    from meshswarm.cli import rows
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show
    from meshswarm.store.view import Table

    options = options_of(ctx, output)
    view = ask(options, lambda client: client.read(Table.STACKS, Table.SERVICES))
    show(options, rows.stacks(view))


@app.command("ps")
def ps(ctx: typer.Context, stack: Stack, output: Output = None) -> None:
    """List the tasks of a stack, those that ended included.

    Example: `meshswarm stack ps shop -o wide`
    """
    from meshswarm.cli import rows
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show
    from meshswarm.errors import NotFound
    from meshswarm.store.view import Table

    options = options_of(ctx, output)
    tables = (Table.STACKS, Table.SERVICES, Table.TASKS, Table.NODES)
    view = ask(options, lambda client: client.read(*tables))
    if stack not in view.stacks:
        raise NotFound(f"there is no stack {stack!r}", hint="meshswarm stack ls")
    chosen = [task for task in view.tasks.values() if task.stack == stack]
    show(options, rows.tasks(view, chosen, now_ms()))


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
