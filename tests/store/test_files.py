"""Configs and secrets: which content a service has, how another comes to it, and what is kept."""

from attrs import evolve
from immutables import Map

from meshswarm.errors import Conflict, MeshswarmError, NotFound
from meshswarm.ids import NodeId, TaskId, Version
from meshswarm.model.file import FileKind, FileUse, Reload, Secret
from meshswarm.model.rollout import RolloutPhase, RolloutReason
from meshswarm.model.service import ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.model.task import DesiredState
from meshswarm.store.assignments import Told
from meshswarm.store.commands import (
    Command,
    CreateTask,
    PutConfig,
    PutSecret,
    PutSecretsKey,
    PutService,
    PutStack,
    RemoveConfig,
    RemoveSecret,
    RemoveStack,
    RollBackService,
    UseNewest,
)
from meshswarm.store.view import View
from tests.support.builders import commit, node, service_spec, view

N1 = NodeId("id-n1")
START = view([node("n1")])
T1 = TaskId("t1")
USES_MOTD = FileUse(kind=FileKind.CONFIG, source="motd", target="/motd")
HUP = Reload(signal="SIGHUP")


def after(view: View, *commands: Command) -> View:
    for command in commands:
        applied = commit(view, command)
        assert applied.outcome.error is None, applied.outcome.error
        view = applied.view
    return view


def refused(view: View, command: Command) -> MeshswarmError:
    error = commit(view, command).outcome.error
    assert error is not None
    return error


def motd(text: str, **changes: object) -> PutConfig:
    return evolve(PutConfig(name="motd", data=text.encode()), **changes)  # type: ignore[arg-type]


def web(*, reload: Reload | None = None, use: FileUse = USES_MOTD, **fields: object) -> ServiceSpec:
    return service_spec("web", files=(use,), reload=reload, **fields)  # type: ignore[arg-type]


def put(spec: ServiceSpec) -> PutService:
    return PutService(spec=spec)


def with_task(view: View, task_id: TaskId = T1) -> View:
    row = view.service_named("web")
    assert row is not None
    create = CreateTask(
        task_id=task_id,
        service_id=row.id,
        service_version=row.version,
        slot=1,
        revision=row.revision,
        node_id=N1,
        desired=DesiredState.RUNNING,
    )
    return after(view, create)


def content(view: View, task_id: TaskId = T1) -> bytes:
    """What the task finds in its first file."""
    row = view.content(view.spec_of(view.tasks[task_id]).task.files[0])
    assert row is not None
    return row.sealed if isinstance(row, Secret) else row.data


def rolled_out(view: View) -> View:
    """The view once its rollouts are done."""
    done = {key: evolve(row, phase=RolloutPhase.COMPLETED) for key, row in view.rollouts.items()}
    return evolve(view, rollouts=Map(done))


def newest(view: View) -> UseNewest:
    return UseNewest(kind=FileKind.CONFIG, name="motd")


def test_a_service_has_the_content_of_when_it_was_put() -> None:
    view = with_task(after(START, motd("one"), put(web())))
    view = after(view, motd("two"), motd("three"))
    assert b"one" == content(view)
    assert ["one"] == [row.data.decode() for row in view.kept_files.values()]


def test_a_config_that_does_not_exist_is_named_with_the_command_that_makes_it() -> None:
    error = refused(START, put(web()))
    assert isinstance(error, NotFound)
    assert "service web uses config 'motd', which does not exist" == error.message
    assert "meshswarm config create motd FILE" == error.hint


def test_complaint_28_the_newest_content_is_rolled_out_and_rolled_back_exactly() -> None:
    view = after(START, motd("one"), put(web()), motd("two"))
    applied = commit(view, newest(view))
    assert (("web", "updated"),) == applied.outcome.effects
    view = with_task(applied.view)
    assert b"two" == content(view)
    row = view.service_named("web")
    assert row is not None
    view = with_task(after(view, RollBackService(service_id=row.id, revision=1)), TaskId("t2"))
    assert b"one" == content(view, TaskId("t2"))


def test_equal_content_and_other_labels_roll_nothing_out() -> None:
    view = after(START, motd("one"), put(web()), motd("one", labels={"a": "b"}))
    view = after(view, motd("two"), motd("one"))
    assert (("web", "unchanged"),) == commit(view, put(web())).outcome.effects
    assert (("web", "unchanged"),) == commit(view, newest(view)).outcome.effects


def test_another_image_leaves_the_content_as_it_is() -> None:
    view = after(START, motd("one"), put(web()), motd("two"))
    row = view.service_named("web")
    assert row is not None
    view = with_task(after(view, put(evolve(row.spec, task=evolve(row.spec.task, user="1")))))
    assert b"one" == content(view)


def test_content_is_forgotten_with_the_last_revision_that_uses_it() -> None:
    view = after(START, motd("one"), put(web()), motd("two"))
    assert 1 == len(view.kept_files)
    for number in range(12):
        view = rolled_out(after(view, put(web(user=str(number)))))
    assert 0 == len(view.kept_files)


def test_what_is_in_use_is_not_removed_and_its_users_are_named() -> None:
    view = after(START, motd("one"), put(web()))
    error = refused(view, RemoveConfig(name="motd"))
    assert isinstance(error, Conflict)
    assert "config motd is in use by web" == error.message
    # The old revision alone does not hold it, but a task of it does.
    view = with_task(view)
    view = after(view, put(service_spec("web")))
    assert "in use by web" in refused(view, RemoveConfig(name="motd")).message


