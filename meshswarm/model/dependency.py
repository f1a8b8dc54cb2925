"""What a service waits for before its first tasks start: other services that are so far."""

from enum import Enum

from attrs import frozen


class Condition(Enum):
    """How far a service must be for those that depend on it (Compose `depends_on`)."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@frozen(kw_only=True)
class Dependency:
    """One service that must be so far first."""

    service: str
    """The full name."""
    condition: Condition = Condition.STARTED
    is_required: bool = True
    """False: it is not waited for where it is missing or fails."""
    restarts: bool = False
    """Whether an update or restart of it restarts those that depend on it."""
