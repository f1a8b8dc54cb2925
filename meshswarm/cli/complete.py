"""Names for the shell to complete. Silent when the cluster cannot be asked: a prompt is no place
for errors.
"""

from pathlib import Path

import typer

from meshswarm.cli.options import Options
from meshswarm.errors import MeshswarmError

PATIENCE_S = 1.0
"""How long a prompt may hang."""


def complete_service(ctx: typer.Context, incomplete: str) -> list[str]:
    """The services whose full name begins so."""
    return _names(ctx, "services", incomplete)


def complete_stack(ctx: typer.Context, incomplete: str) -> list[str]:
    """The stacks whose name begins so."""
    return _names(ctx, "stacks", incomplete)


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """The nodes whose name begins so."""
    return _names(ctx, "nodes", incomplete)


def _names(ctx: typer.Context, table: str, incomplete: str) -> list[str]:
    import asyncio

    from meshswarm.cli.reach import connect
    from meshswarm.store.view import Table

    options = ctx.find_object(Options)
    context: str | None = ctx.find_root().params.get("context")
    reach = connect if options is None else options.connect

    async def names() -> list[str]:
        async with asyncio.timeout(PATIENCE_S), reach(Path(context) if context else None) as client:
            view = await client.read(Table(table))
        return [*view.service_ids, *view.stacks, *view.node_ids]

    try:
        found = asyncio.run(names())
    except (MeshswarmError, TimeoutError):
        return []
    return sorted(name for name in found if name.startswith(incomplete))
