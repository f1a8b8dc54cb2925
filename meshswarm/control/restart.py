"""What follows an ended task: its replacement, at once or after a growing delay, or nothing.

The first replacement comes at once, then the delay doubles; all that this needs stands in the
slot's rows, so a new leader goes on where the old one was. A node's loss is nobody's failure: it
neither counts nor delays.
"""

from attrs import evolve, frozen

from meshswarm.control.slots import Slot
from meshswarm.model.service import RestartCondition, RestartPolicy, Service, TaskSpec
from meshswarm.model.task import DesiredState, Reason, Task, TaskState, TaskStatus

ATTEMPTS_KEPT = 1_000
"""Ended tasks of a slot kept at most to count attempts: a larger `max_attempts` counts as this."""

MAX_QUOTED = 100
"""Characters of a dead task's message that its successor's quotes."""


@frozen(kw_only=True)
class Successor:
    """The next task of a slot, as far as the last one decides it."""

    revision: int
    attempt: int = 0
    not_before_ms: int = 0
    message: str = ""
    """Why it waits; empty if it need not."""

    @property
    def reason(self) -> Reason:
        """The reason that goes with the message."""
        return Reason.BACKOFF if self.message else Reason.NONE


def restart_of(service: Service, spec: TaskSpec) -> RestartPolicy:
    """The policy by which a task of that spec is replaced; a job's that has come to its proper end
    never is."""
    if service.spec.mode.is_job and spec.restart.condition is RestartCondition.ANY:
        return evolve(spec.restart, condition=RestartCondition.ON_FAILURE)
    return spec.restart


def successor(
    slot: Slot, policy: RestartPolicy, current_revision: int, now_ms: int
) -> Successor | None:
    """What is to follow in a slot without a live task; None: nothing (see `stays_down`).

    `policy` is that of the latest task's revision.
    """
    latest = slot.latest
    if latest is None:
        return Successor(revision=current_revision)
    if stays_down(slot, policy, current_revision) is not None:
        return None
    if latest.desired > DesiredState.RUNNING:
        return Successor(revision=current_revision)
    if was_lost(latest):
        not_before_ms = latest.not_before_ms if latest.not_before_ms > now_ms else 0
        return Successor(
            revision=latest.revision,
            attempt=latest.attempt,
            not_before_ms=not_before_ms,
            message="goes on waiting after a failure" if not_before_ms else "",
        )
    ran_well = _ran_ms(latest) >= policy.reset_after_s * 1_000
    attempt = 1 if ran_well else latest.attempt + 1
    delay_ms = _delay_ms(policy, attempt)
    return Successor(
        revision=latest.revision,
        attempt=attempt,
        not_before_ms=now_ms + delay_ms if delay_ms else 0,
        message=f"waits {delay_ms / 1_000:g} s: the last one {_end(latest)}" if delay_ms else "",
    )


def stays_down(slot: Slot, policy: RestartPolicy, current_revision: int) -> str | None:
    """Why the slot's last task is not replaced; None if it is."""
    latest = slot.latest
    if latest is None:
        return None
    is_once = policy.condition is RestartCondition.NONE
    if latest.desired > DesiredState.RUNNING:
        was_moved = latest.desired is DesiredState.SHUTDOWN
        if is_once and was_moved and latest.revision == current_revision:
            return "it was stopped, and its restart condition is none"
        return None
    state = latest.status.state
    if is_once:
        return f"it {_end(latest)}, and its restart condition is none"
    if was_lost(latest):
        return None
    if policy.condition is RestartCondition.ON_FAILURE and state is TaskState.COMPLETE:
        return "it completed, and its restart condition is on-failure"
    limit = min(policy.max_attempts, ATTEMPTS_KEPT - 1)
    if limit and _ends(slot, latest, policy) > limit:
        return f"it {_end(latest)}, and was restarted {limit} times, its limit"
    return None


def was_lost(task: Task) -> bool:
    """Whether it ended with its node, or because its node's agent had no manager."""
    return task.status.state is TaskState.LOST or task.status.reason is Reason.FENCED


def history_of(policy: RestartPolicy, least: int) -> int:
    """How many ended tasks of a slot the policy needs to remember, at least `least`."""
    return min(ATTEMPTS_KEPT, max(least, policy.max_attempts + 1))


def _delay_ms(policy: RestartPolicy, attempt: int) -> int:
    """0 for the first replacement, then `delay_s`, doubled each time up to `max_delay_s`."""
    if attempt <= 1:
        return 0
    doubled_s = policy.delay_s * (1 << min(attempt - 2, 30))
    return round(1_000 * min(doubled_s, max(policy.delay_s, policy.max_delay_s)))


def _ends(slot: Slot, latest: Task, policy: RestartPolicy) -> int:
    """Ended tasks of the latest one's revision, itself included, within the policy's window."""
    since_ms = _ended_at_ms(latest) - policy.window_s * 1_000 if policy.window_s else 0
    return sum(
        task.revision == latest.revision
        and task.desired <= DesiredState.RUNNING
        and not was_lost(task)
        and _ended_at_ms(task) >= since_ms
        for task in slot.dead
    )


def _ended_at_ms(task: Task) -> int:
    """When the task ended, by log time: agents' clocks are compared with none but themselves."""
    return task.created_at_ms + _ran_ms(task)


def _ran_ms(task: Task) -> int:
    """For how long it ran, by its agent's clock."""
    started = task.status.started_at_ms
    return 0 if started is None else max(0, task.status.since_ms - started)


def _end(task: Task) -> str:
    """How the task ended, as the end of a sentence."""
    status = task.status
    if status.reason is Reason.FENCED:
        return "was stopped by its agent, which no manager knew of"
    match status.state:
        case TaskState.COMPLETE:
            return "completed"
        case TaskState.LOST:
            return "was lost with its node"
        case TaskState.REJECTED:
            return f"could not start ({_short(status)})"
        case _:
            return f"failed ({_short(status)})"


def _short(status: TaskStatus) -> str:
    """The status in so few words that a message which quotes it can be read."""
    words = status.message or status.reason.value
    return words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED]}…"
