"""`apply`: one log entry turns a view into the next, the same on every node.

Total and deterministic: it reads nothing but its arguments, and a command that cannot be carried
out changes nothing and comes back as a refusal. What a command means stands in `users`, `agents`
and `placements` below this module's dispatch.
"""

from typing import assert_never

from attrs import evolve, frozen

from meshswarm.codec import Undecodable
from meshswarm.errors import Conflict, MeshswarmError
from meshswarm.ids import Index, Term
from meshswarm.store import agents, placements, users
from meshswarm.store.commands import (
    AssignTask,
    Batch,
    Command,
    CreateTask,
    ExplainTask,
    ForgetTask,
    LogEntry,
    LoseTask,
    PutConfig,
    PutService,
    PutStack,
    RegisterNode,
    RemoveConfig,
    RemoveService,
    RemoveStack,
    ReportTasks,
    Request,
    ScaleService,
    SetDesired,
    SetNodeState,
    Simple,
    UpdateNode,
    decode_command,
)
from meshswarm.store.outcome import MAX_ANSWERS, MAX_CLIENTS, ClientSession, Outcome
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import Key, View

Effects = tuple[tuple[str, str], ...]


@frozen(kw_only=True)
class Applied:
    """The next view, what became of the command, and which rows changed."""

    view: View
    outcome: Outcome
    changed: frozenset[Key]


def apply(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
    """Apply one NORMAL log entry; empty or unreadable data is a refusal, never an exception.

    An unreadable command is refused alike by every node of this version; a new kind of command is
    therefore proposed only once all members know it.
    """
    base = evolve(view, index=index, term=term)
    try:
        entry = LogEntry.decoded(data)
        base = evolve(base, clock_ms=max(base.clock_ms, entry.at_ms))
        if entry.request is None:
            return _run(base, decode_command(entry.command))
        return _run_once(base, entry.request, entry.command)
    except Undecodable as error:
        return Applied(view=base, outcome=Outcome.refused(index, error), changed=frozenset())


def advance(view: View, *, index: Index, term: Term) -> View:
    """The view after an entry that holds no command (a no-op, a configuration change)."""
    return evolve(view, index=index, term=term)


def apply_command(view: View, command: Command) -> Applied:
    """Apply a command at the view's own index: how controllers look at what they would do."""
    return _run(view, command)


def _run_once(base: View, request: Request, command: bytes) -> Applied:
    """Apply a named request unless it was applied before; then the first outcome stands."""
    session = base.clients.get(request.client)
    known = session.answers.get(request.sequence) if session else None
    if known is not None:
        return Applied(view=base, outcome=known, changed=frozenset())
    error = _unanswerable(session, request)
    if error is not None:
        return Applied(view=base, outcome=Outcome.refused(base.index, error), changed=frozenset())
    session = session or ClientSession(id=request.client)
    applied = _run(base, decode_command(command))
    session = session.with_answer(request.sequence, request.acknowledged, applied.outcome)
    clients = applied.view.clients.set(session.id, session)
    if len(clients) > MAX_CLIENTS:
        clients = clients.delete(min(clients.values(), key=lambda c: (c.used_at, c.id)).id)
    return evolve(applied, view=evolve(applied.view, clients=clients))


def _unanswerable(session: ClientSession | None, request: Request) -> MeshswarmError | None:
    if session is None:
        if request.acknowledged == 0:
            return None
        return Conflict(
            "the cluster no longer remembers this client's earlier requests",
            hint="look at what the cluster did, then send what is missing from a new client",
        )
    if request.sequence <= session.acknowledged:
        return Conflict(f"request {request.sequence} was answered, and its answer acknowledged")
    if len(session.answers) >= MAX_ANSWERS and request.acknowledged <= session.acknowledged:
        return Conflict(f"this client has {MAX_ANSWERS} answers that it never acknowledged")
    return None


def _run(base: View, command: Command) -> Applied:
    transaction = Transaction(base)
    if isinstance(command, Batch):
        outcome = _run_batch(transaction, command)
    else:
        outcome = _run_one(transaction, command)
    return Applied(view=transaction.view, outcome=outcome, changed=frozenset(transaction.changed))


def _run_batch(transaction: Transaction, batch: Batch) -> Outcome:
    """Each command on its own; the effects name those that were refused."""
    effects: list[tuple[str, str]] = []
    for command in batch.commands:
        outcome = _run_one(transaction, command)
        if outcome.error is not None:
            effects.append((type(command).__name__, f"refused: {outcome.error.message}"))
    return Outcome(index=transaction.view.index, effects=tuple(effects))


def _run_one(transaction: Transaction, command: Simple) -> Outcome:
    before, changed = transaction.view, set(transaction.changed)
    try:
        effects = _dispatch(transaction, command)
    except MeshswarmError as error:
        transaction.view, transaction.changed = before, changed
        return Outcome.refused(before.index, error)
    return Outcome(index=before.index, effects=effects)


def _dispatch(transaction: Transaction, command: Simple) -> Effects:  # noqa: C901, PLR0912 -- a table of commands
    match command:
        case PutStack():
            return users.put_stack(transaction, command)
        case RemoveStack():
            return users.remove_stack(transaction, command)
        case PutService():
            return users.put_service(transaction, command)
        case ScaleService():
            return users.scale_service(transaction, command)
        case RemoveService():
            return users.remove_service(transaction, command)
        case UpdateNode():
            return users.update_node(transaction, command)
        case PutConfig():
            return users.put_config(transaction, command)
        case RemoveConfig():
            return users.remove_config(transaction, command)
        case RegisterNode():
            return agents.register_node(transaction, command)
        case ReportTasks():
            return agents.report_tasks(transaction, command)
        case SetNodeState():
            return placements.set_node_state(transaction, command)
        case CreateTask():
            return placements.create_task(transaction, command)
        case AssignTask():
            return placements.assign_task(transaction, command)
        case ExplainTask():
            return placements.explain_task(transaction, command)
        case SetDesired():
            return placements.set_desired(transaction, command)
        case LoseTask():
            return placements.lose_task(transaction, command)
        case ForgetTask():
            return placements.forget_task(transaction, command)
        case _:
            assert_never(command)
