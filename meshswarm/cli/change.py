"""Commands that change services: proposed, shown, and waited for unless detached."""

import asyncio
from collections.abc import Callable, Sequence

import typer
from attrs import evolve

from meshswarm.cli.options import Options
from meshswarm.cli.progress import TABLES, wait
from meshswarm.cli.reach import ask
from meshswarm.cli.rows import effects
from meshswarm.cli.show import show
from meshswarm.cli.talk import now_ms, say
from meshswarm.cli.waiting import Goal
from meshswarm.client import Client
from meshswarm.model.node import Availability
from meshswarm.model.service import TaskSpec
from meshswarm.store.commands import Command, PutService, RollBackService, UpdateNode
from meshswarm.store.view import View

ANY = Goal()

Make = Callable[[View], Command | None]
"""Makes a command of the present view; None: there is nothing to do."""


def carry_out(
    options: Options,
    *commands: Make,
    detach: bool,
    timeout_s: float,
    goal: Goal = ANY,
) -> None:
    """Propose what `commands` make of the present view, show what it did, wait until it holds.

    `goal` says what is waited for besides: how, not which services.
    """
    try:
        ask(options, lambda client: _carry_out(client, options, commands, detach, timeout_s, goal))
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm service ls")
        raise typer.Exit(130) from None


async def _carry_out(
    client: Client,
    options: Options,
    commands: Sequence[Make],
    detach: bool,
    timeout_s: float,
    goal: Goal,
) -> None:
    view = await client.read(*TABLES)
    made = [make(view) for make in commands]  # all of them, before the first is proposed
    wanted = [command for command in made if command is not None]
    done = [effect for command in wanted for effect in (await client.propose(command)).effects]
    show(options, effects(done))
    if detach:
        return
    moves = goal.empty or goal.moved
    goal = evolve(
        goal,
        whole=frozenset(name for name, effect in done if effect != "removed" and not moves),
        gone=frozenset(name for name, effect in done if effect == "removed"),
        specs={**goal.specs, **_specs(view, wanted)},
    )
    await wait(client, options, goal, timeout_s)


def _specs(view: View, commands: Sequence[Command]) -> dict[str, TaskSpec]:
    """What the services that are changed so are to run."""
    specs: dict[str, TaskSpec] = {}
    for command in commands:
        match command:
            case PutService(spec=spec):
                specs[spec.name] = spec.task
            case RollBackService(service_id=service_id, revision=int() as number):
                name = view.services[service_id].spec.name
                if number in view.revisions[service_id]:
                    specs[name] = view.revisions[service_id][number].task
    return specs


def set_availability(
    options: Options,
    names: Sequence[str],
    availability: Availability,
    *,
    drain_s: float,
    detach: bool,
    timeout_s: float,
) -> None:
    """Set nodes' availability, and wait until those that are drained are empty."""

    async def work(client: Client) -> None:
        view = await client.read(*TABLES)
        nodes = [view.find_node(name) for name in names]
        commands = [
            UpdateNode(node_id=node.id, availability=availability, drain_s=drain_s)
            for node in nodes
        ]
        # All at once: one drained after the other would have its tasks moved to the next in turn.
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(client.propose(command), name=f"set {command.node_id}")
                for command in commands
            ]
        show(options, effects([one for each in asked for one in each.result().effects]))
        if not detach and availability is Availability.DRAIN:
            empty = frozenset(node.id for node in nodes)
            await wait(client, options, Goal(empty=empty, now_ms=now_ms()), timeout_s)

    try:
        ask(options, work)
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm node ls")
        raise typer.Exit(130) from None
