"""How a new revision comes to a service's slots: what the user wants of it, and how far it is."""

from enum import Enum

from attrs import field, frozen
from attrs.validators import and_, ge, gt, le, optional

from meshswarm.ids import ServiceId, Version


class UpdateOrder(Enum):
    """Whether a slot's old task is stopped before the new one starts, or once that one is well."""

    STOP_FIRST = "stop-first"
    START_FIRST = "start-first"


class FailureAction(Enum):
    """What a rollout does when too much of it failed."""

    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"
    """Back to the last revision that was known to be good; in a rollback the same as PAUSE."""


@frozen(kw_only=True)
class UpdatePolicy:
    """How a revision is rolled out (Compose `update_config`), or back (`rollback_config`)."""

    parallelism: int = field(default=1, validator=ge(0))
    """Slots under way at a time: not well for our doing, or, start-first, with one task more.
    0: all."""
    delay_s: float = field(default=0.0, validator=ge(0))
    """From the moment a new task counts as well until the next slot's turn."""
    order: UpdateOrder = UpdateOrder.STOP_FIRST
    failure_action: FailureAction = FailureAction.PAUSE
    monitor_s: float = field(default=5.0, validator=ge(0))
    """A new task that ends within this of its start, or before its first health, has failed."""
    max_failure_ratio: float = field(default=0.0, validator=and_(ge(0), le(1)))
    """The share of the slots that may fail before `failure_action` is taken."""
    min_healthy_s: float | None = field(default=None, validator=optional(ge(0)))
    """How long a new task must have been running and healthy to count as well, doubled with every
    failure that led to it. None: 2 s, or no time at all if a health check vouches for it."""
    healthy_deadline_s: float = field(default=300.0, validator=gt(0))
    """A new task that does not count as well so long after its creation has failed; if the rollout
    goes on all the same, it is stopped where an old one still works beside it."""
    progress_deadline_s: float = field(default=600.0, validator=gt(0))
    """If no slot came to count as well for so long, or to fail bearably, it has failed."""
    step: bool = False
    """Pause after every `parallelism` slots until told to go on."""


class RolloutPhase(Enum):
    """Where a rollout stands."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLING_BACK = "rolling_back"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLED_BACK = "rolled_back"

    @property
    def is_active(self) -> bool:
        """Whether slots get their turn, and failures are counted."""
        return self in (RolloutPhase.UPDATING, RolloutPhase.ROLLING_BACK)

    @property
    def is_paused(self) -> bool:
        """Whether it waits for a user."""
        return self in (RolloutPhase.PAUSED, RolloutPhase.ROLLBACK_PAUSED)

    @property
    def goes_back(self) -> bool:
        """Whether it is, or was, on its way to an earlier revision."""
        return self in (
            RolloutPhase.ROLLING_BACK,
            RolloutPhase.ROLLBACK_PAUSED,
            RolloutPhase.ROLLED_BACK,
        )


class RolloutReason(Enum):
    """Why a rollout is in its phase, for programs; `Rollout.message` says it for people."""

    NONE = ""
    DEPLOYED = "deployed"
    RESTARTED = "restarted"
    RELOADED = "reloaded"
    """Nothing but the content of files changed, and they changed under the running tasks."""
    BY_HAND = "by_hand"
    STEP_DONE = "step_done"
    TASKS_FAILED = "tasks_failed"
    NO_PROGRESS = "no_progress"
    DONE = "done"


@frozen(kw_only=True)
class Rollout:
    """The last rollout of a service, under way or over; a service just created has none.

    Users' commands begin, pause, resume and turn it; controllers write how far it is, and say on
    which `edition` they decided that.
    """

    service_id: ServiceId
    edition: int
    """Grows by one with everything but a controller's progress: what was decided on an older one
    no longer counts."""
    stable_revision: int
    """The last revision that was whole before this rollout began: where a failure leads back to."""
    revision: int
    """Where it leads."""
    phase: RolloutPhase
    reason: RolloutReason = RolloutReason.NONE
    message: str = ""
    """One sentence for people; at most 1,000 characters."""
    since_ms: int
    """When the phase began; tasks from before do not count as failures of it."""
    started_at_ms: int
    well: int = 0
    """Slots whose task of this revision counted as well when it was last looked."""
    progressed_at_ms: int
    """When `well` last rose or a slot failed bearably: from here on runs the progress deadline."""
    not_before_ms: int = 0
    """No slot has its turn before this instant (the policy's delay)."""
    failed: tuple[str, ...] = ()
    """Slots that failed in this phase, sorted: their numbers, or nodes of a global service."""
    slots_left: int | None = None
    """Turns that may be taken before it pauses (step by step); None: as many as there are."""
    version: Version = Version(0)

    @property
    def is_under_way(self) -> bool:
        """Whether it has an end before it: slots get their turn, or it waits for a user."""
        return self.phase.is_active or self.phase.is_paused
