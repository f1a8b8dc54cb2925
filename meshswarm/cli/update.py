"""`meshswarm service update|rollback|pause|resume|restart`: changes of a service, step by step."""

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshswarm.cli import update_flags
from meshswarm.cli.arguments import Service, Services
from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshswarm.store.commands import Command
    from meshswarm.store.view import View


def update(
    ctx: typer.Context,
    service: Service,
    force: Annotated[
        bool, typer.Option("--force", help="Replace its tasks even if nothing changed.")
    ] = False,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
    **given: Any,
) -> None:
    """Change a service, and wait until the change has come to all its tasks.

    What is not named stays as it is. Labels, replicas, priority and the settings of rollouts
    restart nothing. The wait ends with exit code 9 if the change failed and was rolled back.

    Example: `meshswarm service update shop_web --image shop:2 --env-add MODE=fast`
    """
    from meshswarm.cli import edit
    from meshswarm.cli.change import carry_out
    from meshswarm.cli.waiting import Goal

    changes = update_flags.edits(given)
    carry_out(
        options_of(ctx, output),
        edit.put(service, changes),
        *([edit.forced(service, changes)] if force else []),
        detach=detach,
        timeout_s=timeout,
        goal=Goal(is_step=True, is_restart=force),
    )


def _with_options(command: "Callable[..., None]") -> None:
    """Let typer see the table's options between the command's own."""
    signature = inspect.signature(command)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    told = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in update_flags.OPTIONS.items()
    ]
    ordered = [own[0], own[1], *told, *(one.replace(kind=one.KEYWORD_ONLY) for one in own[2:])]
    command.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    command.__annotations__ |= update_flags.OPTIONS


_with_options(update)


def rollback(
    ctx: typer.Context,
    service: Service,
    to: Annotated[
        int | None,
        typer.Option(
            metavar="REVISION",
            min=1,
            help="Any kept revision; `service inspect` lists them.",
            show_default="the one before the last rollout",
        ),
    ] = None,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Make an earlier revision current again, exactly as it was, and wait until it runs.

    Example: `meshswarm service rollback shop_web --to 3`
    """
    from meshswarm.cli.change import carry_out
    from meshswarm.store.commands import RollBackService

    def make(view: "View") -> "Command":
        found = view.find_service(service)
        last, number = view.rollouts.get(found.id), to
        if number is None and last is not None and not last.phase.goes_back:
            number = last.stable_revision if last.stable_revision != found.revision else None
        return RollBackService(service_id=found.id, revision=number)

    carry_out(options_of(ctx, output), make, detach=detach, timeout_s=timeout)


def pause(ctx: typer.Context, service: Service, output: Output = None) -> None:
    """Let no further task be replaced by the rollout under way; what was begun is finished.

    Example: `meshswarm service pause shop_web`
    """
    from meshswarm.cli.change import carry_out
    from meshswarm.store.commands import PauseRollout

    def make(view: "View") -> "Command":
        return PauseRollout(service_id=view.find_service(service).id)

    carry_out(options_of(ctx, output), make, detach=True, timeout_s=0)


def resume(
    ctx: typer.Context,
    service: Service,
    step: Annotated[
        bool | None,
        typer.Option(
            "--step/--all",
            help="One step, or all the way.",
            show_default="as the service says",
        ),
    ] = None,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Go on with a paused rollout, and wait until it is done, or its next step.

    Example: `meshswarm service resume shop_web --step`
    """
    from meshswarm.cli.change import carry_out
    from meshswarm.cli.waiting import Goal
    from meshswarm.store.commands import ResumeRollout

    def make(view: "View") -> "Command":
        found = view.find_service(service)
        last = view.rollouts.get(found.id)
        goes_back = last is not None and last.phase.goes_back
        policy = found.spec.rollback if goes_back else found.spec.update
        return ResumeRollout(service_id=found.id, step=policy.step if step is None else step)

    goal = Goal(is_step=step is not False)
    carry_out(options_of(ctx, output), make, detach=detach, timeout_s=timeout, goal=goal)


def restart(
    ctx: typer.Context,
    services: Services,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Replace every task by one like it, as an update would, and wait until all run.

    Example: `meshswarm service restart shop_web`
    """
    from meshswarm.cli.change import carry_out
    from meshswarm.cli.waiting import Goal
    from meshswarm.store.commands import RestartService

    def making(name: str) -> "Callable[[View], Command]":
        return lambda view: RestartService(service_id=view.find_service(name).id)

    carry_out(
        options_of(ctx, output),
        *(making(name) for name in services),
        detach=detach,
        timeout_s=timeout,
        goal=Goal(is_step=True, is_restart=True),
    )
