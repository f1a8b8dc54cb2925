"""A task as a Docker engine takes it, and a container as the agent sees it: values to values.

Field names are the engine API's own (docs.docker.com/reference/api/engine). `Any` ends here.
"""

import io
import math
import re
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never

from meshswarm.agent.card import Exit, Held, HeldState
from meshswarm.agent.devices import engine_requests, variables_of
from meshswarm.ids import ClusterId, Index, NodeId, ServiceId, TaskId, Term
from meshswarm.model.network import NetworkUse, Port
from meshswarm.model.node import ARCHITECTURES
from meshswarm.model.service import HealthCheck, RuntimeKind, TaskSpec
from meshswarm.model.task import Fencing, Health
from meshswarm.model.volume import Mount, MountKind
from meshswarm.store.assignments import Assignment

PREFIX = "io.meshswarm."
"""Of all our labels; what lacks them is never touched."""

NETWORK_LABEL = f"{PREFIX}network"
"""Of a network: its full name, which is the same on every node."""

FILES = "/run/meshswarm/files"
"""Where a container has the directory of its files, if they may change while it runs."""

NS = 1_000_000_000

_EXITED = re.compile(r"Exited \((\d+)\)")

BOUNDED_LOGS = ("json-file", "local")
"""Log drivers that take a size limit; others are the operator's business."""


def own_filter(cluster_id: ClusterId, node_id: NodeId) -> dict[str, list[str]]:
    """The engine's filter for this node's containers: several nodes may share an engine."""
    return {"label": [f"{PREFIX}cluster={cluster_id}", f"{PREFIX}node={node_id}"]}


def own_labels(cluster_id: ClusterId, node_id: NodeId) -> dict[str, str]:
    """The labels of whatever this node made."""
    return {f"{PREFIX}cluster": cluster_id, f"{PREFIX}node": node_id}


def network_name(use: NetworkUse, node_id: NodeId) -> str:
    """What the engine calls a network: nodes that share an engine have one each."""
    return use.name if use.external else f"{use.name}.{node_id}"


def aliases_of(assignment: Assignment, use: NetworkUse) -> list[str]:
    """The names of a container in a network: as Compose has them, and the service's full one."""
    task = assignment.task
    names = [*use.aliases, task.service_name]
    if task.stack is not None:
        key = task.service_name.removeprefix(f"{task.stack}_")
        names = [key, *names, *([f"{task.stack}-{key}-{task.slot}"] if task.slot else [])]
    return list(dict.fromkeys(names))


def labels_of(assignment: Assignment, cluster_id: ClusterId, node_id: NodeId) -> dict[str, str]:
    """The container's labels: the user's, and ours, which win."""
    task = assignment.task
    ours = {
        "cluster": cluster_id,
        "node": node_id,
        "service": task.service_name,
        "service_id": task.service_id,
        "task": task.id,
        "slot": str(task.slot),
        "revision": str(task.revision),
        "fencing": f"{task.fencing.term}.{task.fencing.index}",
    }
    if (stop_after_s := assignment.spec.stop_after_s) is not None:
        ours["stop_after"] = f"{stop_after_s:g}"
    return dict(assignment.spec.labels) | {PREFIX + key: text for key, text in ours.items()}


def config_of(
    assignment: Assignment,
    labels: Mapping[str, str],
    *,
    log_driver: str,
    log_bytes: int,
    files: Path,
    node_id: NodeId,
) -> dict[str, Any]:
    """The body of `POST /containers/create`; in `files` lie the task's configs and secrets."""
    spec, devices = assignment.spec, assignment.task.devices
    environment = variables_of(devices) | dict(spec.environment)
    host = _host_config(spec, log_driver, log_bytes)
    host["Mounts"] += _file_mounts(spec, files)
    if requests := engine_requests(spec.devices, devices):
        host["DeviceRequests"] = requests
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{name}={text}" for name, text in environment.items()],
        "Labels": dict(labels),
        "StopTimeout": math.ceil(spec.stop_grace_period_s),
        "ExposedPorts": {_port_key(port): {} for port in spec.ports},
        "HostConfig": host,
    }
    _add_network(assignment, node_id, config)
    if spec.entrypoint is not None:
        config["Entrypoint"] = list(spec.entrypoint) or [""]  # [""] clears the image's
    if spec.command is not None:
        config["Cmd"] = list(spec.command)
    if spec.working_dir is not None:
        config["WorkingDir"] = spec.working_dir
    if spec.user is not None:
        config["User"] = spec.user
    if spec.stop_signal is not None:
        config["StopSignal"] = spec.stop_signal
    if spec.healthcheck_disabled:
        config["Healthcheck"] = {"Test": ["NONE"]}
    elif spec.healthcheck is not None:
        config["Healthcheck"] = _health_config(spec.healthcheck)
    return config


