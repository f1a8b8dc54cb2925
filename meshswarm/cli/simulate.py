"""`meshswarm simulate`: what would follow from a failure or a change, in a model of the cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshswarm.cli.complete import complete_node
from meshswarm.cli.options import Format, Options, Output, options_of

if TYPE_CHECKING:
    from meshswarm.answers import Answer
    from meshswarm.client import Client
    from meshswarm.compose.load import Loaded
    from meshswarm.control.liveness import LivenessPolicy
    from meshswarm.sim.adopted import Assumed
    from meshswarm.sim.forecast import Managers, Question
    from meshswarm.store.commands import Command
    from meshswarm.store.view import View

Nodes = list[str] | None


def simulate(
    ctx: typer.Context,
    more: Annotated[
        Nodes, typer.Argument(help="More nodes to kill.", autocompletion=complete_node)
    ] = None,
    kill: Annotated[
        Nodes,
        typer.Option(metavar="NODE", help="It goes dark.", autocompletion=complete_node),
    ] = None,
    drain: Annotated[
        Nodes,
        typer.Option(metavar="NODE", help="It is drained.", autocompletion=complete_node),
    ] = None,
    deploy: Annotated[
        Path | None, typer.Option(metavar="FILE", help="This Compose file is deployed.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Its stack's name.")] = None,
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="It is scaled to so many tasks.")
    ] = None,
    span: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How far to look ahead.")
    ] = "10m",
    start: Annotated[
        str, typer.Option(metavar="DURATION", help="What a task takes to start, its image there.")
    ] = "1s",
    healthy: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="What it then takes to pass its health check."),
    ] = None,
    output: Output = None,
) -> None:
    """Show what would follow if nodes died or were drained, or services were changed.

    The cluster's present state goes on as a model on this host, with the controllers that managers
    run; nothing in the cluster changes. All that is named happens at once, together.

    Example: `meshswarm simulate --kill n2 --for 10m`
    """
    from meshswarm.cli.deploy import load_stack
    from meshswarm.cli.reach import ask
    from meshswarm.sim.forecast import Question

    options = options_of(ctx, output)
    if more and not kill:
        raise typer.BadParameter("say what happens to them: --kill or --drain", param_hint="NODE")
    if not (kill or drain or scale or deploy):
        what = "say what happens: --kill NODE, --drain NODE, --scale SERVICE=N or --deploy FILE"
        raise typer.BadParameter(what, param_hint="simulate")
    span_ms, assumed = _ms(span, "--for", least=1), _assumed(start, healthy)
    scales = [_scaled(text) for text in scale or ()]
    stack = load_stack(deploy, name) if deploy else None
    view, answers = ask(options, _state_and_managers)
    killed = [*(kill or ()), *(more or ())]
    question = Question(
        commands=_commands(view, stack, scales, drain or ()),
        killed=tuple(dict.fromkeys(view.find_node(one).id for one in killed)),
        span_ms=span_ms,
        managers=_managers(view, answers),
        policy=_policy(answers),
        assumed=assumed,
    )
    _show(options, view, question)


async def _state_and_managers(client: "Client") -> "tuple[View, list[Answer]]":
    """All rows, and what each manager says of itself, asked at once."""
    import asyncio

    async with asyncio.TaskGroup() as group:
        view = group.create_task(client.read(), name="read everything")
        answers = group.create_task(client.statuses(), name="ask managers")
    return view.result(), answers.result()


def _show(options: Options, view: "View", question: "Question") -> None:
    from meshswarm.cli import forecasts
    from meshswarm.cli.show import show, show_document
    from meshswarm.cli.talk import now_ms, say
    from meshswarm.sim.forecast import forecast

    found = forecast(view, question, now_ms())
    match options.format:
        case Format.JSON | Format.YAML:
            show_document(options, forecasts.document(view, question, found))
        case Format.NAME:
            for one in found.services:
                for down in one.down:
                    print(down.slot)
        case _:
            for line in forecasts.preamble(view, question):
                say(line)
            for line in forecasts.timeline(found):
                print(line)
            show(options, forecasts.services(found))
            for line in forecasts.what_stays_down(found):
                print(line)


# --- the question -------------------------------------------------------------------------------


def _commands(
    view: "View", stack: "Loaded | None", scales: Sequence[tuple[str, int]], drain: Sequence[str]
) -> "tuple[Command, ...]":
    """What users would ask for, in the order of the options."""
    from meshswarm.model.node import Availability
    from meshswarm.store.commands import PutStack, ScaleService, UpdateNode

    return (
        *([] if stack is None else [*_files(view, stack), PutStack(spec=stack.spec)]),
        *(
            ScaleService(service_id=view.find_service(service).id, replicas=replicas)
            for service, replicas in scales
        ),
        *(
            UpdateNode(node_id=view.find_node(node).id, availability=Availability.DRAIN)
            for node in drain
        ),
    )


def _files(view: "View", stack: "Loaded") -> "list[Command]":
    """The content that a deploy puts before the stack; nothing is sealed for a simulation."""
    import hashlib

    from meshswarm.model.file import FileKind
    from meshswarm.store.commands import PutConfig, PutSecret, PutSecretsKey

    found: list[Command] = []
    key_id = next(iter(view.secrets_keys), "simulated")
    if not view.secrets_keys and stack.spec.secrets:
        found.append(PutSecretsKey(key_id=key_id, sealed_for={}))
    for file in stack.files:
        if file.kind is FileKind.CONFIG:
            found.append(PutConfig(name=file.name, data=file.data))
        elif file.name not in view.secrets:  # whether a present one differs, only managers know
            digest = hashlib.blake2b(file.name.encode(), digest_size=16).digest()
            found.append(PutSecret(name=file.name, sealed=b"", digest=digest, key_id=key_id))
    return found


def _managers(view: "View", answers: "Sequence[Answer]") -> "Managers":
    """Who votes, by the nodes' roles, and who leads, by what the managers say."""
    from meshswarm.cli.managers import leader_of
    from meshswarm.model.node import NodeRole
    from meshswarm.sim.forecast import Managers

    leader = leader_of(answers)
    timeouts = [answer.status.election_timeout_ms for answer in answers if answer.status]
    return Managers(
        voters=frozenset(n.id for n in view.nodes.values() if n.role is NodeRole.MANAGER),
        leader=leader.id if leader else None,
        election_ms=2 * max(timeouts, default=1_000),
    )


