"""What is new waits for what it depends on; what heals never does; what is removed goes first."""

import pytest
from attrs import evolve

from meshswarm.control.dependencies import Unmet, unmet
from meshswarm.control.why import why
from meshswarm.ids import ServiceId, TaskId
from meshswarm.model.dependency import Condition, Dependency
from meshswarm.model.job import Run, RunPhase
from meshswarm.model.node import Node, NodeState
from meshswarm.model.rollout import Rollout, RolloutPhase
from meshswarm.model.service import (
    Comparison,
    Constraint,
    Mode,
    RestartCondition,
    RestartPolicy,
    Service,
)
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState, Health, Reason, Task, TaskState
from meshswarm.store.commands import (
    Command,
    CreateTask,
    ForgetTask,
    PutService,
    PutStack,
    RemoveStack,
    RestartService,
    SetDesired,
)
from meshswarm.store.view import Table, View, build_view
from tests.support.builders import NOW_MS, commit, node, service, service_spec, task, view
from tests.support.deciding import carried_out, decided, of_kind

N1, N2 = node("n1"), node("n2")
STARTED, HEALTHY, COMPLETED = Condition.STARTED, Condition.HEALTHY, Condition.COMPLETED


def _on(condition: Condition, name: str = "db", **fields: bool) -> tuple[Dependency, ...]:
    return (Dependency(service=name, condition=condition, **fields),)


def _made(before: View) -> list[ServiceId]:
    return [command.service_id for command in of_kind(decided(before), CreateTask)]


def _with_rollout(before: View, rollout: Rollout) -> View:
    return build_view(
        before,
        nodes=tuple(before.nodes.values()),
        services=tuple(before.services.values()),
        tasks=tuple(before.tasks.values()),
        revisions=tuple(r for rows in before.revisions.values() for r in rows.values()),
        rollouts=(rollout,),
    )


DB = service("db", replicas=2)


@pytest.mark.parametrize(
    ("condition", "states", "is_free"),
    [
        (STARTED, (TaskState.RUNNING, TaskState.STARTING), False),
        (STARTED, (TaskState.RUNNING, TaskState.RUNNING), True),
        (STARTED, (TaskState.RUNNING, TaskState.COMPLETE), True),
        (HEALTHY, (TaskState.RUNNING, TaskState.RUNNING), True),
        (HEALTHY, (TaskState.RUNNING, TaskState.PREPARING), False),
        (COMPLETED, (TaskState.COMPLETE, TaskState.RUNNING), False),
        (COMPLETED, (TaskState.COMPLETE, TaskState.COMPLETE), True),
    ],
)
def test_a_first_task_waits_until_all_slots_are_so_far(
    condition: Condition, states: tuple[TaskState, ...], is_free: bool
) -> None:
    ending = RestartPolicy(condition=RestartCondition.ON_FAILURE)
    db = service("db", replicas=2, restart=ending)
    web = service("web", depends_on=_on(condition))
    tasks = [task(db, slot, N1, state) for slot, state in enumerate(states, 1)]
    assert ([web.id] if is_free else []) == _made(view([N1], [db, web], tasks))


def test_complaint_06_running_is_not_enough_while_the_health_check_has_not_passed() -> None:
    web = service("web", depends_on=_on(HEALTHY))
    for health, is_free in (
        (Health.STARTING, False),
        (Health.UNHEALTHY, False),
        (Health.HEALTHY, True),
        (Health.NONE, True),
    ):
        tasks = [task(DB, slot, N1, health=health) for slot in (1, 2)]
        assert is_free == (web.id in _made(view([N1], [DB, web], tasks))), health


def test_complaint_06_the_services_of_a_chain_start_one_after_the_other() -> None:
    api = service("api", depends_on=_on(STARTED))
    web = service("web", depends_on=_on(STARTED, "api"))
    db = service("db")
    before = view([N1], [api, db, web])
    assert [db.id] == _made(before)
    before = view([N1], [api, db, web], [task(db, 1, N1)])
    assert [api.id] == _made(before)


