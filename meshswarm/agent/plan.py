"""What an agent does next for each of its tasks: all its decisions, as functions of values. PURE.

An agent keeps one `Card` a task: what the managers told (`assignment`), what the runtime holds
(`held`), what the agent says of it (`status`). `next_step` reads a card and names one step; whoever
carries it out writes the result back with `after`, and asks again:

    told(cards, change) -> cards          a manager spoke
    seen(card, held) -> card              the runtime holds something else now
    next_step(card, cards, now) -> Step   Place | Prepare | Start | Stop | Remove | Report | Wait |
                                          Forget
    after(card, step, result, now) -> card

*Invariant:* states only move forward, and a task whose state is terminal is never started.
*Invariant:* a task with `stop_after` ends, and none is started, once no manager has known of this
node for so long.
*Invariant:* nothing is prepared or started on stale news: only after a manager confirmed the
assignment to this very process of the agent. What runs is kept running without one.
Times are milliseconds of the agent's wall clock.
"""

from attrs import evolve

from meshswarm.agent import statuses
from meshswarm.agent.card import (
    Card,
    Cards,
    Failure,
    Forget,
    Held,
    HeldState,
    Place,
    Prepare,
    Remove,
    Report,
    Silence,
    Start,
    Step,
    Stop,
    Stopping,
    Trouble,
    Wait,
)
from meshswarm.ids import TaskId
from meshswarm.model.task import DesiredState, Health, Reason, TaskState, TaskStatus
from meshswarm.store.assignments import AssignmentChange

RETRY_FIRST_MS = 500
RETRY_MAX_MS = 10_000
"""A step that failed for want of its runtime is repeated after 0.5 s, doubling up to 10 s."""

PATIENCE_MS = 30_000
"""How long a task waits for a runtime that does not answer before it is given up, so that another
node can take its place; whether it is to start, to run on, or to stop."""

_PASSING = (Reason.RUNTIME_UNAVAILABLE, Reason.FILES_UNAVAILABLE)
"""What may be over in a moment."""

KILL_AGAIN_MS = 10_000
"""From one SIGKILL to the next, for what sleeps uninterruptibly."""


# --- news ---------------------------------------------------------------------------------------


def told(cards: Cards, change: AssignmentChange, now_ms: int) -> dict[TaskId, Card]:
    """The cards after a manager spoke; whatever a full set lacks is no longer this node's."""
    after = dict(cards)
    gone = cards.keys() - {a.task.id for a in change.upserts} if change.full else change.removed
    for task_id in gone:
        if task_id in after:
            after[task_id] = evolve(after[task_id], assignment=None, confirmed=True)
    for assignment in change.upserts:
        task = assignment.task
        card = after.get(task.id, Card(task_id=task.id, told_at_ms=now_ms, status=task.status))
        # Remembered from before a restart it may be an instant of a clock that ran ahead of ours.
        told_at_ms = min(card.told_at_ms, now_ms)
        ahead = task.status if task.status.state > card.status.state else card.status
        after[task.id] = evolve(
            card,
            assignment=assignment,
            confirmed=True,
            told_at_ms=told_at_ms,
            status=ahead,
            trouble=None,
        )
    return after


def seen(card: Card, held: Held | None) -> Card:
    """The card after a look at the runtime; None: it holds nothing of the task."""
    return evolve(card, held=held, looked=True)


def heard(card: Card, silence: Silence | None) -> Card:
    """The card while its runtime does not answer (None: it does); said of what waits for it."""
    card = evolve(card, silence=silence)
    status = card.status
    waits = TaskState.PREPARING <= status.state <= TaskState.STARTING
    if silence is not None and waits and card.is_wanted:
        message = silence.message[: statuses.MAX_MESSAGE]
        status = evolve(status, reason=Reason.RUNTIME_UNAVAILABLE, message=message)
    elif card.trouble is None and waits and status.reason is Reason.RUNTIME_UNAVAILABLE:
        status = evolve(status, reason=Reason.NONE, message="")
    return evolve(card, status=status)


