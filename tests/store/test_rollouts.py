"""What commands do to rollouts: begun, paused, resumed, turned, restarted; what rolls nothing."""

import pytest
from attrs import evolve

from meshswarm.errors import Conflict, Invalid, MeshswarmError, NotFound
from meshswarm.ids import ServiceId
from meshswarm.model.rollout import Rollout, RolloutPhase, RolloutReason, UpdatePolicy
from meshswarm.model.service import Service, ServiceSpec
from meshswarm.store.commands import (
    Command,
    PauseRollout,
    PutService,
    RestartService,
    ResumeRollout,
    RevertService,
    RollBackService,
    ScaleService,
    SetRollout,
)
from meshswarm.store.revisions import KEPT_REVISIONS
from meshswarm.store.rollouts import MAX_MESSAGE
from meshswarm.store.view import View
from tests.support.builders import commit, service_spec

NAME = "shop_web"


def web(command: str = "a", **changes: object) -> ServiceSpec:
    """The service with another command, or other fields."""
    spec = service_spec(NAME)
    return evolve(spec, task=evolve(spec.task, command=(command,)), **changes)  # type: ignore[arg-type]


def after(view: View, *commands: Command) -> View:
    for command in commands:
        applied = commit(view, command, at_ms=view.clock_ms + 1)
        assert applied.outcome.error is None, applied.outcome.error
        view = applied.view
    return view


def refused(view: View, command: Command) -> MeshswarmError:
    """Why the command is refused; it must change nothing."""
    applied = commit(view, command, at_ms=view.clock_ms + 1)
    assert applied.outcome.error is not None
    assert applied.view.services == view.services
    assert applied.view.rollouts == view.rollouts
    return applied.outcome.error


def row(view: View) -> Service:
    return view.find_service(NAME)


def rollout(view: View) -> Rollout:
    return view.rollouts[row(view).id]


def done(view: View, phase: RolloutPhase = RolloutPhase.COMPLETED) -> View:
    """As the controllers leave it when all slots are well."""
    present = rollout(view)
    written = SetRollout(
        service_id=present.service_id,
        edition=present.edition,
        phase=phase,
        reason=RolloutReason.DONE,
        message="all is well",
        well=2,
        progressed_at_ms=view.clock_ms,
        not_before_ms=0,
        failed=(),
        slots_left=None,
    )
    return after(view, written)


def updated() -> View:
    """Revision 2 is on its way; 1 was whole."""
    return after(View(), PutService(spec=web("a")), PutService(spec=web("b")))


# --- what begins one, and what does not -----------------------------------------------------------


def test_a_new_service_has_no_rollout_and_a_changed_task_begins_one() -> None:
    view = after(View(), PutService(spec=web("a")))
    assert dict(view.rollouts) == {}
    view = after(view, PutService(spec=web("b")))
    begun = rollout(view)
    assert (begun.phase, begun.reason) == (RolloutPhase.UPDATING, RolloutReason.DEPLOYED)
    assert (begun.stable_revision, begun.revision, begun.edition) == (1, 2, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": {"a": "b"}},
        {"replicas": 7},
        {"priority": 3},
        {"update": UpdatePolicy(parallelism=0)},
        {"rollback": UpdatePolicy(parallelism=0)},
    ],
    ids=str,
)
def test_what_tasks_are_not_made_of_rolls_nothing(changes: dict[str, object]) -> None:
    view = after(View(), PutService(spec=web("a")))
    changed = after(view, PutService(spec=web("a", **changes)))
    assert row(changed).revision == 1
    assert dict(changed.rollouts) == {}


def test_scaling_changes_nothing_of_a_rollout_under_way() -> None:
    view = updated()
    scaled = after(view, ScaleService(service_id=row(view).id, replicas=9))
    assert (row(scaled).revision, rollout(scaled)) == (2, rollout(view))


def test_the_same_again_is_unchanged_even_in_the_middle() -> None:
    view = updated()
    applied = commit(view, PutService(spec=web("b")), at_ms=view.clock_ms + 1)
    assert applied.outcome.effects == ((NAME, "unchanged"),)
    assert applied.view.rollouts == view.rollouts


def test_what_a_rollout_left_is_no_new_revision() -> None:
    view = after(updated(), PutService(spec=web("a")))
    assert row(view).revision == 1
    assert (rollout(view).phase, rollout(view).edition) == (RolloutPhase.UPDATING, 2)
    view = after(done(updated()), PutService(spec=web("a")))
    assert row(view).revision == 3, "once it is over, the old spec is a new revision"


def test_a_restart_is_a_revision_that_differs_in_nothing() -> None:
    view = done(updated())
    view = after(view, RestartService(service_id=row(view).id))
    assert (row(view).revision, rollout(view).reason) == (3, RolloutReason.RESTARTED)
    kept = view.revisions[row(view).id]
    assert kept[2].task == kept[3].task
    assert rollout(view).stable_revision == 2


