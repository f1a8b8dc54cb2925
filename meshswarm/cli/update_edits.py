"""What each option of `service update` means: the edit of a spec that its value makes.

Apart from the options themselves, so that help and completion need not load what edits are made of.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from meshswarm.cli import edit, edit_lists
from meshswarm.cli.edit import Edit
from meshswarm.compose import placements, texts
from meshswarm.model.file import FileKind
from meshswarm.model.rollout import FailureAction, UpdateOrder
from meshswarm.model.service import RestartCondition

Read = Callable[[Any], Any]


def _as_is(value: Any) -> Any:
    return value


def _time(option: str) -> Read:
    return lambda text: edit.parsed(texts.duration, text, option)


def _word(kind: Any, option: str) -> Read:
    return lambda text: edit.one_of(kind, text, option)


def _words(option: str) -> Read:
    return lambda line: edit.words(line, option)


def _field(make: Callable[..., Edit], name: str, read: Read = _as_is) -> Callable[[Any], Edit]:
    """The edit that gives the field `name` of what `make` changes the value that was read."""
    return lambda value: make(**{name: read(value)})


def _policy(which: str, prefix: str) -> Mapping[str, Callable[[Any], Edit]]:
    """The edits that the way ahead and the way back have in common."""
    rows: Mapping[str, tuple[str, Read]] = {
        "parallelism": ("parallelism", _as_is),
        "delay": ("delay_s", _time(f"--{prefix}delay")),
        "order": ("order", _word(UpdateOrder, f"--{prefix}order")),
        "monitor": ("monitor_s", _time(f"--{prefix}monitor")),
        "max_failure_ratio": ("max_failure_ratio", _as_is),
    }
    make = partial(edit.policy, which)
    return {prefix.replace("-", "_") + name: _field(make, *row) for name, row in rows.items()}


def _without(make: Callable[[Sequence[str], Sequence[str]], Edit]) -> Callable[[Any], Edit]:
    return lambda removed: make((), removed)


def _with(make: Callable[[Sequence[str], Sequence[str]], Edit]) -> Callable[[Any], Edit]:
    return lambda added: make(added, ())


def _platform(text: str) -> str | None:
    return edit.parsed(placements.platform, text, "--platform") if text else None


EDITS: Mapping[str, Callable[[Any], Edit]] = {
    "image": edit.image,
    "command": _field(edit.task, "command", _words("--command")),
    "entrypoint": _field(edit.task, "entrypoint", _words("--entrypoint")),
    "user": _field(edit.task, "user"),
    "workdir": _field(edit.task, "working_dir"),
    "replicas": edit.replicas,
    "env_rm": _without(edit.environment),
    "env_add": _with(edit.environment),
    "label_rm": _without(edit.labels),
    "label_add": _with(edit.labels),
    "container_label_rm": _without(edit.container_labels),
    "container_label_add": _with(edit.container_labels),
    "constraint_rm": _without(edit.constraints),
    "constraint_add": _with(edit.constraints),
    "publish_rm": edit_lists.unpublish,
    "publish_add": edit_lists.publish,
    "mount_rm": edit_lists.unmount,
    "mount_add": edit_lists.mount,
    "config_rm": partial(edit_lists.disuse, FileKind.CONFIG),
    "config_add": partial(edit_lists.use, FileKind.CONFIG),
    "secret_rm": partial(edit_lists.disuse, FileKind.SECRET),
    "secret_add": partial(edit_lists.use, FileKind.SECRET),
    "network_rm": edit_lists.leave,
    "network_add": edit_lists.join,
    "generic_resource_rm": edit_lists.release,
    "generic_resource_add": edit_lists.reserve,
    "placement_pref_rm": edit_lists.no_longer_prefer,
    "placement_pref_add": edit_lists.prefer,
    "max_skew": edit_lists.max_skew,
    "replicas_max_per_node": _field(edit.placement, "max_replicas_per_node"),
    "platform": _field(edit.task, "platform", _platform),
    "no_healthcheck": edit.no_healthcheck,
    "health_cmd": edit.health_command,
    "health_interval": _field(edit.healthcheck, "interval_s", _time("--health-interval")),
    "health_timeout": _field(edit.healthcheck, "timeout_s", _time("--health-timeout")),
    "health_retries": _field(edit.healthcheck, "retries"),
    "health_start_period": _field(
        edit.healthcheck, "start_period_s", _time("--health-start-period")
    ),
    "health_start_interval": _field(
        edit.healthcheck, "start_interval_s", _time("--health-start-interval")
    ),
    "limit_cpu": _field(partial(edit.resources, "limits"), "nano_cpus", edit.cpus),
    "limit_memory": _field(partial(edit.resources, "limits"), "memory_bytes", edit.size),
    "limit_pids": _field(partial(edit.resources, "limits"), "pids"),
    "reserve_cpu": _field(partial(edit.resources, "reservations"), "nano_cpus", edit.cpus),
    "reserve_memory": _field(partial(edit.resources, "reservations"), "memory_bytes", edit.size),
    "restart_condition": _field(
        edit.restart, "condition", _word(RestartCondition, "--restart-condition")
    ),
    "restart_delay": _field(edit.restart, "delay_s", _time("--restart-delay")),
    "restart_max_attempts": _field(edit.restart, "max_attempts"),
    "restart_window": _field(edit.restart, "window_s", _time("--restart-window")),
    "stop_grace_period": _field(edit.task, "stop_grace_period_s", _time("--stop-grace-period")),
    "stop_signal": _field(
        edit.task, "stop_signal", lambda text: edit.parsed(texts.signal, text, "--stop-signal")
    ),
    "priority": edit.priority,
    "max_unavailable": edit.most_missing,
    "max_concurrent": edit.max_concurrent,
    "failure_action": _field(
        partial(edit.policy, "update"), "failure_action", _word(FailureAction, "--failure-action")
    ),
    "rollback_failure_action": _field(
        partial(edit.policy, "rollback"), "failure_action", edit.action_of_way_back
    ),
    "step": _field(partial(edit.policy, "update"), "step"),
    **_policy("update", ""),
    **_policy("rollback", "rollback-"),
}
"""By the same names as the options; edits are made in the order of those."""
