"""Names for the shell to complete. Silent when the cluster cannot be asked: a prompt is no place
for errors.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from meshswarm.cli.options import Options
from meshswarm.errors import MeshswarmError

if TYPE_CHECKING:
    from meshswarm.store.view import View

PATIENCE_S = 1.0
"""How long a prompt may hang."""


def complete_service(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services whose full name begins so."""
    return _beginning(incomplete, _view(ctx, "services").service_ids)


def complete_stack(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stacks whose name begins so."""
    return _beginning(incomplete, _view(ctx, "stacks").stacks)


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """The nodes whose name begins so."""
    return _beginning(incomplete, _view(ctx, "nodes").node_ids)


def complete_task(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services, their slots, and the ids of running tasks that begin so."""
    from meshswarm.cli.targets import label
    from meshswarm.model.task import TaskState

    view = _view(ctx, "services", "tasks", "nodes")
    running = [t for t in view.tasks.values() if t.status.state is TaskState.RUNNING]
    slots = {label(view, task) for task in running}
    ids = (task.id for task in running) if incomplete else ()
    return _beginning(incomplete, [*view.service_ids, *slots, *ids])


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _view(ctx: typer.Context, *tables: str) -> "View":
    """These tables; empty ones if the cluster does not answer at once."""
    import asyncio

    from meshswarm.cli.reach import connect
    from meshswarm.store.view import Table, View

    options = ctx.find_object(Options)
    context: str | None = ctx.find_root().params.get("context")
    reach = connect if options is None else options.connect

    async def read() -> View:
        async with asyncio.timeout(PATIENCE_S), reach(Path(context) if context else None) as client:
            return await client.read(*map(Table, tables))

    try:
        return asyncio.run(read())
    except (MeshswarmError, TimeoutError, OSError, ExceptionGroup):
        return View()