def test_what_died_is_replaced_whatever_became_of_what_it_depends_on() -> None:
    web = service("web", depends_on=_on(HEALTHY))
    dead = task(web, 1, N1, TaskState.FAILED)
    assert web.id in _made(view([N1], [DB, web], [dead]))


def test_the_change_of_a_dependency_wakes_those_that_wait() -> None:
    db, web = service("db"), service("web", depends_on=_on(STARTED))
    before = view([N1], [db, web], [task(db, 1, N1)])
    dirty = frozenset({(Table.TASKS, "db-1")})
    assert [c.service_id for c in of_kind(decided(before, dirty=dirty), CreateTask)] == [web.id]


def test_a_slot_that_no_node_takes_or_whose_node_is_down_is_not_waited_for() -> None:
    web = service("web", depends_on=_on(STARTED))
    ssd = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")
    db = service("db", replicas=2, constraints=(ssd,))
    assert [web.id] == _made(view([N1], [db, web], [task(db, 1, N1), task(db, 2)]))
    down = node("n2", state=NodeState.DOWN)
    db = service("db", mode=Mode.GLOBAL)
    silent = {"n2": 10**6}
    rows = view([N1, down], [db, web], [task(db, 0, N1)])
    found = [c.service_id for c in of_kind(decided(rows, silent=silent), CreateTask)]
    assert [web.id] == found


def test_nothing_is_waited_for_of_a_service_scaled_to_nothing() -> None:
    web = service("web", depends_on=_on(HEALTHY))
    assert [web.id] == _made(view([N1], [service("db", replicas=0), web]))


def test_a_missing_service_is_waited_for_only_if_it_is_required() -> None:
    assert [] == _made(view([N1], [service("web", depends_on=_on(STARTED))]))
    web = service("web", depends_on=_on(STARTED, is_required=False))
    assert [web.id] == _made(view([N1], [web]))


def test_what_is_not_required_is_waited_for_until_it_fails() -> None:
    web = service("web", depends_on=_on(HEALTHY, is_required=False))
    starting = [task(DB, slot, N1, TaskState.STARTING) for slot in (1, 2)]
    assert [] == _made(view([N1], [DB, web], starting))
    again = [starting[0], evolve(starting[1], attempt=1)]
    assert [web.id] == _made(view([N1], [DB, web], again))


def test_a_job_must_be_complete_and_a_failed_one_is_hopeless() -> None:
    job = service("db", mode=Mode.REPLICATED_JOB)
    web = service("web", depends_on=_on(COMPLETED))
    for phase, is_free in ((RunPhase.RUNNING, False), (RunPhase.FAILED, False)):
        run = Run(service_id=job.id, started_at_ms=0, phase=phase)
        rows = view([N1], [job, web], [task(job, 1, N1)], runs=[run])
        assert is_free == (web.id in _made(rows))
    run = Run(service_id=job.id, started_at_ms=0, phase=RunPhase.COMPLETE)
    done = task(job, 1, N1, TaskState.COMPLETE)
    assert [web.id] == _made(view([N1], [job, web], [done], runs=[run]))


def test_a_jobs_new_run_waits_as_a_first_task_does() -> None:
    job = service("job", mode=Mode.REPLICATED_JOB, depends_on=_on(STARTED), revision=2)
    old = task(job, 1, N1, TaskState.COMPLETE, revision=1)
    assert [] == [i for i in _made(view([N1], [DB, job], [old])) if i == job.id]
    up = [task(DB, slot, N1) for slot in (1, 2)]
    assert [job.id] == _made(view([N1], [DB, job], [old, *up]))


# --- rollouts ---------------------------------------------------------------------------------


