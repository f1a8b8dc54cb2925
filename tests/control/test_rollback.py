"""Old beside new, and the way back: what works is left alone, and what is restored is exact."""

from meshswarm.model.rollout import FailureAction, RolloutPhase, UpdateOrder
from meshswarm.store.commands import (
    PauseRollout,
    RestartService,
    ResumeRollout,
    RollBackService,
)
from tests.support.shop import Shop

BACK = FailureAction.ROLLBACK
START_FIRST = UpdateOrder.START_FIRST


def test_start_first_keeps_the_old_task_until_the_new_one_is_well() -> None:
    shop = Shop(2, order=START_FIRST)
    shop.begins()
    shop.deploy("b")
    least = most = len(shop.running())

    def watch() -> bool:
        nonlocal least, most
        least, most = min(least, len(shop.running())), max(most, len(shop.running()))
        return not shop.rollout.phase.is_active

    shop.until(watch)
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2])
    assert (least, most) == (2, 3)


def test_complaint_17_a_failed_start_first_update_never_stops_an_old_task() -> None:
    for action, phase in (
        (FailureAction.PAUSE, RolloutPhase.PAUSED),
        (FailureAction.ROLLBACK, RolloutPhase.ROLLED_BACK),
    ):
        shop = Shop(2, order=START_FIRST, failure_action=action)
        shop.begins()
        before = {task.id for task in shop.view.tasks.values() if task.is_healthy}
        shop.bad.add("b")
        shop.deploy("b")
        shop.ends()
        shop.settle()
        assert (shop.rollout.phase, shop.running()) == (phase, [1, 1])
        assert before == {task.id for task in shop.view.tasks.values() if task.is_live}


def test_going_back_in_the_middle_of_a_start_first_step_stops_only_the_new_task() -> None:
    shop = Shop(2, order=START_FIRST)
    shop.begins()
    before = {task.id for task in shop.view.tasks.values()}
    shop.deploy("b")
    shop.until(lambda: 2 in shop.running())
    shop.do(RollBackService(service_id=shop.web.id))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.ROLLED_BACK, [1, 1])
    assert before == {task.id for task in shop.view.tasks.values() if task.is_live}


def test_another_update_in_the_middle_of_a_start_first_step_keeps_what_works() -> None:
    shop = Shop(1, order=START_FIRST)
    shop.begins()
    shop.deploy("b")
    shop.control()
    shop.deploy("c")
    shop.until(lambda: shop.running() != [1])
    assert shop.running() == [1, 3]
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [3])


def test_going_back_restores_the_exact_revision_and_touches_no_slot_that_kept_it() -> None:
    shop = Shop(failure_action=BACK)
    shop.begins()
    before = {task.slot: task.id for task in shop.view.tasks.values()}
    spec = shop.web.spec.task
    shop.bad.add("b")
    shop.deploy("b")
    shop.ends()
    web = shop.web
    assert (web.spec.task, web.revision, shop.rollout.stable_revision) == (spec, 1, 1)
    live = {task.slot: task.id for task in shop.view.tasks.values() if task.is_live}
    assert {slot: live[slot] for slot in (2, 3)} == {slot: before[slot] for slot in (2, 3)}
    assert live[1] != before[1]


def test_a_service_goes_back_to_any_kept_revision_by_hand() -> None:
    shop = Shop(2)
    shop.begins()
    for version in "bcd":
        shop.deploy(version)
        shop.ends()
    shop.do(RollBackService(service_id=shop.web.id, revision=2))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.ROLLED_BACK, [2, 2])
    assert (shop.web.spec.task.command, shop.web.revision) == (("b",), 2)
    shop.deploy("e")
    assert shop.web.revision == 5, "no number is ever given twice"
    shop.ends()
    shop.do(RollBackService(service_id=shop.web.id))
    shop.ends()
    assert (shop.web.spec.task.command, shop.running()) == (("b",), [2, 2])


def test_a_way_back_that_fails_waits_for_a_user() -> None:
    shop = Shop(failure_action=BACK)
    shop.begins()
    shop.bad |= {"a", "b"}
    shop.deploy("b")
    shop.ends()
    assert shop.is_at(RolloutPhase.ROLLBACK_PAUSED)
    assert shop.rollout.message.startswith("the way back failed: ")


def test_after_two_updates_that_failed_it_goes_back_to_what_was_good() -> None:
    """Swarm goes back to the spec before, which is the first bad one."""
    shop = Shop(failure_action=BACK)
    shop.begins()
    shop.bad |= {"b", "c"}
    shop.deploy("b")
    shop.control()
    shop.deploy("c")
    assert shop.rollout.stable_revision == 1
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.ROLLED_BACK, [1, 1, 1])


def test_deploying_what_a_rollout_has_left_touches_no_slot_that_kept_it() -> None:
    shop = Shop()
    shop.begins()
    before = {task.slot: task.id for task in shop.view.tasks.values()}
    shop.bad.add("b")
    shop.deploy("b")
    shop.ends()
    shop.deploy("a")
    shop.ends()
    assert (shop.rollout.phase, shop.web.revision) == (RolloutPhase.COMPLETED, 1)
    live = {task.slot: task.id for task in shop.view.tasks.values() if task.is_live}
    assert {slot: live[slot] for slot in (2, 3)} == {slot: before[slot] for slot in (2, 3)}


def test_a_restart_replaces_every_task_by_one_like_it() -> None:
    shop = Shop(2)
    shop.begins()
    before = {task.id for task in shop.view.tasks.values()}
    shop.do(RestartService(service_id=shop.web.id))
    shop.ends()
    assert (shop.rollout.phase, shop.running()) == (RolloutPhase.COMPLETED, [2, 2])
    assert not before & {task.id for task in shop.view.tasks.values() if task.is_live}
    edition = shop.rollout.edition
    shop.deploy("a")
    assert shop.rollout.edition == edition, "the file that was deployed is deployed"


def test_a_user_who_commands_what_cannot_be_is_told() -> None:
    shop = Shop()
    shop.begins()
    for command, code in (
        (PauseRollout(service_id=shop.web.id), "invalid"),
        (ResumeRollout(service_id=shop.web.id), "invalid"),
        (RollBackService(service_id=shop.web.id), "conflict"),
        (RollBackService(service_id=shop.web.id, revision=1), "conflict"),
        (RollBackService(service_id=shop.web.id, revision=9), "not_found"),
    ):
        error = shop.propose(command).error
        assert error is not None
        assert code == error.code
