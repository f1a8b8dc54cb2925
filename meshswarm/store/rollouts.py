"""What commands do to rollouts: begun by a new revision, paused, resumed and turned back by users,
carried on by the controllers.
"""

from attrs import evolve
from immutables import Map

from meshswarm.errors import Conflict, Invalid, NotFound
from meshswarm.ids import ServiceId
from meshswarm.model.rollout import Rollout, RolloutPhase, RolloutReason, UpdatePolicy
from meshswarm.model.service import Service, ServiceSpec
from meshswarm.store import runs
from meshswarm.store.commands import (
    PauseRollout,
    RestartService,
    ResumeRollout,
    RevertService,
    RollBackService,
    SetRollout,
)
from meshswarm.store.files import is_reload, missing
from meshswarm.store.revisions import put_revision
from meshswarm.store.transaction import Transaction

Effects = tuple[tuple[str, str], ...]

MAX_MESSAGE = 1_000
"""Characters of a rollout's message; a longer one is cut."""

_PAUSED = {
    RolloutPhase.UPDATING: RolloutPhase.PAUSED,
    RolloutPhase.ROLLING_BACK: RolloutPhase.ROLLBACK_PAUSED,
}
_RESUMED = {paused: active for active, paused in _PAUSED.items()}


# --- users ------------------------------------------------------------------------------------


def roll_out(
    transaction: Transaction,
    service: Service,
    spec: ServiceSpec,
    reason: RolloutReason = RolloutReason.DEPLOYED,
) -> None:
    """Make `spec` the service's, with a new revision, and begin to roll that out.

    A `TaskSpec` which a rollout under way has left is no new revision: the slots that have kept it
    stay as they are.
    """
    stable = _stable(transaction, service)
    numbered = transaction.view.revisions[service.id]
    returns = stable != service.revision and numbered[stable].task == spec.task
    number = stable if returns else max(numbered) + 1
    transaction.put_service(
        evolve(service, spec=spec, revision=number, updated_at_ms=transaction.view.clock_ms)
    )
    _begin(transaction, service.id, RolloutPhase.UPDATING, stable, reason, "", spec.update)
    if not returns:
        put_revision(transaction, service.id, number)


def reload(transaction: Transaction, service: Service, spec: ServiceSpec) -> bool:
    """Make `spec` the service's with a new revision that its running tasks have at once, if nothing
    but contents of files differ; whether they do. A rollout under way takes it along instead."""
    rollout = transaction.view.rollouts.get(service.id)
    is_settled = rollout is None or not rollout.is_under_way
    if not is_settled or not is_reload(service.spec.task, spec.task):
        return False
    number = max(transaction.view.revisions[service.id]) + 1
    transaction.put_service(
        evolve(service, spec=spec, revision=number, updated_at_ms=transaction.view.clock_ms)
    )
    _give_tasks(transaction, service, number, RolloutPhase.COMPLETED, RolloutReason.RELOADED)
    put_revision(transaction, service.id, number)
    return True


def _give_tasks(
    transaction: Transaction,
    service: Service,
    number: int,
    phase: RolloutPhase,
    reason: RolloutReason,
) -> None:
    """Let the tasks that are not over have the service's other revision, and note that as done."""
    view = transaction.view
    given = [
        task
        for task in view.tasks_of(service.id)
        if task.revision == service.revision and not task.status.state.is_terminal
    ]
    for task in given:
        transaction.put_task(evolve(task, revision=number))
    message = f"the files of {len(given)} tasks change in place"
    policy = service.spec.update
    _begin(transaction, service.id, phase, service.revision, reason, message, policy)
    begun = transaction.view.rollouts[service.id]
    transaction.put_rollout(evolve(begun, well=len(given)))


def restart_service(transaction: Transaction, command: RestartService) -> Effects:
    """Roll out a revision that differs in nothing but its number; run a job again."""
    service = _service(transaction, command.service_id)
    before = transaction.view.services
    _restart(transaction, service)
    return ((service.spec.name, "restarted"), *restart_dependents(transaction, before))


def _restart(transaction: Transaction, service: Service) -> None:
    if service.spec.mode.is_job:
        runs.renew(transaction, service, service.spec)
        return
    stable = _stable(transaction, service)
    number = max(transaction.view.revisions[service.id]) + 1
    transaction.put_service(
        evolve(service, revision=number, updated_at_ms=transaction.view.clock_ms)
    )
    reason, policy = RolloutReason.RESTARTED, service.spec.update
    _begin(transaction, service.id, RolloutPhase.UPDATING, stable, reason, "", policy)
    put_revision(transaction, service.id, number)