def pulled(card: Card, image: str) -> Card:
    """The card while its image is being pulled; `image` is empty when that is over."""
    status = card.status
    if image and status.state is TaskState.PREPARING:
        message = f"the image {image} is being pulled"
        return evolve(card, status=evolve(status, reason=Reason.PULLING_IMAGE, message=message))
    if not image and status.reason is Reason.PULLING_IMAGE:
        return evolve(card, status=evolve(status, reason=Reason.NONE, message=""))
    return card


def after(card: Card, step: Step, result: Held | Failure | None, now_ms: int) -> Card:
    """The card after a step was carried out, or failed; the result of Stop and Remove is None."""
    if isinstance(result, Failure):
        return _after_failure(card, step, result, now_ms)
    card = evolve(card, trouble=None)
    match step:
        case Report(status=status):
            return evolve(card, status=status)
        case Place(assignment=assignment):
            return evolve(card, files=assignment.spec.files)
        case Prepare() | Start():
            return seen(card, result)
        case Stop(kill=True):
            stopping = card.stopping or Stopping(since_ms=now_ms)
            return evolve(card, stopping=evolve(stopping, killed_at_ms=now_ms))
        case Stop():
            if card.stopping is not None:
                return evolve(card, stopping=evolve(card.stopping, since_ms=now_ms))
            unhealthy = card.is_wanted and not step.fenced
            stopping = Stopping(since_ms=now_ms, unhealthy=unhealthy, fenced=step.fenced)
            return evolve(card, stopping=stopping)
        case Remove():
            return evolve(card, held=None)
        case Wait() | Forget():
            return card


# --- decisions ----------------------------------------------------------------------------------


def next_step(card: Card, cards: Cards, now_ms: int, alone_ms: int = 0) -> Step:
    """The one thing to do now for this task; `cards` are all of the node's, its own included.

    `alone_ms` is how long no manager has known of this node (`lease`).
    """
    is_unclaimed = card.assignment is None and not card.confirmed
    left_ms = _until_fenced_ms(card, alone_ms)
    if left_ms is not None and left_ms <= 0:
        return _fence(card, now_ms)
    step = _unclaimed(card, now_ms) if is_unclaimed else _next_step(card, cards, now_ms)
    if left_ms is None:
        return step
    if not isinstance(step, Wait):
        return step
    fence_at_ms = now_ms + left_ms
    return Wait(until_ms=min(fence_at_ms, step.until_ms or fence_at_ms))


def _unclaimed(card: Card, now_ms: int) -> Step:
    """It was found here, and no manager has said yet whose it is: only what was fenced goes on."""
    if card.stopping is not None and card.held is not None and card.runs:
        return _stop(card, card.held, now_ms)
    return Wait()


def _next_step(card: Card, cards: Cards, now_ms: int) -> Step:
    if _is_unknown(card):
        return _while_silent(card, now_ms)
    if not card.looked and (card.status.state >= TaskState.STARTING or not card.is_wanted):
        return Wait()  # its runtime does not answer yet, so nobody knows whether it runs
    if card.trouble is not None and now_ms < card.trouble.retry_at_ms:
        return Wait(until_ms=card.trouble.retry_at_ms)
    if card.is_wanted:
        return _onward(card, cards, now_ms)
    return _wind_down(card, now_ms)


def _until_fenced_ms(card: Card, alone_ms: int) -> int | None:
    """How long the task may still run without a manager; None: for ever."""
    after_s: float | None = None
    if card.assignment is not None and card.is_wanted:
        after_s = card.assignment.spec.stop_after_s
    elif card.assignment is None and not card.confirmed and card.stopping is None:
        after_s = card.held.stop_after_s if card.held is not None and card.runs else None
    return None if after_s is None else round(1_000 * after_s) - alone_ms


def _fence(card: Card, now_ms: int) -> Step:
    """End what the cluster may soon replace elsewhere, and begin nothing."""
    held = card.held
    if not card.looked:
        return Wait()
    if card.trouble is not None and now_ms < card.trouble.retry_at_ms:
        return Wait(until_ms=card.trouble.retry_at_ms)
    if held is None or held.state is HeldState.CREATED:
        return Report(status=statuses.fenced(card, held, now_ms))
    if held.state is HeldState.EXITED:
        return Report(status=statuses.ended(card, held, now_ms))
    return Stop(kill=False, fenced=True)


