"""What every command is told besides its own arguments: cluster, output format, colour."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from attrs import evolve, frozen

if TYPE_CHECKING:
    from meshswarm.client import Client


class Format(Enum):
    """How a listing is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class When(Enum):
    """Whether output has colours; AUTO means on a terminal, unless NO_COLOR is set."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@frozen(kw_only=True)
class Options:
    """The options that stand before the command, and how the cluster is reached."""

    connect: Callable[[Path | None], AbstractAsyncContextManager["Client"]]
    """Given the context file (None: this host's default), a client of that cluster."""
    context: Path | None = None
    format: Format = Format.TABLE
    color: When = When.AUTO


Output = Annotated[
    Format | None,
    typer.Option("--output", "-o", help="How to print it.", show_default="table"),
]
"""The option `-o`, which every listing takes as well as `meshswarm` itself."""

Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Do not wait for it; the cluster goes on by itself.")
]

Timeout = Annotated[
    float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait for it.")
]

WAIT_S = 300.0
"""How long `deploy`, `scale` and `rm` wait unless told otherwise."""


def options_of(ctx: typer.Context, output: Format | None = None) -> Options:
    """The options of this call; `output` is the command's own `-o`."""
    options = ctx.find_object(Options)
    assert options is not None, "the root command makes the options"
    return options if output is None else evolve(options, format=output)
