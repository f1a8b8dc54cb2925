"""A service's spec with some of it changed: what the options of `service update` mean. Pure."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import typer
from attrs import evolve

from meshswarm.cli.networks import as_known
from meshswarm.compose import texts
from meshswarm.compose.report import Unfit
from meshswarm.model.rollout import FailureAction, UpdateOrder
from meshswarm.model.service import HealthCheck, Mode, RuntimeKind, ServiceSpec
from meshswarm.store.commands import Command, PutService, RestartService
from meshswarm.store.view import View

Edit = Callable[[ServiceSpec], ServiceSpec]
E = TypeVar("E", bound=Enum)
T = TypeVar("T")


def put(name: str, edits: Sequence[Edit]) -> Callable[[View], Command]:
    """The command that changes the service so; refused if it changes otherwise meanwhile."""

    def make(view: View) -> Command:
        service = view.find_service(name)
        spec = as_known(view, service.spec, _edited(service.spec, edits))
        return PutService(spec=spec, version=service.version)

    return make


def forced(name: str, edits: Sequence[Edit]) -> Callable[[View], Command | None]:
    """The command that replaces the service's tasks, unless these edits do so anyway."""

    def make(view: View) -> Command | None:
        service = view.find_service(name)
        spec = _edited(service.spec, edits)
        return RestartService(service_id=service.id) if spec.task == service.spec.task else None

    return make


def _edited(spec: ServiceSpec, edits: Sequence[Edit]) -> ServiceSpec:
    for edit in edits:
        spec = edit(spec)
    return spec


# --- edits --------------------------------------------------------------------------------------


def task(**fields: Any) -> Edit:
    """Other fields of the task."""
    return lambda spec: evolve(spec, task=evolve(spec.task, **fields))


def image(name: str) -> Edit:
    """Another image."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.task.runtime is not RuntimeKind.DOCKER:
            raise typer.BadParameter("a plain process has no image", param_hint="--image")
        return evolve(spec, task=evolve(spec.task, image=name))

    return edit


def resources(which: str, **fields: int) -> Edit:
    """Another amount of its `limits` or `reservations`."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        amounts = evolve(getattr(spec.task, which), **fields)
        return evolve(spec, task=evolve(spec.task, **{which: amounts}))

    return edit


def restart(**fields: Any) -> Edit:
    """Other settings of when an ended task is replaced; the longest delay is no less than any."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        changed = evolve(spec.task.restart, **fields)
        changed = evolve(changed, max_delay_s=max(changed.delay_s, changed.max_delay_s))
        return evolve(spec, task=evolve(spec.task, restart=changed))

    return edit


def healthcheck(**fields: Any) -> Edit:
    """Other settings of the health check that it has."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.task.healthcheck is None:
            raise typer.BadParameter(
                "it has no health check of its own; say its command too", param_hint="--health-cmd"
            )
        # As in Docker and Compose, a 0 stands for the default.
        defaults = HealthCheck(test=spec.task.healthcheck.test)
        given = {name: value or getattr(defaults, name) for name, value in fields.items()}
        check = evolve(spec.task.healthcheck, **given)
        return evolve(spec, task=evolve(spec.task, healthcheck=check))

    return edit


def health_command(line: str) -> Edit:
    """Another command that says whether a task is well; an empty one leaves it to the image."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        test = ("CMD-SHELL", line)
        present = spec.task.healthcheck or HealthCheck(test=test)
        check = evolve(present, test=test) if line else None
        changed = evolve(spec.task, healthcheck=check, healthcheck_disabled=False)
        return evolve(spec, task=changed)

    return edit


def no_healthcheck(is_so: bool) -> Edit:
    """Without a health check, even if the image has one."""
    return lambda spec: (
        evolve(spec, task=evolve(spec.task, healthcheck=None, healthcheck_disabled=True))
        if is_so
        else spec
    )


def placement(**fields: Any) -> Edit:
    """Other settings of where its tasks had best run."""
    return lambda spec: evolve(
        spec, task=evolve(spec.task, placement=evolve(spec.task.placement, **fields))
    )


def most_missing(text: str) -> Edit:
    """Another number or share of its tasks that may be missing; empty: any."""
    both = parsed(texts.most_missing, text, "--max-unavailable") if text else (None, None)
    return lambda spec: evolve(spec, max_unavailable=both[0], max_unavailable_percent=both[1])


def max_concurrent(number: int) -> Edit:
    """Another number of a job's tasks under way at a time."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.mode is not Mode.REPLICATED_JOB:
            raise typer.BadParameter("it is for replicated jobs", param_hint="--max-concurrent")
        return evolve(spec, max_concurrent=number)

    return edit


