"""`apply`: one log entry turns a view into the next, the same on every node.

Total and deterministic: it reads nothing but its arguments, and a command that cannot be carried
out changes nothing and comes back as a refusal. What a command means stands in `users`, `agents`
and `placements`; the table at the end of this module says where.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol, cast

from attrs import evolve, frozen

from meshswarm.codec import Undecodable
from meshswarm.columns import Run, joined
from meshswarm.errors import Conflict, MeshswarmError, SessionExpired
from meshswarm.ids import Index, TaskId, Term
from meshswarm.making import maker
from meshswarm.store import agents, configs, files, jobs, placements, rollouts, runs, users
from meshswarm.store.changes import Changed
from meshswarm.store.commands import (
    AssignTask,
    Batch,
    Command,
    CreateTask,
    ExplainTask,
    ForgetTask,
    Group,
    LoseTask,
    MoveTasks,
    PauseRollout,
    PutConfig,
    PutSecret,
    PutSecretsKey,
    PutService,
    PutStack,
    RegisterNode,
    RemoveConfig,
    RemoveSecret,
    RemoveService,
    RemoveStack,
    ReportTasks,
    RestartService,
    ResumeRollout,
    RevertService,
    RollBackService,
    ScaleService,
    SetDesired,
    SetNodeState,
    SetRollout,
    Simple,
    UpdateNode,
    UseNewest,
    decode_command,
)
from meshswarm.store.job_commands import (
    CancelRun,
    DecideFire,
    ForgetRun,
    PauseJob,
    PlanFire,
    RemoveJob,
    ResumeJob,
    RunJob,
    SetRun,
)
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.outcome import MAX_ANSWERS, MAX_CLIENTS, ClientSession, Outcome
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View

Effects = tuple[tuple[str, str], ...]

Result = Effects | MeshswarmError
"""What one command did, or why it was refused and did nothing."""


@frozen(kw_only=True, weakref_slot=False)
class Applied:
    """The next view, what became of the command, and which rows changed."""

    view: View
    outcome: Outcome
    changed: Changed


def apply(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
    """Apply one NORMAL log entry; empty or unreadable data is a refusal, never an exception.

    An unreadable command is refused alike by every node of this version; a new kind of command is
    therefore proposed only once all members know it.
    """
    try:
        entry = LogEntry.decoded(data)
    except Undecodable as error:
        return _applied(Transaction(view, index, term, 0), Outcome.refused(index, error))
    transaction = Transaction(view, index, term, entry.at_ms)
    try:
        if entry.request is None:
            outcome = _run(transaction, decode_command(entry.command))
        else:
            outcome = _run_once(transaction, entry.request, entry.command)
    except Undecodable as error:
        outcome = Outcome.refused(index, error)
    return _applied(transaction, outcome)


def advance(view: View, *, index: Index, term: Term) -> View:
    """The view after an entry that holds no command (a no-op, a configuration change)."""
    return evolve(view, index=index, term=term)


def apply_command(view: View, command: Command) -> Applied:
    """Apply a command at the view's own index: how controllers look at what they would do."""
    transaction = Transaction(view, view.index, view.term, view.clock_ms)
    outcome = _run(transaction, command)
    return _applied(transaction, outcome)


def _applied(transaction: Transaction, outcome: Outcome) -> Applied:
    return _made(transaction.view, outcome, transaction.changed)


_made = maker(Applied)


def _run_once(transaction: Transaction, request: Request, command: bytes) -> Outcome:
    """Apply a named request unless it was applied before; then the first outcome stands."""
    view = transaction.view
    session = view.clients.get(request.client)
    known = session.answers.get(request.sequence) if session else None
    if known is not None:
        return known
    error = _unanswerable(view, session, request)
    if error is not None:
        return Outcome.refused(view.index, error)
    session = session or ClientSession(id=request.client)
    outcome = _run(transaction, decode_command(command))
    session = session.with_answer(request.sequence, request.acknowledged, outcome)
    transaction.put_client(session, most=MAX_CLIENTS)
    return outcome


