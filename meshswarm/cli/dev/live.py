"""The live view of a dev cluster: nodes, services, what happened, what to try next.

On a terminal it is drawn anew at every change; elsewhere each change is a line.
"""

import asyncio
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from meshswarm.cli import managers, rows
from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.options import Options
from meshswarm.cli.progress import TABLES
from meshswarm.cli.show import Listing, is_terminal, plain_table, rich_table
from meshswarm.cli.talk import say
from meshswarm.cli.waiting import Goal, progress
from meshswarm.client import Client
from meshswarm.errors import Unavailable
from meshswarm.model.service import Mode
from meshswarm.store.view import View

if TYPE_CHECKING:
    from rich.console import RenderableType

    from meshswarm.model.stack import StackSpec

EVENTS_MAX = 8
"""The latest events that the view shows, where there is room."""

EVENTS_MIN = 3
"""With room for fewer, what to try next gives way to them, then services do."""

ASK_S = 0.5
"""Between two questions who leads."""

TRY_NEXT = (
    ("dev kill leader", "lose the leader's host; see what it costs"),
    ("dev start n1", "bring a lost host back"),
    ("service scale {service}=5", "change the number of replicas"),
    ("cluster log --follow", "watch what the managers agree on"),
    ("service logs {service} -f", "read what the tasks write"),
)


class Screen:
    """What is known and what happened; `tell` adds an event, `example` is a service to try."""

    def __init__(self, layout: Layout, example: str | None = None) -> None:
        self._layout = layout
        self._example = example
        self._events: deque[str] = deque(maxlen=EVENTS_MAX)
        self._shown: dict[str, str] = {}
        self._draw: Callable[[], None] | None = None
        self.view = View()
        self.leader: str | None = None
        self.trouble: str | None = None

    def tell(self, text: str) -> None:
        """Something happened: a line, or an entry of the view."""
        self._events.append(f"{time.strftime('%H:%M:%S')}  {text}")
        if self._draw is None:
            say(text)
        else:
            self._draw()

    def changed(self) -> None:
        """Tell of every node, slot and leader that is no longer as last shown."""
        goal = Goal(whole=frozenset(self.view.service_ids))
        present = {f"slot {slot.name}": str(slot) for slot in progress(self.view, goal)}
        for node in self.view.sorted_nodes():
            present[f"node {node.name}"] = f"{node.name} is {node.state.value}"
        present["leader"] = f"{self.leader} leads" if self.leader else "nobody leads"
        if self.trouble:
            present["trouble"] = self.trouble
        news = [text for key, text in present.items() if self._shown.get(key) != text]
        self._shown = present
        for text in news:
            self.tell(text)

    async def run(self, client: Client, options: Options) -> None:
        """Show the cluster until cancelled."""
        async with asyncio.TaskGroup() as parts:
            if not is_terminal(options):
                self._say_next()
            else:
                parts.create_task(self._drawing(), name="draw the cluster")
            parts.create_task(self._follow_views(client), name="follow the cluster")
            parts.create_task(self._follow_leader(client), name="follow the leader")

    def _say_next(self) -> None:
        say(f"try next, in another terminal ({self._layout.root}):")
        for line in try_next(self._example):
            say(f"  {line}")

    async def _follow_views(self, client: Client) -> None:
        while True:
            try:
                async with aclosing(client.watch(*TABLES)) as views:
                    async for self.view in views:
                        self.trouble = None
                        self.changed()
            except Unavailable as error:
                self.trouble = error.message
                self.changed()

    async def _follow_leader(self, client: Client) -> None:
        while True:
            leader = managers.leader_of(await client.statuses())
            name = None if leader is None else leader.name
            if name != self.leader:
                self.leader = name
                self.changed()
            await asyncio.sleep(ASK_S)

    async def _drawing(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console()
        with Live(console=console, auto_refresh=False, screen=False) as live:
            self._draw = lambda: live.update(self.picture(console.height), refresh=True)
            try:
                self._draw()
                await asyncio.Event().wait()
            finally:
                self._draw = None

    def picture(self, height: int) -> "RenderableType":
        """The cluster in at most so many lines, whatever must be left out for that."""
        from rich.console import Group
        from rich.text import Text

        leader = self.view.node_named(self.leader) if self.leader else None
        nodes = rows.nodes(self.view, None if leader is None else leader.id)
        services = rows.services(self.view)
        hints = [Text(f"  {line}") for line in try_next(self._example)]
        hints = [Text("in another terminal:", style="bold"), *hints, Text("")]
        room = height - len(nodes.rows) - 7  # title, 2 headings, 2 blanks, the end, the cursor
        if room < len(services.rows) + EVENTS_MIN + 1 + len(hints):
            hints = []
        shown = min(len(services.rows), max(1, room - EVENTS_MIN - 1 - len(hints)))
        left = len(services.rows) - shown
        room -= shown + len(hints) + (1 if left else 0) + 1
        events = list(self._events)[-max(0, min(room, EVENTS_MAX)) :] if room > 0 else []
        lines = [
            Text(f"meshswarm dev in {self._layout.root}", style="bold"),
            _rich(nodes),
            Text(""),
            _rich(evolve(services, rows=services.rows[:shown])),
            *([Text(f"and {left} more", style="dim")] if left else []),
            Text(""),
            *(Text(event, style="dim") for event in events),
            *([Text("")] if events else []),
            *hints,
            Text("Ctrl-C ends all that it started", style="dim"),
        ]
        for line in lines:
            if isinstance(line, Text):
                line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)


def example_of(stack: "StackSpec | None") -> str | None:
    """A service of the stack to try things on."""
    services = () if stack is None else stack.services
    return next((s.name for s in services if s.mode is Mode.REPLICATED), None)


def try_next(service: str | None) -> list[str]:
    """What to try, a command a line; `service` is one that it can be tried on."""
    program = _program()
    named = (
        (f"{program} {command.format(service=service or 'SERVICE')}", what)
        for command, what in TRY_NEXT
    )
    first, *others = named
    return plain_table(first, others)


def _program() -> str:
    """How to call this program from here: by its name if that is found, else by its place."""
    if shutil.which("meshswarm"):
        return "meshswarm"
    place = Path(sys.executable).parent / "meshswarm"
    return os.path.relpath(place) if place.is_relative_to(Path.cwd()) else str(place)


def _rich(listing: Listing) -> "RenderableType":
    columns = [column for column in listing.columns if not column.is_wide]
    cells = [[column.text(row) for column in columns] for row in listing.rows]
    return rich_table([column.heading for column in columns], cells)
