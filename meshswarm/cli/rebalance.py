"""`meshswarm rebalance`: tasks move to nodes that came or returned, by a plan that can be seen."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meshswarm.cli.options import Options
    from meshswarm.cli.show import Listing
    from meshswarm.client import Client
    from meshswarm.control.rebalance import Shift
    from meshswarm.store.view import View


def rebalance(
    ctx: typer.Context,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would move; change nothing.")
    ] = False,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Even services out over the nodes, and wait until it is done.

    Each task is started elsewhere before the old one stops, as many of a service at a time as its
    rollouts renew. Services that pack nodes, are being rolled out or are not well stay as they are.

    Example: `meshswarm rebalance --plan`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.talk import say

    options = options_of(ctx, output)

    async def work(client: "Client") -> None:
        await _rebalance(client, options, only_plan=plan, detach=detach, timeout_s=timeout)

    try:
        ask(options, work)
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm service ls")
        raise typer.Exit(130) from None


async def _rebalance(
    client: "Client", options: "Options", *, only_plan: bool, detach: bool, timeout_s: float
) -> None:
    from meshswarm.cli.progress import TABLES, wait
    from meshswarm.cli.show import show
    from meshswarm.cli.talk import now_ms, say
    from meshswarm.cli.waiting import Goal
    from meshswarm.control.rebalance import plan
    from meshswarm.store.commands import MoveTasks

    view = await client.read(*TABLES)
    shifts = plan(view, now_ms())
    show(options, _listing(view, shifts))
    if not shifts:
        say("the cluster is balanced: nothing would move")
    if not shifts or only_plan:
        return
    moved = tuple(shift.task_id for shift in shifts)
    await client.propose(MoveTasks(task_ids=moved))
    if not detach:
        await wait(client, options, Goal(moved=frozenset(moved), now_ms=now_ms()), timeout_s)


def _listing(view: "View", shifts: "Sequence[Shift]") -> "Listing":
    from meshswarm.cli.show import Column, Listing

    return Listing(
        columns=(
            Column("TASK", "name"),
            Column("FROM", "from"),
            Column("TO", "to"),
            Column("ID", "id", is_wide=True),
        ),
        rows=[
            {
                "name": f"{shift.service}.{shift.slot}",
                "from": view.nodes[shift.source].name,
                "to": view.nodes[shift.target].name,
                "id": shift.task_id,
            }
            for shift in shifts
        ],
    )
