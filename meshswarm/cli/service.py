"""`meshswarm service`: what runs, where, how many of it, and what it writes."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli import events, update
from meshswarm.cli.arguments import Service, Services
from meshswarm.cli.complete import complete_service, complete_task
from meshswarm.cli.listing import Filters, Watch, show_list
from meshswarm.cli.log_options import (
    LogFollow,
    LogSince,
    LogTail,
    LogTimestamps,
    LogUntil,
    request_of,
)
from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of
from meshswarm.cli.talk import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshswarm.cli.show import Listing
    from meshswarm.client import Client
    from meshswarm.store.commands import Command
    from meshswarm.store.view import View

app = typer.Typer(no_args_is_help=True, help="See, change, scale and remove services.")
for command in (update.update, update.rollback, update.pause, update.resume, update.restart):
    app.command(command.__name__)(command)
app.command("events")(events.service_events)


@app.command("ls")
def ls(
    ctx: typer.Context, filters: Filters = None, watch: Watch = False, output: Output = None
) -> None:
    """List the services and how many of their replicas run.

    Example: `meshswarm service ls --filter stack=shop -o json`
    """
    from meshswarm.cli import rows
    from meshswarm.store.view import Table

    async def make(_: "Client", view: "View") -> "Listing":
        return rows.services(view)

    tables = (Table.SERVICES, Table.TASKS, Table.ROLLOUTS, Table.RUNS)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("ps")
def ps(
    ctx: typer.Context,
    service: Service,
    every: Annotated[
        bool, typer.Option("--all/--live", help="Also tasks that ended, or only live ones.")
    ] = True,
    filters: Filters = None,
    watch: Watch = False,
    output: Output = None,
) -> None:
    """List the tasks of a service, those that ended lately included.

    Example: `meshswarm service ps shop_web --filter state=failed -o wide`
    """
    from meshswarm.cli import rows
    from meshswarm.store.view import Table

    async def make(_: "Client", view: "View") -> "Listing":
        tasks = view.tasks_of(view.find_service(service).id)
        return rows.tasks(view, [t for t in tasks if every or t.is_live], now_ms())

    tables = (Table.SERVICES, Table.TASKS, Table.NODES)
    show_list(options_of(ctx, output), tables, make, filters=filters, watch=watch)


@app.command("inspect")
def inspect(ctx: typer.Context, service: Service, output: Output = None) -> None:
    """Print all that is known of a service: spec, counts, rollout, kept revisions, tasks.

    Example: `meshswarm service inspect shop_web -o json`
    """
    from meshswarm.cli import rows
    from meshswarm.cli.progress import TABLES
    from meshswarm.cli.reach import ask
    from meshswarm.cli.show import show_document

    options = options_of(ctx, output)
    view = ask(options, lambda client: client.read(*TABLES))
    found = view.find_service(service)
    show_document(options, rows.service_document(view, found))


@app.command("scale")
def scale(
    ctx: typer.Context,
    counts: Annotated[
        list[str],
        typer.Argument(
            help="How many replicas each service is to have.",
            metavar="SERVICE=N...",
            autocompletion=complete_service,
        ),
    ],
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Change how many replicas services have, and wait until they run.

    Example: `meshswarm service scale shop_web=5 shop_api=2`
    """
    wanted = [_parse_count(text) for text in counts]
    from meshswarm.cli.change import carry_out
    from meshswarm.cli.waiting import Goal

    commands = [_scale(name, replicas) for name, replicas in wanted]
    goal = Goal(any_revision=True)
    carry_out(options_of(ctx, output), *commands, detach=detach, timeout_s=timeout, goal=goal)


def _parse_count(text: str) -> tuple[str, int]:
    name, separator, number = text.rpartition("=")
    if not separator or not name or not number.isdecimal():
        raise typer.BadParameter(f"{text!r} is not SERVICE=N", param_hint="SERVICE=N")
    return name, int(number)


def _scale(name: str, replicas: int) -> "Callable[[View], Command]":
    from meshswarm.store.commands import ScaleService

    return lambda view: ScaleService(service_id=view.find_service(name).id, replicas=replicas)


@app.command("rm")
def rm(
    ctx: typer.Context,
    services: Services,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Remove services, and wait until their tasks are gone.

    Example: `meshswarm service rm shop_web`
    """
    from meshswarm.cli.change import carry_out

    commands = [_remove(name) for name in services]
    carry_out(options_of(ctx, output), *commands, detach=detach, timeout_s=timeout)


def _remove(name: str) -> "Callable[[View], Command]":
    from meshswarm.store.commands import RemoveService

    return lambda view: RemoveService(service_id=view.find_service(name).id)


@app.command("logs")
def logs(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            help="Services, SERVICE.SLOT, or ids of tasks.",
            metavar="SERVICE|TASK...",
            autocompletion=complete_task,
        ),
    ],
    follow: LogFollow = False,
    tail: LogTail = None,
    since: LogSince = None,
    until: LogUntil = None,
    timestamps: LogTimestamps = False,
    output: Output = None,
) -> None:
    """Print what tasks wrote on whatever nodes, by time; each line says which task wrote it.

    A task whose node cannot be asked is told on stderr, and hides nothing of the others.

    Example: `meshswarm service logs shop_web -f --tail 20 --since 10m`
    """
    from meshswarm.cli.logs import print_logs
    from meshswarm.cli.reach import ask

    options = options_of(ctx, output)
    request = request_of(targets, follow, tail, since, until, timestamps)
    ask(options, lambda client: print_logs(client, options, request))
