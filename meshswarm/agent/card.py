"""What an agent knows of its tasks and can do with them: the nouns of `plan`. PURE.

Times are milliseconds of the agent's wall clock.
"""

import signal
from collections.abc import Mapping
from enum import IntEnum

from attrs import evolve, frozen

from meshswarm.ids import ServiceId, TaskId
from meshswarm.model.file import FileUse
from meshswarm.model.probe import ProbeKind
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import DesiredState, Fencing, Health, Reason, TaskStatus
from meshswarm.store.assignments import Assignment

# --- what a runtime holds -----------------------------------------------------------------------


class HeldState(IntEnum):
    """How far what a runtime holds has come."""

    CREATED = 0
    RUNNING = 1
    EXITED = 2


@frozen(kw_only=True)
class Exit:
    """How a task ended."""

    code: int | None
    """Its exit code, 128 + n for signal n as shells and engines say it; None if nobody saw it."""
    out_of_memory: bool = False
    failure: Reason | None = None
    """Set if it never came to run its command (then `code` means nothing)."""
    message: str = ""

    @property
    def signal_name(self) -> str | None:
        """The signal that ended it; None if it ended by itself."""
        try:
            return signal.Signals(self.code - 128).name if self.code else None
        except ValueError:
            return None


@frozen(kw_only=True)
class Held:
    """One container or process of ours, as its runtime sees it."""

    task_id: TaskId
    service_id: ServiceId
    slot: int
    fencing: Fencing
    runtime: RuntimeKind
    runtime_id: str = ""
    """Container id, or the process id as text."""
    state: HeldState = HeldState.CREATED
    started_at_ms: int | None = None
    exit: Exit | None = None
    """Set if and only if `state` is EXITED."""
    health: Health = Health.NONE
    health_message: str = ""
    """What the latest failed check said."""
    published: tuple[str, ...] = ()
    address: str = ""
    """Where this host reaches its ports that are not published; empty: nowhere."""
    grace_s: float = 10.0
    """From the stop signal to SIGKILL."""
    stop_after_s: float | None = None
    """As its spec said: so that it can be fenced by an agent that remembers nothing."""
    stop_signal: str = "SIGTERM"
    """Asks it to end."""

    @property
    def progress(self) -> tuple[int, HeldState]:
        """Only grows in the life of one `runtime_id`: news that arrive late compare smaller."""
        return (self.started_at_ms or 0, self.state)


# --- what the agent knows -----------------------------------------------------------------------


@frozen(kw_only=True)
class Said:
    """What one probe says; NONE: there is no such probe."""

    health: Health = Health.NONE
    message: str = ""
    """How it fails, as a sentence; empty unless it does."""


@frozen(kw_only=True)
class Probed:
    """What the probes of a running task say."""

    startup: Said = Said()
    readiness: Said = Said()
    liveness: Said = Said()

    def of(self, kind: ProbeKind) -> Said:
        """What the probe of this kind says."""
        match kind:
            case ProbeKind.STARTUP:
                return self.startup
            case ProbeKind.READINESS:
                return self.readiness
            case ProbeKind.LIVENESS:
                return self.liveness

    def changed(self, kind: ProbeKind, said: Said) -> "Probed":
        """The same, but for one probe."""
        match kind:
            case ProbeKind.STARTUP:
                return evolve(self, startup=said)
            case ProbeKind.READINESS:
                return evolve(self, readiness=said)
            case ProbeKind.LIVENESS:
                return evolve(self, liveness=said)


@frozen(kw_only=True)
class Stopping:
    """A stop under way, and why."""

    since_ms: int
    killed_at_ms: int | None = None
    """When SIGKILL was last sent."""
    fenced: bool = False
    """It is stopped because no manager knew of this node for too long."""
    unhealthy: bool = False
    """Stopped by the agent because its health check failed, not because it was asked to."""


@frozen(kw_only=True)
class Trouble:
    """The latest step failed and is to be tried again."""

    since_ms: int
    count: int
    retry_at_ms: int


@frozen(kw_only=True)
class Silence:
    """What runs the task does not answer, so nobody knows how it fares."""

    since_ms: int
    message: str


@frozen(kw_only=True)
class Card:
    """All that an agent knows of one task."""

    task_id: TaskId
    assignment: Assignment | None = None
    """What the managers want of it; None: it is not (or no longer) this node's."""
    confirmed: bool = False
    """Whether a manager said so to this process of the agent, rather than to an earlier one."""
    told_at_ms: int = 0
    """When this node first heard of it."""
    looked: bool = False
    """Whether the runtime answered what it holds since the agent began."""
    held: Held | None = None
    status: TaskStatus = TaskStatus()
    """What the agent says of it, known to the managers or on the way to them."""
    stopping: Stopping | None = None
    trouble: Trouble | None = None
    silence: Silence | None = None
    files: tuple[FileUse, ...] | None = None
    """The configs and secrets as they lie in its directory, if this process of the agent knows."""
    probed: Probed | None = None
    """What its probes say; None: it has none, or they have not begun."""

    @property
    def runs(self) -> bool:
        """Whether its runtime says that it runs."""
        return self.held is not None and self.held.state is HeldState.RUNNING

    @property
    def is_wanted(self) -> bool:
        """Whether it should come to run, or go on running."""
        return (
            self.assignment is not None
            and self.assignment.task.desired <= DesiredState.RUNNING
            and not self.status.state.is_terminal
            and self.stopping is None
        )

    @property
    def place(self) -> tuple[ServiceId, int] | None:
        """The service and slot that it fills; None while neither manager nor runtime said."""
        if self.assignment is not None:
            return (self.assignment.task.service_id, self.assignment.task.slot)
        return (self.held.service_id, self.held.slot) if self.held else None


Cards = Mapping[TaskId, Card]


# --- steps --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Prepare:
    """Make everything ready to start: pull the image, create the container."""

    assignment: Assignment


@frozen(kw_only=True)
class Place:
    """Put the files that it uses where it sees them, then tell it if it runs."""

    assignment: Assignment


@frozen(kw_only=True)
class Start:
    """Start what is prepared."""


@frozen(kw_only=True)
class Stop:
    """Send the stop signal, or SIGKILL."""

    kill: bool
    fenced: bool = False
    """Whether it is because no manager knew of this node for too long."""


@frozen(kw_only=True)
class Remove:
    """Clear away what the runtime holds, logs included."""


@frozen(kw_only=True)
class Report:
    """Say this to the managers from now on."""

    status: TaskStatus


@frozen(kw_only=True)
class Wait:
    """Nothing to do until something changes, or until an instant."""

    until_ms: int | None = None


@frozen(kw_only=True)
class Forget:
    """Nothing is left of the task here: throw its card away."""


Step = Place | Prepare | Start | Stop | Remove | Report | Wait | Forget


@frozen(kw_only=True)
class Failure:
    """Why a runtime could not carry a step out, as a value."""

    reason: Reason
    message: str
    lasted_ms: int = 0
    """How long it was tried before it failed."""
