"""What an agent says of a task: statuses as functions of its card. PURE."""

from attrs import evolve

from meshswarm.agent.card import Card, Held
from meshswarm.model.task import Health, Reason, TaskState, TaskStatus

MAX_MESSAGE = 1_000
"""Characters of a status message; a longer one is cut."""


def running(card: Card, held: Held, now_ms: int) -> TaskStatus:
    """The status of a task that runs; equal to the present one if nothing about it changed."""
    health, message = verdict(card, held)
    reasons = {Health.UNHEALTHY: Reason.UNHEALTHY, Health.NOT_READY: Reason.NOT_READY}
    status = TaskStatus(
        state=TaskState.RUNNING,
        reason=reasons.get(health, Reason.NONE),
        message=message,
        since_ms=card.status.since_ms,
        runtime_id=held.runtime_id,
        health=health,
        started_at_ms=held.started_at_ms,
        published=held.published,
    )
    return since(card.status, status, now_ms)


def ended(card: Card, held: Held, now_ms: int) -> TaskStatus:
    """The terminal status of a task that no longer runs."""
    assert held.exit is not None
    end = held.exit
    if card.stopping is not None and card.stopping.unhealthy:
        state, reason, message = TaskState.FAILED, Reason.UNHEALTHY, verdict(card, held)[1]
    elif card.stopping is not None and card.stopping.fenced and card.assignment is not None:
        return fenced(card, held, now_ms)
    elif not card.is_wanted:
        return stopped(card, "it was stopped as asked", held, now_ms)
    elif end.failure is not None:
        state, reason, message = TaskState.REJECTED, end.failure, end.message
    elif end.code is None:
        state, reason = TaskState.FAILED, Reason.VANISHED
        message = end.message or "it ended while nobody watched; its exit code is unknown"
    elif end.code == 0:
        state, reason, message = TaskState.COMPLETE, Reason.COMPLETED, "it ended with exit code 0"
    elif end.out_of_memory:
        state, reason = TaskState.FAILED, Reason.OUT_OF_MEMORY
        message = "it was killed for using more memory than it may"
    elif end.signal_name is not None:
        state, reason = TaskState.FAILED, Reason.SIGNALLED
        message = f"it was ended by {end.signal_name}"
    else:
        state, reason = TaskState.FAILED, Reason.EXITED
        message = f"it ended with exit code {end.code}"
    return terminal(card, state, reason, message, held, now_ms)


def stopped(card: Card, message: str, held: Held | None, now_ms: int) -> TaskStatus:
    """The status of a task that was to end, and did; `message` unless it is not ours any more."""
    reason = Reason.STOPPED
    if card.assignment is None:
        reason = Reason.NODE_RETURNED
        message = "its node stopped it: it was no longer the node's own"
    return terminal(card, TaskState.SHUTDOWN, reason, message, held, now_ms)


def fenced(card: Card, held: Held | None, now_ms: int) -> TaskStatus:
    """The status of a task that was ended because no manager knew of this node."""
    assert card.assignment is not None
    after_s = card.assignment.spec.stop_after_s
    message = f"its agent stopped it: no manager knew of its node for {after_s or 0:g} s"
    return terminal(card, TaskState.SHUTDOWN, Reason.FENCED, message, held, now_ms)


def vanished(card: Card, now_ms: int) -> TaskStatus:
    """The status of a task that ran, and of which nothing is left."""
    message = "its process or container is gone, and nobody saw it end"
    return terminal(card, TaskState.FAILED, Reason.VANISHED, message, None, now_ms)


def terminal(
    card: Card, state: TaskState, reason: Reason, message: str, held: Held | None, now_ms: int
) -> TaskStatus:
    """A status from which there is no way on."""
    return evolve(
        card.status,
        state=state,
        reason=reason,
        message=message[:MAX_MESSAGE],
        since_ms=now_ms,
        runtime_id=held.runtime_id if held else card.status.runtime_id,
        exit_code=held.exit.code if held and held.exit else None,
        started_at_ms=held.started_at_ms if held else card.status.started_at_ms,
    )


def since(before: TaskStatus, status: TaskStatus, now_ms: int) -> TaskStatus:
    """`status`, dated now if its state is not the one before."""
    return status if status.state is before.state else evolve(status, since_ms=now_ms)


def verdict(card: Card, held: Held) -> tuple[Health, str]:
    """What its health check and its probes say together, and in words what fails.

    Until the startup probe is well nothing else counts; what fails for good comes before what is
    not ready, and that before what is not known yet.
    """
    failing = ""
    if held.health is Health.UNHEALTHY:
        said = held.health_message or "no output"
        failing = f"its health check failed: {said}"[:MAX_MESSAGE]
    if card.assignment is None or not card.assignment.spec.probes:
        return held.health, failing
    probed = card.probed
    if probed is None:
        is_known = card.status.state is TaskState.RUNNING
        return (card.status.health, card.status.message) if is_known else (Health.STARTING, "")
    if probed.startup.health not in (Health.NONE, Health.HEALTHY):
        return probed.startup.health, probed.startup.message
    if failing or probed.liveness.health is Health.UNHEALTHY:
        return Health.UNHEALTHY, failing or probed.liveness.message
    if probed.readiness.health is Health.UNHEALTHY:
        return Health.NOT_READY, probed.readiness.message
    known = (held.health, probed.readiness.health, probed.liveness.health)
    return Health.STARTING if Health.STARTING in known else Health.HEALTHY, ""
