"""`meshswarm config|secret create|ls|inspect|update|rm`: files that the cluster keeps for services.

Each command is written once; which of the two is meant is the name of the group it was called in.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.complete import complete_file
from meshswarm.cli.listing import Filters, Watch, show_listings
from meshswarm.cli.options import WAIT_S, Detach, Options, Output, Timeout, options_of
from meshswarm.cli.talk import age, now_ms, say

if TYPE_CHECKING:
    from meshswarm.answers import FileRow
    from meshswarm.cli.show import Listing, Row
    from meshswarm.client import Client
    from meshswarm.model.config import Config
    from meshswarm.model.file import FileKind, Secret
    from meshswarm.store.commands import Command

OWNER_LABEL = "io.meshswarm.stack"
"""Which stack's file defines it."""

Name = Annotated[str, typer.Argument(help="Its name.", metavar="NAME")]
Known = Annotated[
    str, typer.Argument(help="Its name.", metavar="NAME", autocompletion=complete_file)
]
File = Annotated[
    Path | None,
    typer.Argument(help="The file with its content; - is the standard input.", metavar="FILE"),
]
Literal = Annotated[
    str | None,
    typer.Option("--literal", metavar="TEXT", help="The content itself; a shell remembers it."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", metavar="NAME=VALUE", help="May be repeated.")
]


def add_to(app: typer.Typer, kind: str) -> None:
    """Give a group its commands."""
    example = "nginx.conf" if kind == "config" else "db_password"
    app.command("create", help=_CREATE.format(kind=kind, example=example))(create)
    app.command("ls", help=_LS.format(kind=kind))(ls)
    app.command("inspect", help=_INSPECT.format(kind=kind, example=example))(inspect)
    app.command("update", help=_UPDATE.format(kind=kind, example=example))(update)
    app.command("rm", help=_RM.format(kind=kind, example=example))(rm)


_CREATE = """Keep a {kind} in the cluster, for services to use as a file.

Example: `meshswarm {kind} create {example} ./{example}`"""
_LS = """List the {kind}s and which services use them; never what they hold.

Example: `meshswarm {kind} ls -o json`"""
_INSPECT = """Print all that may be known of a {kind}.

Example: `meshswarm {kind} inspect {example}`"""
_UPDATE = """Give a {kind} other content or labels, and roll other content out to its services.

Services that say `on_config_change` have it changed under their running tasks instead. What a
service had before is kept for as long as it can be rolled back to.

Example: `meshswarm {kind} update {example} ./{example}`"""
_RM = """Remove {kind}s that no service uses.

Example: `meshswarm {kind} rm {example}`"""


def create(
    ctx: typer.Context,
    name: Name,
    file: File = None,
    literal: Literal = None,
    label: Labels = None,
    output: Output = None,
) -> None:
    """See `_CREATE`."""
    from meshswarm.cli.reach import ask
    from meshswarm.ids import Version

    options, kind = options_of(ctx, output), _kind(ctx)
    _check_name(name)
    content, labels = _content(file, literal), _labels(label or ())

    async def work(client: "Client") -> None:
        command = await put(client, kind, name, content, labels, Version(0))
        _show_effects(options, (await client.propose(command)).effects)

    ask(options, work)


def ls(
    ctx: typer.Context, filters: Filters = None, watch: Watch = False, output: Output = None
) -> None:
    """See `_LS`."""
    options, kind = options_of(ctx, output), _kind(ctx)

    async def once(client: "Client") -> "Listing":
        return listing(await client.files(kind), now_ms())

    async def ever(client: "Client") -> "AsyncGenerator[Listing, None]":
        async with aclosing(client.watch_files(kind)) as newer:
            async for rows in newer:
                yield listing(rows, now_ms())

    show_listings(options, once, ever, filters=filters, watch=watch)


def inspect(ctx: typer.Context, name: Known, output: Output = None) -> None:
    """See `_INSPECT`."""
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show_document

    options, kind = options_of(ctx, output), _kind(ctx)

    async def work(client: "Client") -> "Row":
        rows = [row for row in await client.files(kind) if row.name == name]
        document = dict(_row(rows[0])) if rows else {}
        present = await _present(client, kind, name)
        return document | _shown(present)

    show_document(options, ask(options, work))


def update(
    ctx: typer.Context,
    name: Known,
    file: File = None,
    literal: Literal = None,
    label_add: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a label.")
    ] = None,
    label_rm: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Remove a label.")
    ] = None,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """See `_UPDATE`."""
    from meshswarm.cli.reach import ask

    options, kind = options_of(ctx, output), _kind(ctx)
    added, removed = _labels(label_add or ()), label_rm or ()
    if file is None and literal is None and not added and not removed:
        raise typer.BadParameter("name a file, or labels", param_hint="FILE")
    content = None if file is None and literal is None else _content(file, literal)

    async def work(client: "Client") -> None:
        from meshswarm.cli.progress import wait
        from meshswarm.cli.waiting import Goal
        from meshswarm.store.commands import UseNewest

        present = await _present(client, kind, name)
        for key in removed:
            if key not in present.labels:
                raise typer.BadParameter(f"there is no {key!r}", param_hint="--label-rm")
        labels = {key: text for key, text in present.labels.items() if key not in removed} | added
        command = await put(client, kind, name, content, labels, present.version, present)
        effects = (await client.propose(command)).effects
        done: tuple[tuple[str, str], ...] = ()
        if content is not None:
            done = (await client.propose(UseNewest(kind=kind, name=name))).effects
        _show_effects(options, (*effects, *done))
        rolled = frozenset(service for service, effect in done if effect != "unchanged")
        if rolled and not detach:
            await wait(client, options, Goal(whole=rolled, is_step=True), timeout)

    try:
        ask(options, work)
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm service ls")
        raise typer.Exit(130) from None


