"""A rollout from its first slot to its end: its turns, its pauses, its failures, its deadlines."""

from typing import Any

import pytest

from meshswarm.model.network import Port
from meshswarm.model.rollout import (
    FailureAction,
    RolloutPhase,
    RolloutReason,
    UpdateOrder,
    UpdatePolicy,
)
from meshswarm.model.service import (
    Comparison,
    Constraint,
    Mode,
    RestartCondition,
    RestartPolicy,
)
from meshswarm.model.task import Health, TaskState
from meshswarm.store.commands import PauseRollout, ResumeRollout, ScaleService
from tests.support.shop import NODES, Shop

BACK = FailureAction.ROLLBACK


def test_an_update_that_works_is_completed_when_it_was_watched_for_long_enough() -> None:
    shop = Shop(monitor_s=60.0)
    shop.begins()
    assert dict(shop.view.rollouts) == {}
    shop.deploy("b")
    assert (shop.rollout.phase, shop.rollout.stable_revision) == (RolloutPhase.UPDATING, 1)
    shop.until_running(2, 2, 2)
    ran_at_ms = shop.now_ms
    assert shop.is_at(RolloutPhase.UPDATING)
    shop.ends()
    assert (shop.rollout.phase, shop.rollout.reason) == (RolloutPhase.COMPLETED, RolloutReason.DONE)
    assert shop.rollout.message == "3 of 3 slots have revision 2"
    assert shop.now_ms - ran_at_ms == 60_000


def test_as_many_slots_as_parallelism_says_are_under_way() -> None:
    for parallelism, together in ((1, 1), (2, 2), (0, 5)):
        shop = Shop(5, parallelism=parallelism)
        shop.begins()
        shop.deploy("b")
        shop.control()
        assert len(shop.of_revision(2)) == together
        shop.ends()
        assert shop.is_at(RolloutPhase.COMPLETED)


def test_a_delay_separates_the_turns_though_it_be_longer_than_the_watch() -> None:
    shop = Shop(2, delay_s=1_200.0, monitor_s=5.0, progress_deadline_s=60.0)
    shop.begins()
    shop.deploy("b")
    shop.until_begun(1)
    began_ms = shop.now_ms
    shop.until_begun(2)
    assert shop.now_ms - began_ms >= 1_200_000
    shop.ends()
    assert shop.is_at(RolloutPhase.COMPLETED)


def test_complaint_16_a_failure_during_a_delay_longer_than_the_watch_still_leads_back() -> None:
    shop = Shop(2, delay_s=1_200.0, monitor_s=5.0, failure_action=BACK)
    shop.begins()
    shop.deploy("b")
    shop.until_well(1)
    [new] = [task for task in shop.view.tasks.values() if task.revision == 2 and task.is_healthy]
    shop.now_ms += 1_000
    shop.report(new, TaskState.FAILED)
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.ROLLED_BACK, [1, 1])


def test_the_failure_action_decides_what_follows_a_failure() -> None:
    for action, phase, running in (
        (FailureAction.PAUSE, RolloutPhase.PAUSED, [1, 1]),
        (FailureAction.ROLLBACK, RolloutPhase.ROLLED_BACK, [1, 1, 1]),
        (FailureAction.CONTINUE, RolloutPhase.COMPLETED, []),
    ):
        shop = Shop(failure_action=action)
        shop.begins()
        shop.bad.add("b")
        shop.deploy("b")
        shop.ends()
        assert (shop.rollout.phase, shop.running()) == (phase, running)
        said = shop.rollout.message
        if action is not FailureAction.CONTINUE:
            assert shop.rollout.reason is RolloutReason.TASKS_FAILED
            assert (
                "1 of 3 slots failed, more than the 0 that may: web.1: it ended with exit code 3"
                in said
            )
        else:
            assert said == "0 of 3 slots have revision 2, and 3 failed on the way"


