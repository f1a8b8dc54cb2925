"""What commands do to the runs of jobs: begun by users, carried on by the controllers."""

from attrs import evolve

from meshswarm.errors import Conflict, NotFound
from meshswarm.ids import ServiceId
from meshswarm.model.job import Run, RunPhase, RunReason
from meshswarm.model.service import Service, ServiceSpec
from meshswarm.store.job_commands import CancelRun, SetRun
from meshswarm.store.revisions import put_revision
from meshswarm.store.transaction import Transaction

Effects = tuple[tuple[str, str], ...]

MAX_MESSAGE = 1_000
"""Characters of a run's message; a longer one is cut."""


def begin(transaction: Transaction, service_id: ServiceId) -> None:
    """A run of the service from the beginning; of a service whose run was over, another one."""
    before = transaction.view.runs.get(service_id)
    now_ms = transaction.view.clock_ms
    run = Run(service_id=service_id, started_at_ms=now_ms)
    if before is not None:
        run = evolve(
            before,
            edition=before.edition + 1,
            phase=run.phase,
            reason=run.reason,
            message="",
            started_at_ms=now_ms,
            ended_at_ms=None,
            completed=0,
            failed=0,
        )
    transaction.put_run(run)


def renew(transaction: Transaction, service: Service, spec: ServiceSpec) -> None:
    """Make `spec` the job's, as a new revision, and run that; the old one's tasks are not waited
    for, but stopped."""
    number = max(transaction.view.revisions[service.id]) + 1
    transaction.put_service(
        evolve(service, spec=spec, revision=number, updated_at_ms=transaction.view.clock_ms)
    )
    transaction.drop_rollout(service.id)
    begin(transaction, service.id)
    put_revision(transaction, service.id, number)


def change(transaction: Transaction, service: Service, spec: ServiceSpec) -> str:
    """Write another spec for a job; the word for what that changed.

    Other completions carry the run on: what is complete stays so.
    """
    present = service.spec
    if present.task != spec.task or present.mode is not spec.mode:
        renew(transaction, service, spec)
        return "updated"
    transaction.put_service(evolve(service, spec=spec, updated_at_ms=transaction.view.clock_ms))
    if present.replicas == spec.replicas:
        return "updated"
    begin(transaction, service.id)
    return "scaled"


def cancel_run(transaction: Transaction, command: CancelRun) -> Effects:
    """A run under way has failed; what controllers decided of it before counts no longer."""
    service = transaction.view.services.get(command.service_id)
    run = transaction.view.runs.get(command.service_id)
    if service is None or run is None:
        raise NotFound(f"service {command.service_id} has no run", hint="meshswarm job ls")
    if run.phase.is_over:
        return ((service.spec.name, "unchanged"),)
    transaction.put_run(
        evolve(
            run,
            edition=run.edition + 1,
            phase=RunPhase.FAILED,
            reason=RunReason.CANCELLED,
            message="it was cancelled",
            ended_at_ms=transaction.view.clock_ms,
        )
    )
    return ((service.spec.name, "cancelled"),)


def set_run(transaction: Transaction, command: SetRun) -> Effects:
    """Write how far the run is, unless it has begun anew by now."""
    run = transaction.view.runs.get(command.service_id)
    if run is None:
        raise NotFound(f"service {command.service_id} has no run")
    if run.edition != command.edition:
        raise Conflict(
            f"the run of {command.service_id} is at edition {run.edition}, not {command.edition}"
        )
    ended_at_ms = transaction.view.clock_ms if command.phase.is_over else None
    if run.phase.is_over and command.phase.is_over:
        ended_at_ms = run.ended_at_ms
    transaction.put_run(
        evolve(
            run,
            phase=command.phase,
            reason=command.reason,
            message=command.message[:MAX_MESSAGE],
            started_at_ms=_started_at_ms(transaction, run, command),
            ended_at_ms=ended_at_ms,
            completed=command.completed,
            failed=command.failed,
        )
    )
    return ()


def _started_at_ms(transaction: Transaction, run: Run, command: SetRun) -> int:
    """When it began; one that goes on after it was over (a node came) has its deadline anew."""
    goes_on = run.phase.is_over and not command.phase.is_over
    return transaction.view.clock_ms if goes_on else run.started_at_ms
