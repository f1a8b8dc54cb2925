"""Probes: how an agent finds out whether a task has started, can take work, and still lives."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, field, frozen
from attrs.validators import ge, gt

from meshswarm import codec


class ProbeKind(Enum):
    """What a probe asks, and so what its failing means."""

    STARTUP = "startup"
    """Whether it has started: until then no other probe counts; failing, it is replaced."""
    READINESS = "readiness"
    """Whether it can take work: failing, it is not ready, and goes on running."""
    LIVENESS = "liveness"
    """Whether it lives: failing, it is replaced as its restart policy says."""


@frozen(kw_only=True)
class HttpCheck:
    """A GET of the task's address; well is a status from `status_low` to `status_high`."""

    port: int
    """The task's own, as its container sees it."""
    path: str = "/"
    headers: Mapping[str, str] = Factory(dict)
    status_low: int = 200
    status_high: int = 399
    is_https: bool = False
    """Whoever answers is not asked for a certificate that holds."""


@frozen(kw_only=True)
class TcpCheck:
    """A connection to the task's address; well is that it is taken."""

    port: int


@frozen(kw_only=True)
class CommandCheck:
    """A command run beside the task; well is exit code 0."""

    argv: tuple[str, ...]


Check = HttpCheck | TcpCheck | CommandCheck
codec.register_union(Check)


@frozen(kw_only=True)
class Probe:
    """One check, repeated; failing and well are what several in a row say."""

    check: Check
    interval_s: float = field(default=10.0, validator=gt(0))
    timeout_s: float = field(default=1.0, validator=gt(0))
    failure_threshold: int = field(default=3, validator=ge(1))
    """Failures in a row that make it failing."""
    success_threshold: int = field(default=1, validator=ge(1))
    """Successes in a row that make it well."""
    initial_delay_s: float = field(default=0.0, validator=ge(0))
    """Before the first check; counted from the startup probe's success, if there is one."""
    start_period_s: float = field(default=0.0, validator=ge(0))
    """Failures this early do not count, until the first time that it is well."""
    start_interval_s: float = field(default=1.0, validator=gt(0))
    """Between checks within the start period."""


@frozen(kw_only=True)
class Probes:
    """The probes of a task, beside Compose's `healthcheck`."""

    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None

    def of(self, kind: ProbeKind) -> Probe | None:
        """The probe of this kind."""
        match kind:
            case ProbeKind.STARTUP:
                return self.startup
            case ProbeKind.READINESS:
                return self.readiness
            case ProbeKind.LIVENESS:
                return self.liveness

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self != Probes()
