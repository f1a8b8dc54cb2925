"""Names for the shell to complete. Silent when the cluster cannot be asked: a prompt is no place
for errors.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from meshswarm.cli.options import Options
from meshswarm.errors import MeshswarmError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from meshswarm.client import Client
    from meshswarm.store.view import View

T = TypeVar("T")

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


def complete_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """The jobs whose full name begins so."""
    return _beginning(incomplete, _view(ctx, "jobs").job_ids)


def complete_service_or_job(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services, jobs and runs of jobs whose full name begins so."""
    view = _view(ctx, "services", "jobs")
    return _beginning(incomplete, {*view.service_ids, *view.job_ids})


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


def complete_file(ctx: typer.Context, incomplete: str) -> list[str]:
    """The configs or secrets whose name begins so, by the group of the command."""
    kind = ctx.parent.info_name if ctx.parent is not None else None

    async def names(client: "Client") -> list[str]:
        from meshswarm.model.file import FileKind

        return [row.name for row in await client.files(FileKind(kind))]

    return _beginning(incomplete, _asked(ctx, names) or ())


def _view(ctx: typer.Context, *tables: str) -> "View":
    """These tables; empty ones if the cluster does not answer at once."""
    from meshswarm.store.view import Table, View

    return _asked(ctx, lambda client: client.read(*map(Table, tables))) or View()


def _asked(ctx: typer.Context, work: "Callable[[Client], Awaitable[T]]") -> "T | None":
    """What `work` learns; None if the cluster does not answer at once."""
    import asyncio

    from meshswarm.cli.reach import connect

    options = ctx.find_object(Options)
    context: str | None = ctx.find_root().params.get("context")
    reach = connect if options is None else options.connect

    async def asked() -> "T":
        async with asyncio.timeout(PATIENCE_S), reach(Path(context) if context else None) as client:
            return await work(client)

    try:
        return asyncio.run(asked())
    except (MeshswarmError, TimeoutError, OSError, ExceptionGroup):
        return None
