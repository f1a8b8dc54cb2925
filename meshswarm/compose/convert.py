"""The checked file to the model: full names, files of variables read, and what must agree agrees.

Faults are noted and conversion goes on, so that all are told at once; what comes out counts only if
there were none.
"""

from collections.abc import Mapping

from attrs import evolve, frozen

from meshswarm.compose import dotenv, networks, order, triggers
from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.files import Content, Definitions, Read, definitions, reload_of, uses_of
from meshswarm.compose.health import probes_of, silence_of
from meshswarm.compose.placements import devices_of, placement_of
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import EnvironmentFile
from meshswarm.model.file import FileKind
from meshswarm.model.job import JobSpec
from meshswarm.model.network import Port
from meshswarm.model.resources import Resources
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.service import (
    HealthCheck,
    Mode,
    RestartCondition,
    RestartPolicy,
    RuntimeKind,
    ServiceSpec,
    TaskSpec,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.volume import Mount, MountKind

MAX_NAME = 63
"""Longest full name of a service, `STACK_SERVICE`: what a DNS label can hold."""


@frozen(kw_only=True)
class _Stack:
    """What the services of one file share."""

    name: str
    volumes: Mapping[str, Section]
    services: frozenset[str]
    jobs: frozenset[str]
    files: tuple[Definitions, ...]
    networks: Mapping[str, Section]
    read: Read


def stack_spec(root: Section, *, name: str, read: Read) -> tuple[StackSpec, tuple[Content, ...]]:
    """The stack that the file describes, and the content of its own configs and secrets."""
    stack = _Stack(
        name=name,
        volumes=root.get("volumes", {}),
        services=frozenset(root.get("services", {})),
        jobs=frozenset(root.get("jobs", {})),
        files=tuple(
            definitions(kind, root.get(f"{kind.value}s", {}), name, read) for kind in FileKind
        ),
        networks=root.get("networks", {}),
        read=read,
    )
    for network in stack.networks.values():
        networks.check(network)
    for volume in stack.volumes.values():
        _check_volume(volume)
    if not root.places.keys() & {"services", "jobs"}:
        root.cursor.fault("has no `services`")
    sections: dict[str, Section] = root.get("services", {})
    specs = {key: _service(stack, key, section) for key, section in sorted(sections.items())}
    jobs: dict[str, Section] = root.get("jobs", {})
    contents = tuple(content for defined in stack.files for content in defined.contents)
    spec = StackSpec(
        name=name,
        services=tuple(order.in_order(specs, {**jobs, **sections}).values()),
        jobs=_jobs(stack, jobs),
        configs=tuple(each.name for each in contents if each.kind is FileKind.CONFIG),
        secrets=tuple(each.name for each in contents if each.kind is FileKind.SECRET),
    )
    return spec, contents


def _jobs(stack: _Stack, sections: Mapping[str, Section]) -> tuple[JobSpec, ...]:
    """The jobs; their names are none of services', and none waits for itself."""
    specs: dict[str, JobSpec] = {}
    for key, section in sorted(sections.items()):
        if key in stack.services:
            section.cursor.fault(f"`{key:.80}` is the name of a service as well; choose another")
        specs[key] = triggers.job_spec(section, _service(stack, key, section, is_job=True))
    order.refuse_circles(
        {key: [w for w in s.get("depends_on", ()) if w.key in specs] for key, s in sections.items()}
    )
    for section in sections.values():
        for wait in section.get("depends_on", ()):
            if wait.key in specs and not specs[wait.key].is_manual:
                wait.place.fault(f"`{wait.key:.80}` says `manual: false`, so nothing can run it")
    return tuple(specs.values())


def _service(stack: _Stack, key: str, section: Section, *, is_job: bool = False) -> ServiceSpec:
    """The service, or what each run of a job is."""
    name = f"{stack.name}_{key}"
    if len(name) > MAX_NAME:
        section.cursor.fault(f"`{name:.100}` is longer than {MAX_NAME} characters; shorten it")
    nothing = Section(cursor=section.cursor, values={}, places={})
    own: Section | None = section.get("x-meshswarm")
    holder = own if is_job else section
    deploy: Section = (holder.get("deploy") if holder else None) or nothing
    mode: Mode = deploy.get("mode", Mode.REPLICATED_JOB if is_job else Mode.REPLICATED)
    waited = (stack.services | stack.jobs, ()) if is_job else (stack.services, stack.jobs)
    _check_mode(mode, deploy, own)
    missing, missing_percent = (own and own.get("max_unavailable")) or (None, None)
    return ServiceSpec(
        name=name,
        stack=stack.name,
        mode=mode,
        replicas=1 if mode.is_global else deploy.get("replicas", 1),
        max_concurrent=own.get("max_concurrent", 0) if own else 0,
        active_deadline_s=own.get("active_deadline") if own else None,
        labels=deploy.get("labels", {}),
        priority=own.get("priority", 0) if own else 0,
        max_unavailable=missing,
        max_unavailable_percent=missing_percent,
        update=_update_policy(section, deploy, "update_config"),
        rollback=_update_policy(section, deploy, "rollback_config"),
        depends_on=order.depends_on(section.get("depends_on", ()), stack.name, *waited),
        task=_task(stack, section, deploy),
    )


def _check_mode(mode: Mode, deploy: Section, own: Section | None) -> None:
    """Faults of what the mode leaves no sense to."""
    if mode.is_global and "replicas" in deploy.places:
        what = "job" if mode.is_job else "service"
        deploy.at("replicas").fault(f"a global {what} has no replicas: it has one on every node")
    if mode.is_job:
        for key in ("update_config", "rollback_config"):
            if key in deploy.places:
                deploy.at(key).fault("a job is not rolled out: every change runs it again")
        restart: Section | None = deploy.get("restart_policy")
        if restart and restart.get("condition") is RestartCondition.ANY:
            restart.at("condition").warn("to a job it means on-failure: it runs to its end")
    if own and mode is not Mode.REPLICATED_JOB and "max_concurrent" in own.places:
        own.at("max_concurrent").fault("is for `deploy.mode: replicated-job`")
    if own and not mode.is_job and "active_deadline" in own.places:
        own.at("active_deadline").fault("is for `deploy.mode: replicated-job` or global-job")


def _task(stack: _Stack, section: Section, deploy: Section) -> TaskSpec:
    own: Section | None = section.get("x-meshswarm")
    runtime: RuntimeKind = (own and own.get("runtime")) or RuntimeKind.DOCKER
    limits, reservations = _resources(deploy)
    placement: Section | None = deploy.get("placement")
    healthcheck: Section | None = section.get("healthcheck")
    files = uses_of(section, stack.files, runtime)
    defaults = TaskSpec()
    grace_s = section.get("stop_grace_period", defaults.stop_grace_period_s)
    order = _update_policy(section, deploy, "update_config").order
    lost_after_s, stop_after_s = silence_of(own, grace_s, order)
    task = TaskSpec(
        runtime=runtime,
        image=section.get("image"),
        entrypoint=section.get("entrypoint"),
        command=section.get("command"),
        environment=_environment(stack, section),
        working_dir=section.get("working_dir"),
        user=section.get("user"),
        labels=section.get("labels", {}),
        ports=section.get("ports", ()),
        mounts=tuple(_mount(stack, *mount) for mount in section.get("volumes", ())),
        healthcheck=_healthcheck(healthcheck) if healthcheck else None,
        healthcheck_disabled=_is_disabled(healthcheck) if healthcheck else False,
        stop_signal=section.get("stop_signal"),
        stop_grace_period_s=grace_s,
        limits=limits,
        reservations=reservations,
        restart=_restart(deploy.get("restart_policy")),
        constraints=placement.get("constraints", ()) if placement else (),
        platform=section.get("platform"),
        placement=placement_of(deploy, own, stack.name, stack.services),
        devices=devices_of(deploy),
        files=files,
        reload=reload_of(own, files),
        probes=probes_of(own),
        lost_after_s=lost_after_s,
        stop_after_s=stop_after_s,
    )
    match runtime:
        case RuntimeKind.DOCKER:
            return _for_docker(stack, section, task)
        case RuntimeKind.PROCESS:
            return _for_process(section, task)


# --- what a runtime asks for ----------------------------------------------------------------------


def _for_docker(stack: _Stack, section: Section, task: TaskSpec) -> TaskSpec:
    if "image" not in section.places:
        section.cursor.fault(
            "needs an `image`; or `x-meshswarm: {runtime: process}` to run it without one"
        )
    elif task.image is not None and task.image.split() != [task.image]:
        section.at("image").fault("is empty, or holds a blank")
    return evolve(
        task,
        networks=networks.networks_of(section, stack.networks, stack.name),
        network_mode=section.get("network_mode"),
    )


def _for_process(section: Section, task: TaskSpec) -> TaskSpec:
    for key, place in section.places.items():
        attribute = place.session.table.get(place.pattern)
        if attribute is not None and attribute.not_in_process:
            place.fault(f"not in the process runtime: {attribute.not_in_process}")
        if key == "image":
            place.warn("the process runtime uses no image")
    words = (*(task.entrypoint or ()), *(task.command or ()))
    if not words and not section.is_wrong("entrypoint") and not section.is_wrong("command"):
        section.cursor.fault("needs a `command`: there is no image that could bring one")
    return evolve(task, image=None, ports=tuple(_own_port(section, port) for port in task.ports))


def _own_port(section: Section, port: Port) -> Port:
    """A port that the process opens itself: it is published as it is, where the process likes."""
    if port.published not in (0, port.target) or port.host_ip:
        section.at("ports").fault(
            f"a process opens its ports itself: write {port.target}, without address or mapping"
        )
    return evolve(port, published=port.target)


# --- parts of a service ---------------------------------------------------------------------------


def _environment(stack: _Stack, section: Section) -> dict[str, str]:
    """The files' variables in order, then `environment`; a name alone comes from outside."""
    found: dict[str, str] = {}
    for file in section.get("env_file", ()):
        found |= _from_file(stack, file, before=found)
    for name, value in section.get("environment", {}).items():
        if value is None:
            value = _from_outside(section, name)
        if value is None:
            # As in Compose: the name stands for "unset", even if a file sets it.
            found.pop(name, None)
        else:
            found[name] = value
    return found


def _from_outside(section: Section, name: str) -> str | None:
    place = section.at("environment")
    try:
        return place.session.variables.get(name)
    except Unfit as error:
        place.fault(str(error))
        return None


def _from_file(
    stack: _Stack, file: EnvironmentFile, *, before: Mapping[str, str]
) -> dict[str, str]:
    cursor, session = file.cursor, file.cursor.session
    shown = file.path.removeprefix(session.directory.rstrip("/") + "/")
    try:
        data = stack.read(file.path)
        session.variables.budget.spend(len(data or b""))
    except (OSError, Unfit) as error:
        cursor.fault(f"`{shown}` cannot be read: {error}")
        return {}
    if data is None:
        if file.required:
            cursor.fault(f"there is no file `{shown}`; make it, or write `required: false`")
        return {}
    if file.is_raw:
        return dotenv.parse_raw(data, session.report, file=shown, outer=session.variables)
    return dotenv.parse(data, session.report, file=shown, outer=session.variables, before=before)


def _mount(stack: _Stack, mount: Mount, place: Cursor) -> Mount:
    """`mount` with what the stack says of its volume."""
    if mount.kind is not MountKind.VOLUME or mount.source is None:
        return mount
    volume = stack.volumes.get(mount.source)
    if volume is None:
        path = f"; for a path of the host write ./{mount.source}" if "/" in mount.source else ""
        place.fault(f"there is no `{mount.source:.80}` under the file's own `volumes`{path}")
        return mount
    is_external = volume.get("external", False)
    return evolve(
        mount,
        source=volume.get("name", mount.source if is_external else f"{stack.name}_{mount.source}"),
        driver=volume.get("driver"),
        driver_options=volume.get("driver_opts", {}),
        labels=volume.get("labels", {}),
        external=is_external,
    )


def _check_volume(volume: Section) -> None:
    for key in ("driver", "driver_opts", "labels"):
        if volume.get("external") and key in volume.places:
            volume.at(key).fault("an external volume is not made here; remove this key")


def _resources(deploy: Section) -> tuple[Resources, Resources]:
    resources: Section | None = deploy.get("resources")
    if resources is None:
        return Resources(), Resources()
    limits, reservations = (
        Resources(
            nano_cpus=part.get("cpus", 0),
            memory_bytes=part.get("memory", 0),
            pids=max(0, part.get("pids", 0)),
        )
        if (part := resources.get(key))
        else Resources()
        for key in ("limits", "reservations")
    )
    for key, reserved, limit in (
        ("cpus", reservations.nano_cpus, limits.nano_cpus),
        ("memory", reservations.memory_bytes, limits.memory_bytes),
    ):
        if limit and reserved > limit:
            resources.get("reservations").at(key).fault("reserves more than `limits` allows")
    return limits, reservations


def _restart(section: Section | None) -> RestartPolicy:
    defaults = RestartPolicy()
    if section is None:
        return defaults
    delay_s = section.get("delay", defaults.delay_s)
    return RestartPolicy(
        condition=section.get("condition", defaults.condition),
        delay_s=delay_s,
        max_delay_s=max(delay_s, defaults.max_delay_s),
        max_attempts=section.get("max_attempts", defaults.max_attempts),
        window_s=section.get("window", defaults.window_s),
    )


def _update_policy(section: Section, deploy: Section, key: str) -> UpdatePolicy:
    """The policy under `key`; a monitor and a deadline of 0 stand for the default, as in Docker."""
    own: Section | None = section.get("x-meshswarm")
    theirs: Section | None = deploy.get(key)
    ours: Section | None = own.get(key) if own else None
    defaults = UpdatePolicy()
    policy = defaults
    if theirs is not None:
        policy = UpdatePolicy(
            parallelism=theirs.get("parallelism", defaults.parallelism),
            delay_s=theirs.get("delay", defaults.delay_s),
            order=theirs.get("order", defaults.order),
            failure_action=theirs.get("failure_action", defaults.failure_action),
            monitor_s=theirs.get("monitor") or defaults.monitor_s,
            max_failure_ratio=theirs.get("max_failure_ratio", defaults.max_failure_ratio),
        )
    if ours is None:
        return policy
    return evolve(
        policy,
        min_healthy_s=ours.get("min_healthy"),
        healthy_deadline_s=ours.get("healthy_deadline") or defaults.healthy_deadline_s,
        progress_deadline_s=ours.get("progress_deadline") or defaults.progress_deadline_s,
        step=ours.get("step", defaults.step),
    )


def _is_disabled(section: Section) -> bool:
    return bool(section.get("disable", False)) or section.get("test") == ("NONE",)


def _healthcheck(section: Section) -> HealthCheck | None:
    """The check; None if it is disabled or empty. A 0 stands for the default, as in Docker."""
    if _is_disabled(section):
        return None
    test: tuple[str, ...] | str = section.get("test", ())
    if isinstance(test, str):
        test = ("CMD-SHELL", test)
    place = section.at("test")
    match test:
        case ():
            if section.places and "test" not in section.places:
                place.fault("needs a `test`: changing the image's own is not supported yet")
            return None
        case ("CMD-SHELL", "NONE" | ""):
            place.fault("to have none write `disable: true`")
        case ("CMD", _, *_) | ("CMD-SHELL", _):
            pass
        case _:
            place.fault("a list begins with CMD and has a command, or is [CMD-SHELL, LINE]")
    defaults = HealthCheck(test=test)
    return HealthCheck(
        test=test,
        interval_s=section.get("interval") or defaults.interval_s,
        timeout_s=section.get("timeout") or defaults.timeout_s,
        retries=section.get("retries") or defaults.retries,
        start_period_s=section.get("start_period", defaults.start_period_s),
        start_interval_s=section.get("start_interval") or defaults.start_interval_s,
    )