def _unanswerable(
    view: View, session: ClientSession | None, request: Request
) -> MeshswarmError | None:
    """Why a request that has no answer here must not be carried out.

    A session is made by its first request; it is told from one that was forgotten, in which this
    very request may have been carried out, by what the log held before the client began: whatever
    it did came later, and so did all that was forgotten of it. No clock has a say.
    """
    if session is None:
        if request.opened_at >= view.forgotten_at:
            return None
        return SessionExpired(
            "the cluster no longer remembers what this client sent before",
            hint="look at what the cluster did, then send what is missing from a new client",
        )
    if request.sequence <= session.acknowledged:
        return Conflict(f"request {request.sequence} was answered, and its answer acknowledged")
    if len(session.answers) >= MAX_ANSWERS and request.acknowledged <= session.acknowledged:
        return Conflict(f"this client has {MAX_ANSWERS} answers that it never acknowledged")
    return None


def _run(transaction: Transaction, command: Command) -> Outcome:
    match command:
        case Group():
            return _run_group(transaction, command)
        case Batch():
            return _run_batch(transaction, command)
        case _:
            return carry_out(transaction, command)


def _run_group(transaction: Transaction, group: Group) -> Outcome:
    """Each command on its own, with an outcome of its own."""
    index, parts = transaction.view.index, list[Outcome]()
    for is_batch, some in _by_kind(group.commands):
        if is_batch:
            parts += _run_batches(transaction, cast(Sequence[Batch], some))
        else:
            results = _run_each(transaction, cast(Sequence[Simple], some), wants_effects=True)
            parts += [_outcome(index, result) for result in results]
    return Outcome(index=index, parts=tuple(parts))


def _by_kind(commands: Sequence[Simple | Batch]) -> Iterator[tuple[bool, Sequence[object]]]:
    """Whether they are batches, and those that stand together and are, or are not."""
    if type(commands) is Run:
        yield commands.kind is Batch, commands
        return
    for is_batch, some in groupby(commands, lambda part: type(part) is Batch):
        yield is_batch, list(some)


def _run_batches(transaction: Transaction, batches: Sequence[Batch]) -> list[Outcome]:
    """Batches one after the other; in one go where all are runs of one kind, for such runs cost
    the less the longer they are."""
    together = joined([batch.commands for batch in batches])
    if together is None:
        return [_run_batch(transaction, batch) for batch in batches]
    results = _run_each(transaction, together, wants_effects=False)
    index, at = transaction.view.index, 0
    outcomes: list[Outcome] = []
    for batch in batches:
        end = at + len(batch.commands)
        outcomes.append(_outcome_of(index, batch, results[at:end]))
        at = end
    return outcomes


def _run_batch(transaction: Transaction, batch: Batch) -> Outcome:
    """Each command on its own; the effects name those that were refused."""
    results = _run_each(transaction, batch.commands, wants_effects=False)
    return _outcome_of(transaction.view.index, batch, results)


def _outcome_of(index: Index, batch: Batch, results: Sequence[Result]) -> Outcome:
    if set(map(type, results)) <= {tuple}:
        return Outcome.done(index, ())
    effects = [
        (type(command).__name__, f"refused: {result.message}")
        for command, result in zip(batch.commands, results, strict=True)
        if isinstance(result, MeshswarmError)
    ]
    return Outcome.done(index, tuple(effects))


def _run_each(
    transaction: Transaction, commands: Sequence[Simple], *, wants_effects: bool
) -> list[Result]:
    """Commands one after the other: what each did, or why it was refused."""
    if type(commands) is Run:
        return _run_alike(transaction, commands.kind, commands, wants_effects)
    results: list[Result] = []
    for _, same in groupby(map(_RUNS.get, map(type, commands))):
        begin = len(results)
        alike = commands[begin : begin + sum(1 for _ in same)]
        results += _run_alike(transaction, type(alike[0]), alike, wants_effects)
    return results