def _is_unknown(card: Card) -> bool:
    """Whether it ran when its runtime fell silent, or was about to."""
    has_exited = card.held is not None and card.held.state is HeldState.EXITED
    started = TaskState.STARTING <= card.status.state < TaskState.COMPLETE
    return card.silence is not None and started and not has_exited


def _while_silent(card: Card, now_ms: int) -> Step:
    """Say so, and after a while give the task up, so that another node can take its place.

    Should it still run when the runtime answers again, it is stopped then. One of which at most one
    may run (`stop_after`) is not given up while nobody knows whether it does.
    """
    assert card.silence is not None
    reason, message = Reason.RUNTIME_UNAVAILABLE, card.silence.message
    give_up_at_ms: int | None = card.silence.since_ms + PATIENCE_MS
    if card.assignment is not None and card.assignment.spec.stop_after_s is not None:
        give_up_at_ms = None
    if give_up_at_ms is not None and now_ms >= give_up_at_ms:
        waited = f"{message} (for {PATIENCE_MS // 1_000} s)"
        return Report(
            status=statuses.terminal(card, TaskState.FAILED, reason, waited, None, now_ms)
        )
    status = evolve(card.status, reason=reason, message=message[: statuses.MAX_MESSAGE])
    return Wait(until_ms=give_up_at_ms) if status == card.status else Report(status=status)


def _onward(card: Card, cards: Cards, now_ms: int) -> Step:
    """The next step towards running; the card is wanted."""
    held, state = card.held, card.status.state
    if held is None or held.state is HeldState.CREATED:
        reached = TaskState.STARTING if held is None else TaskState.RUNNING
        if state >= reached:
            return Report(status=statuses.vanished(card, now_ms))
        if not card.confirmed:
            return Wait()
        return _prepare(card, now_ms) if held is None else _start(card, cards, now_ms)
    if held.state is HeldState.EXITED:
        return Report(status=statuses.ended(card, held, now_ms))
    if state is TaskState.RUNNING and card.confirmed and (place := _place(card)) is not None:
        return place
    running = statuses.running(card, held, now_ms)
    if running != card.status:
        return Report(status=running)
    if running.health is Health.UNHEALTHY:
        return Stop(kill=False)
    return Wait()


def _place(card: Card) -> Place | None:
    """Other files, if those in its directory are not, or not known to be, what it is to have."""
    assert card.assignment is not None
    wanted = card.assignment.spec.files
    return None if (card.files or ()) == wanted else Place(assignment=card.assignment)


def _prepare(card: Card, now_ms: int) -> Step:
    """Prepare, unless it waits for its backoff: what fails to prepare must back off as well."""
    assert card.assignment is not None
    if now_ms < _due_ms(card):
        return Wait(until_ms=_due_ms(card))
    if card.status.state < TaskState.PREPARING:
        return Report(status=TaskStatus(state=TaskState.PREPARING, since_ms=now_ms))
    return _place(card) or Prepare(assignment=card.assignment)


def _start(card: Card, cards: Cards, now_ms: int) -> Step:
    if (place := _place(card)) is not None:
        return place
    held_back = _held_back(card, cards)
    if held_back is None:
        if card.status.state < TaskState.STARTING:
            return Report(status=TaskStatus(state=TaskState.STARTING, since_ms=now_ms))
        return Start()
    reason, message = held_back
    ready = TaskStatus(
        state=TaskState.READY, reason=reason, message=message, since_ms=card.status.since_ms
    )
    if card.status.state > TaskState.READY or card.status == ready:
        return Wait()
    return Report(status=statuses.since(card.status, ready, now_ms))


def _held_back(card: Card, cards: Cards) -> tuple[Reason, str] | None:
    """Why a prepared task is not to be started yet."""
    assert card.assignment is not None
    if card.assignment.task.desired is DesiredState.READY:
        return Reason.NONE, ""
    if predecessor := _running_predecessor(card, cards):
        return Reason.WAITS_FOR_PREDECESSOR, f"it starts once {predecessor} has stopped"
    return None


