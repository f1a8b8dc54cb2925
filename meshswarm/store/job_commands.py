"""The commands about jobs and their runs, some of those in `store.commands`."""

from attrs import frozen

from meshswarm.ids import JobId, ServiceId
from meshswarm.model.job import FireVerdict, RunPhase, RunReason

# --- users ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class RunJob:
    """Run the job now, beside whatever its schedule says; refused if that is not for users."""

    job_id: JobId


@frozen(kw_only=True)
class PauseJob:
    """Let the job's schedule fire no more; what runs goes on."""

    job_id: JobId


@frozen(kw_only=True)
class ResumeJob:
    """Let the job's schedule fire again, from now on."""

    job_id: JobId


@frozen(kw_only=True)
class CancelRun:
    """Stop a run that is under way: it has failed then, and what runs of it is stopped."""

    service_id: ServiceId


@frozen(kw_only=True)
class RemoveJob:
    """Delete the job and all its runs; what still runs of them is stopped."""

    job_id: JobId


# --- controllers ------------------------------------------------------------------------------


@frozen(kw_only=True)
class SetRun:
    """How far a job's run is; refused when it is at another edition by now."""

    service_id: ServiceId
    edition: int
    phase: RunPhase
    reason: RunReason
    message: str
    completed: int
    failed: int


@frozen(kw_only=True)
class PlanFire:
    """When the job fires next; refused when its user has changed it since."""

    job_id: JobId
    edition: int
    next_fire_ms: int | None


@frozen(kw_only=True)
class DecideFire:
    """What becomes of a job's fire; each is decided once.

    Refused when its user has changed the job since, and for a fire up to `Job.fired_until_ms`
    unless that is the one in the queue.
    """

    job_id: JobId
    edition: int
    scheduled_ms: int
    verdict: FireVerdict
    message: str = ""


@frozen(kw_only=True)
class ForgetRun:
    """Delete a job's run that is over, with its tasks (history limit)."""

    service_id: ServiceId