def restart_dependents(transaction: Transaction, before: Map[ServiceId, Service]) -> Effects:
    """Restart what wants that whenever one that it depends on is updated: what depends on services
    that have another revision than `before`, but itself has not."""
    if not transaction.view.dependents:
        return ()
    renewed = [
        row
        for row in transaction.view.sorted_services()
        if row.id in before and before[row.id].revision != row.revision
    ]
    done = {row.id for row in renewed}
    restarted: list[str] = []
    while renewed:
        name = renewed.pop(0).spec.name
        for service_id in sorted(transaction.view.dependents.get(name, ())):
            service = transaction.view.services[service_id]
            wants = any(one.service == name and one.restarts for one in service.spec.depends_on)
            if wants and service_id in before and service_id not in done:
                _restart(transaction, service)
                done.add(service_id)
                renewed.append(service)
                restarted.append(service.spec.name)
    return tuple((name, "restarted") for name in restarted)


def pause_rollout(transaction: Transaction, command: PauseRollout) -> Effects:
    """Let no further slot have its turn."""
    service, rollout = _under_way(transaction, command.service_id)
    if rollout.phase.is_paused:
        return ((service.spec.name, "unchanged"),)
    message = "a user paused it"
    _turn(transaction, rollout, _PAUSED[rollout.phase], RolloutReason.BY_HAND, message)
    return ((service.spec.name, "paused"),)


def resume_rollout(transaction: Transaction, command: ResumeRollout) -> Effects:
    """Go on, all the way or one step; what failed so far is forgiven."""
    service, rollout = _under_way(transaction, command.service_id)
    phase = _RESUMED.get(rollout.phase, rollout.phase)
    policy = service.spec.rollback if phase.goes_back else service.spec.update
    slots_left = policy.parallelism or None if command.step else None
    if phase is rollout.phase and slots_left == rollout.slots_left:
        return ((service.spec.name, "unchanged"),)
    _turn(transaction, rollout, phase, RolloutReason.BY_HAND, "", slots_left=slots_left)
    return ((service.spec.name, "resumed"),)


def roll_back_service(transaction: Transaction, command: RollBackService) -> Effects:
    """Make an earlier revision current again: exactly that one."""
    service = _service(transaction, command.service_id)
    if service.spec.mode.is_job:
        raise Invalid(
            f"{service.spec.name} is a job: its runs are not rolled back",
            hint="deploy what it is to run; every change runs it again",
        )
    target = command.revision
    if target is None:
        target = _before(transaction, service)
    if target not in transaction.view.revisions[service.id]:
        kept = ", ".join(str(number) for number in sorted(transaction.view.revisions[service.id]))
        raise NotFound(
            f"service {service.spec.name} has no revision {target}",
            hint=f"kept are {kept}: meshswarm service inspect {service.spec.name}",
        )
    if target == service.revision:
        raise Conflict(f"service {service.spec.name} is at revision {target} already")
    message = f"a user wants revision {target} instead of {service.revision}"
    before = transaction.view.services
    _go_back(transaction, service, target, RolloutReason.BY_HAND, message)
    effect = (service.spec.name, f"rolled back to revision {target}")
    return (effect, *restart_dependents(transaction, before))


def _before(transaction: Transaction, service: Service) -> int:
    """The revision that the last rollout came from."""
    rollout = transaction.view.rollouts.get(service.id)
    if rollout is None or rollout.phase.goes_back or rollout.stable_revision == service.revision:
        raise Conflict(
            f"service {service.spec.name} has no earlier revision to go back to by itself",
            hint=f"name one with --to; meshswarm service inspect {service.spec.name} lists them",
        )
    return rollout.stable_revision


# --- controllers ------------------------------------------------------------------------------


def set_rollout(transaction: Transaction, command: SetRollout) -> Effects:
    """Write how far the rollout is, unless it is another one by now."""
    rollout = _edition(transaction, command.service_id, command.edition)
    is_news = command.phase is not rollout.phase
    transaction.put_rollout(
        evolve(
            rollout,
            phase=command.phase,
            reason=command.reason,
            message=command.message[:MAX_MESSAGE],
            since_ms=transaction.view.clock_ms if is_news else rollout.since_ms,
            well=command.well,
            progressed_at_ms=command.progressed_at_ms,
            not_before_ms=command.not_before_ms,
            failed=command.failed,
            slots_left=command.slots_left,
        )
    )
    return ()