def test_a_rollout_that_goes_on_is_over_though_what_fails_is_tried_again_beside_old_tasks() -> None:
    shop = Shop(2, order=UpdateOrder.START_FIRST, failure_action=FailureAction.CONTINUE)
    shop.begins()
    shop.deploy("b")
    shop.until_begun(1)
    [first] = shop.of_revision(2)
    shop.report(first, TaskState.FAILED, message="no such file")
    shop.until(lambda: any(task.slot != first.slot for task in shop.of_revision(2)))
    [second] = [task for task in shop.of_revision(2) if task.slot != first.slot]
    shop.until(lambda: any(one.is_live and one.slot == first.slot for one in shop.of_revision(2)))
    shop.report(second, TaskState.FAILED, message="no such file")
    shop.control()
    assert shop.is_at(RolloutPhase.COMPLETED)
    assert shop.rollout.message == "0 of 2 slots have revision 2, and 2 failed on the way"


@pytest.mark.parametrize(
    "policy",
    [{"failure_action": FailureAction.CONTINUE}, {"max_failure_ratio": 1.0, "parallelism": 2}],
)
def test_beside_what_never_gets_healthy_old_tasks_stay_and_the_rollout_comes_to_its_end(
    policy: dict[str, Any],
) -> None:
    shop = Shop(5, order=UpdateOrder.START_FIRST, **policy)
    shop.begins()
    shop.never_well.add("b")
    shop.deploy("b")
    tried: set[int] = set()

    def ends() -> bool:
        assert [1] * 5 == shop.running(), "who works goes on"
        extra = [task for task in shop.of_revision(2) if not task.status.state.is_terminal]
        assert len(extra) <= policy.get("parallelism", 1)
        tried.update(task.slot for task in shop.of_revision(2))
        return not shop.rollout.phase.is_active

    shop.until(ends)
    assert {1, 2, 3, 4, 5} == tried
    assert shop.is_at(RolloutPhase.COMPLETED)
    assert shop.rollout.message == "0 of 5 slots have revision 2, and 5 failed on the way"


def test_a_slot_that_was_passed_over_gets_the_new_version_once_that_works() -> None:
    shop = Shop(3, order=UpdateOrder.START_FIRST, failure_action=FailureAction.CONTINUE)
    shop.begins()
    shop.never_well.add("b")
    shop.deploy("b")
    shop.until(lambda: "1" in shop.rollout.failed)
    shop.never_well.clear()
    shop.ends()
    shop.settle()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2, 2])


def test_so_many_slots_as_the_ratio_allows_may_fail() -> None:
    for ratio, phase in ((0.5, RolloutPhase.COMPLETED), (0.2, RolloutPhase.PAUSED)):
        shop = Shop(4, max_failure_ratio=ratio)
        shop.begins()
        shop.deploy("b")
        shop.until_begun(1)
        [new] = shop.of_revision(2)
        shop.report(new, TaskState.REJECTED)
        shop.ends()
        assert shop.is_at(phase)
        assert list(shop.rollout.failed) == ["1"]


def test_a_slow_crash_is_no_failure_of_the_rollout_but_an_unhealthy_task_is() -> None:
    for health, phase in (
        (Health.NONE, RolloutPhase.COMPLETED),
        (Health.UNHEALTHY, RolloutPhase.PAUSED),
        (Health.STARTING, RolloutPhase.PAUSED),
    ):
        shop = Shop(1)
        shop.begins()
        shop.deploy("b")
        shop.until_running(2)
        [new] = shop.of_revision(2)
        if health is not Health.NONE:
            shop.report(new, TaskState.RUNNING, health=health)
        shop.now_ms += 8_000
        shop.report(shop.view.tasks[new.id], TaskState.FAILED, health=health)
        shop.ends()
        assert phase is shop.rollout.phase


def test_a_task_lost_with_its_node_speaks_against_no_revision() -> None:
    shop = Shop(3, failure_action=BACK)
    shop.begins()
    shop.deploy("b")
    shop.until(lambda: 2 in shop.running())
    [new] = shop.of_revision(2)
    shop.kill(next(one for one in NODES if one.id == new.node_id))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2, 2])