def _run_alike(
    transaction: Transaction, kind: type, commands: Sequence[Simple], wants_effects: bool
) -> list[Result]:
    run = _RUNS.get(kind)
    if run is None:
        return [_carry_out(transaction, command) for command in commands]
    results = run(transaction, commands, wants_effects=wants_effects)
    transaction.keep()
    return results


def _place(
    transaction: Transaction, commands: Sequence[CreateTask | AssignTask], *, wants_effects: bool
) -> list[Result]:
    """What commands that place tasks do, as many at once as are of different tasks."""
    results: list[Result] = []
    run: dict[TaskId, CreateTask | AssignTask] = {}
    for command in (*commands, None):
        if run and (command is None or command.task_id in run):
            errors = placements.place_tasks(transaction, list(run.values()))
            results += [() if error is None else error for error in errors]
            run = {}
        if command is not None:
            run[command.task_id] = command
    return results


def carry_out(transaction: Transaction, command: Simple) -> Outcome:
    """Write what the command does, and keep it; a refused one writes nothing."""
    return _outcome(transaction.view.index, _carry_out(transaction, command))


def _carry_out(transaction: Transaction, command: Simple) -> Result:
    try:
        effects = _HANDLERS[type(command)](transaction, command)
    except MeshswarmError as error:
        transaction.undo()
        return error
    transaction.keep()
    return effects


def _outcome(index: Index, result: Result) -> Outcome:
    if isinstance(result, MeshswarmError):
        return Outcome.refused(index, result)
    return Outcome.done(index, result)


_HANDLERS: dict[type[Simple], Callable[[Transaction, Any], Effects]] = {
    PutStack: users.put_stack,
    RemoveStack: users.remove_stack,
    PutService: users.put_service,
    ScaleService: users.scale_service,
    RemoveService: users.remove_service,
    UpdateNode: users.update_node,
    MoveTasks: users.move_tasks,
    PutConfig: configs.put_config,
    RemoveConfig: files.remove_config,
    PutSecret: files.put_secret,
    RemoveSecret: files.remove_secret,
    UseNewest: users.use_newest,
    PutSecretsKey: files.put_secrets_key,
    RegisterNode: agents.register_node,
    ReportTasks: agents.report_tasks,
    SetNodeState: placements.set_node_state,
    CreateTask: placements.create_task,
    AssignTask: placements.assign_task,
    ExplainTask: placements.explain_task,
    SetDesired: placements.set_desired,
    LoseTask: placements.lose_task,
    ForgetTask: placements.forget_task,
    PauseRollout: rollouts.pause_rollout,
    ResumeRollout: rollouts.resume_rollout,
    RollBackService: rollouts.roll_back_service,
    RestartService: rollouts.restart_service,
    SetRollout: rollouts.set_rollout,
    RevertService: rollouts.revert_service,
    SetRun: runs.set_run,
    RunJob: jobs.run_job,
    PauseJob: jobs.pause_job,
    ResumeJob: jobs.resume_job,
    PlanFire: jobs.plan_fire,
    DecideFire: jobs.decide_fire,
    ForgetRun: jobs.forget_run,
    CancelRun: runs.cancel_run,
    RemoveJob: users.remove_job,
}
"""What each command means; a look into a table, for a `match` asks one class after the other."""


class _CarryOutAll(Protocol):
    """Carries out commands one after the other; what became of each. Effects that nobody wants may
    be left out."""

    def __call__(
        self, transaction: Transaction, commands: Any, /, *, wants_effects: bool
    ) -> list[Result]: ...


_RUNS: dict[type[Simple], _CarryOutAll] = {
    PutConfig: configs.put_configs,
    CreateTask: _place,
    AssignTask: _place,
}
"""Commands that come by the hundred, which cost much less when carried out together."""
