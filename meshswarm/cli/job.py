"""`meshswarm job`: what runs to its end, by hand or on a schedule; how its runs went."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.arguments import JobName, JobNames, JobsOrRuns
from meshswarm.cli.listing import Filters, Watch, show_list
from meshswarm.cli.log_options import (
    LogFollow,
    LogSince,
    LogTail,
    LogTimestamps,
    LogUntil,
    request_of,
)
from meshswarm.cli.options import WAIT_S, Detach, Options, Output, Timeout, options_of
from meshswarm.cli.talk import now_ms, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshswarm.cli.show import Listing
    from meshswarm.client import Client
    from meshswarm.model.job import Job, Run
    from meshswarm.store.commands import Command
    from meshswarm.store.view import Table, View

app = typer.Typer(no_args_is_help=True, help="See, run and pause jobs, and look at their runs.")


@app.command("ls")
def ls(
    ctx: typer.Context, filters: Filters = None, watch: Watch = False, output: Output = None
) -> None:
    """List the jobs: what runs them, how the last run went, when they fire next.

    Example: `meshswarm job ls --filter state=running -o json`
    """
    from meshswarm.cli import job_rows

    async def make(_: "Client", view: "View") -> "Listing":
        return job_rows.jobs(view, now_ms())

    show_list(options_of(ctx, output), _tables(), make, filters=filters, watch=watch)


@app.command("run")
def run(
    ctx: typer.Context,
    job: JobName,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Run a job now, and wait until it is complete; what it depends on comes first.

    The exit code is 0 if it completed, 1 if it failed.

    Example: `meshswarm job run shop_migrate`
    """
    from meshswarm.cli.reach import ask

    options = options_of(ctx, output)
    try:
        ask(options, lambda client: _run(client, options, job, detach, timeout))
    except KeyboardInterrupt:
        say(f"interrupted: the run goes on; meshswarm job history {job}")
        raise typer.Exit(130) from None


@app.command("history")
def history(
    ctx: typer.Context,
    job: JobName,
    filters: Filters = None,
    watch: Watch = False,
    output: Output = None,
) -> None:
    """List the runs of a job that are kept, the newest first.

    Example: `meshswarm job history shop_backup --filter phase=failed`
    """
    from meshswarm.cli import job_rows

    async def make(_: "Client", view: "View") -> "Listing":
        return job_rows.history(view, view.find_job(job), now_ms())

    show_list(options_of(ctx, output), _tables(), make, filters=filters, watch=watch)


@app.command("inspect")
def inspect(ctx: typer.Context, job: JobName, output: Output = None) -> None:
    """Print all that is known of a job: spec, schedule, runs.

    Example: `meshswarm job inspect shop_backup -o json`
    """
    from meshswarm.cli import job_rows
    from meshswarm.cli.show import show_document

    options = options_of(ctx, output)
    view = _read(options)
    show_document(options, job_rows.document(view, view.find_job(job), now_ms()))


@app.command("logs")
def logs(
    ctx: typer.Context,
    job: JobName,
    number: Annotated[
        int | None,
        typer.Option("--run", min=1, help="Which run.", show_default="the last one"),
    ] = None,
    follow: LogFollow = False,
    tail: LogTail = None,
    since: LogSince = None,
    until: LogUntil = None,
    timestamps: LogTimestamps = False,
    output: Output = None,
) -> None:
    """Print what a run of a job wrote.

    Example: `meshswarm job logs shop_backup --run 7`
    """
    from meshswarm.cli.logs import print_logs
    from meshswarm.cli.reach import ask

    options = options_of(ctx, output)
    view = _read(options)
    chosen = _chosen(view, view.find_job(job), number)
    target = view.services[chosen.service_id].spec.name
    request = request_of([target], follow, tail, since, until, timestamps)
    ask(options, lambda client: print_logs(client, options, request))


@app.command("pause")
def pause(ctx: typer.Context, job: JobName, output: Output = None) -> None:
    """Let a job's schedule rest; what runs goes on, and `job run` still works.

    Example: `meshswarm job pause shop_backup`
    """
    from meshswarm.store.job_commands import PauseJob

    _change(options_of(ctx, output), lambda view: PauseJob(job_id=view.find_job(job).id))