def _rolling(row: Service, phase: RolloutPhase = RolloutPhase.UPDATING) -> Rollout:
    return Rollout(
        service_id=row.id,
        edition=1,
        stable_revision=1,
        revision=row.revision,
        phase=phase,
        since_ms=NOW_MS,
        started_at_ms=NOW_MS,
        progressed_at_ms=NOW_MS,
    )


def test_a_rollout_waits_until_its_dependency_has_its_present_revision() -> None:
    db = service("db", revision=2)
    web = service("web", revision=2, depends_on=_on(STARTED))
    old_web = task(web, 1, N1, revision=1)

    def turns(db_revision: int) -> list[str]:
        rows = view([N1, N2], [db, web], [task(db, 1, N2, revision=db_revision), old_web])
        stopped = of_kind(decided(_with_rollout(rows, _rolling(web))), SetDesired)
        return [c.task_id for c in stopped if c.task_id == old_web.id]

    assert [] == turns(1)
    assert ["web-1"] == turns(2)


def test_a_rollout_that_waits_for_a_paused_one_says_so_and_what_helps() -> None:
    db = service("db", revision=2)
    web = service("web", revision=2, depends_on=_on(STARTED))
    rows = view([N1, N2], [db, web], [task(db, 1, N2, revision=1), task(web, 1, N1, revision=1)])
    paused = _with_rollout(rows, _rolling(db, RolloutPhase.PAUSED))
    found = unmet(paused, web, for_rollout=True)
    assert found == Unmet(
        message="waits until db has started: 0 of 1 slots are so far; its rollout is paused: "
        "`meshswarm service resume db`",
        is_hopeless=True,
    )
    assert unmet(paused, web) is None, "a first task takes any revision"


def test_a_rollouts_deadline_begins_when_the_one_that_it_waits_for_is_over() -> None:
    db = service("db", revision=2)
    web = service("web", revision=2, depends_on=_on(STARTED))
    tasks = [task(db, 1, N2, revision=1), task(web, 1, N1, revision=1)]
    rows = view([N1, N2], [db, web], tasks)
    late_ms = NOW_MS + 10**7
    both = build_view(
        _with_rollout(rows, _rolling(web)),
        nodes=(N1, N2),
        services=(db, web),
        tasks=tasks,
        revisions=tuple(r for one in rows.revisions.values() for r in one.values()),
        rollouts=(_rolling(web), evolve(_rolling(db), progressed_at_ms=late_ms)),
    )
    after = carried_out(both, decided(both, now_ms=late_ms), now_ms=late_ms)
    assert RolloutPhase.UPDATING is after.rollouts[web.id].phase
    alone = _with_rollout(rows, _rolling(web))
    after = carried_out(alone, decided(alone, now_ms=late_ms), now_ms=late_ms)
    assert RolloutPhase.PAUSED is after.rollouts[web.id].phase
    assert "waits until db has started" in after.rollouts[web.id].message


# --- restart: true ----------------------------------------------------------------------------


def _deployed(*commands: Command) -> View:
    before = view([N1])
    for command in commands:
        applied = commit(before, command)
        assert applied.outcome.error is None, applied.outcome.error
        before = applied.view
    return before


def _stack(image: str, web: str = "a") -> PutStack:
    db = service_spec("s_db", stack="s", environment={"V": image})
    restarts = (Dependency(service="s_db", restarts=True),)
    api = service_spec("s_api", stack="s", depends_on=restarts)
    deep = (Dependency(service="s_api", restarts=True), Dependency(service="s_db"))
    front = service_spec("s_web", stack="s", depends_on=deep, environment={"V": web})
    plain = service_spec("s_plain", stack="s", depends_on=(Dependency(service="s_db"),))
    return PutStack(spec=StackSpec(name="s", services=(db, api, front, plain)))


