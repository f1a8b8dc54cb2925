"""The options of `service update`: a row for each, with its type and the edit that it means.

Rows stand in the order in which help lists them and edits are made: what is removed before what is
added.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meshswarm.cli.edit import Edit


def _option(kind: Any, help_: str, metavar: str | None = None, **more: Any) -> Any:
    return Annotated[kind | None, typer.Option(help=help_, metavar=metavar, **more)]


def _texts(metavar: str, help_: str) -> Any:
    return _option(list[str], f"{help_}; may be repeated.", metavar)


_TIME, _PAIR, _NAME = "DURATION", "NAME=VALUE", "NAME"

OPTIONS: Mapping[str, Any] = {
    "image": _option(str, "The image to run."),
    "command": _option(str, "The command line to run, in words as a shell has them."),
    "entrypoint": _option(str, "The entrypoint, in words as a shell has them; empty: none."),
    "user": _option(str, "Whom to run as.", "USER[:GROUP]"),
    "workdir": _option(str, "The working directory.", "PATH"),
    "replicas": _option(int, "How many tasks.", min=0),
    "env_rm": _texts(_NAME, "Remove a variable"),
    "env_add": _texts(_PAIR, "Set a variable"),
    "label_rm": _texts(_NAME, "Remove a label of the service"),
    "label_add": _texts(_PAIR, "Set a label of the service"),
    "container_label_rm": _texts(_NAME, "Remove a label of its containers"),
    "container_label_add": _texts(_PAIR, "Set a label of its containers"),
    "constraint_rm": _texts("CONSTRAINT", "Remove a constraint, as listed"),
    "constraint_add": _texts("CONSTRAINT", "As `node.labels.disk==ssd`"),
    "limit_cpu": _option(str, "Processors it may use, as 0.5; 0: any.", "CPUS"),
    "limit_memory": _option(str, "Memory it may use, as 256M; 0: any.", "BYTES"),
    "reserve_cpu": _option(str, "Processors kept for it.", "CPUS"),
    "reserve_memory": _option(str, "Memory kept for it.", "BYTES"),
    "restart_condition": _option(str, "any, on-failure or none.", "WORD"),
    "restart_delay": _option(str, "Before the second restart; doubles then.", _TIME),
    "restart_max_attempts": _option(int, "Restarts of a slot; 0: no limit.", min=0),
    "stop_grace_period": _option(str, "From the stop signal to SIGKILL.", _TIME),
    "stop_signal": _option(str, "The signal that asks it to end.", "SIGNAL"),
    "priority": _option(int, "Whose tasks may take the place of others'."),
    "parallelism": _option(int, "Slots under way at a time; 0: all.", min=0),
    "delay": _option(str, "Between slots, as 10s.", _TIME),
    "order": _option(str, "stop-first or start-first.", "WORD"),
    "failure_action": _option(str, "pause, continue or rollback.", "WORD"),
    "monitor": _option(str, "How long a new task is watched, as 30s.", _TIME),
    "max_failure_ratio": _option(float, "Share of the slots that may fail.", min=0, max=1),
    "step": Annotated[bool | None, typer.Option("--step/--no-step", help="Pause after each step.")],
    "rollback_parallelism": _option(int, "The same for the way back.", min=0),
    "rollback_delay": _option(str, "The same for the way back.", _TIME),
    "rollback_order": _option(str, "The same for the way back.", "WORD"),
    "rollback_monitor": _option(str, "The same for the way back.", _TIME),
    "rollback_max_failure_ratio": _option(float, "The same for the way back.", min=0, max=1),
}
"""By parameter name; `env_add` is `--env-add`. An option that is not given changes nothing."""


def edits(given: Mapping[str, Any]) -> "list[Edit]":
    """What the given options mean, in the order of the rows; raises usage errors."""
    table = _table()
    assert table.keys() == OPTIONS.keys(), f"one edit an option: {table.keys() ^ OPTIONS.keys()}"
    return [table[name](given[name]) for name in OPTIONS if given.get(name) is not None]


def _table() -> "Mapping[str, Callable[[Any], Edit]]":
    from meshswarm.cli import edit
    from meshswarm.compose import texts
    from meshswarm.model.rollout import FailureAction, UpdateOrder
    from meshswarm.model.service import RestartCondition

    def read(parse: Callable[[str], Any], option: str) -> Callable[[str], Any]:
        return lambda text: edit.parsed(parse, text, option)

    def word(kind: Any, option: str) -> Callable[[str], Any]:
        return lambda text: edit.one_of(kind, text, option)

    def as_is(value: object) -> object:
        return value

    def task(field: str, made: Callable[[Any], Any] = as_is) -> "Callable[[Any], Edit]":
        return lambda value: edit.task(**{field: made(value)})

    def policy(which: str, field: str, made: Callable[[Any], Any] = as_is) -> Any:
        return lambda value: edit.policy(which, **{field: made(value)})

    def split(option: str) -> Callable[[str], tuple[str, ...]]:
        return lambda line: edit.words(line, option)

    ahead: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "parallelism": ("parallelism", as_is),
        "delay": ("delay_s", read(texts.duration, "--delay")),
        "order": ("order", word(UpdateOrder, "--order")),
        "monitor": ("monitor_s", read(texts.duration, "--monitor")),
        "max_failure_ratio": ("max_failure_ratio", as_is),
    }
    return {
        "image": edit.image,
        "command": task("command", split("--command")),
        "entrypoint": task("entrypoint", split("--entrypoint")),
        "user": task("user"),
        "workdir": task("working_dir"),
        "replicas": edit.replicas,
        "env_rm": lambda names: edit.environment((), names),
        "env_add": lambda pairs: edit.environment(pairs, ()),
        "label_rm": lambda names: edit.labels((), names),
        "label_add": lambda pairs: edit.labels(pairs, ()),
        "container_label_rm": lambda names: edit.container_labels((), names),
        "container_label_add": lambda pairs: edit.container_labels(pairs, ()),
        "constraint_rm": lambda listed: edit.constraints((), listed),
        "constraint_add": lambda listed: edit.constraints(listed, ()),
        "limit_cpu": lambda text: edit.resources("limits", nano_cpus=edit.cpus(text)),
        "limit_memory": lambda text: edit.resources("limits", memory_bytes=edit.size(text)),
        "reserve_cpu": lambda text: edit.resources("reservations", nano_cpus=edit.cpus(text)),
        "reserve_memory": lambda t: edit.resources("reservations", memory_bytes=edit.size(t)),
        "restart_condition": lambda text: edit.restart(
            condition=edit.one_of(RestartCondition, text, "--restart-condition")
        ),
        "restart_delay": lambda text: edit.restart(
            delay_s=edit.parsed(texts.duration, text, "--restart-delay")
        ),
        "restart_max_attempts": lambda number: edit.restart(max_attempts=number),
        "stop_grace_period": task(
            "stop_grace_period_s", read(texts.duration, "--stop-grace-period")
        ),
        "stop_signal": task("stop_signal", read(texts.signal, "--stop-signal")),
        "priority": edit.priority,
        "failure_action": policy(
            "update", "failure_action", word(FailureAction, "--failure-action")
        ),
        "step": policy("update", "step"),
        **{name: policy("update", *made) for name, made in ahead.items()},
        **{f"rollback_{name}": policy("rollback", *made) for name, made in ahead.items()},
    }
