"""The live view of a dev cluster: nodes, services, what happened, what to try next.

On a terminal it is drawn anew at every change; elsewhere each change is a line.
"""

import asyncio
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from meshswarm.cli import rows
from meshswarm.cli.dev.layout import Layout
from meshswarm.cli.options import Options
from meshswarm.cli.progress import TABLES
from meshswarm.cli.show import Listing, is_terminal, plain_table, rich_table
from meshswarm.cli.talk import say
from meshswarm.cli.waiting import Goal, progress
from meshswarm.client import Client
from meshswarm.errors import Unavailable
from meshswarm.store.view import View

if TYPE_CHECKING:
    from rich.console import RenderableType

EVENTS_MAX = 6
"""The latest events that the view shows."""

ASK_S = 0.5
"""Between two questions who leads."""

TRY_NEXT = (
    ("dev kill leader", "lose the host of the leader; see what it costs"),
    ("dev start n1", "bring a lost host back"),
    ("service scale SERVICE=5", "change the number of replicas"),
    ("cluster log --follow", "watch what the managers agree on"),
    ("service logs SERVICE -f", "read what the tasks write"),
)


class Screen:
    """What is known and what happened; `tell` adds an event."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._events: deque[str] = deque(maxlen=EVENTS_MAX)
        self._shown: dict[str, str] = {}
        self._draw: Callable[[], None] | None = None
        self.view = View()
        self.leader: str | None = None
        self.trouble: str | None = None

    def tell(self, text: str) -> None:
        """Something happened: a line, or an entry of the view."""
        self._events.append(text)
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
        for line in try_next():
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
            leader = rows.leader_of(await client.statuses())
            name = None if leader is None else leader.name
            if name != self.leader:
                self.leader = name
                self.changed()
            await asyncio.sleep(ASK_S)

    async def _drawing(self) -> None:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False, screen=False) as live:
            self._draw = lambda: live.update(self._picture(), refresh=True)
            try:
                self._draw()
                await asyncio.Event().wait()
            finally:
                self._draw = None

    def _picture(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        leader = self.view.node_named(self.leader) if self.leader else None
        nodes = rows.nodes(self.view, None if leader is None else leader.id)
        parts: list[RenderableType] = [
            _rich(nodes),
            Text(""),
            _rich(rows.services(self.view)),
            Text(""),
        ]
        parts += [Text(event, style="dim", no_wrap=True) for event in self._events]
        parts.append(Text(f"\nin another terminal ({self._layout.root}):", style="bold"))
        parts += [Text(f"  {line}") for line in try_next()]
        parts.append(Text("Ctrl-C ends it all", style="dim"))
        return Group(*parts)


def try_next() -> list[str]:
    """What to try, a command a line."""
    program = _program()
    first, *others = ((f"{program} {command}", what) for command, what in TRY_NEXT)
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
