"""`meshswarm why`: for each slot that is missing or unhealthy, the reason."""

from typing import Annotated

import typer

from meshswarm.cli.complete import complete_service
from meshswarm.cli.options import Format, Output, options_of
from meshswarm.cli.talk import now_ms


def why(
    ctx: typer.Context,
    service: Annotated[
        str,
        typer.Argument(
            help="Its full name, or a prefix of its id.",
            metavar="SERVICE",
            autocompletion=complete_service,
        ),
    ],
    output: Output = None,
) -> None:
    """Say what keeps a service from being whole: slot by slot, and node by node.

    Example: `meshswarm why shop_web`
    """
    from meshswarm.cli.reach import ask
    from meshswarm.cli.rows import plain
    from meshswarm.cli.show import show_document
    from meshswarm.control.why import why as explain

    options = options_of(ctx, output)
    view = ask(options, lambda client: client.read())
    found = view.find_service(service)
    report = explain(view, found, now_ms())
    if options.format in (Format.JSON, Format.YAML):
        show_document(options, plain(report))
