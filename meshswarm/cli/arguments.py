"""The arguments that many commands take: the names of objects, completed by the shell."""

from typing import Annotated

import typer

from meshswarm.cli.complete import (
    complete_job,
    complete_node,
    complete_service,
    complete_service_or_job,
    complete_stack,
)

Service = Annotated[
    str,
    typer.Argument(
        help="Its full name, or a prefix of its id.",
        metavar="SERVICE",
        autocompletion=complete_service,
    ),
]

Services = Annotated[
    list[str],
    typer.Argument(
        help="Full names, or prefixes of ids.",
        metavar="SERVICE...",
        autocompletion=complete_service,
    ),
]

Stack = Annotated[
    str, typer.Argument(help="The stack's name.", metavar="STACK", autocompletion=complete_stack)
]

Node = Annotated[
    str,
    typer.Argument(
        help="Its name, or a prefix of its id.", metavar="NODE", autocompletion=complete_node
    ),
]

ServiceOrJob = Annotated[
    str,
    typer.Argument(
        help="Its full name, or a prefix of a service's id.",
        metavar="SERVICE|JOB",
        autocompletion=complete_service_or_job,
    ),
]

JobNames = Annotated[
    list[str],
    typer.Argument(
        help="Full names, or prefixes of ids.", metavar="JOB...", autocompletion=complete_job
    ),
]

JobsOrRuns = Annotated[
    list[str],
    typer.Argument(
        help="Full names of jobs, or of runs as `JOB-NUMBER`.",
        metavar="JOB|RUN...",
        autocompletion=complete_service_or_job,
    ),
]

JobName = Annotated[
    str,
    typer.Argument(
        help="Its full name, or a prefix of its id.", metavar="JOB", autocompletion=complete_job
    ),
]
