"""A new revision comes to one slot at a time, and stays there if it does not hold."""

from meshswarm.control.turns import SETTLE_MS
from meshswarm.model.network import Port
from meshswarm.model.node import NodeState
from meshswarm.model.service import Comparison, Constraint, Mode, Service
from meshswarm.model.task import DesiredState, Health, Reason, Task, TaskState
from meshswarm.store.commands import CreateTask, PutService, ScaleService, SetDesired
from meshswarm.store.view import Table
from tests.support.builders import NOW_MS, node, service, service_spec, task, view
from tests.support.deciding import carried_out, decided, of_kind
from tests.support.model_world import ModelWorld

N1, N2, N3 = node("n1"), node("n2"), node("n3")
WEB = service("web", replicas=3, revision=2)
OLD = [task(WEB, slot, N1, revision=1) for slot in (1, 2, 3)]


def _renewed(*tasks: Task, of: Service = WEB, now_ms: int = NOW_MS) -> list[int]:
    """The slots that get the current revision in a pass over these tasks."""
    decision = decided(view([N1, N2], [of], tasks), now_ms=now_ms)
    return [c.slot for c in of_kind(decision, CreateTask) if c.revision == of.revision]


def test_the_first_slot_is_stopped_and_its_next_task_waits_for_that() -> None:
    decision = decided(view([N1, N2], [WEB], OLD))
    assert of_kind(decision, SetDesired) == [
        SetDesired(task_id=OLD[0].id, desired=DesiredState.SHUTDOWN)
    ]
    [created] = of_kind(decision, CreateTask)
    assert (created.slot, created.revision, created.desired) == (1, 2, DesiredState.READY)
    assert created.reason is Reason.WAITS_FOR_PREDECESSOR
    assert created.node_id is not None
    assert decided(carried_out(view([N1, N2], [WEB], OLD), decision)).commands == ()


def test_the_next_slot_follows_when_the_first_one_is_well_for_a_while() -> None:
    def new(created_at_ms: int, **fields: object) -> Task:
        return task(WEB, 1, N2, id="new", created_at_ms=created_at_ms, **fields)  # type: ignore[arg-type]

    assert _renewed(new(NOW_MS, state=TaskState.STARTING), *OLD[1:]) == []
    assert _renewed(new(NOW_MS), *OLD[1:]) == []
    assert _renewed(new(NOW_MS - SETTLE_MS), *OLD[1:]) == [2]
    assert _renewed(new(NOW_MS, health=Health.STARTING), *OLD[1:]) == []
    assert _renewed(new(NOW_MS, health=Health.HEALTHY), *OLD[1:]) == [2]
    assert _renewed(new(1, health=Health.UNHEALTHY), *OLD[1:]) == []


def test_time_alone_wakes_a_rollout() -> None:
    new = task(WEB, 1, N2, id="new", created_at_ms=NOW_MS - 500)
    before = view([N1, N2], [WEB], [new, *OLD[1:]])
    decision = decided(before, dirty=frozenset({(Table.TASKS, "new")}))
    assert decision.commands == ()
    assert decision.wake_at_ms == NOW_MS - 500 + SETTLE_MS
    assert decision.revisit == {(Table.SERVICES, WEB.id)}
    later = decided(before, dirty=decision.revisit, now_ms=decision.wake_at_ms)
    assert [c.slot for c in of_kind(later, CreateTask)] == [2]


def test_each_failure_doubles_the_time_to_prove_itself() -> None:
    for attempt, needed in ((1, 2 * SETTLE_MS), (3, 8 * SETTLE_MS)):
        late = task(WEB, 1, N2, id="n", attempt=attempt, created_at_ms=NOW_MS - needed + 1)
        assert _renewed(late, *OLD[1:]) == []
        assert _renewed(late, *OLD[1:], now_ms=NOW_MS + 1) == [2]


def test_a_task_is_not_believed_to_have_begun_before_it_was_made_or_after_now() -> None:
    ahead = task(WEB, 1, N2, id="n", created_at_ms=NOW_MS - SETTLE_MS, ran_ms=9_000_000)
    assert _renewed(ahead, *OLD[1:]) == [2]
    behind = task(WEB, 1, N2, id="n", created_at_ms=NOW_MS, ran_ms=-9_000_000)
    assert _renewed(behind, *OLD[1:]) == []