def test_a_task_that_never_gets_healthy_is_given_up_at_its_deadline() -> None:
    shop = Shop(2, healthy_deadline_s=120.0, failure_action=BACK)
    shop.begins()
    shop.deploy("b")
    shop.until(lambda: any(t.revision == 2 and t.is_healthy for t in shop.view.tasks.values()))
    [new] = shop.of_revision(2)
    shop.report(new, TaskState.RUNNING, health=Health.STARTING, message="its check has not passed")
    shop.until(lambda: shop.rollout.phase.goes_back)
    assert shop.rollout.message == (
        "revision 2 was given up: 1 of 2 slots failed, more than the 0 that may: "
        "web.1: it is running and not healthy after 120 s: its check has not passed"
    )
    assert shop.now_ms - new.created_at_ms == 130_000, "its predecessor had 10 s to stop"


def test_complaint_15_a_rollout_that_does_not_get_on_ends_at_its_deadline() -> None:
    for action, phase in (
        (FailureAction.PAUSE, RolloutPhase.PAUSED),
        (FailureAction.CONTINUE, RolloutPhase.PAUSED),
        (FailureAction.ROLLBACK, RolloutPhase.ROLLED_BACK),
    ):
        shop = Shop(2, failure_action=action)
        shop.begins()
        shop.deploy("b", **_nowhere())
        began_ms = shop.now_ms
        shop.ends()
        assert shop.is_at(phase)
        assert shop.now_ms - began_ms == 600_000
        assert shop.rollout.reason is RolloutReason.NO_PROGRESS
        assert "no slot came to be well for 600 s: revision 2 finds no node" in shop.rollout.message
        assert shop.running() == [1, 1]


def _nowhere() -> dict[str, Any]:
    ssd = Constraint(key="node.labels.disk", comparison=Comparison.EQUAL, value="ssd")
    return {"constraints": (ssd,)}


def test_a_paused_rollout_waits_for_its_user_and_then_goes_on() -> None:
    shop = Shop()
    shop.begins()
    shop.deploy("b")
    shop.until_well(1)
    shop.do(PauseRollout(service_id=shop.web.id))
    shop.settle()
    assert (shop.rollout.phase, shop.rollout.reason) == (RolloutPhase.PAUSED, RolloutReason.BY_HAND)
    begun = [task.slot for task in shop.view.tasks.values() if task.revision == 2 and task.is_live]
    assert sorted(begun) == [1, 2], "what was begun is finished, no more"
    shop.now_ms += 10_000_000
    shop.settle()
    assert shop.is_at(RolloutPhase.PAUSED)
    shop.do(ResumeRollout(service_id=shop.web.id))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2, 2])


def test_complaint_19_step_by_step_each_step_waits_for_its_user() -> None:
    shop = Shop(5, parallelism=2, step=True)
    shop.begins()
    shop.deploy("b")
    for done in (2, 4):
        shop.ends()
        assert shop.rollout.reason is RolloutReason.STEP_DONE
        assert shop.rollout.message == f"its step is done: {done} of 5 slots have revision 2"
        assert sorted(shop.running()) == [1] * (5 - done) + [2] * done
        shop.do(ResumeRollout(service_id=shop.web.id, step=True))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2] * 5)


def test_a_rollout_by_step_can_be_let_go_to_its_end() -> None:
    shop = Shop(5, step=True)
    shop.begins()
    shop.deploy("b")
    shop.ends()
    shop.do(ResumeRollout(service_id=shop.web.id))
    shop.ends()
    assert shop.is_at(RolloutPhase.COMPLETED)


def test_a_failed_rollout_that_is_resumed_may_fail_again() -> None:
    shop = Shop()
    shop.begins()
    shop.bad.add("b")
    shop.deploy("b")
    shop.ends()
    assert shop.is_at(RolloutPhase.PAUSED)
    shop.do(ResumeRollout(service_id=shop.web.id))
    assert len(shop.rollout.failed) == 0
    shop.ends()
    assert shop.is_at(RolloutPhase.PAUSED)
    assert list(shop.rollout.failed) == ["1"]
    shop.bad.clear()
    shop.now_ms += 1
    shop.do(ResumeRollout(service_id=shop.web.id))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2, 2])


def test_labels_scale_and_policies_roll_nothing() -> None:
    shop = Shop(2)
    shop.begins()
    before = {task.id for task in shop.view.tasks.values()}
    shop.update = UpdatePolicy(parallelism=2)
    shop.deploy("a")
    shop.do(ScaleService(service_id=shop.web.id, replicas=3))
    shop.settle()
    assert dict(shop.view.rollouts) == {}
    assert before < {task.id for task in shop.view.tasks.values() if task.is_live}


