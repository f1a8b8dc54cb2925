"""Waiting for a goal, and showing how far it is: live on a terminal, else a line per change."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from meshswarm.cli.bars import Lines, drawn
from meshswarm.cli.options import Options, When
from meshswarm.cli.talk import count, say
from meshswarm.cli.waiting import Goal, SlotProgress, ending, is_reached, progress
from meshswarm.client import Client
from meshswarm.errors import MeshswarmError, WaitTimedOut
from meshswarm.store.view import Table, View

Report = Callable[[tuple[SlotProgress, ...]], None]

TABLES = (
    Table.NODES,
    Table.SERVICES,
    Table.TASKS,
    Table.REVISIONS,
    Table.ROLLOUTS,
    Table.RUNS,
    Table.JOBS,
)
LINES_MAX = 20
"""Slots of a service told singly, and listed when a wait ends without them."""


async def wait(client: Client, options: Options, goal: Goal, timeout_s: float) -> None:
    """Return when the goal is reached; what it still lacks is shown meanwhile.

    :raises WaitTimedOut: after `timeout_s`, with each slot that is missing and why.
    :raises MeshswarmError: when all that is missing has ended for good, or a rollout is paused.
    :raises RolledBack: when what was asked for failed and was taken back.
    :raises Conflict: when somebody else has changed it meanwhile.
    """
    slots: tuple[SlotProgress, ...] = ()
    try:
        async with asyncio.timeout(timeout_s):
            with reporting(options) as report:
                async with aclosing(views(client)) as newer:
                    async for view in newer:
                        slots = progress(view, goal)
                        report(slots)
                        if is_reached(slots):
                            return
                        if (ended := ending(view, goal)) is not None:
                            raise ended
                        if all(slot.is_done or slot.is_hopeless for slot in slots):
                            raise _failed(MeshswarmError, slots, "and will stay so")
    except TimeoutError:
        raise _failed(WaitTimedOut, slots, f"after {timeout_s:g} s") from None


async def views(client: Client) -> AsyncGenerator[View, None]:
    """The view that holds all that was acknowledged, then every newer one."""
    present = await client.read(*TABLES)
    yield present
    async with aclosing(client.watch(*TABLES)) as watched:
        async for view in watched:
            if view.index > present.index:
                yield view


def _failed(
    kind: type[MeshswarmError], slots: tuple[SlotProgress, ...], ending: str
) -> MeshswarmError:
    missing = [slot for slot in slots if not slot.is_done]
    details = [str(slot) for slot in missing[:LINES_MAX]]
    if len(missing) > LINES_MAX:
        details.append(f"and {len(missing) - LINES_MAX} more")
    if not slots:
        return kind(f"the cluster said nothing of it {ending}", hint="meshswarm service ls")
    names = sorted({slot.service for slot in missing})
    single = [slot for slot in slots if slot.name != slot.service]
    lacking = sum(not slot.is_done for slot in single)
    what = f"{lacking} of {count(len(single), 'slot')}" if lacking else ", ".join(names)
    return kind(
        f"{what} not as wanted {ending}",
        details=details,
        hint=f"meshswarm why {names[0]}" if names else "meshswarm cluster status",
    )


@contextmanager
def reporting(options: Options) -> Iterator[Report]:
    """A way to show slots, for as long as the block lasts."""
    is_live = sys.stderr.isatty() and options.color is not When.NEVER and not os.environ.get("CI")
    if not is_live:
        yield _line_report()
        return
    from rich.console import Console
    from rich.live import Live

    began_s = time.monotonic()
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda slots: live.update(drawn(slots, time.monotonic() - began_s), refresh=True)


def _line_report() -> Report:
    lines = Lines(most=LINES_MAX)

    def report(slots: tuple[SlotProgress, ...]) -> None:
        for line in lines.after(slots):
            say(line)

    return report
