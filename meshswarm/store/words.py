"""Commands in words: one line each, for `cluster log`.

Names come from a view that knows the objects, be it an older or newer one; ids stand for the rest.
"""

from collections import Counter
from datetime import UTC, datetime
from typing import assert_never

from meshswarm.ids import JobId, NodeId, ServiceId, TaskId
from meshswarm.model.service import Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
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
from meshswarm.store.view import View

MAX_LENGTH = 200
"""Characters of a line; a longer one is cut."""

_NOTHING = View()

LISTED = 3
"""Commands of a batch, or reports of one command, that are told singly."""


def in_words(command: Command, view: View = _NOTHING) -> str:
    """The command in one line of at most `MAX_LENGTH` characters, with the names in `view`."""
    words = _words(command, view)
    words = " ".join(words.split())
    return words if len(words) <= MAX_LENGTH else words[: MAX_LENGTH - 1] + "…"


def _words(command: Command, view: View) -> str:
    match command:
        case Group():
            listed = [_words(part, view) for part in command.commands[:LISTED]]
            more = len(command.commands) - LISTED
            return ("; ".join(listed) or "nothing") + (f"; and {more} more" if more > 0 else "")
        case Batch():
            return _batch(command, view)
        case _:
            return _simple(command, view)


def _batch(batch: Batch, view: View) -> str:
    """Its cause, then what it holds: few commands singly, many by their number."""
    if len(batch.commands) <= LISTED:
        what = "; ".join(_simple(command, view) for command in batch.commands) or "nothing"
    else:
        counts = Counter(_kind(command) for command in batch.commands)
        what = ", ".join(f"{n} x {kind}" for kind, n in sorted(counts.items()))
    return f"{batch.cause}: {what}" if batch.cause else what


def _kind(command: Simple) -> str:
    """What a command of that kind does: `CreateTask` is "create task"."""
    name = type(command).__name__
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _simple(command: Simple, view: View) -> str:  # noqa: C901, PLR0912 -- a table of commands
    match command:
        case PutStack(spec=spec):
            return f"put stack {_stack(spec)}"
        case RemoveStack(name=name):
            return f"remove stack {name}"
        case PutService(spec=spec):
            return f"put service {_service(spec)}"
        case ScaleService():
            return f"scale service {_service_name(view, command.service_id)} to {command.replicas}"
        case RemoveService():
            return f"remove service {_service_name(view, command.service_id)}"
        case UpdateNode():
            return f"update node {_node(view, command.node_id)}: {_node_changes(command)}"
        case MoveTasks(task_ids=ids, leaves=leaves):
            return f"{'move' if leaves else 'leave in place'} {_count(len(ids), 'task')}"
        case PutConfig(name=name):
            return f"put config {name}: {_count(len(command.data), 'byte')}"
        case RemoveConfig(name=name):
            return f"remove config {name}"
        case PutSecret(name=name):
            return f"put secret {name}"
        case RemoveSecret(name=name):
            return f"remove secret {name}"
        case UseNewest(kind=kind, name=name):
            return f"give services the newest content of {kind.value} {name}"
        case PutSecretsKey():
            return f"seal the key of secrets for {_count(len(command.sealed_for), 'manager')}"
        case RegisterNode():
            at = f" at {command.address}" if command.address else ""
            return f"register {command.role.value} {command.name} ({command.node_id}){at}"
        case ReportTasks():
            return f"report from {_node(view, command.node_id)}: {_reports(command, view)}"
        case SetNodeState():
            verdict = f"{_node(view, command.node_id)} {command.state.value}"
            return f"node {verdict}{_because(command.message)}"
        case CreateTask():
            return f"create task {_slot(command, view)} ({command.task_id}) {_where(command, view)}"
        case AssignTask():
            return f"assign task {_task(view, command.task_id)} to {_node(view, command.node_id)}"
        case ExplainTask():
            return f"task {_task(view, command.task_id)} waits{_because(command.message)}"
        case SetDesired():
            because = _because(command.reason.value.replace("_", " "))
            return f"task {_task(view, command.task_id)} desired {command.desired.label}{because}"
        case LoseTask():
            return f"lose task {_task(view, command.task_id)}{_because(command.message)}"
        case ForgetTask():
            return f"forget task {_task(view, command.task_id)}"
        case PauseRollout():
            return f"pause the rollout of {_service_name(view, command.service_id)}"
        case ResumeRollout():
            how = " for one step" if command.step else ""
            return f"resume the rollout of {_service_name(view, command.service_id)}{how}"
        case RollBackService():
            to = "" if command.revision is None else f" to revision {command.revision}"
            return f"roll back service {_service_name(view, command.service_id)}{to}"
        case RestartService():
            return f"restart service {_service_name(view, command.service_id)}"
        case SetRollout():
            return f"rollout of {_service_name(view, command.service_id)} {_rollout(command)}"
        case RevertService():
            name = _service_name(view, command.service_id)
            return f"roll back service {name}{_because(command.message)}"
        case RunJob() | PauseJob() | ResumeJob() | CancelRun() | RemoveJob():
            return _wish_of_job(command, view)
        case SetRun() | PlanFire() | DecideFire() | ForgetRun():
            return _of_job(command, view)
        case _:
            assert_never(command)