def rm(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(help="Names.", metavar="NAME...", autocompletion=complete_file)
    ],
    output: Output = None,
) -> None:
    """See `_RM`."""
    from meshswarm.cli.reach import ask
    from meshswarm.model.file import FileKind
    from meshswarm.store.commands import RemoveConfig, RemoveSecret

    options, kind = options_of(ctx, output), _kind(ctx)
    remove = RemoveConfig if kind is FileKind.CONFIG else RemoveSecret

    async def work(client: "Client") -> list[tuple[str, str]]:
        return [
            effect for name in names for effect in (await client.propose(remove(name=name))).effects
        ]

    _show_effects(options, ask(options, work))


# --- with the cluster -----------------------------------------------------------------------------


async def put(
    client: "Client",
    kind: "FileKind",
    name: str,
    content: bytes | None,
    labels: dict[str, str],
    version: int | None = None,
    present: "Config | Secret | None" = None,
) -> "Command":
    """The command that gives it this content, or (None) leaves it what is `present`."""
    from meshswarm.ids import Version
    from meshswarm.model.config import Config
    from meshswarm.model.file import FileKind, Secret
    from meshswarm.store.commands import PutConfig, PutSecret

    if content is not None:
        _check_size(kind, name, len(content))
    at = None if version is None else Version(version)
    if content is None and isinstance(present, Secret):
        return PutSecret(
            name=name,
            sealed=present.sealed,
            digest=present.digest,
            key_id=present.key_id,
            labels=labels,
            version=at,
        )
    if content is None:
        assert isinstance(present, Config), "without new content there is an old one"
        content = present.data
    if kind is FileKind.CONFIG:
        return PutConfig(name=name, data=content, labels=labels, version=at)
    return await client.sealed(name, content, labels=labels, version=at)


async def _present(client: "Client", kind: "FileKind", name: str) -> "Config | Secret":
    from meshswarm.errors import NotFound

    row = await row_of(client, kind, name)
    if row is None:
        raise NotFound(f"there is no {kind.value} {name!r}", hint=f"meshswarm {kind.value} ls")
    return row