def test_a_revision_whose_secret_was_removed_cannot_be_gone_back_to() -> None:
    view = after(START, motd("one"), put(web()), put(service_spec("web")))
    row = view.service_named("web")
    assert row is not None
    view = after(rolled_out(view), RemoveConfig(name="motd"))
    error = refused(view, RollBackService(service_id=row.id, revision=1))
    assert "that revision of web uses config motd, which was removed" == error.message


def test_create_and_update_say_what_they_expect() -> None:
    view = after(START, motd("one", version=Version(0)))
    error = refused(view, motd("two", version=Version(0)))
    assert ("there is a config motd already", "meshswarm config update motd FILE") == (
        error.message,
        error.hint,
    )


# --- in place ---------------------------------------------------------------------------------


def test_complaint_28_running_tasks_are_given_other_content_in_place() -> None:
    view = with_task(after(START, motd("one"), put(web(reload=HUP)), motd("two")))
    told = Told(N1)
    told.all(view)
    applied = commit(view, newest(view))
    assert (("web", "reloaded"),) == applied.outcome.effects
    view = applied.view
    row = view.service_named("web")
    assert row is not None
    assert 2 == row.revision == view.tasks[T1].revision
    assert b"two" == content(view)
    rollout = view.rollouts[row.id]
    assert (RolloutPhase.COMPLETED, RolloutReason.RELOADED, 1) == (
        rollout.phase,
        rollout.reason,
        rollout.stable_revision,
    )
    change = told.next(view, None)
    assert change is not None
    assert [T1] == [assignment.task.id for assignment in change.upserts]


def test_what_came_in_place_goes_back_in_place() -> None:
    view = with_task(after(START, motd("one"), put(web(reload=HUP)), motd("two")))
    view = after(view, newest(view))
    row = view.service_named("web")
    assert row is not None
    view = after(view, RollBackService(service_id=row.id))
    assert (1, b"one") == (view.tasks[T1].revision, content(view))
    assert RolloutPhase.ROLLED_BACK is view.rollouts[row.id].phase


def test_another_change_beside_the_content_replaces_the_tasks() -> None:
    view = with_task(after(START, motd("one"), put(web(reload=HUP)), motd("two")))
    applied = commit(view, put(web(reload=HUP, user="7")))
    assert (("web", "updated"),) == applied.outcome.effects
    assert 1 == applied.view.tasks[T1].revision


def test_a_rollout_under_way_takes_other_content_along() -> None:
    view = after(START, motd("one"), put(web(reload=HUP)), put(web(reload=HUP, user="7")))
    view = after(view, motd("two"))
    assert (("web", "updated"),) == commit(view, newest(view)).outcome.effects


# --- secrets ----------------------------------------------------------------------------------


def secret(content: bytes, **changes: object) -> PutSecret:
    made = PutSecret(name="db", sealed=b"sealed " + content, digest=content, key_id="k")
    return evolve(made, **changes)  # type: ignore[arg-type]  # tests name real fields


KEY = PutSecretsKey(key_id="k", sealed_for={N1: b"for n1"})


def test_a_secret_is_compared_by_its_digest_and_kept_like_a_config() -> None:
    use = FileUse(kind=FileKind.SECRET, source="db", target="/run/secrets/db")
    view = with_task(after(START, KEY, secret(b"one"), put(web(use=use))))
    again = commit(view, secret(b"one", sealed=b"sealed anew"))
    assert (("db", "unchanged"),) == again.outcome.effects
    view = after(view, secret(b"two"))
    assert b"sealed one" == content(view)
    assert "in use by web" in refused(view, RemoveSecret(name="db")).message


def test_the_first_key_stays_and_is_sealed_for_more_managers() -> None:
    view = after(START, KEY)
    assert isinstance(refused(view, PutSecretsKey(key_id="other", sealed_for={})), Conflict)
    more = PutSecretsKey(key_id="k", sealed_for={N1: b"another", NodeId("n2"): b"for n2"})
    row = after(view, more).secrets_keys["k"]
    assert {N1: b"for n1", NodeId("n2"): b"for n2"} == row.sealed_for


def test_a_secret_sealed_with_an_unknown_key_is_refused() -> None:
    assert isinstance(refused(START, secret(b"one")), Conflict)


def test_what_is_sealed_is_never_printed() -> None:
    view = after(START, KEY, secret(b"one"))
    assert "sealed" not in repr(view.secrets["db"]).replace("sealed_for", "")
    assert "sealed one" not in repr(secret(b"one"))


# --- stacks -----------------------------------------------------------------------------------


def shop(*configs: str, uses: bool = True) -> PutStack:
    spec = evolve(web() if uses else service_spec("web"), stack="shop")
    return PutStack(spec=StackSpec(name="shop", services=(spec,), configs=configs))


def test_a_stacks_own_configs_go_with_it() -> None:
    view = with_task(after(START, motd("one"), shop("motd")))
    view = after(view, RemoveStack(name="shop"))
    assert "motd" not in view.configs
    assert b"one" == content(view), "what still runs keeps it"


def test_a_config_that_vanished_from_the_file_goes() -> None:
    view = after(START, motd("one"), shop("motd"), shop(uses=False))
    assert "motd" not in view.configs


def test_a_stack_does_not_take_what_others_use_along() -> None:
    other = evolve(web(), name="other")
    view = after(START, motd("one"), shop("motd"), put(other))
    assert "config motd is in use by other" == refused(view, RemoveStack(name="shop")).message
    taken = PutStack(spec=StackSpec(name="second", services=(), configs=("motd",)))
    assert "config motd belongs to stack shop" == refused(view, taken).message