def test_a_revision_that_keeps_failing_leaves_the_other_slots_alone() -> None:
    world = ModelWorld(N1, N2, N3)
    world.propose(PutService(spec=service_spec("web", replicas=3)))
    world.settle()
    world.propose(PutService(spec=service_spec("web", replicas=3, command=("false",))))
    for _ in range(60):
        world.control()
        for one in world.movable():
            world.step(one)
        for one in world.view.tasks.values():
            if one.revision == 2 and one.status.state is TaskState.RUNNING:
                world.now_ms += 1_500
                world.report(one, TaskState.FAILED)
        world.now_ms += 500
    [web] = world.view.sorted_services()
    old = [one for one in world.view.tasks_of(web.id) if one.is_healthy and one.revision == 1]
    assert [one.slot for one in old] == [2, 3]
    world.propose(PutService(spec=service_spec("web", replicas=3, command=("true",))))
    world.settle()
    [web] = world.view.sorted_services()
    assert len(world.healthy(web)) == 3


def test_a_broken_slot_is_renewed_first() -> None:
    tasks = [OLD[0], task(WEB, 2, N1, TaskState.PREPARING, revision=1), OLD[2]]
    assert _renewed(*tasks) == [2]
    dead = task(WEB, 3, N1, TaskState.FAILED, revision=1)
    assert _renewed(OLD[0], tasks[1], dead) == [3]


def test_a_task_that_ends_during_a_rollout_comes_back_as_it_was() -> None:
    new = task(WEB, 1, N2, TaskState.STARTING, id="new")
    dead = task(WEB, 2, N1, TaskState.FAILED, revision=1)
    decision = decided(view([N1, N2], [WEB], [new, dead, OLD[2]]))
    [created] = of_kind(decision, CreateTask)
    assert (created.slot, created.revision, created.attempt) == (2, 1, 1)


def test_scaling_rolls_nothing() -> None:
    world = ModelWorld(N1, N2)
    world.propose(PutService(spec=service_spec("web", replicas=1)))
    world.settle()
    [first] = world.view.tasks.values()
    [web] = world.view.sorted_services()
    world.propose(ScaleService(service_id=web.id, replicas=3))
    world.settle()
    assert world.view.tasks[first.id] == first
    assert len(world.view.tasks) == 3


def test_a_healthy_task_is_not_stopped_for_one_that_no_node_could_take() -> None:
    ssd = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")
    picky = service("web", replicas=3, revision=2, constraints=(ssd,))
    assert _renewed(*OLD, of=picky) == []
    broken = task(picky, 2, N1, TaskState.FAILED, revision=1)
    assert _renewed(OLD[0], broken, OLD[2], of=picky) == [2]


def test_what_waits_for_a_node_does_not_hold_up_the_others() -> None:
    ports = (Port(target=80, published=80),)
    web = service("web", replicas=3, revision=2, ports=ports)
    before = view(
        [N1, N2], [web], [task(web, 1, N1, revision=1), task(web, 2, N2, revision=1), task(web, 3)]
    )
    assert [c.slot for c in of_kind(decided(before), CreateTask)] == [1]


def test_the_next_task_may_take_its_predecessors_port() -> None:
    ports = (Port(target=80, published=80),)
    web = service("web", revision=2, ports=ports)
    [created] = of_kind(decided(view([N1], [web], [task(web, 1, N1, revision=1)])), CreateTask)
    assert created.node_id == N1.id


def test_a_global_rollout_passes_dead_nodes_by() -> None:
    agent = service("agent", mode=Mode.GLOBAL, revision=2)
    down = node("n1", state=NodeState.DOWN)
    tasks = [
        task(agent, 0, down, TaskState.LOST, revision=2),
        task(agent, 0, N2, revision=1),
        task(agent, 0, N3, revision=1),
    ]
    decision = decided(view([down, N2, N3], [agent], tasks), silent={"n1": 9_000})
    assert [c.node_id for c in of_kind(decision, CreateTask)] == [N2.id]
    old = [task(agent, 0, down, TaskState.LOST, revision=1), *tasks[1:]]
    decision = decided(view([down, N2, N3], [agent], old), silent={"n1": 9_000})
    assert [c.node_id for c in of_kind(decision, CreateTask)] == [N2.id]