def test_scaling_in_the_middle_of_a_rollout_changes_nothing_of_its_end() -> None:
    for replicas in (1, 6):
        shop = Shop(4)
        shop.begins()
        shop.deploy("b")
        shop.until_well(2)
        shop.do(ScaleService(service_id=shop.web.id, replicas=replicas))
        shop.ends()
        shop.settle()
        assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2] * replicas)


def test_tasks_that_run_to_their_end_complete_a_rollout() -> None:
    shop = Shop(2)
    shop.restart = RestartPolicy(condition=RestartCondition.ON_FAILURE)
    shop.begins()
    shop.deploy("b")
    for _ in range(100):
        shop.control()
        for task in shop.movable():
            shop.step(task)
        for task in shop.view.tasks.values():
            if task.revision == 2 and task.status.state is TaskState.RUNNING:
                shop.report(task, TaskState.COMPLETE)
    assert shop.is_at(RolloutPhase.COMPLETED)


def test_a_global_service_rolls_out_past_a_dead_node_and_brings_it_up_later() -> None:
    shop = Shop(1)
    shop.mode = Mode.GLOBAL
    shop.begins()
    shop.kill(NODES[0])
    shop.now_ms += 5_000
    shop.deploy("b")
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2])
    shop.revive(NODES[0])
    shop.settle()
    assert shop.running() == [2, 2, 2]


def test_a_slot_with_two_tasks_on_a_suspect_node_still_has_its_turn() -> None:
    shop = Shop(1, order=UpdateOrder.START_FIRST, parallelism=1)
    shop.mode = Mode.GLOBAL
    shop.begins()
    shop.deploy("b")
    shop.until_begun(1)
    [new] = shop.of_revision(2)
    shop.kill(next(one for one in NODES if one.id == new.node_id))
    shop.now_ms += 3_000
    shop.control()
    assert [new.id] == [one.id for one in shop.of_revision(2)], "no other slot has two tasks too"
    shop.now_ms += 3_000
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2])


def test_what_no_node_takes_from_the_start_does_not_hold_a_rollout_up() -> None:
    shop = Shop(3, nodes=NODES[:2])
    shop.deploy("a", **_port())
    for _ in range(30):
        shop.control()
        for task in shop.movable():
            shop.step(task)
    shop.deploy("b", **_port())
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2])


@pytest.mark.parametrize("mode", [mode for mode in Mode if not mode.is_job])
def test_a_rollout_is_not_complete_while_nobody_is_there_to_run_it(mode: Mode) -> None:
    shop = Shop(1, nodes=NODES[:1], failure_action=BACK)
    shop.mode = mode
    shop.begins()
    shop.deploy("b")
    shop.until_begun(1)
    shop.kill(NODES[0])
    shop.now_ms += 60_000
    shop.control()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.UPDATING, [])
    shop.revive(NODES[0])
    shop.bad.add("b")
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.ROLLED_BACK, [1])


def _port() -> dict[str, Any]:
    return {"ports": (Port(target=80, published=80),)}


@pytest.mark.parametrize("action", [FailureAction.PAUSE, FailureAction.ROLLBACK])
@pytest.mark.parametrize("order", list(UpdateOrder))
@pytest.mark.parametrize("is_bad", [False, True])
def test_a_new_leader_at_any_moment_changes_nothing_of_the_result(
    action: FailureAction, order: UpdateOrder, is_bad: bool
) -> None:
    def end(takes_over_at: int | None) -> tuple[int, object]:
        shop = Shop(failure_action=action, order=order, delay_s=1.0)
        shop.begins()
        shop.bad |= {"b"} if is_bad else set()
        shop.deploy("b")
        steps = 0

        def step() -> bool:
            nonlocal steps
            steps += 1
            if steps == takes_over_at or takes_over_at == 0:
                shop.dirty = None
                shop.control()
            return not shop.rollout.phase.is_active

        shop.until(step)
        return steps, shop.view

    steps, undisturbed = end(None)
    assert steps > 5
    for at in range(steps):
        assert end(at)[1] == undisturbed