@app.command("resume")
def resume(ctx: typer.Context, job: JobName, output: Output = None) -> None:
    """Let a job's schedule go on from now on; what it missed meanwhile is not made up for.

    Example: `meshswarm job resume shop_backup`
    """
    from meshswarm.store.job_commands import ResumeJob

    _change(options_of(ctx, output), lambda view: ResumeJob(job_id=view.find_job(job).id))


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    targets: JobsOrRuns,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Stop a job's runs that are under way, or one of them, and wait until their tasks are gone.

    They have failed then. A run that waits for its turn begins; `job pause` keeps the next fires
    away. `meshswarm service restart RUN` runs a cancelled one again.

    Example: `meshswarm job cancel shop_backup`
    """
    from meshswarm.store.job_commands import CancelRun

    def make(view: "View") -> "list[tuple[Command, set[str]]]":
        runs = [run for target in targets for run in _under_way(view, target)]
        return [
            (CancelRun(service_id=run.service_id), {view.services[run.service_id].spec.name})
            for run in runs
        ]

    _stop(options_of(ctx, output), make, detach, timeout)


@app.command("rm")
def rm(
    ctx: typer.Context,
    jobs: JobNames,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Remove jobs with all their runs, and wait until what still runs of them is gone.

    Their stack's next deploy brings back those that its file has.

    Example: `meshswarm job rm shop_backup`
    """
    from meshswarm.store.job_commands import RemoveJob

    def make(view: "View") -> "list[tuple[Command, set[str]]]":
        found = [view.find_job(name) for name in jobs]
        return [
            (
                RemoveJob(job_id=job.id),
                {view.services[run.service_id].spec.name for run in view.runs_of(job.id)},
            )
            for job in found
        ]

    _stop(options_of(ctx, output), make, detach, timeout)


# --- parts --------------------------------------------------------------------------------------


def _tables() -> "tuple[Table, ...]":
    from meshswarm.store.view import Table

    return (Table.JOBS, Table.RUNS, Table.SERVICES, Table.TASKS, Table.NODES)


def _read(options: Options) -> "View":
    from meshswarm.cli.reach import ask

    return ask(options, lambda client: client.read(*_tables()))


def _change(options: Options, command: "Callable[[View], Command]") -> None:
    from meshswarm.cli.reach import ask

    ask(options, lambda client: _propose(client, options, command))


async def _propose(
    client: "Client", options: Options, command: "Callable[[View], Command]"
) -> list[str]:
    """Propose it and show what it did; the names of what it touched."""
    from meshswarm.cli.rows import effects
    from meshswarm.cli.show import show
    from meshswarm.store.view import Table

    outcome = await client.propose(command(await client.read(Table.JOBS, Table.SERVICES)))
    show(options, effects(outcome.effects))
    return [name for name, _ in outcome.effects]


async def _run(
    client: "Client", options: Options, job: str, detach: bool, timeout_s: float
) -> None:
    from meshswarm.cli.progress import wait
    from meshswarm.cli.waiting import Goal
    from meshswarm.store.job_commands import RunJob

    names = await _propose(client, options, lambda view: RunJob(job_id=view.find_job(job).id))
    if detach:
        say(f"run {names[-1]} has begun; `meshswarm job history {job}` shows how it went")
        return
    await wait(client, options, Goal(whole=frozenset(names)), timeout_s)
    say(f"run {names[-1]} is complete")


def _stop(
    options: Options,
    make: "Callable[[View], list[tuple[Command, set[str]]]]",
    detach: bool,
    timeout_s: float,
) -> None:
    """Carry out commands that stop runs, and wait until these are gone, by their names."""
    from meshswarm.cli.reach import ask

    async def work(client: "Client") -> None:
        from meshswarm.cli.progress import wait
        from meshswarm.cli.rows import effects
        from meshswarm.cli.show import show
        from meshswarm.cli.waiting import Goal

        made = make(await client.read(*_tables()))  # all of them, before the first is proposed
        done = [one for command, _ in made for one in (await client.propose(command)).effects]
        show(options, effects(done))
        if not detach:
            gone = frozenset(name for _, names in made for name in names)
            await wait(client, options, Goal(gone=gone), timeout_s)

    try:
        ask(options, work)
    except KeyboardInterrupt:
        say("interrupted: the cluster goes on with it; meshswarm job ls")
        raise typer.Exit(130) from None


def _under_way(view: "View", target: str) -> "list[Run]":
    """The runs of a job that are under way, or the one that is meant; there is one at least."""
    from meshswarm.errors import Conflict

    service = view.service_named(target)
    run = view.runs.get(service.id) if service is not None else None
    if run is not None:
        if run.phase.is_over:
            raise Conflict(f"the run {target} is over already: it is {run.phase.value}")
        return [run]
    job = view.find_job(target)
    found = [one for one in view.runs_of(job.id) if not one.phase.is_over]
    if not found:
        name = job.spec.name
        raise Conflict(f"no run of job {name} is under way", hint=f"meshswarm job history {name}")
    return found


def _chosen(view: "View", job: "Job", number: int | None) -> "Run":
    """The run of that number, or the last one."""
    from meshswarm.errors import NotFound

    runs = view.runs_of(job.id)
    found = [one for one in runs if number is None or one.number == number]
    if not found:
        which = "no run" if number is None else f"no run {number}"
        kept = ", ".join(str(one.number) for one in runs)
        raise NotFound(
            f"job {job.spec.name} has {which} that is kept",
            hint=f"kept are {kept}" if kept else f"meshswarm job run {job.spec.name}",
        )
    return found[-1]
