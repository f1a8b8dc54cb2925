"""Health checks: when to check next and what a result means. PURE, as engines define it.

The first check comes one interval after the start. Within the start period failures do not count
(and the start interval replaces the interval), until a check succeeds; `retries` failures in a row
make a task unhealthy, one success makes it healthy again.
"""

from attrs import evolve, frozen

from meshswarm.model.service import HealthCheck, TaskSpec
from meshswarm.model.task import Health

MAX_OUTPUT = 200
"""Characters kept of what a failed check wrote."""


@frozen(kw_only=True)
class Probes:
    """What the checks of one task showed so far. Times are seconds of a monotonic clock."""

    started_s: float
    latest_s: float
    """When the latest check ended; `started_s` before the first."""
    health: Health = Health.STARTING
    failures: int = 0
    """In a row, those that count."""
    message: str = ""
    """What the latest failed check said; empty once one succeeded."""


def check_of(spec: TaskSpec) -> HealthCheck | None:
    """The check that a task of this spec has, if any."""
    check = spec.healthcheck
    if check is None or spec.healthcheck_disabled or check.test[:1] in ((), ("NONE",)):
        return None
    return check


def command_of(check: HealthCheck) -> tuple[str, ...]:
    """What to execute for one check."""
    kind, *arguments = check.test
    if kind == "CMD-SHELL":
        return ("/bin/sh", "-c", *arguments)
    return tuple(arguments) if kind == "CMD" else check.test


def first(now_s: float, health: Health = Health.STARTING) -> Probes:
    """The state of a task that starts now, or was found running with this health."""
    return Probes(started_s=now_s, latest_s=now_s, health=health)


def due_s(check: HealthCheck, probes: Probes) -> float:
    """When to check next."""
    starting = probes.health is Health.STARTING and check.start_period_s > 0
    if starting and probes.latest_s < probes.started_s + check.start_period_s:
        return probes.latest_s + min(check.start_interval_s, check.interval_s)
    return probes.latest_s + check.interval_s


def after_check(
    check: HealthCheck, probes: Probes, *, code: int, output: str, now_s: float
) -> Probes:
    """The state after a check ended with this exit code (0 is well)."""
    if code == 0:
        return evolve(probes, latest_s=now_s, health=Health.HEALTHY, failures=0, message="")
    message = " ".join(output.split())[:MAX_OUTPUT] or f"exit code {code}"
    forgiven = probes.health is Health.STARTING and now_s < probes.started_s + check.start_period_s
    failures = probes.failures + (not forgiven)
    health = Health.UNHEALTHY if failures >= check.retries else probes.health
    return evolve(
        probes,
        latest_s=now_s,
        health=health,
        failures=min(failures, check.retries),
        message=message,
    )
