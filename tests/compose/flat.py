"""A service in one flat form, from the official Compose's JSON or from our model."""

from collections.abc import Mapping
from typing import Any

from meshswarm.model.resources import Resources
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.service import ServiceSpec
from meshswarm.model.volume import Mount


def seconds(text: str) -> float:
    """The seconds of a duration as Go prints it."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
    total, number, unit = 0.0, "", ""
    for char in text + "0":
        if char in "0123456789." and unit:
            total, number, unit = total + float(number) * units[unit], char, ""
        elif char in "0123456789.":
            number += char
        else:
            unit += char
    return round(total, 9)


def theirs_flat(service: Mapping[str, Any]) -> dict[str, Any]:
    deploy = service.get("deploy", {})
    resources = deploy.get("resources", {})
    restart = deploy.get("restart_policy", {})
    flat = {
        "image": service["image"],
        "command": service["command"],
        "entrypoint": service["entrypoint"],
        "environment": {
            key: value for key, value in service.get("environment", {}).items() if value is not None
        },
        "working_dir": service.get("working_dir"),
        "user": service.get("user"),
        "labels": service.get("labels", {}),
        "ports": [
            (
                port["target"],
                int(port.get("published", 0)),
                port["protocol"],
                port.get("host_ip", ""),
            )
            for port in service.get("ports", [])
        ],
        "mounts": [theirs_mount(mount) for mount in service.get("volumes", [])],
        "stop_signal": service.get("stop_signal"),
        "stop_grace_period": seconds(service.get("stop_grace_period", "10s")),
        "mode": deploy.get("mode", "replicated"),
        "replicas": deploy.get("replicas", 1),
        "deploy labels": deploy.get("labels", {}),
        "limits": theirs_amounts(resources.get("limits", {})),
        "reservations": theirs_amounts(resources.get("reservations", {})),
        "delay": seconds(restart.get("delay", "500ms")),
        "window": seconds(restart.get("window", "0s")),
        "attempts": restart.get("max_attempts", 0),
    }
    flat |= {
        key: theirs_policy(deploy.get(key, {})) for key in ("update_config", "rollback_config")
    }
    return flat | theirs_healthcheck(service.get("healthcheck", {}))


def theirs_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parallelism": policy.get("parallelism", 1),
        "delay": seconds(policy.get("delay", "0s")),
        "order": policy.get("order", "stop-first"),
        "failure_action": policy.get("failure_action", "pause"),
        "monitor": seconds(policy.get("monitor", "5s")),
        "max_failure_ratio": policy.get("max_failure_ratio", 0),
    }


def theirs_healthcheck(check: Mapping[str, Any]) -> dict[str, Any]:
    disabled = check.get("disable", False) or check.get("test") == ["NONE"]
    if disabled or "test" not in check:
        return {"test": None, "disabled": disabled}
    return {
        "test": check["test"],
        "disabled": False,
        "interval": seconds(check.get("interval", "30s")),
        "timeout": seconds(check.get("timeout", "30s")),
        "start_period": seconds(check.get("start_period", "0s")),
        "start_interval": seconds(check.get("start_interval", "5s")),
        "retries": check.get("retries", 3),
    }


def theirs_amounts(amounts: Mapping[str, Any]) -> tuple[int, int, int]:
    cpus, memory, pids = amounts.get("cpus", 0), amounts.get("memory", 0), amounts.get("pids", 0)
    return round(float(cpus) * 1e9), int(memory), max(0, pids)


def theirs_mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    definition = mount.get("definition", {})
    bind, tmpfs = mount.get("bind", {}), mount.get("tmpfs", {})
    return {
        "type": mount["type"],
        "source": definition.get("name", mount.get("source")),
        "target": mount["target"],
        "read_only": mount.get("read_only", False),
        "propagation": bind.get("propagation"),
        "selinux": bind.get("selinux"),
        "create": bind.get("create_host_path", True),
        "nocopy": mount.get("volume", {}).get("nocopy", False),
        "size": int(tmpfs.get("size", 0)),
        "mode": tmpfs.get("mode"),
        "external": definition.get("external", False),
        "driver": definition.get("driver"),
        "options": definition.get("driver_opts", {}),
        "labels": definition.get("labels", {}),
    }


def ours_flat(spec: ServiceSpec) -> dict[str, Any]:
    task = spec.task
    flat = {
        "image": task.image,
        "command": None if task.command is None else list(task.command),
        "entrypoint": None if task.entrypoint is None else list(task.entrypoint),
        "environment": dict(task.environment),
        "working_dir": task.working_dir,
        "user": task.user,
        "labels": dict(task.labels),
        "ports": [
            (port.target, port.published, port.protocol.value, port.host_ip) for port in task.ports
        ],
        "mounts": [ours_mount(mount) for mount in task.mounts],
        "stop_signal": task.stop_signal,
        "stop_grace_period": round(task.stop_grace_period_s, 9),
        "mode": spec.mode.value,
        "replicas": spec.replicas,
        "deploy labels": dict(spec.labels),
        "limits": ours_amounts(task.limits),
        "reservations": ours_amounts(task.reservations),
        "delay": round(task.restart.delay_s, 9),
        "window": round(task.restart.window_s, 9),
        "attempts": task.restart.max_attempts,
        "test": None,
        "disabled": task.healthcheck_disabled,
        "update_config": ours_policy(spec.update),
        "rollback_config": ours_policy(spec.rollback),
    }
    if task.healthcheck is not None:
        check = task.healthcheck
        flat |= {
            "test": list(check.test),
            "interval": round(check.interval_s, 9),
            "timeout": round(check.timeout_s, 9),
            "start_period": round(check.start_period_s, 9),
            "start_interval": round(check.start_interval_s, 9),
            "retries": check.retries,
        }
    return flat


def ours_policy(policy: UpdatePolicy) -> dict[str, Any]:
    return {
        "parallelism": policy.parallelism,
        "delay": round(policy.delay_s, 9),
        "order": policy.order.value,
        "failure_action": policy.failure_action.value,
        "monitor": round(policy.monitor_s, 9),
        "max_failure_ratio": policy.max_failure_ratio,
    }


def ours_amounts(amounts: Resources) -> tuple[int, int, int]:
    return amounts.nano_cpus, amounts.memory_bytes, amounts.pids


def ours_mount(mount: Mount) -> dict[str, Any]:
    return {
        "type": mount.kind.value,
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only,
        "propagation": mount.propagation,
        "selinux": mount.selinux,
        "create": mount.create_host_path,
        "nocopy": mount.no_copy,
        "size": mount.size_bytes,
        "mode": mount.mode,
        "external": mount.external,
        "driver": mount.driver,
        "options": dict(mount.driver_options),
        "labels": dict(mount.labels),
    }
