"""One pass of the control loop, as a function of values; the room's docstring tells its order."""

from collections.abc import Callable, Collection, Iterable

from attrs import frozen

from meshswarm.control.jobs import fire_jobs
from meshswarm.control.kept import Kept
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.losses import give_up_tasks
from meshswarm.control.nodes import judge
from meshswarm.control.reaper import reap
from meshswarm.control.resting import drained_nodes
from meshswarm.control.schedule import explain_waiting, place
from meshswarm.control.services import reconcile
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.store.commands import SetNodeState, Simple
from meshswarm.store.view import Key, Table, View

DECISIVE = frozenset(Table) - {
    Table.CONFIGS,
    Table.SECRETS,
    Table.KEPT_FILES,
    Table.SECRETS_KEYS,
}
"""The tables whose rows a decision follows from: all but the contents of files."""

MAX_NAMES = 3
"""Objects that a cause names; the rest are counted."""


@frozen(kw_only=True)
class Decision:
    """What a pass wants done, and when to make the next one."""

    commands: tuple[Simple, ...] = ()
    """At most `whatif.MAX_COMMANDS`; to be proposed as one batch."""
    cause: str = ""
    """What they are about, in words."""
    wake_at_ms: int | None = None
    """When time alone may change the answer; None: never. `now_ms` if this pass was cut short."""
    revisit: frozenset[Key] = frozenset()
    """To be added to the next pass's `dirty`, whenever that is: what waits for time or was cut."""
    suspects: tuple[NodeId, ...] = ()
    """Silent nodes that are not down: to be probed through other managers."""
    refused: tuple[str, ...] = ()
    """What the store would not take, and why: to be logged, for it is wanted and cannot be had."""


def decide(
    view: View,
    dirty: frozenset[Key] | None,
    liveness: Liveness,
    policy: LivenessPolicy,
    now_ms: int,
    kept: Kept | None = None,
) -> Decision:
    """What is to be done about the rows in `dirty` (None: about everything).

    `now_ms` is the leader's wall clock, never behind the view's log time. `kept` is the same from
    pass to pass, to spare working out what has not changed; it alters no decision, if `dirty` names
    all rows that differ from those of the last pass that it was given to.
    """
    if kept is not None:
        kept.resting.note_changes(view, dirty)
    whatif = WhatIf(view, now_ms, kept=kept)
    judged = judge(whatif, liveness, policy)
    give_up_tasks(whatif, dirty, judged.silent_ms, liveness, policy)
    changed = None if dirty is None else dirty | whatif.changed
    fire_jobs(whatif)
    if changed is not None:
        changed |= whatif.changed
    visited = services_to_visit(whatif.view, changed)
    _each(_settle, whatif, visited)
    visited = _settle_by_rank(whatif, visited)
    # Only now is it certain what the nodes have left.
    waiting = _services_waiting(whatif.view)
    _each(explain_waiting, whatif, [one for one in visited if one in waiting])
    return Decision(
        commands=tuple(whatif.commands),
        cause=_cause(view, whatif),
        wake_at_ms=whatif.wake_at_ms,
        revisit=frozenset(whatif.revisit),
        suspects=judged.suspects,
        refused=tuple(whatif.refused),
    )


def _each(
    step: Callable[[WhatIf, ServiceId], None], whatif: WhatIf, service_ids: list[ServiceId]
) -> None:
    """Take the step for each service; those that a full pass leaves undone are looked at again."""
    for service_id in service_ids:
        if not whatif.is_full:
            step(whatif, service_id)
        if whatif.is_full:
            whatif.look_again(service_id, whatif.now_ms)


def _settle_by_rank(whatif: WhatIf, visited: list[ServiceId]) -> list[ServiceId]:
    """Replace what made way, and let those who wait look again at what has been placed since;
    returns all services that were looked at."""
    while True:
        before = len(whatif.commands)
        outranking = _services_promised(whatif.view)
        displaced, whatif.disturbed = whatif.disturbed, set()
        _each(_settle, whatif, _in_turn(whatif.view, displaced | outranking))
        visited = _in_turn(whatif.view, {*visited, *displaced, *outranking})
        if whatif.is_full or (len(whatif.commands) == before and not displaced):
            return visited


def _settle(whatif: WhatIf, service_id: ServiceId) -> None:
    """Work on one service until nothing is left to do for it at this instant."""
    while not whatif.is_full:
        before = len(whatif.commands)
        place(whatif, service_id, reconcile(whatif, service_id))
        reap(whatif, service_id)
        if len(whatif.commands) == before:
            return


