"""`meshswarm service update|rollback|pause|resume|restart`: changes of a service, step by step."""

from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.arguments import Service, Services
from meshswarm.cli.options import WAIT_S, Detach, Output, Timeout, options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshswarm.model.service import ServiceSpec
    from meshswarm.store.commands import Command
    from meshswarm.store.view import View

Pairs = list[str] | None
CommandLine = Annotated[
    str | None, typer.Option(help="The command line to run, in words as a shell has them.")
]
EnvAdd = Annotated[
    Pairs, typer.Option(metavar="NAME=VALUE", help="Set a variable; may be repeated.")
]
LabelAdd = Annotated[Pairs, typer.Option(metavar="NAME=VALUE", help="Set a label of the service.")]
LabelRm = Annotated[Pairs, typer.Option(metavar="NAME", help="Remove a label of the service.")]
ContainerLabelAdd = Annotated[
    Pairs, typer.Option(metavar="NAME=VALUE", help="Set a label of its containers.")
]
ContainerLabelRm = Annotated[
    Pairs, typer.Option(metavar="NAME", help="Remove a label of its containers.")
]
Monitor = Annotated[str | None, typer.Option(help="How long a new task is watched, as 30s.")]
ConstraintAdd = Annotated[
    Pairs, typer.Option(metavar="CONSTRAINT", help="As `node.labels.disk==ssd`.")
]


def update(
    ctx: typer.Context,
    service: Service,
    image: Annotated[str | None, typer.Option(help="The image to run.")] = None,
    command: CommandLine = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="How many tasks.")] = None,
    env_add: EnvAdd = None,
    env_rm: Annotated[Pairs, typer.Option(metavar="NAME", help="Remove a variable.")] = None,
    label_add: LabelAdd = None,
    label_rm: LabelRm = None,
    container_label_add: ContainerLabelAdd = None,
    container_label_rm: ContainerLabelRm = None,
    constraint_add: ConstraintAdd = None,
    constraint_rm: Annotated[Pairs, typer.Option(metavar="CONSTRAINT", help="As listed.")] = None,
    parallelism: Annotated[
        int | None, typer.Option(min=0, help="Slots under way at a time; 0: all.")
    ] = None,
    delay: Annotated[str | None, typer.Option(help="Between slots, as 10s.")] = None,
    order: Annotated[str | None, typer.Option(help="stop-first or start-first.")] = None,
    failure_action: Annotated[str | None, typer.Option(help="pause, continue or rollback.")] = None,
    monitor: Monitor = None,
    max_failure_ratio: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the slots that may fail.")
    ] = None,
    step: Annotated[
        bool | None, typer.Option("--step/--no-step", help="Pause after each step.")
    ] = None,
    detach: Detach = False,
    timeout: Timeout = WAIT_S,
    output: Output = None,
) -> None:
    """Change a service, and wait until the change has come to all its tasks.

    What is not named stays as it is. Labels, replicas and the settings of rollouts restart nothing.
    The wait ends with exit code 9 if the change failed and was rolled back.

    Example: `meshswarm service update shop_web --image shop:2 --env-add MODE=fast`
    """
    from meshswarm.cli import edit
    from meshswarm.cli.change import carry_out
    from meshswarm.cli.waiting import Goal

    changes: list[Callable[[ServiceSpec], ServiceSpec]] = [
        edit.task(image=image, command=edit.words(command)),
        edit.replicas(replicas),
        edit.environment(env_add or (), env_rm or ()),
        edit.labels(label_add or (), label_rm or ()),
        edit.container_labels(container_label_add or (), container_label_rm or ()),
        edit.constraints(constraint_add or (), constraint_rm or ()),
        edit.policy(
            parallelism=parallelism,
            delay_s=edit.duration(delay),
            order=edit.order(order),
            failure_action=edit.failure_action(failure_action),
            monitor_s=edit.duration(monitor),
            max_failure_ratio=max_failure_ratio,
            step=step,
        ),
    ]
    carry_out(
        options_of(ctx, output),
        edit.put(service, changes),
        detach=detach,
        timeout_s=timeout,
        goal=Goal(is_step=True),
    )


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
