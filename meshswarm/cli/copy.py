"""`meshswarm cp`: files to a task and back, as a tar archive that is never whole in memory."""

import shlex
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import frozen

from meshswarm.cli.complete import complete_task
from meshswarm.cli.options import options_of
from meshswarm.cli.talk import count as counted
from meshswarm.cli.talk import say
from meshswarm.errors import Invalid

if TYPE_CHECKING:
    from meshswarm.client import Client
    from meshswarm.ids import TaskId
    from meshswarm.piping import RemotePipe


@frozen
class Place:
    """A path, here or in a task."""

    path: str
    target: str | None = None
    """What names the task; None: here."""


def parse(text: str) -> Place:
    """`TASK:PATH`, or a path of this host; one with a colon in it is told apart by `./`."""
    target, colon, path = text.partition(":")
    if not colon or "/" in target or target in ("", "."):
        return Place(text)
    return Place(path or ".", target)


def landing(path: str, what_is_there: str, name: str) -> tuple[str, str]:
    """The directory and the name under which `name` is written to `path`, as `cp` does it.

    Into a directory if there is one; else `path` is the new name, and its parent has to be there.
    """
    if what_is_there == "directory" or path.endswith("/"):
        return path, name
    pure = PurePosixPath(path)
    return str(pure.parent), pure.name


def _no_stream(place: Place, *, is_out: bool) -> Invalid:
    """`-` is no file of that name for who knows `docker cp`; `./-` still is one."""
    tar, path = ("-- tar -cf -" if is_out else "-- tar -xf - -C"), shlex.quote(place.path)
    flag = "" if is_out else "-i "
    return Invalid(
        "cp copies files, not a tar stream: `-` is none",
        hint=f"meshswarm exec {flag}{place.target} {tar} {path}",
    )


def cp(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="[TASK:]FROM", help="A file or directory.", autocompletion=complete_task
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="[TASK:]TO", help="Where it goes; one of both.", autocompletion=complete_task
        ),
    ],
) -> None:
    """Copy files or directories to a running task, or from it.

    TASK is a task's id, SERVICE.SLOT or SERVICE. Of a plain process paths are the host's, read and
    written as its user. Owners are not kept.

    Example: `meshswarm cp shop_web.1:/etc/nginx ./nginx`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.errors import NotFound

    options = options_of(ctx)
    there, here = parse(source), parse(destination)
    if (there.target is None) == (here.target is None):
        raise typer.BadParameter("name one task, as TASK:PATH", param_hint="FROM or TO")
    if "-" in (source, destination):
        raise _no_stream(there if there.target is not None else here, is_out=destination == "-")
    if there.target is not None:
        target = Path(here.path)
        what = "directory" if target.is_dir() else "file"
        parent, name = landing(here.path, what, PurePosixPath(there.path).name or "root")
        if not Path(parent).is_dir():
            raise NotFound(f"there is no directory {parent}", hint=f"mkdir -p {parent}")
        count = ask(options, lambda client: _fetch(client, there, Path(parent), name))
        say(f"{counted(count, 'file')} copied to {Path(parent) / name}")
    else:
        local = Path(there.path)
        if not local.exists():
            raise NotFound(f"there is no file or directory {local}")
        name = local.resolve().name
        count, path = ask(options, lambda client: _bring(client, local, name, here))
        say(f"{counted(count, 'file')} copied to {here.target}:{path}")


async def _fetch(client: "Client", there: Place, parent: Path, name: str) -> int:
    import asyncio

    from meshswarm.cli.archives import Reader, unpack
    from meshswarm.model.pipe import PipeKind, PipeWish

    task_id = await _task_of(client, there)
    async with client.pipe(task_id, PipeWish(kind=PipeKind.READ, path=there.path)) as pipe:
        reader = Reader(pipe, asyncio.get_running_loop())
        count = await asyncio.to_thread(unpack, reader, parent, name)
        await _finished(pipe, reader.said, there.path)
    return count


async def _bring(client: "Client", local: Path, name: str, there: Place) -> tuple[int, str]:
    """The number of files that were written, and where."""
    import asyncio

    from meshswarm.cli.archives import Writer, pack
    from meshswarm.model.pipe import PipeKind, PipeWish

    task_id = await _task_of(client, there)
    async with client.pipe(task_id, PipeWish(kind=PipeKind.STAT, path=there.path)) as pipe:
        what = await _finished(pipe, bytearray(), there.path)
    directory, name = landing(there.path, what, name)
    async with client.pipe(task_id, PipeWish(kind=PipeKind.WRITE, path=directory)) as pipe:
        writer = Writer(pipe, asyncio.get_running_loop())
        async with asyncio.TaskGroup() as group:
            packing = group.create_task(asyncio.to_thread(pack, local, name, writer), name="pack")
            await _finished(pipe, bytearray(), directory)
    return packing.result(), str(PurePosixPath(directory) / name)


async def _task_of(client: "Client", place: Place) -> "TaskId":
    from meshswarm.cli.targets import running_task
    from meshswarm.store.view import Table

    view = await client.read(Table.SERVICES, Table.TASKS, Table.NODES)
    return running_task(view, place.target or "").id


async def _finished(pipe: "RemotePipe", said: bytearray, path: str) -> str:
    """What came to stdout until the end; raises what went wrong over there."""
    from meshswarm.errors import MeshswarmError

    came = bytearray()
    while pipe.exit_code is None and (output := await pipe.read()) is not None:
        (said if output.stream == "stderr" else came).extend(output.data)
    if pipe.exit_code:
        message = said.decode(errors="replace").strip() or f"it failed with {pipe.exit_code}"
        raise MeshswarmError(message, where=path)
    return came.decode(errors="replace")