def _policy(answers: "Sequence[Answer]") -> "LivenessPolicy":
    """How soon silent nodes are given up: as the leader says, or any manager if none leads."""
    from attrs import fields

    from meshswarm.cli.managers import leader_of
    from meshswarm.control.liveness import LivenessPolicy

    told = [answer.status for answer in answers if answer.status]
    first = leader_of(answers) or next(iter(told), None)
    known = {field.name for field in fields(LivenessPolicy)}
    settings = first.liveness if first else {}
    return LivenessPolicy(**{name: value for name, value in settings.items() if name in known})


def _assumed(start: str, healthy: str | None) -> "Assumed":
    from meshswarm.sim.adopted import Assumed

    healthy_ms = None if healthy is None else _ms(healthy, "--healthy")
    return Assumed(start_ms=_ms(start, "--start"), healthy_ms=healthy_ms)


def _scaled(text: str) -> tuple[str, int]:
    """The service and the number of `SERVICE=N`."""
    service, _, number = text.rpartition("=")
    if not service or not number.isdecimal():
        raise typer.BadParameter(f"{text!r} is not SERVICE=N", param_hint="--scale")
    return service, int(number)


def _ms(text: str, option: str, *, least: int = 0) -> int:
    from meshswarm.compose.report import Unfit
    from meshswarm.compose.texts import duration

    try:
        ms = round(1_000 * duration(text))
    except Unfit as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if ms < least:
        raise typer.BadParameter(f"{text!r} is no time at all", param_hint=option)
    return ms