# --- pausing and resuming -------------------------------------------------------------------------


def test_a_pause_is_a_new_edition_and_forgives_what_failed_when_it_is_resumed() -> None:
    view = updated()
    service_id = row(view).id
    paused = after(view, PauseRollout(service_id=service_id))
    assert (rollout(paused).phase, rollout(paused).edition) == (RolloutPhase.PAUSED, 2)
    again = commit(paused, PauseRollout(service_id=service_id), at_ms=9)
    assert again.outcome.effects == ((NAME, "unchanged"),)
    resumed = after(paused, ResumeRollout(service_id=service_id, step=True))
    now = rollout(resumed)
    assert (now.phase, now.edition, now.failed) == (RolloutPhase.UPDATING, 3, ())
    assert now.slots_left == row(view).spec.update.parallelism
    let_go = after(resumed, ResumeRollout(service_id=service_id))
    assert rollout(let_go).slots_left is None


@pytest.mark.parametrize("kind", [PauseRollout, ResumeRollout])
def test_without_a_rollout_under_way_there_is_nothing_to_turn(
    kind: type[PauseRollout] | type[ResumeRollout],
) -> None:
    view = after(View(), PutService(spec=web("a")))
    error = refused(view, kind(service_id=row(view).id))
    assert (type(error), error.hint) == (Invalid, f"meshswarm why {NAME}")
    assert isinstance(refused(done(updated()), kind(service_id=row(view).id)), Invalid)


# --- going back -----------------------------------------------------------------------------------


def test_going_back_makes_exactly_that_revision_current() -> None:
    view = done(after(done(updated()), PutService(spec=web("c", replicas=5))))
    service_id = row(view).id
    back = after(view, RollBackService(service_id=service_id, revision=1))
    assert (row(back).revision, row(back).spec.task.command) == (1, ("a",))
    assert row(back).spec.replicas == 5, "only what tasks are made of goes back"
    assert (rollout(back).phase, rollout(back).revision) == (RolloutPhase.ROLLING_BACK, 1)
    by_itself = after(view, RollBackService(service_id=service_id))
    assert row(by_itself).revision == 2, "without a number: where the last rollout came from"


def test_where_nobody_can_go_back_to_is_said() -> None:
    view = updated()
    service_id = row(view).id
    missing = refused(view, RollBackService(service_id=service_id, revision=9))
    assert (type(missing), "kept are 1, 2" in (missing.hint or "")) == (NotFound, True)
    assert isinstance(refused(view, RollBackService(service_id=service_id, revision=2)), Conflict)
    back = after(view, RollBackService(service_id=service_id))
    lost = refused(back, RollBackService(service_id=service_id))
    assert "name one with --to" in (lost.hint or "")
    only_one = after(View(), PutService(spec=web("a")))
    assert isinstance(refused(only_one, RollBackService(service_id=row(only_one).id)), Conflict)


def test_any_kept_revision_can_be_gone_back_to_and_older_ones_are_gone() -> None:
    view = after(View(), PutService(spec=web("0")))
    for number in range(1, KEPT_REVISIONS + 3):
        view = done(after(view, PutService(spec=web(str(number)))))
    kept = sorted(view.revisions[row(view).id])
    assert kept == list(range(4, KEPT_REVISIONS + 4))
    for number in kept[:-1]:
        command = RollBackService(service_id=row(view).id, revision=number)
        assert row(after(view, command)).spec.task.command == (str(number - 1),)
    oldest = RollBackService(service_id=row(view).id, revision=3)
    assert isinstance(refused(view, oldest), NotFound)


# --- what controllers write -----------------------------------------------------------------------


def test_what_was_decided_on_an_older_edition_is_refused() -> None:
    view = updated()
    stale = RevertService(
        service_id=row(view).id,
        edition=rollout(view).edition,
        reason=RolloutReason.TASKS_FAILED,
        message="1 of 2 slots failed",
    )
    paused = after(view, PauseRollout(service_id=row(view).id))
    assert isinstance(refused(paused, stale), Conflict)
    reverted = after(view, stale)
    now = rollout(reverted)
    assert (now.phase, now.message) == (RolloutPhase.ROLLING_BACK, "1 of 2 slots failed")
    assert row(reverted).revision == 1
    again = evolve(stale, edition=now.edition)
    assert isinstance(refused(reverted, again), Conflict), "the way back has no way back"
    assert isinstance(refused(View(), stale), NotFound)


def test_a_long_message_is_cut() -> None:
    view = updated()
    long = RevertService(
        service_id=ServiceId(row(view).id),
        edition=1,
        reason=RolloutReason.TASKS_FAILED,
        message="x" * 5_000,
    )
    assert len(rollout(after(view, long)).message) == MAX_MESSAGE
