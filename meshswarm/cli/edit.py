"""A service's spec with some of it changed: what the options of `service update` mean. Pure."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import typer
from attrs import evolve

from meshswarm.compose import texts
from meshswarm.compose.report import Unfit
from meshswarm.model.rollout import FailureAction, UpdateOrder
from meshswarm.model.service import Mode, RuntimeKind, ServiceSpec
from meshswarm.store.commands import Command, PutService
from meshswarm.store.view import View

Edit = Callable[[ServiceSpec], ServiceSpec]
E = TypeVar("E", bound=Enum)
T = TypeVar("T")


def put(name: str, edits: Sequence[Edit]) -> Callable[[View], Command]:
    """The command that changes the service so; refused if it changes otherwise meanwhile."""

    def make(view: View) -> Command:
        service = view.find_service(name)
        spec = service.spec
        for edit in edits:
            spec = edit(spec)
        return PutService(spec=spec, version=service.version)

    return make


# --- edits --------------------------------------------------------------------------------------


def task(*, image: str | None, command: tuple[str, ...] | None) -> Edit:
    """Another image or command."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if image is not None and spec.task.runtime is not RuntimeKind.DOCKER:
            raise typer.BadParameter("a plain process has no image", param_hint="--image")
        changed = evolve(
            spec.task,
            image=spec.task.image if image is None else image,
            command=spec.task.command if command is None else command,
        )
        return evolve(spec, task=changed)

    return edit


def replicas(number: int | None) -> Edit:
    """Another number of replicas."""

    def edit(spec: ServiceSpec) -> ServiceSpec:
        if number is None:
            return spec
        if spec.mode is Mode.GLOBAL:
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


def container_labels(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Labels of the containers set and removed."""
    pairs = _pairs(added, "--container-label-add")

    def edit(spec: ServiceSpec) -> ServiceSpec:
        changed = _changed(spec.task.labels, pairs, removed, "--container-label-rm")
        return evolve(spec, task=evolve(spec.task, labels=changed))

    return edit


def constraints(added: Sequence[str], removed: Sequence[str]) -> Edit:
    """Constraints added and removed; the same one twice is one."""
    new = [_parsed(texts.constraint, text, "--constraint-add") for text in added]
    old = [_parsed(texts.constraint, text, "--constraint-rm") for text in removed]

    def edit(spec: ServiceSpec) -> ServiceSpec:
        present = spec.task.constraints
        for one in old:
            if one not in present:
                raise typer.BadParameter(f"there is no {one}", param_hint="--constraint-rm")
        kept = [one for one in present if one not in old]
        changed = (*kept, *(one for one in new if one not in kept))
        return evolve(spec, task=evolve(spec.task, constraints=changed))

    return edit


def policy(**fields: Any) -> Edit:
    """Other settings of rollouts; None leaves as it is."""
    given = {key: value for key, value in fields.items() if value is not None}
    return lambda spec: evolve(spec, update=evolve(spec.update, **given))


# --- words --------------------------------------------------------------------------------------


def words(line: str | None) -> tuple[str, ...] | None:
    """The words of a command line."""
    if line is None:
        return None
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise typer.BadParameter(f"{line!r}: {error}", param_hint="--command") from error


def duration(text: str | None) -> float | None:
    """Seconds of `1m30s`."""
    return None if text is None else _parsed(texts.duration, text, "DURATION")


def order(word: str | None) -> UpdateOrder | None:
    """Which comes first."""
    return _one_of(UpdateOrder, word, "--order")


def failure_action(word: str | None) -> FailureAction | None:
    """What follows too many failures."""
    return _one_of(FailureAction, word, "--failure-action")


def _one_of(kind: type[E], word: str | None, option: str) -> E | None:
    if word is None:
        return None
    try:
        return kind(word)
    except ValueError:
        listed = ", ".join(str(member.value) for member in kind)
        raise typer.BadParameter(f"{word!r} is none of {listed}", param_hint=option) from None


def _parsed(parse: Callable[[str], T], text: str, option: str) -> T:
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