def _stack(spec: StackSpec) -> str:
    jobs = f" and {_count(len(spec.jobs), 'job')}" if spec.jobs else ""
    return f"{spec.name}: {_count(len(spec.services), 'service')}{jobs}"


def _service(spec: ServiceSpec) -> str:
    what = {
        Mode.REPLICATED: _count(spec.replicas, "replica"),
        Mode.GLOBAL: "global",
        Mode.REPLICATED_JOB: f"job of {_count(spec.replicas, 'completion')}",
        Mode.GLOBAL_JOB: "job on every node",
    }[spec.mode]
    return f"{spec.name}: {what}"


def _node_changes(command: UpdateNode) -> str:
    changes = []
    if command.availability is not None:
        within = f" within {command.drain_s:g} s" if command.drain_s else ""
        changes.append(f"{command.availability.value}{within}")
    if command.labels is not None:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(command.labels.items()))
        changes.append(f"labels {labels or 'none'}")
    return "; ".join(changes) or "nothing"


def _reports(command: ReportTasks, view: View) -> str:
    told = [
        f"{_task(view, report.task_id)} {status.state.label}{_because(status.message)}"
        for report in command.reports[:LISTED]
        for status in (report.status,)
    ]
    more = len(command.reports) - LISTED
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _slot(command: CreateTask, view: View) -> str:
    slot = f".{command.slot}" if command.slot else ""
    return f"{_service_name(view, command.service_id)}{slot} revision {command.revision}"


def _where(command: CreateTask, view: View) -> str:
    where = "pending" if command.node_id is None else f"on {_node(view, command.node_id)}"
    return where + _because(command.message)


def _rollout(command: SetRollout) -> str:
    phase = command.phase.value.replace("_", " ")
    return f"{phase}, {_count(command.well, 'slot')} well{_because(command.message)}"


def _node(view: View, node_id: NodeId) -> str:
    node = view.nodes.get(node_id)
    return node_id if node is None else node.name


def _service_name(view: View, service_id: ServiceId) -> str:
    service = view.services.get(service_id)
    return service_id if service is None else service.spec.name


def _wish_of_job(command: RunJob | PauseJob | ResumeJob | CancelRun | RemoveJob, view: View) -> str:
    match command:
        case RunJob():
            return f"run job {_job(view, command.job_id)}"
        case PauseJob():
            return f"pause job {_job(view, command.job_id)}"
        case ResumeJob():
            return f"resume job {_job(view, command.job_id)}"
        case CancelRun():
            return f"cancel the run of {_service_name(view, command.service_id)}"
        case RemoveJob():
            return f"remove job {_job(view, command.job_id)}"


def _of_job(command: SetRun | PlanFire | DecideFire | ForgetRun, view: View) -> str:
    match command:
        case SetRun():
            name = _service_name(view, command.service_id)
            done = f"{_count(command.completed, 'slot')} complete"
            return f"run of {name} {command.phase.value}, {done}{_because(command.message)}"
        case PlanFire():
            return f"job {_job(view, command.job_id)} fires at {_instant(command.next_fire_ms)}"
        case DecideFire():
            fire = f"{_job(view, command.job_id)} of {_instant(command.scheduled_ms)}"
            return f"{command.verdict.value} the fire of {fire}{_because(command.message)}"
        case ForgetRun():
            return f"forget run {_service_name(view, command.service_id)}"


def _job(view: View, job_id: JobId) -> str:
    job = view.jobs.get(job_id)
    return job_id if job is None else job.spec.name


def _instant(at_ms: int | None) -> str:
    """In UTC, to the second; an instant that no calendar has stays a number."""
    if at_ms is None:
        return "no time"
    try:
        return datetime.fromtimestamp(at_ms // 1_000, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return str(at_ms)


def _task(view: View, task_id: TaskId) -> str:
    task = view.tasks.get(task_id)
    return task_id if task is None else f"{task.service_name}.{task.slot} ({task_id})"


def _because(message: str) -> str:
    return f" ({message})" if message else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
