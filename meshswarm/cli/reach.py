"""Which cluster a command speaks to, and the client that does."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from meshswarm.cli.options import Options
from meshswarm.errors import MeshswarmError, NotFound

if TYPE_CHECKING:
    from meshswarm.client import Client

T = TypeVar("T")

SYSTEM_CONTEXT = Path("/etc/meshswarm/client.toml")


def state_home() -> Path:
    """Where this user's programs keep what they remember (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "meshswarm"


def dev_record() -> Path:
    """The file that names the client contexts of the dev clusters that run on this host."""
    return state_home() / "dev-contexts"


def dev_contexts() -> list[Path]:
    """The client contexts of this host's dev clusters that are still there, oldest first."""
    try:
        lines = dev_record().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [context for context in map(Path, lines) if context.is_file()]


def dev_context() -> Path | None:
    """The context of the dev cluster that was started last; one that was killed counts less."""
    from meshswarm.cli.dev.layout import Layout
    from meshswarm.cli.dev.processes import noted

    contexts = dev_contexts()
    running = [each for each in contexts if noted(Layout(each.parent).supervisor) is not None]
    return next(reversed(running or contexts), None)


def context_file(named: Path | None) -> Path:
    """The context to use: the named one, this host's `dev`, the user's, or the system's.

    :raises NotFound: if none of them is there.
    """
    if named is not None:
        return named
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    user_context = config_home / "meshswarm" / "client.toml"
    for candidate in (dev_context(), user_context, SYSTEM_CONTEXT):
        if candidate is not None and candidate.is_file():
            return candidate
    raise NotFound(
        "no cluster to speak to: there is no client context",
        details=[f"not there: {user_context}", f"not there: {SYSTEM_CONTEXT}"],
        hint="name one with `--context PATH`, or start a cluster on this host with `meshswarm dev`",
    )


@asynccontextmanager
async def connect(named: Path | None) -> AsyncIterator["Client"]:
    """A client of the cluster that the context file describes."""
    import logging

    from meshswarm.client import connected
    from meshswarm.mesh import keys
    from meshswarm.mesh.peers import Peer, PeerRole
    from meshswarm.settings import load_client_context

    # What goes wrong on the way is told by the error at its end, if there is one.
    logging.getLogger("meshswarm.mesh").addHandler(logging.NullHandler())
    context = load_client_context(context_file(named))
    managers = [
        Peer(
            name=manager.name,
            role=PeerRole.MANAGER,
            public_key=manager.public_key,
            address=manager.address,
        )
        for manager in context.managers
    ]
    pair = keys.load(context.client.key_file)
    async with connected(pair, name=context.client.name, managers=managers) as client:
        yield client


def ask(options: Options, work: Callable[["Client"], Awaitable[T]]) -> T:
    """What `work` learns from the cluster."""

    import asyncio

    async def session() -> T:
        async with options.connect(options.context) as client:
            return await work(client)

    try:
        return asyncio.run(session())
    except ExceptionGroup as errors:
        # What was asked side by side failed: the first error of ours says it all, unless nobody
        # reads what we print any more.
        found: BaseException | None = errors.subgroup(BrokenPipeError)
        found = found or errors.subgroup(MeshswarmError)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise found or errors from errors
