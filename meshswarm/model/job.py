"""Jobs: what runs to its end and is then over, by hand or on a schedule; how far each run is."""

from enum import Enum

from attrs import field, frozen
from attrs.validators import ge, gt, optional

from meshswarm.ids import JobId, ServiceId, Version
from meshswarm.model.service import ServiceSpec


class Concurrency(Enum):
    """What becomes of a fire while an earlier run of the job is under way."""

    FORBID = "forbid"
    """It is skipped."""
    QUEUE = "queue"
    """One run follows as soon as the present one is over, however often it fired meanwhile."""
    ALLOW = "allow"
    """It runs beside."""
    REPLACE = "replace"
    """The present run is stopped; the new one follows once it has."""


class MissedFires(Enum):
    """What becomes of fires while nobody led."""

    ONE = "one"
    """One run makes up for all of them."""
    SKIP = "skip"


@frozen(kw_only=True)
class Schedule:
    """When a job runs by itself."""

    cron: str
    """Minute, hour, day of the month, month, day of the week."""
    timezone: str = "UTC"
    """IANA name."""
    concurrency: Concurrency = Concurrency.FORBID
    missed_fires: MissedFires = MissedFires.ONE
    starting_deadline_s: float | None = field(default=None, validator=optional(gt(0)))
    """A fire that could not begin so long after its time is skipped. None: never, or, where missed
    fires are skipped, after a minute."""


@frozen(kw_only=True)
class JobSpec:
    """One job as its user wants it."""

    name: str
    """The full name, unique among jobs: `STACK_JOB`."""
    stack: str | None = None
    service: ServiceSpec
    """What each run is: a service in a job's mode, whose name gets the run's number."""
    schedule: Schedule | None = None
    is_manual: bool = True
    """Whether users may run it."""
    keep_complete: int = field(default=3, validator=ge(0))
    """Runs that completed and are kept to be looked at."""
    keep_failed: int = field(default=3, validator=ge(0))


@frozen(kw_only=True)
class Job:
    """A job in the store: users write its spec and whether it is paused, controllers its fires."""

    id: JobId
    spec: JobSpec
    edition: int = 1
    """Grows by one with everything that users change: a fire decided on an older one is refused."""
    is_paused: bool = False
    runs: int = 0
    """How many runs it has had: the last one's number."""
    fired_until_ms: int
    """What becomes of every fire up to this instant is decided."""
    next_fire_ms: int | None = None
    """None: not reckoned yet, or none."""
    queued_ms: int | None = None
    """The fire that waits for the present run to be over."""
    skipped: int = 0
    """Fires that were not run."""
    skip_message: str = ""
    """Why the last of them was not."""
    version: Version = Version(0)
    created_at_ms: int = 0
    updated_at_ms: int = 0


class FireVerdict(Enum):
    """What becomes of a fire."""

    RUN = "run"
    QUEUE = "queue"
    SKIP = "skip"


class Trigger(Enum):
    """What began a run."""

    DEPLOY = "deploy"
    """A service in a job's mode was put, scaled or restarted."""
    SCHEDULE = "schedule"
    MANUAL = "manual"
    DEPENDENCY = "dependency"
    """Another job's run that waits for it."""


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
    REPLACED = "replaced"
    """Its job fired again, and wants the new run instead."""
    CANCELLED = "cancelled"
    """A user stopped it."""
    DEPENDENCY = "dependency"
    """What it depends on will not come to be as it must."""


@frozen(kw_only=True)
class Run:
    """The last run of a service in a job's mode, or the only one of a job's; under way or over.

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
    trigger: Trigger = Trigger.DEPLOY
    job_id: JobId | None = None
    """The job whose run it is; None: of a service that was deployed as it is."""
    number: int = 0
    """1, 2, ... of a job's runs."""
    scheduled_ms: int | None = None
    """The fire that began it."""
    version: Version = Version(0)
