"""`meshswarm exec`: a command beside a task, as if it ran here."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.complete import complete_task
from meshswarm.cli.options import Options, options_of
from meshswarm.cli.talk import say

if TYPE_CHECKING:
    from meshswarm.client import Client
    from meshswarm.piping import RemotePipe


def exec_(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TASK|SERVICE[.SLOT]",
            help="A task's id, a service's slot, or a service: then its first healthy task.",
            autocompletion=complete_task,
        ),
    ],
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="What to run; `--` before it.")
    ],
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Pass standard input on.")
    ] = False,
    terminal: Annotated[
        bool, typer.Option("--tty", "-t", help="Give it a terminal as large as this one.")
    ] = False,
) -> None:
    """Run a command beside a running task: in its container, or with its user and directory.

    Ends with the command's own exit code; 126 or 127 if it could not be run. Ctrl-C ends it, or is
    passed on with `-t`. What is left of it when the connection ends is killed.

    Example: `meshswarm exec shop_web.2 -it -- sh`
    """
    import sys

    from meshswarm.cli.reach import ask

    options = options_of(ctx)
    if terminal and interactive and not sys.stdin.isatty():
        raise typer.BadParameter("standard input is no terminal", param_hint="--tty")
    code = ask(
        options,
        lambda client: _run(client, options, target, tuple(command), interactive, terminal),
    )
    raise typer.Exit(code)


async def _run(
    client: "Client",
    options: Options,
    target: str,
    argv: tuple[str, ...],
    has_input: bool,
    has_terminal: bool,
) -> int:
    from meshswarm.cli import terminal
    from meshswarm.cli.targets import label, running_task
    from meshswarm.model.pipe import PipeKind, PipeWish
    from meshswarm.store.view import Table

    view = await client.read(Table.SERVICES, Table.TASKS, Table.NODES)
    task = running_task(view, target)
    if view.service_named(target) is not None and len(view.tasks_of(task.service_id)) > 1:
        say(f"in {label(view, task)}, task {task.id}")
    wish = PipeWish(
        kind=PipeKind.RUN,
        argv=argv,
        has_input=has_input,
        window=terminal.window_size() if has_terminal else None,
    )
    async with client.pipe(task.id, wish) as pipe:
        with ExitStack() as stack:
            if has_terminal and has_input:
                stack.enter_context(terminal.raw())
            return await _talk(pipe, has_input=has_input, has_terminal=has_terminal)


async def _talk(pipe: "RemotePipe", *, has_input: bool, has_terminal: bool) -> int:
    """Both directions at once, until the command ends."""
    import asyncio

    from meshswarm.cli import terminal

    async def send() -> None:
        async for data in terminal.typed():
            await pipe.write(data)
        await pipe.end_input()

    async def follow_size(changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await pipe.resize(terminal.window_size())

    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            besides = []
            if has_input:
                besides.append(group.create_task(send(), name="exec input"))
            if has_terminal:
                changed = asyncio.Event()
                stack.enter_context(terminal.on_resize(changed.set))
                besides.append(group.create_task(follow_size(changed), name="exec size"))
            while (output := await pipe.read()) is not None:
                terminal.write(output.stream, output.data)
            for task in besides:
                task.cancel()
    assert pipe.exit_code is not None, "a pipe ends with an exit code"
    return pipe.exit_code
