"""The options of `service update`: a row for each, with its type; `update_edits` has the meanings.

Rows stand in the order in which help lists them and edits are made: what is removed before what is
added.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meshswarm.cli.edit import Edit


def _option(kind: Any, help_: str, metavar: str | None = None, *names: str, **more: Any) -> Any:
    return Annotated[kind | None, typer.Option(*names, help=help_, metavar=metavar, **more)]


def _update(name: str) -> tuple[str, str]:
    """An option's name and the one that Docker has for it."""
    return f"--{name}", f"--update-{name}"


def _texts(metavar: str, help_: str) -> Any:
    return _option(list[str], f"{help_}; may be repeated.", metavar)


_TIME, _PAIR, _NAME = "DURATION", "NAME=VALUE", "NAME"
_BACK = "The same for the way back."

OPTIONS: Mapping[str, Any] = {
    "image": _option(str, "The image to run."),
    "command": _option(
        str, "The command line to run, in words as a shell has them.", None, "--command", "--args"
    ),
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
    "publish_rm": _texts("PORT", "No longer publish a task's port: 80, 80/udp or 8080:80"),
    "publish_add": _texts(
        "PORT", "As `8080:80`, or `published=8080,target=80`: on the nodes that run it"
    ),
    "mount_rm": _texts("TARGET", "Remove the mount at this path"),
    "mount_add": _texts("MOUNT", "As `type=volume,source=data,target=/data,readonly`"),
    "config_rm": _texts(_NAME, "Take a config off"),
    "config_add": _texts(_NAME, "As `web.conf`, or `source=web.conf,target=/etc/web,mode=0444`"),
    "secret_rm": _texts(_NAME, "Take a secret off"),
    "secret_add": _texts(_NAME, "As `key`, or `source=key,target=tls.key,uid=0,mode=0400`"),
    "network_rm": _texts(_NAME, "Leave a network"),
    "network_add": _texts(_NAME, "As `shop_back`, or `name=shop_back,alias=db`"),
    "generic_resource_rm": _texts("KIND", "No longer reserve devices of a kind"),
    "generic_resource_add": _texts("KIND=NUMBER", "Reserve devices for each task alone"),
    "placement_pref_rm": _texts("PREFERENCE", "No longer spread over a label"),
    "placement_pref_add": _texts("PREFERENCE", "As `spread=node.labels.zone`"),
    "max_skew": _option(
        int, "Tasks that a value of the first preference may be ahead; 0: any.", min=0
    ),
    "replicas_max_per_node": _option(int, "Tasks on one node at most; 0: any.", min=0),
    "platform": _option(str, "The nodes that may run it, as linux/arm64; empty: any.", "OS/ARCH"),
    "no_healthcheck": Annotated[
        bool | None, typer.Option("--no-healthcheck", help="Neither its own nor the image's.")
    ],
    "health_cmd": _option(str, "A line for a shell, 0 is well; empty: as the image.", "LINE"),
    "health_interval": _option(str, "Between two checks, as 30s.", _TIME),
    "health_timeout": _option(str, "How long one may take.", _TIME),
    "health_retries": _option(int, "Failures in a row that make it unhealthy.", min=0),
    "health_start_period": _option(str, "Failures this early do not count.", _TIME),
    "health_start_interval": _option(str, "Between two checks that early.", _TIME),
    "limit_cpu": _option(str, "Processors it may use, as 0.5; 0: any.", "CPUS"),
    "limit_memory": _option(str, "Memory it may use, as 256M; 0: any.", "BYTES"),
    "limit_pids": _option(int, "Processes it may have; 0: any.", min=0),
    "reserve_cpu": _option(str, "Processors kept for it.", "CPUS"),
    "reserve_memory": _option(str, "Memory kept for it.", "BYTES"),
    "restart_condition": _option(str, "any, on-failure or none.", "WORD"),
    "restart_delay": _option(str, "Before the second restart; doubles then.", _TIME),
    "restart_max_attempts": _option(int, "Restarts of a slot; 0: no limit.", min=0),
    "restart_window": _option(str, "Attempts within it count; 0s: all.", _TIME),
    "stop_grace_period": _option(str, "From the stop signal to SIGKILL.", _TIME),
    "stop_signal": _option(str, "The signal that asks it to end.", "SIGNAL"),
    "priority": _option(int, "Whose tasks may take the place of others'."),
    "max_unavailable": _option(
        str, "Tasks that may be missing because they move or make way: 2 or 25%; empty: any.", "N"
    ),
    "max_concurrent": _option(int, "Of a job: tasks under way at a time; 0: all.", min=0),
    "parallelism": _option(
        int, "Slots under way at a time; 0: all.", None, *_update("parallelism"), min=0
    ),
    "delay": _option(str, "Between slots, as 10s.", _TIME, *_update("delay")),
    "order": _option(str, "stop-first or start-first.", "WORD", *_update("order")),
    "failure_action": _option(
        str, "pause, continue or rollback.", "WORD", *_update("failure-action")
    ),
    "monitor": _option(str, "How long a new task is watched, as 30s.", _TIME, *_update("monitor")),
    "max_failure_ratio": _option(
        float,
        "Share of the slots that may fail.",
        None,
        *_update("max-failure-ratio"),
        min=0,
        max=1,
    ),
    "step": Annotated[bool | None, typer.Option("--step/--no-step", help="Pause after each step.")],
    "rollback_parallelism": _option(int, _BACK, min=0),
    "rollback_delay": _option(str, _BACK, _TIME),
    "rollback_order": _option(str, _BACK, "WORD"),
    "rollback_failure_action": _option(str, "pause or continue.", "WORD"),
    "rollback_monitor": _option(str, _BACK, _TIME),
    "rollback_max_failure_ratio": _option(float, _BACK, min=0, max=1),
}
"""By parameter name; `env_add` is `--env-add`. An option that is not given changes nothing."""


def edits(given: Mapping[str, Any]) -> "list[Edit]":
    """What the given options mean, in the order of the rows; raises usage errors."""
    checks = [name for name in given if name.startswith("health_") and given[name] is not None]
    if given.get("no_healthcheck") and checks:
        option = "--" + checks[0].replace("_", "-")
        raise typer.BadParameter(f"does not go with {option}", param_hint="--no-healthcheck")
    from meshswarm.cli.update_edits import EDITS

    assert EDITS.keys() == OPTIONS.keys(), f"one edit an option: {EDITS.keys() ^ OPTIONS.keys()}"
    return [EDITS[name](given[name]) for name in OPTIONS if given.get(name) is not None]
