"""Jobs: what runs to its end and is then over; how far each run of one is."""

from enum import Enum

from attrs import frozen

from meshswarm.ids import ServiceId, Version


class RunPhase(Enum):
    """Where a run stands."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether it starts nothing any more."""
        return self is not RunPhase.RUNNING


class RunReason(Enum):
    """Why a run is in its phase, for programs; `Run.message` says it for people."""

    NONE = ""
    DONE = "done"
    TASKS_FAILED = "tasks_failed"
    DEADLINE = "deadline"
    """Its active deadline passed before all its tasks were complete."""


@frozen(kw_only=True)
class Run:
    """The last run of a service in a job's mode, under way or over.

    Users' commands begin it; controllers write how far it is, and say on which `edition` they
    decided that.
    """

    service_id: ServiceId
    edition: int = 1
    """Grows by one whenever it begins anew: what was decided on an older one no longer counts."""
    phase: RunPhase = RunPhase.RUNNING
    reason: RunReason = RunReason.NONE
    message: str = ""
    """One sentence for people; at most 1,000 characters."""
    started_at_ms: int
    """By log time: from here on runs the active deadline."""
    ended_at_ms: int | None = None
    completed: int = 0
    """Slots whose task came to its proper end when it was last looked."""
    failed: int = 0
    """Slots whose task failed and is not tried again."""
    version: Version = Version(0)