def _due_ms(card: Card) -> int:
    """When it may be prepared: at the leader's instant, or its backoff after we heard if sooner.

    So a clock that runs apart from the leader's cannot hold a task back for long.
    """
    assert card.assignment is not None
    task = card.assignment.task
    backoff_ms = max(0, task.not_before_ms - task.created_at_ms)
    return min(task.not_before_ms, card.told_at_ms + backoff_ms)


def _running_predecessor(card: Card, cards: Cards) -> TaskId | None:
    """An earlier task of the same slot that still runs here and should not.

    Two wanted tasks of one slot are a start-first rollout: the controllers know what they do.
    """
    assert card.assignment is not None
    for other in cards.values():
        if (
            other.held is not None
            and other.held.state is HeldState.RUNNING
            and other.task_id != card.task_id
            and other.place == card.place
            and other.held.fencing < card.assignment.task.fencing
            and not other.is_wanted
        ):
            return other.task_id
    return None


def _wind_down(card: Card, now_ms: int) -> Step:
    """The next step towards leaving nothing behind; the card is not wanted."""
    held, over = card.held, card.status.state.is_terminal
    if held is None:
        if not over:
            return Report(
                status=statuses.stopped(card, "it was stopped before it ran", None, now_ms)
            )
        return Forget() if card.assignment is None else Wait()
    match held.state:
        case HeldState.CREATED:
            return Remove()
        case HeldState.RUNNING:
            return _stop(card, held, now_ms)
        case HeldState.EXITED if not over:
            return Report(status=statuses.ended(card, held, now_ms))
        case HeldState.EXITED:
            # As long as its row is kept as history, its logs are too.
            task = card.assignment.task if card.assignment else None
            kept = task is not None and task.desired < DesiredState.REMOVE
            return Wait() if kept else Remove()


def _stop(card: Card, held: Held, now_ms: int) -> Step:
    """The stop signal, after the grace period SIGKILL, and again until it is gone.

    If the clock went back behind the signal, nobody knows when that was: it is sent again.
    """
    if card.stopping is None or now_ms < card.stopping.since_ms:
        return Stop(kill=False)
    killed_at_ms = card.stopping.killed_at_ms
    if killed_at_ms is None:
        kill_at_ms = card.stopping.since_ms + round(_grace_s(card, held) * 1000)
    else:
        kill_at_ms = killed_at_ms + KILL_AGAIN_MS
    return Stop(kill=True) if now_ms >= kill_at_ms else Wait(until_ms=kill_at_ms)


def _grace_s(card: Card, held: Held) -> float:
    return card.assignment.spec.stop_grace_period_s if card.assignment else held.grace_s


# --- failures -----------------------------------------------------------------------------------


def _after_failure(card: Card, step: Step, failure: Failure, now_ms: int) -> Card:
    """Reject what cannot be started; try again what failed for want of the runtime, or must end."""
    if isinstance(step, Place):
        card = evolve(card, files=None)  # some may be in place, and others not
    began_ms = now_ms - failure.lasted_ms
    trouble = card.trouble or Trouble(since_ms=began_ms, count=0, retry_at_ms=now_ms)
    message = failure.message[: statuses.MAX_MESSAGE]
    # One long failure among answers may be a slow engine's: it is tried a second time.
    tried = trouble.count > 0 or card.silence is not None or failure.lasted_ms < PATIENCE_MS
    hopeless = failure.reason not in _PASSING or (
        tried and now_ms - trouble.since_ms >= PATIENCE_MS
    )
    is_running = card.status.state is TaskState.RUNNING
    if isinstance(step, Place | Prepare | Start) and hopeless and not is_running:
        rejected = statuses.terminal(
            card, TaskState.REJECTED, failure.reason, message, card.held, now_ms
        )
        return evolve(card, status=rejected, trouble=None)
    delay_ms = min(RETRY_MAX_MS, RETRY_FIRST_MS * 2**trouble.count)
    status = card.status
    if not status.state.is_terminal:
        status = evolve(status, reason=failure.reason, message=message)
    return evolve(
        card,
        status=status,
        trouble=evolve(trouble, count=min(trouble.count + 1, 16), retry_at_ms=now_ms + delay_ms),
    )
