"""`meshswarm deploy`: a Compose file becomes a stack, and is waited for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.options import WAIT_S, Detach, Options, Output, Timeout, options_of
from meshswarm.cli.talk import say

if TYPE_CHECKING:
    from meshswarm.client import Client
    from meshswarm.compose.load import Loaded


def deploy(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="The Compose file.", metavar="FILE")],
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="The stack's name.", show_default="as the file says"),
    ] = None,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check the file; change nothing.")
    ] = False,
    output: Output = None,
) -> None:
    """Make the cluster run what a Compose file describes, and wait until it does.

    Deploying again changes what differs, removes what vanished from the file, touches nothing else.
    The wait ends with exit code 9 if what was deployed failed and was rolled back.

    Example: `meshswarm deploy compose.yml --name shop --timeout 60`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.rows import plain
    from meshswarm.cli.show import show_document

    options = options_of(ctx, output)
    loaded = load_stack(file, name)
    spec = loaded.spec
    if dry_run:
        show_document(options, plain(spec))
        return
    try:
        ask(options, lambda client: put_stack(client, options, loaded, detach, timeout))
    except KeyboardInterrupt:
        say(f"interrupted: the deploy of {spec.name} goes on; meshswarm stack ps {spec.name}")
        raise typer.Exit(130) from None


async def put_stack(
    client: "Client", options: Options, loaded: "Loaded", detach: bool, timeout_s: float
) -> None:
    """Propose the stack with its files, print what that changed, and wait for it."""
    from meshswarm.cli.networks import far_apart
    from meshswarm.cli.progress import TABLES, wait
    from meshswarm.cli.rows import effects
    from meshswarm.cli.show import show
    from meshswarm.cli.waiting import Goal
    from meshswarm.store.commands import PutStack

    spec = loaded.spec
    await put_files(client, loaded)
    outcome = await client.propose(PutStack(spec=spec))
    show(options, effects(outcome.effects))
    if detach:
        say(f"stack {spec.name} accepted; `meshswarm stack ps {spec.name}` shows how far it is")
        return
    goal = Goal(
        whole=frozenset(service.name for service in spec.services),
        gone=frozenset(name for name, effect in outcome.effects if effect == "removed"),
        specs={service.name: service.task for service in spec.services},
        is_step=True,
    )
    await wait(client, options, goal, timeout_s)
    view = await client.read(*TABLES)
    resting = [
        f"{service.spec.name} waits after its step, {rollout.well} of {service.spec.replicas} "
        f"have revision {rollout.revision}; `meshswarm service resume {service.spec.name}` goes on"
        for service in view.services_of(spec.name)
        if (rollout := view.rollouts.get(service.id)) is not None and rollout.phase.is_paused
    ]
    say("\n".join(resting) or f"stack {spec.name} runs as the file says")
    for warning in far_apart(view, spec.name):
        say(f"warning: {warning}")


async def put_files(client: "Client", loaded: "Loaded") -> None:
    """Put the content of the stack's own configs and secrets; no service has it yet.

    :raises Conflict: if one of their names is somebody else's.
    """
    from meshswarm.cli.files import OWNER_LABEL, put, row_of
    from meshswarm.errors import Conflict

    stack = loaded.spec.name
    for file in loaded.files:
        present = await row_of(client, file.kind, file.name)
        if present is not None and present.labels.get(OWNER_LABEL) != stack:
            raise Conflict(
                f"there is a {file.kind.value} {file.name} already, and it is not stack {stack}'s",
                hint="use it with `external: true`, or give yours another `name`",
            )
        labels = {**file.labels, OWNER_LABEL: stack}
        version = 0 if present is None else present.version
        command = await put(client, file.kind, file.name, file.data, labels, version)
        await client.propose(command)


def load_stack(file: Path, name: str | None) -> "Loaded":
    """What the file describes; warnings are said, faults are raised.

    :raises NotFound: if there is no such file.
    :raises Invalid: with a detail for each fault.
    """
    import os

    from meshswarm.compose.load import load
    from meshswarm.errors import Invalid, NotFound

    try:
        text = _read(str(file))
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}") from error
    if text is None:
        raise NotFound(f"there is no file {file}", hint="name the Compose file to deploy")
    loaded = load(
        text,
        file=str(file),
        name=name,
        directory=str(file.resolve().parent),
        environment=os.environ,
        read=_read,
    )
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    return loaded


def _read(path: str) -> bytes | None:
    """The file's bytes; None if it is not there."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None