def _add_network(assignment: Assignment, node_id: NodeId, config: dict[str, Any]) -> None:
    """The network in which the container is made; it joins further ones before it starts."""
    spec = assignment.spec
    if spec.network_mode is not None:
        config["HostConfig"]["NetworkMode"] = spec.network_mode.value
    elif spec.networks:
        first = network_name(spec.networks[0], node_id)
        config["HostConfig"]["NetworkMode"] = first
        aliases = aliases_of(assignment, spec.networks[0])
        config["NetworkingConfig"] = {"EndpointsConfig": {first: {"Aliases": aliases}}}


def _host_config(spec: TaskSpec, log_driver: str, log_bytes: int) -> dict[str, Any]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        published = str(port.published or "")
        binding = {"HostIp": port.host_ip, "HostPort": published}
        bindings.setdefault(_port_key(port), []).append(binding)
    host: dict[str, Any] = {
        "RestartPolicy": {"Name": "no"},  # replacing is the cluster's decision
        "PortBindings": bindings,
        "Binds": [_bind(mount) for mount in spec.mounts if _is_bind_text(mount)],
        "Mounts": [_mount(mount) for mount in spec.mounts if not _is_bind_text(mount)],
    }
    if log_driver in BOUNDED_LOGS:
        options = {"max-size": str(log_bytes), "max-file": "2"}
        host["LogConfig"] = {"Type": log_driver, "Config": options}
    if spec.limits.nano_cpus:
        host["NanoCpus"] = spec.limits.nano_cpus
    if spec.limits.memory_bytes:
        host["Memory"] = spec.limits.memory_bytes
    if spec.limits.pids:
        host["PidsLimit"] = spec.limits.pids
    return host


def _health_config(check: HealthCheck) -> dict[str, Any]:
    """The start interval is for engines from version 25 on; older ones pass over it."""
    return {
        "Test": list(check.test),
        "Interval": round(check.interval_s * NS),
        "Timeout": round(check.timeout_s * NS),
        "Retries": check.retries,
        "StartPeriod": round(check.start_period_s * NS),
        "StartInterval": round(check.start_interval_s * NS) if check.start_period_s else 0,
    }


def _port_key(port: Port) -> str:
    return f"{port.target}/{port.protocol.value}"


def _is_bind_text(mount: Mount) -> bool:
    """Whether the mount needs the older text form, which makes directories and relabels."""
    return mount.kind is MountKind.BIND and (mount.create_host_path or mount.selinux is not None)


def _bind(mount: Mount) -> str:
    options = [mount.propagation, mount.selinux, "ro" if mount.read_only else None]
    return f"{mount.source}:{mount.target}:{','.join(filter(None, options)) or 'rw'}"


def _file_mounts(spec: TaskSpec, files: Path) -> list[dict[str, Any]]:
    """Each file is mounted by itself; where files may change, their directory is, for what is
    mounted by itself stays as it was."""
    if spec.files and spec.reload is not None:
        return [_read_only(str(files), FILES)]
    return [_read_only(str(files / str(n)), use.target) for n, use in enumerate(spec.files)]


def _read_only(source: str, target: str) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def links_of(spec: TaskSpec) -> dict[str, str]:
    """Links to be made in the container: where files may change, they are reached through them."""
    if spec.reload is None:
        return {}
    return {use.target: f"{FILES}/{number}" for number, use in enumerate(spec.files)}


def archive_of(links: Mapping[str, str]) -> bytes:
    """Symbolic links as a tar file; the engine makes directories that are missing."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, leads_to in links.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, leads_to, 0o777
            archive.addfile(member)
    return packed.getvalue()


def _mount(mount: Mount) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Type": mount.kind.value,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    match mount.kind:
        case MountKind.BIND:
            made |= {"Source": mount.source, "BindOptions": {"Propagation": mount.propagation}}
        case MountKind.VOLUME:
            driver = {"Name": mount.driver or "local", "Options": dict(mount.driver_options)}
            options: dict[str, Any] = {"NoCopy": mount.no_copy}
            if not mount.external:
                options |= {"Labels": dict(mount.labels), "DriverConfig": driver}
            made |= {"Source": mount.source or "", "VolumeOptions": options}
        case MountKind.TMPFS:
            tmpfs = {"SizeBytes": mount.size_bytes, "Mode": mount.mode}
            made["TmpfsOptions"] = {name: n for name, n in tmpfs.items() if n}
        case _:
            assert_never(mount.kind)
    return made


# --- what the engine says -----------------------------------------------------------------------


def is_same(container: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether an inspected container is of the task, node and cluster of these labels."""
    found = container["Config"]["Labels"] or {}
    names = (f"{PREFIX}{key}" for key in ("cluster", "node", "task"))
    return all(found.get(name) == labels[name] for name in names)


def image_for(image: str, platform: str | None) -> str:
    """An image in words, with its platform if one is asked for."""
    return image if platform is None else f"{image} for {platform}"


def is_for_platform(image: Mapping[str, Any], platform: str) -> bool:
    """Whether an inspected image is for this `OS[/ARCH[/VARIANT]]`."""
    system, arch, variant, *_ = (*platform.lower().split("/"), "", "")
    return (
        system == image["Os"]
        and ARCHITECTURES.get(arch, arch) in ("", image["Architecture"])
        and variant in ("", image.get("Variant") or variant)
    )