def priority(number: int) -> Edit:
    """Another priority."""
    return lambda spec: evolve(spec, priority=number)


def replicas(number: int) -> Edit:
    """Another number of replicas."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if spec.mode.is_global:
            raise typer.BadParameter("a global service has no replicas", param_hint="--replicas")
        return evolve(spec, replicas=number)

    return edit


def environment(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Variables set and removed."""
    pairs = _pairs(added, "--env-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        changed = _changed(spec.task.environment, pairs, removed, "--env-rm")
        return evolve(spec, task=evolve(spec.task, environment=changed))

    return edit


def labels(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Labels of the service set and removed."""
    pairs = _pairs(added, "--label-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        return evolve(spec, labels=_changed(spec.labels, pairs, removed, "--label-rm"))

    return edit


def labelled(
    present: Mapping[str, str], added: Sequence[str], removed: Sequence[str]
) -> dict[str, str]:
    """A node's labels with some set and some removed."""
    return _changed(present, _pairs(added, "--label-add"), removed, "--label-rm")


def container_labels(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Labels of the containers set and removed."""
    pairs = _pairs(added, "--container-label-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        changed = _changed(spec.task.labels, pairs, removed, "--container-label-rm")
        return evolve(spec, task=evolve(spec.task, labels=changed))

    return edit


def constraints(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Constraints added and removed; the same one twice is one."""
    new = [parsed(texts.constraint, text, "--constraint-add") for text in added]
    old = [parsed(texts.constraint, text, "--constraint-rm") for text in removed]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = spec.task.constraints
        for one in old:
            if one not in present:
                raise typer.BadParameter(f"there is no {one}", param_hint="--constraint-rm")
        kept = [one for one in present if one not in old]
        changed = (*kept, *(one for one in new if one not in kept))
        return evolve(spec, task=evolve(spec.task, constraints=changed))

    return edit


def policy(which: str, **fields: Any) -> Edit:
    """Other settings of rollouts (`update`) or of the way back (`rollback`)."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        changed = evolve(getattr(spec, which), **fields)
        if changed.order is UpdateOrder.START_FIRST and spec.task.stop_after_s is not None:
            raise typer.BadParameter(
                "its `stop_after` lets at most one task of a slot run, and start-first two",
                param_hint="--order" if which == "update" else "--rollback-order",
            )
        return evolve(spec, **{which: changed})

    return edit


# --- words --------------------------------------------------------------------------------------


def words(line: str, option: str) -> tuple[str, ...]:
    """The words of a command line."""
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise typer.BadParameter(f"{line!r}: {error}", param_hint=option) from error


def cpus(text: str) -> int:
    """Billionths of a processor in `0.5`."""
    return parsed(texts.cpus, text, "--limit-cpu, --reserve-cpu")


def size(text: str) -> int:
    """Bytes in `256M`."""
    return parsed(texts.size, text, "--limit-memory, --reserve-memory")


def one_of(kind: type[E], word: str, option: str) -> E:
    """The member that the word names."""
    try:
        return kind(word)
    except ValueError:
        listed = ", ".join(str(member.value) for member in kind)
        raise typer.BadParameter(f"{word!r} is none of {listed}", param_hint=option) from None


def action_of_way_back(word: str) -> FailureAction:
    """What follows too many failures on the way back, which has no way back itself."""
    action = one_of(FailureAction, word, "--rollback-failure-action")
    if action is FailureAction.ROLLBACK:
        raise typer.BadParameter(
            "must be pause or continue: it goes back already",
            param_hint="--rollback-failure-action",
        )
    return action


def parsed(parse: Callable[[str], T], text: str, option: str) -> T:
    """What the text means, as the Compose file would have it."""
    try:
        return parse(text)
    except Unfit as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        found[name] = value
    return found


def _changed(
    present: Mapping[str, str], added: Mapping[str, str], removed: Sequence[str], option: str
) -> dict[str, str]:
    for name in removed:
        if name not in present:
            raise typer.BadParameter(f"there is no {name!r}", param_hint=option)
    return {key: value for key, value in present.items() if key not in removed} | dict(added)
