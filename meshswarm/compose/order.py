"""`depends_on`: what is waited for, and whether that can ever come."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from attrs import evolve, frozen

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.shapes import applied, section, text
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.service import RestartCondition, RestartPolicy, RuntimeKind, ServiceSpec

MAX_DEPENDENCIES = 100
"""Services that one may wait for."""

CONDITIONS = {condition.value: condition for condition in Condition}


@frozen(kw_only=True)
class Wait:
    """One entry of `depends_on`, by the names of the file."""

    key: str
    place: Cursor
    condition: Condition
    is_required: bool
    restarts: bool


def waits(cursor: Cursor) -> tuple[Wait, ...]:
    """A list of names, or `NAME: {condition, restart, required}`."""
    found = _short(cursor) if cursor.kind == "a list" else _long(cursor)
    once: dict[str, Wait] = {}
    for wait in found:
        if wait.key in once:
            wait.place.fault(f"names `{wait.key:.80}` a second time")
        once[wait.key] = wait
    if len(once) > MAX_DEPENDENCIES:
        cursor.fault(f"names {len(once)} services; {MAX_DEPENDENCIES} is the most")
    return tuple(once.values())


def _short(cursor: Cursor) -> Iterator[Wait]:
    for item in cursor.items():
        key = applied(text, item)
        if key is not None:
            yield Wait(
                key=key, place=item, condition=Condition.STARTED, is_required=True, restarts=False
            )


def _long(cursor: Cursor) -> Iterator[Wait]:
    for key, place in (cursor.entries(named=True) or {}).items():
        body: Section | None = section(place)
        if body is None:
            continue
        if "condition" not in body.places:
            place.fault("needs a `condition`: service_started, service_healthy or ...")
        yield Wait(
            key=key,
            place=place,
            condition=body.get("condition", Condition.STARTED),
            is_required=body.get("required", True),
            restarts=body.get("restart", False),
        )


# --- to the model -------------------------------------------------------------------------------


def depends_on(
    found: Sequence[Wait], stack: str, services: Collection[str], jobs: Collection[str]
) -> tuple[Dependency, ...]:
    """What a service waits for, by full names; a fault for each that the file does not have."""
    kept: list[Dependency] = []
    for wait in found:
        if wait.key in services:
            kept.append(
                Dependency(
                    service=f"{stack}_{wait.key}",
                    condition=wait.condition,
                    is_required=wait.is_required,
                    restarts=wait.restarts,
                )
            )
        elif wait.key in jobs:
            wait.place.fault(
                f"`{wait.key:.80}` is one of `jobs`, which nobody waits for; "
                "make it a service with `deploy.mode: replicated-job`"
            )
        elif wait.is_required:
            wait.place.fault(f"there is no service `{wait.key:.80}` in this file")
        else:
            wait.place.warn(f"there is no service `{wait.key:.80}`, so it is not waited for")
    return tuple(kept)


def in_order(
    specs: Mapping[str, ServiceSpec], sections: Mapping[str, Section]
) -> dict[str, ServiceSpec]:
    """The services once it is certain that each wait can end; faults where it cannot."""
    waited = {
        key: [wait for wait in section.get("depends_on", ()) if wait.key in specs]
        for key, section in sections.items()
    }
    refuse_circles(waited)
    found = dict(specs)
    for key in sorted(waited):
        for wait in waited[key]:
            if wait.condition is Condition.HEALTHY:
                _must_have_health(wait, sections[wait.key], specs[wait.key])
            elif wait.condition is Condition.COMPLETED:
                spec = found[wait.key]
                found[wait.key] = _ending(wait, key, sections[wait.key], spec)
    return found


def refuse_circles(waited: Mapping[str, Sequence[Wait]]) -> None:
    """A fault at the entry that closes a circle, once for each circle that is found."""
    done: set[str] = set()
    for start in sorted(waited):
        way, left = [start], [iter(waited[start])]
        while way and start not in done:
            wait = next(left[-1], None)
            if wait is None:
                done.add(way.pop())
                left.pop()
            elif wait.key in way:
                circle = [*way[way.index(wait.key) :], wait.key]
                wait.place.fault(f"services wait for each other: {' -> '.join(circle)}")
            elif wait.key not in done:
                way.append(wait.key)
                left.append(iter(waited[wait.key]))


def _must_have_health(wait: Wait, section: Section, spec: ServiceSpec) -> None:
    task = spec.task
    if task.healthcheck is not None or section.is_wrong("healthcheck"):
        return
    if task.healthcheck_disabled or task.runtime is RuntimeKind.PROCESS:
        wait.place.fault(
            f"`{wait.key:.80}` has no `healthcheck`: give it one, or wait for service_started"
        )


def _ending(wait: Wait, key: str, section: Section, spec: ServiceSpec) -> ServiceSpec:
    """The service as one that may end: without words of its own it is not restarted then."""
    restart = spec.task.restart
    if spec.mode.is_job or restart.condition is not RestartCondition.ANY:
        return spec
    deploy: Section | None = section.get("deploy")
    policy: Section | None = deploy.get("restart_policy") if deploy else None
    if (policy and "condition" in policy.places) or "restart" in section.places:
        wait.place.fault(
            f"`{wait.key:.80}` is restarted whenever it completes: write `on-failure` or `none` "
            "as its `deploy.restart_policy.condition`, or `mode: replicated-job`"
        )
        return spec
    section.cursor.warn(
        f"`{key:.80}` waits for its completion, so it is restarted on failure only; "
        "`deploy.restart_policy.condition` says otherwise"
    )
    ending: RestartPolicy = evolve(restart, condition=RestartCondition.ON_FAILURE)
    return evolve(spec, task=evolve(spec.task, restart=ending))