def services_to_visit(view: View, changed: frozenset[Key] | None) -> list[ServiceId]:
    """The services that a change may concern (None: all, removed ones too), by priority, then id.

    Those for which others make room come along always, or somebody else takes it.
    """
    found = _services_promised(view)
    if changed is None:
        found |= {*view.services, *view.tasks_by_service}
    else:
        found |= _services_touched(view, changed)
    return _in_turn(view, found)


def _in_turn(view: View, service_ids: Iterable[ServiceId]) -> list[ServiceId]:
    """Who matters more comes first."""
    return sorted(service_ids, key=lambda service_id: (-_priority(view, service_id), service_id))


def _services_touched(view: View, changed: frozenset[Key]) -> set[ServiceId]:
    found: set[ServiceId] = set()
    placed: set[str] = set()
    may_fit = claims_change = False
    ranking = _ranking(view)
    for table, key in changed:
        match table:
            case Table.SERVICES | Table.ROLLOUTS | Table.RUNS:
                found.add(ServiceId(key))
                claims_change |= ServiceId(key) in ranking or ServiceId(key) not in view.services
            case Table.TASKS:
                task = view.tasks.get(TaskId(key))
                if task is not None:
                    found.add(task.service_id)
                    may_fit |= task.status.state.is_terminal
                    placed.add(task.service_name)
            case Table.NODES:
                rows = view.tasks_by_node.get(NodeId(key), ())
                found |= {view.tasks[task_id].service_id for task_id in rows}
                may_fit = True
            case Table.STACKS | Table.REVISIONS | Table.CONFIGS:
                pass
    found |= _services_ordered_by(view, found, placed)
    waiting = _services_waiting(view)
    if may_fit or claims_change:
        found |= waiting
    if may_fit:
        found |= {s.id for s in view.services.values() if s.spec.mode.is_global}
        found |= _services_staying(view)
    return found | {one for one in waiting - found if _company_of(view, one) & placed}


def _services_ordered_by(
    view: View, touched: Collection[ServiceId], names: Collection[str]
) -> set[ServiceId]:
    """The services that may start because of what became of these."""
    rows = [view.services[service_id] for service_id in touched if service_id in view.services]
    found: set[ServiceId] = set()
    for name in {*names, *(row.spec.name for row in rows)}:
        found |= set(view.dependents.get(name, ()))
    return found


def _services_staying(view: View) -> set[ServiceId]:
    """The services with tasks on drained nodes: they may have stayed for want of another node."""
    nodes = drained_nodes(view)
    return {task.service_id for node_id in nodes for task in view.tasks_on(node_id) if task.is_live}


def _company_of(view: View, service_id: ServiceId) -> set[str]:
    """The services with which this one's tasks must be."""
    service = view.services.get(service_id)
    rules = service.spec.task.placement.affinities if service else ()
    return {rule.service for rule in rules if rule.is_required and not rule.is_apart}


def _priority(view: View, service_id: ServiceId) -> int:
    service = view.services.get(service_id)
    return service.spec.priority if service else 0


def _services_promised(view: View) -> set[ServiceId]:
    """The services for which others make room, or may: all that wait and outrank another one.

    A global one has no task that waits.
    """
    ranking = _ranking(view)
    waiting = _services_waiting(view) if ranking else set()
    return {i for i in ranking if i in waiting or view.services[i].spec.mode.is_global}


def _ranking(view: View) -> set[ServiceId]:
    """The services that outrank another one."""
    services = view.services.values()
    least = min((service.spec.priority for service in services), default=0)
    return {service.id for service in services if service.spec.priority > least}


def _services_waiting(view: View) -> set[ServiceId]:
    """The services with a task that has no node."""
    return {view.tasks[task_id].service_id for task_id in view.unplaced}


def _cause(view: View, whatif: WhatIf) -> str:
    """What the commands are about: nodes first, then services."""
    parts = [
        f"node {view.nodes[command.node_id].name} {command.state.value}"
        for command in whatif.commands
        if isinstance(command, SetNodeState)
    ]
    services: set[str] = set()
    for table, key in whatif.changed:
        task = whatif.view.tasks.get(TaskId(key)) or view.tasks.get(TaskId(key))
        if table is Table.TASKS and task is not None:
            services.add(task.service_name)
        elif table in (Table.ROLLOUTS, Table.RUNS):
            service = view.services.get(ServiceId(key))
            services |= {service.spec.name} if service else set()
    return "; ".join(x for x in (_listed(parts), _listed(sorted(services))) if x)


def _listed(names: list[str]) -> str:
    named = ", ".join(names[:MAX_NAMES])
    return named if len(names) <= MAX_NAMES else f"{named} and {len(names) - MAX_NAMES} more"