def created(assignment: Assignment, container: str) -> Held:
    """What is held of a task whose container was made just now."""
    task = assignment.task
    return Held(
        task_id=task.id,
        service_id=task.service_id,
        slot=task.slot,
        fencing=task.fencing,
        runtime=RuntimeKind.DOCKER,
        runtime_id=container,
        grace_s=float(math.ceil(assignment.spec.stop_grace_period_s)),
    )


def held_of(container: Mapping[str, Any]) -> Held | None:
    """What `GET /containers/{id}/json` tells; None if the container is not one of ours."""
    labels, state = container["Config"]["Labels"] or {}, container["State"]
    task_id, service_id = labels.get(f"{PREFIX}task"), labels.get(f"{PREFIX}service_id")
    if task_id is None or service_id is None:
        return None
    status = _held_state(state)
    health = state.get("Health") or {}
    grace_s = container["Config"].get("StopTimeout")
    return Held(
        task_id=TaskId(task_id),
        service_id=ServiceId(service_id),
        slot=_slot_of(labels),
        fencing=_fencing_of(labels.get(f"{PREFIX}fencing", "")),
        runtime=RuntimeKind.DOCKER,
        runtime_id=container["Id"],
        state=status,
        started_at_ms=_ms(state["StartedAt"]),
        exit=_exit_of(state) if status is HeldState.EXITED else None,
        health=_health_of(health),
        health_message=_health_message(health),
        address=_address_of(container.get("NetworkSettings") or {}),
        published=_published(container.get("NetworkSettings", {}).get("Ports") or {}),
        grace_s=10.0 if grace_s is None else float(grace_s),
        stop_after_s=_seconds_of(labels.get(f"{PREFIX}stop_after", "")),
        stop_signal=container["Config"].get("StopSignal") or "SIGTERM",
    )


def held_of_listed(container: Mapping[str, Any]) -> Held | None:
    """What a line of `GET /containers/json` tells: less, and as if older than any inspection."""
    labels = container["Labels"]
    task_id, service_id = labels.get(f"{PREFIX}task"), labels.get(f"{PREFIX}service_id")
    if task_id is None or service_id is None:
        return None
    state, code = _held_state({"Status": container["State"]}), _EXITED.match(container["Status"])
    return Held(
        task_id=TaskId(task_id),
        service_id=ServiceId(service_id),
        slot=_slot_of(labels),
        fencing=_fencing_of(labels.get(f"{PREFIX}fencing", "")),
        runtime=RuntimeKind.DOCKER,
        runtime_id=container["Id"],
        state=state,
        exit=Exit(code=int(code[1]) if code else None) if state is HeldState.EXITED else None,
    )


def _slot_of(labels: Mapping[str, str]) -> int:
    slot = labels.get(f"{PREFIX}slot", "")
    return int(slot) if slot.isdigit() else 0


def _held_state(state: Mapping[str, Any]) -> HeldState:
    match state["Status"]:
        case "created":
            return HeldState.CREATED
        case "running" | "paused" | "restarting":
            return HeldState.RUNNING
        case _:
            return HeldState.EXITED


def _exit_of(state: Mapping[str, Any]) -> Exit:
    return Exit(
        code=state["ExitCode"],
        out_of_memory=bool(state.get("OOMKilled")),
        message=state.get("Error") or "",
    )


def _seconds_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _fencing_of(text: str) -> Fencing:
    term, _, index = text.partition(".")
    if not (term.isdigit() and index.isdigit()):
        return Fencing()
    return Fencing(term=Term(int(term)), index=Index(int(index)))


def _health_of(health: Mapping[str, Any]) -> Health:
    try:
        return Health(health.get("Status") or "none")
    except ValueError:
        return Health.NONE


def _health_message(health: Mapping[str, Any]) -> str:
    failed = [entry for entry in health.get("Log") or () if entry["ExitCode"] != 0]
    return " ".join(failed[-1]["Output"].split())[:200] if failed else ""


def _published(ports: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        f"{binding['HostIp']}:{binding['HostPort']}->{target}"
        for target, bindings in sorted(ports.items())
        for binding in bindings or ()
    )


def _address_of(settings: Mapping[str, Any]) -> str:
    """Where this host reaches the container: its address in the first network that has one."""
    networks: Mapping[str, Mapping[str, Any]] = settings.get("Networks") or {}
    found = (networks[name].get("IPAddress") for name in sorted(networks))
    return next((str(address) for address in found if address), "")


def _ms(text: str) -> int | None:
    """The engine's instant in ms; None for its zero instant."""
    if text.startswith("0001-"):
        return None
    # The engine gives up to nine digits of a second, Python takes six.
    trimmed = re.sub(r"(\.\d{6})\d*", r"\1", text.replace("Z", "+00:00"))
    return int(datetime.fromisoformat(trimmed).timestamp() * 1000)


def instant_ms(text: str) -> int | None:
    """The instant that begins a log line in ms; None if there is none."""
    try:
        return _ms(text)
    except ValueError:
        return None
