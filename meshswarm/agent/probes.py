"""Probes: when to check next, what a result means, and what all of a task's say together. PURE.

Compose's `healthcheck` is a probe as well, whose first check comes one interval after the start:
engines define it so. Within the start period failures do not count (and the start interval replaces
the interval), until the probe is well for the first time.
"""

from attrs import evolve, frozen

from meshswarm.agent.card import Card, Held, Probed, Said
from meshswarm.errors import Unavailable
from meshswarm.model.probe import CommandCheck, Probe, ProbeKind, Probes
from meshswarm.model.service import HealthCheck, TaskSpec
from meshswarm.model.task import Health, TaskState

MAX_OUTPUT = 200
"""Characters kept of what a failed check wrote."""

ANY_ADDRESS = ("0.0.0.0", "::", "")
LOOPBACK = "127.0.0.1"


# --- one probe ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Checked:
    """What the checks of one probe showed so far. Times are seconds of a monotonic clock."""

    started_s: float
    latest_s: float | None = None
    """When the latest check ended; None before the first."""
    health: Health = Health.STARTING
    failures: int = 0
    """In a row, those that count."""
    successes: int = 0
    """In a row."""
    message: str = ""
    """What the latest failed check said; empty once one succeeded."""


def check_of(spec: TaskSpec) -> HealthCheck | None:
    """The health check that a task of this spec has, if any."""
    check = spec.healthcheck
    if check is None or spec.healthcheck_disabled or check.test[:1] in ((), ("NONE",)):
        return None
    return check


def probe_of(check: HealthCheck) -> Probe:
    """The probe that a health check is."""
    kind, *arguments = check.test
    argv = tuple(arguments) if kind == "CMD" else check.test
    if kind == "CMD-SHELL":
        argv = ("/bin/sh", "-c", *arguments)
    start_interval_s = min(check.start_interval_s, check.interval_s)
    return Probe(
        check=CommandCheck(argv=argv),
        interval_s=check.interval_s,
        timeout_s=check.timeout_s,
        failure_threshold=check.retries,
        initial_delay_s=start_interval_s if check.start_period_s else check.interval_s,
        start_period_s=check.start_period_s,
        start_interval_s=start_interval_s,
    )


def first(started_s: float, health: Health = Health.STARTING) -> Checked:
    """The state of a task that started then, or was found running with this health."""
    return Checked(started_s=started_s, health=health)


def due_s(probe: Probe, checked: Checked) -> float:
    """When to check next."""
    if checked.latest_s is None:
        return checked.started_s + probe.initial_delay_s
    if _is_forgiven(probe, checked, checked.latest_s):
        return checked.latest_s + min(probe.start_interval_s, probe.interval_s)
    return checked.latest_s + probe.interval_s


def after_check(
    probe: Probe, checked: Checked, *, is_well: bool, output: str, now_s: float
) -> Checked:
    """The state after a check."""
    if is_well:
        successes = min(checked.successes + 1, probe.success_threshold)
        health = Health.HEALTHY if successes >= probe.success_threshold else checked.health
        return evolve(
            checked, latest_s=now_s, health=health, failures=0, successes=successes, message=""
        )
    failures = checked.failures + (not _is_forgiven(probe, checked, now_s))
    return evolve(
        checked,
        latest_s=now_s,
        health=Health.UNHEALTHY if failures >= probe.failure_threshold else checked.health,
        failures=min(failures, probe.failure_threshold),
        successes=0,
        message=" ".join(output.split())[:MAX_OUTPUT],
    )


def _is_forgiven(probe: Probe, checked: Checked, at_s: float) -> bool:
    return checked.health is Health.STARTING and at_s < checked.started_s + probe.start_period_s


# --- all probes of a task -----------------------------------------------------------------------


def to_probe(card: Card) -> Probes:
    """What is to be probed of the task now; no probes unless it runs and is to go on so."""
    if card.assignment is None or not card.is_wanted or not card.runs:
        return Probes()
    return card.assignment.spec.probes


def begun(probes: Probes, card: Card) -> Probed:
    """What is said of a task before its first check: of one that was found running, what an
    earlier process of the agent said last."""
    said = card.status.health if card.status.state is TaskState.RUNNING else Health.STARTING
    is_up = said in (Health.HEALTHY, Health.NOT_READY)
    up = Said(health=Health.HEALTHY if is_up else Health.STARTING)
    ready = up
    if said is Health.NOT_READY:
        ready = Said(health=Health.UNHEALTHY, message=card.status.message)
    return Probed(
        startup=up if probes.startup else Said(),
        readiness=ready if probes.readiness else Said(),
        liveness=up if probes.liveness else Said(),
    )


def noted(probed: Probed, kind: ProbeKind, checked: Checked) -> Probed:
    """What is said of the task after a check; the same unless the probe's health changed."""
    if probed.of(kind).health is checked.health:
        return probed
    message = ""
    if checked.health is Health.UNHEALTHY:
        message = f"its {kind.value} probe failed: {checked.message or 'no output'}"
    return probed.changed(kind, Said(health=checked.health, message=message))


def well_after_s(spec: TaskSpec) -> float:
    """How long after its start a task is healthy if every check succeeds, at once."""
    found = [probe_of(check)] if (check := check_of(spec)) is not None else []
    own_s = [_well_s(probe) for probe in found]
    after_s = 0.0 if spec.probes.startup is None else _well_s(spec.probes.startup)
    later = (spec.probes.readiness, spec.probes.liveness)
    return max([after_s + (_well_s(probe) if probe else 0.0) for probe in later] + own_s)


def _well_s(probe: Probe) -> float:
    return probe.initial_delay_s + probe.interval_s * (probe.success_threshold - 1)


# --- where --------------------------------------------------------------------------------------


def address_of(held: Held, port: int) -> tuple[str, int]:
    """Where this host reaches a TCP port of the task: as published, else at its own address.

    Raises `Unavailable` if there is no way.
    """
    for published in held.published:
        where, _, target = published.partition("->")
        if target == f"{port}/tcp":
            address, _, number = where.rpartition(":")
            address = address.strip("[]")
            return (LOOPBACK if address in ANY_ADDRESS else address, int(number))
    if not held.address:
        raise Unavailable(f"its container has no address, and its port {port} is not published")
    return held.address, port