def revert_service(transaction: Transaction, command: RevertService) -> Effects:
    """Go back to the stable revision: the failure action that the user asked for."""
    rollout = _edition(transaction, command.service_id, command.edition)
    service = _service(transaction, command.service_id)
    if rollout.stable_revision == service.revision or rollout.phase.goes_back:
        raise Conflict(f"service {service.spec.name} has nothing to go back to")
    message = command.message[:MAX_MESSAGE]
    _go_back(transaction, service, rollout.stable_revision, command.reason, message)
    return ()


# --- rows -------------------------------------------------------------------------------------


def _go_back(
    transaction: Transaction, service: Service, target: int, reason: RolloutReason, message: str
) -> None:
    revision = transaction.view.revisions[service.id][target]
    if (error := missing(transaction.view, service.spec.name, revision.task)) is not None:
        raise error
    stable, rollout = _stable(transaction, service), transaction.view.rollouts.get(service.id)
    spec = evolve(service.spec, task=revision.task)
    transaction.put_service(
        evolve(service, spec=spec, revision=target, updated_at_ms=transaction.view.clock_ms)
    )
    is_settled = rollout is None or not rollout.is_under_way
    if is_settled and is_reload(service.spec.task, revision.task):
        _give_tasks(transaction, service, target, RolloutPhase.ROLLED_BACK, reason)
        return
    phase = RolloutPhase.ROLLING_BACK
    _begin(transaction, service.id, phase, stable, reason, message, spec.rollback)


def _begin(
    transaction: Transaction,
    service_id: ServiceId,
    phase: RolloutPhase,
    stable: int,
    reason: RolloutReason,
    message: str,
    policy: UpdatePolicy,
) -> None:
    present, now_ms = transaction.view.rollouts.get(service_id), transaction.view.clock_ms
    transaction.put_rollout(
        Rollout(
            service_id=service_id,
            edition=present.edition + 1 if present else 1,
            stable_revision=stable,
            revision=transaction.view.services[service_id].revision,
            phase=phase,
            reason=reason,
            message=message,
            since_ms=now_ms,
            started_at_ms=now_ms,
            progressed_at_ms=now_ms,
            slots_left=policy.parallelism or None if policy.step else None,
        )
    )


def _turn(
    transaction: Transaction,
    rollout: Rollout,
    phase: RolloutPhase,
    reason: RolloutReason,
    message: str,
    *,
    slots_left: int | None = None,
) -> None:
    """The rollout in another phase; its times and failures begin anew."""
    now_ms = transaction.view.clock_ms
    transaction.put_rollout(
        evolve(
            rollout,
            edition=rollout.edition + 1,
            phase=phase,
            reason=reason,
            message=message,
            since_ms=now_ms,
            progressed_at_ms=now_ms,
            not_before_ms=0,
            failed=(),
            slots_left=slots_left,
        )
    )


def _stable(transaction: Transaction, service: Service) -> int:
    """The last revision that was rolled out whole; of a service never changed its first."""
    rollout = transaction.view.rollouts.get(service.id)
    if rollout is None or rollout.phase in (RolloutPhase.COMPLETED, RolloutPhase.ROLLED_BACK):
        return service.revision
    return rollout.stable_revision


def _edition(transaction: Transaction, service_id: ServiceId, edition: int) -> Rollout:
    rollout = transaction.view.rollouts.get(service_id)
    if rollout is None:
        raise NotFound(f"service {service_id} has no rollout")
    if rollout.edition != edition:
        raise Conflict(
            f"the rollout of {service_id} is at edition {rollout.edition}, not {edition}"
        )
    return rollout


def _under_way(transaction: Transaction, service_id: ServiceId) -> tuple[Service, Rollout]:
    service = _service(transaction, service_id)
    rollout = transaction.view.rollouts.get(service_id)
    if rollout is None or not rollout.is_under_way:
        raise Invalid(
            f"no rollout of {service.spec.name} is under way",
            hint=f"meshswarm why {service.spec.name}",
        )
    return service, rollout


def _service(transaction: Transaction, service_id: ServiceId) -> Service:
    service = transaction.view.services.get(service_id)
    if service is None:
        raise NotFound(f"there is no service {service_id!r}", hint="meshswarm service ls")
    return service