def test_an_update_restarts_those_that_want_it_once_and_those_that_depend_on_them() -> None:
    before = _deployed(_stack("1"))
    applied = commit(before, _stack("2", web="b"))
    revisions = {row.spec.name: row.revision for row in applied.view.sorted_services()}
    assert {"s_db": 2, "s_api": 2, "s_web": 2, "s_plain": 1} == revisions
    assert dict(applied.outcome.effects) == {
        "s_api": "restarted",
        "s_db": "updated",
        "s_plain": "unchanged",
        "s_web": "updated",
    }
    db = applied.view.service_named("s_db")
    assert db is not None
    again = commit(applied.view, RestartService(service_id=db.id))
    assert again.outcome.effects == (
        ("s_db", "restarted"),
        ("s_api", "restarted"),
        ("s_web", "restarted"),
    )


def test_other_dependencies_alone_are_no_new_revision_but_every_revision_knows_them() -> None:
    before = _deployed(PutService(spec=service_spec("db")), PutService(spec=service_spec("web")))
    after = commit(before, PutService(spec=service_spec("web", depends_on=_on(STARTED)))).view
    web = after.service_named("web")
    assert web is not None
    assert (1, _on(STARTED)) == (web.revision, after.revisions[web.id][1].depends_on)


def test_the_store_refuses_circles() -> None:
    before = _deployed(
        PutService(spec=service_spec("db")),
        PutService(spec=service_spec("web", depends_on=_on(STARTED))),
    )
    applied = commit(before, PutService(spec=service_spec("db", depends_on=_on(STARTED, "web"))))
    assert applied.outcome.error is not None
    assert "services wait for each other: db -> web -> db" == applied.outcome.error.message
    assert before.services == applied.view.services


# --- the end ----------------------------------------------------------------------------------


def test_complaint_06_a_removed_stack_stops_in_the_opposite_order() -> None:
    before = _deployed(_stack("1"))
    rows = {row.spec.name: row for row in before.sorted_services()}

    def running(of: str, on: Node = N1) -> Task:
        return task(rows[of], 1, on)

    with_tasks = build_view(
        before,
        nodes=(N1,),
        services=tuple(rows.values()),
        stacks=tuple(before.stacks.values()),
        revisions=tuple(r for one in before.revisions.values() for r in one.values()),
        tasks=[running(name) for name in rows],
    )
    view_ = commit(with_tasks, RemoveStack(name="s")).view
    order: list[list[TaskId]] = []
    for _ in range(4):
        decision = decided(view_)
        stopped = sorted(c.task_id for c in of_kind(decision, SetDesired))
        if stopped:
            order.append(stopped)
        view_ = carried_out(view_, decision)
        ended = [
            evolve(one, status=evolve(one.status, state=TaskState.SHUTDOWN))
            if one.desired is DesiredState.REMOVE
            else one
            for one in view_.tasks.values()
        ]
        view_ = build_view(
            view_,
            nodes=(N1,),
            tasks=ended,
            revisions=tuple(r for one in view_.revisions.values() for r in one.values()),
        )
    assert [["s_plain-1", "s_web-1"], ["s_api-1"], ["s_db-1"]] == order
    last = decided(view_)
    assert of_kind(last, ForgetTask) or not view_.tasks


def test_a_service_removed_alone_does_not_wait_for_those_that_stay() -> None:
    db, web = service("db"), service("web", depends_on=_on(STARTED))
    rows = view([N1], [web], [task(db, 1, N1), task(web, 1, N1)])
    assert ["db-1"] == [c.task_id for c in of_kind(decided(rows), SetDesired)]


# --- why --------------------------------------------------------------------------------------


def test_why_says_what_a_slot_waits_for() -> None:
    web = service("web", depends_on=_on(HEALTHY))
    tasks = [task(DB, 1, N1), task(DB, 2, N1, TaskState.STARTING)]
    (report,) = why(view([N1], [DB, web], tasks), web, NOW_MS).slots
    assert Reason.WAITS_FOR_DEPENDENCY is report.reason
    assert report.message == (
        "no task was created for this slot yet: "
        "it waits until db is healthy: 1 of 2 slots are so far"
    )
