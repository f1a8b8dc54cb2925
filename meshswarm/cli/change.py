"""Commands that change services: proposed, shown, and waited for unless detached."""

from collections.abc import Callable, Sequence

import typer

from meshswarm.cli.options import Options
from meshswarm.cli.progress import TABLES, wait
from meshswarm.cli.reach import ask
from meshswarm.cli.rows import effects
from meshswarm.cli.show import show
from meshswarm.cli.talk import say
from meshswarm.cli.waiting import Goal
from meshswarm.client import Client
from meshswarm.store.commands import Command
from meshswarm.store.view import View


def carry_out(
    options: Options,
    *commands: Callable[[View], Command],
    detach: bool,
    timeout_s: float,
) -> None:
    """Propose what `commands` make of the present view, show what it did, wait until it holds."""
    try:
        ask(options, lambda client: _carry_out(client, options, commands, detach, timeout_s))
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm service ls")
        raise typer.Exit(130) from None


async def _carry_out(
    client: Client,
    options: Options,
    commands: Sequence[Callable[[View], Command]],
    detach: bool,
    timeout_s: float,
) -> None:
    view = await client.read(*TABLES)
    wanted = [make(view) for make in commands]  # all of them, before the first is proposed
    done = [effect for command in wanted for effect in (await client.propose(command)).effects]
    show(options, effects(done))
    if detach:
        return
    goal = Goal(
        whole=frozenset(name for name, effect in done if effect != "removed"),
        gone=frozenset(name for name, effect in done if effect == "removed"),
    )
    await wait(client, options, goal, timeout_s)