async def row_of(client: "Client", kind: "FileKind", name: str) -> "Config | Secret | None":
    """The config or secret of that name."""
    from meshswarm.model.config import Config
    from meshswarm.model.file import FileKind, Secret
    from meshswarm.store.view import Table

    table = Table.CONFIGS if kind is FileKind.CONFIG else Table.SECRETS
    row = await client.row(table, name)
    assert row is None or isinstance(row, Config | Secret), f"{table} holds {row!r:.50}"
    return row


# --- what is typed --------------------------------------------------------------------------------


def _kind(ctx: typer.Context) -> "FileKind":
    from meshswarm.model.file import FileKind

    assert ctx.parent is not None, "the commands are in a group"
    return FileKind(ctx.parent.info_name)


def _check_name(name: str) -> None:
    from meshswarm.compose.files import full_name
    from meshswarm.compose.report import Unfit

    try:
        full_name(name)
    except Unfit as error:
        raise typer.BadParameter(str(error), param_hint="NAME") from None


def _check_size(kind: "FileKind", name: str, size: int) -> None:
    """Raise that it is too large before it is sent: what is far too large finds no way at all; or
    that a secret is empty: what was to write it has failed, as in `make-password | ...`."""
    from meshswarm.compose.files import MAX_BYTES
    from meshswarm.errors import Invalid
    from meshswarm.model.file import FileKind

    if not size and kind is FileKind.SECRET:
        hint = "see what was to write its content"
        raise Invalid(f"secret {name} would be empty", hint=hint)
    most = MAX_BYTES[kind]
    if size > most:
        raise Invalid(
            f"{kind.value} {name} holds {size} bytes; at most {most} are kept",
            hint="split it, or have it in the image or a volume",
        )


def _content(file: Path | None, literal: str | None) -> bytes:
    import sys

    from meshswarm.errors import Invalid, NotFound

    if (file is None) == (literal is None):
        raise typer.BadParameter("name a FILE (- is the standard input), or use --literal")
    if literal is not None:
        return literal.encode()
    if str(file) == "-":
        return sys.stdin.buffer.read()
    assert file is not None
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}") from error


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--label")
        if name.startswith("io.meshswarm."):
            raise typer.BadParameter(f"{name} is meshswarm's own", param_hint="--label")
        found[name] = value
    return found


# --- what is shown --------------------------------------------------------------------------------


def listing(rows: Sequence["FileRow"], at_ms: int) -> "Listing":
    """Configs or secrets; the keys are the JSON contract."""
    from meshswarm.cli.show import Column, Listing

    updated = {row.name: row.updated_at_ms for row in rows}
    return Listing(
        columns=(
            Column("NAME", "name"),
            Column("BYTES", "bytes"),
            Column("UPDATED", lambda row: age(updated[str(row["name"])], at_ms)),
            Column("USED BY", "used_by"),
            Column("LABELS", "labels", is_wide=True),
            Column("VERSION", "version", is_wide=True),
            Column("KEPT", "kept", is_wide=True),
        ),
        rows=[_row(row) for row in rows],
    )


def _row(row: "FileRow") -> "Row":
    from meshswarm.cli.rows import instant

    return {
        "name": row.name,
        "bytes": row.bytes,
        "labels": dict(row.labels),
        "version": row.version,
        "created_at": instant(row.created_at_ms),
        "updated_at": instant(row.updated_at_ms),
        "used_by": list(row.users),
        "kept": row.kept,
    }


def _shown(row: "Config | Secret") -> dict[str, object]:
    """A config's content, as text if it is one; nothing of a secret."""
    import base64

    from meshswarm.model.config import Config

    if not isinstance(row, Config):
        return {}
    try:
        return {"data": row.data.decode()}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(row.data).decode()}


def _show_effects(options: Options, effects: Sequence[tuple[str, str]]) -> None:
    from meshswarm.cli.rows import effects as listed
    from meshswarm.cli.show import show

    show(options, listed(effects))
