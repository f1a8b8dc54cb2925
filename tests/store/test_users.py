"""What users' commands do, and what they are refused for."""

from collections.abc import Iterable

import pytest
from attrs import evolve

from meshswarm.errors import Conflict, Invalid, MeshswarmError, NotFound
from meshswarm.ids import NodeId, ServiceId, Version
from meshswarm.model.node import Availability
from meshswarm.model.service import Mode, ServiceSpec
from meshswarm.model.stack import StackSpec
from meshswarm.store.commands import (
    Command,
    CreateTask,
    PutConfig,
    PutService,
    PutStack,
    RemoveConfig,
    RemoveService,
    RemoveStack,
    ScaleService,
    UpdateNode,
)
from meshswarm.store.config_table import Configs, packed
from meshswarm.store.configs import MAX_CONFIG_BYTES, MAX_CONFIGS
from meshswarm.store.revisions import KEPT_REVISIONS
from meshswarm.store.users import MAX_REPLICAS
from meshswarm.store.view import View
from tests.support.builders import NOW_MS, commit, node, service, service_spec, task, view


def _stack(*services: ServiceSpec) -> PutStack:
    return PutStack(spec=StackSpec(name="shop", services=services))


def _after(before: View, *commands: Command) -> View:
    for command in commands:
        applied = commit(before, command, at_ms=before.clock_ms + 1)
        assert applied.outcome.error is None
        before = applied.view
    return before


def _refused(before: View, command: Command) -> MeshswarmError:
    applied = commit(before, command)
    assert applied.outcome.error is not None
    return applied.outcome.error


WEB = service_spec("shop_web", stack="shop", replicas=3)
DB = service_spec("shop_db", stack="shop")


def test_a_stack_creates_its_services_with_their_first_revision() -> None:
    applied = commit(View(), _stack(WEB, DB), at_ms=NOW_MS)
    assert (("shop_db", "created"), ("shop_web", "created")) == applied.outcome.effects
    web = applied.view.service_named("shop_web")
    assert web is not None
    assert (WEB, 1, NOW_MS) == (web.spec, web.revision, web.created_at_ms)
    assert WEB.task == applied.view.revisions[web.id][1].task
    assert ["shop_db", "shop_web"] == [s.spec.name for s in applied.view.services_of("shop")]


def test_services_of_two_clusters_never_share_an_id() -> None:
    """Their containers may share an engine, where names hold ids that follow from it."""
    here, there = (_after(view([node(name)]), _stack(WEB)) for name in ("here", "there"))
    assert here.index == there.index
    assert here.find_service("shop_web").id != there.find_service("shop_web").id


def test_a_stack_put_again_changes_what_differs_and_removes_what_vanished() -> None:
    before = _after(View(), _stack(WEB, DB, service_spec("shop_old", stack="shop")))
    changed = evolve(DB, task=evolve(DB.task, command=("sleep", "2")))
    applied = commit(before, _stack(evolve(WEB, replicas=5), changed))
    assert (
        ("shop_db", "updated"),
        ("shop_old", "removed"),
        ("shop_web", "scaled"),
    ) == applied.outcome.effects
    revisions = {s.spec.name: s.revision for s in applied.view.services.values()}
    assert {"shop_db": 2, "shop_web": 1} == revisions


def test_the_same_stack_again_touches_nothing() -> None:
    before = _after(View(), _stack(WEB, DB))
    applied = commit(before, _stack(WEB, DB))
    assert (("shop_db", "unchanged"), ("shop_web", "unchanged")) == applied.outcome.effects
    assert not applied.changed


def _faulty_stacks() -> Iterable[tuple[PutStack, str]]:
    yield _stack(WEB, WEB), "stack shop names a service twice"
    yield _stack(service_spec("web")), "stack shop holds services of another stack: web"
    too_many = MAX_REPLICAS + 1
    yield (
        _stack(DB, evolve(WEB, replicas=too_many)),
        f"service shop_web asks for {too_many} replicas; at most {MAX_REPLICAS}",
    )


@pytest.mark.parametrize(("command", "message"), list(_faulty_stacks()))
def test_a_faulty_stack_changes_nothing(command: PutStack, message: str) -> None:
    before = _after(View(), _stack(WEB))
    applied = commit(before, command)
    assert isinstance(applied.outcome.error, Invalid)
    assert applied.outcome.error.message == message
    assert not applied.changed
    assert before.services == applied.view.services


def test_a_stack_does_not_take_another_ones_service() -> None:
    before = _after(View(), PutService(spec=service_spec("shop_web")))
    error = _refused(before, _stack(WEB))
    assert isinstance(error, Conflict)
    assert error.message == "service shop_web belongs to no stack"


def test_removing_a_stack_leaves_its_tasks_to_the_controllers() -> None:
    web = service("shop_web", stack="shop")
    n1 = node("n1")
    before = _after(View(), _stack(WEB))
    created = before.service_named("shop_web")
    assert created is not None
    before = view([n1], [web], [task(web, 1, n1)])
    before = evolve(before, stacks=_after(View(), _stack()).stacks)
    applied = commit(before, RemoveStack(name="shop"))
    assert (("shop_web", "removed"),) == applied.outcome.effects
    assert not applied.view.services
    assert not applied.view.stacks
    assert [web.id] == [one.service_id for one in applied.view.tasks_of(web.id)]
    assert applied.view.spec_of(applied.view.tasks_of(web.id)[0]).task == web.spec.task


def test_a_service_can_be_put_only_at_the_version_that_was_read() -> None:
    before = _after(View(), PutService(spec=service_spec("web")))
    found = before.service_named("web")
    assert found is not None
    scaled = service_spec("web", replicas=2)
    after = _after(before, PutService(spec=scaled, version=found.version))
    error = _refused(after, PutService(spec=service_spec("web"), version=found.version))
    assert isinstance(error, Conflict)
    assert error.message == "service web is at version 2, not at 1"
    gone = _refused(View(), PutService(spec=scaled, version=Version(1)))
    assert gone.message == "service web is gone, not at 1"


def test_a_services_last_removal_takes_its_stack_along() -> None:
    before = _after(View(), _stack(WEB, DB))
    ids = [s.id for s in before.services_of("shop")]
    one_left = _after(before, RemoveService(service_id=ids[0]))
    assert ["shop"] == list(one_left.stacks)
    assert not _after(one_left, RemoveService(service_id=ids[1])).stacks


def test_scaling_keeps_the_revision() -> None:
    before = _after(View(), PutService(spec=service_spec("web")))
    [found] = before.sorted_services()
    after = _after(before, ScaleService(service_id=found.id, replicas=4))
    [scaled] = after.sorted_services()
    assert (4, 1, Version(after.index)) == (scaled.spec.replicas, scaled.revision, scaled.version)


def test_fewer_replicas_than_none_are_refused_and_never_an_exception() -> None:
    before = _after(View(), PutService(spec=service_spec("web")))
    [found] = before.sorted_services()
    error = _refused(before, ScaleService(service_id=found.id, replicas=-1))
    assert "service web cannot have -1 replicas" == error.message


def test_a_global_service_cannot_be_scaled() -> None:
    before = _after(View(), PutService(spec=service_spec("agent", mode=Mode.GLOBAL)))
    [found] = before.sorted_services()
    error = _refused(before, ScaleService(service_id=found.id, replicas=2))
    assert isinstance(error, Invalid)
    assert error.hint == "only replicated services can be scaled"


@pytest.mark.parametrize(
    "command",
    [
        RemoveStack(name="ghost"),
        RemoveService(service_id=ServiceId("ghost")),
        ScaleService(service_id=ServiceId("ghost"), replicas=1),
        UpdateNode(node_id=NodeId("ghost")),
    ],
)
def test_what_is_not_there_is_not_found(command: Command) -> None:
    error = _refused(View(), command)
    assert isinstance(error, NotFound)
    assert "ghost" in error.message
    assert error.hint is not None


def test_old_revisions_are_kept_up_to_a_limit_and_as_long_as_a_task_runs_them() -> None:
    n1 = node("n1")
    before = commit(view([n1]), PutService(spec=service_spec("web"))).view
    [first] = before.sorted_services()
    create = CreateTask(
        task_id=task(first).id,
        service_id=first.id,
        service_version=first.version,
        slot=1,
        revision=1,
        node_id=n1.id,
        desired=task(first).desired,
    )
    now = _after(before, create)
    for number in range(2, 20):
        now = _after(now, PutService(spec=service_spec("web", command=("sleep", str(number)))))
    [found] = now.sorted_services()
    assert found.revision == 19
    assert [1, *range(20 - KEPT_REVISIONS, 20)] == sorted(now.revisions[found.id])


def test_node_settings_change_one_by_one() -> None:
    n1 = node("n1", labels={"disk": "ssd"})
    drained = _after(view([n1]), UpdateNode(node_id=n1.id, availability=Availability.DRAIN))
    labelled = _after(drained, UpdateNode(node_id=n1.id, labels={"disk": "hdd"}))
    found = labelled.nodes[n1.id]
    assert (Availability.DRAIN, {"disk": "hdd"}) == (found.availability, found.labels)
    again = commit(labelled, UpdateNode(node_id=n1.id, labels={"disk": "hdd"}))
    assert (("n1", "unchanged"),) == again.outcome.effects
    assert not again.changed


def test_a_config_is_created_replaced_and_removed() -> None:
    created = commit(View(), PutConfig(name="motd", data=b"hello"), at_ms=NOW_MS)
    assert (("motd", "created"),) == created.outcome.effects
    replaced = commit(created.view, PutConfig(name="motd", data=b"ciao"), at_ms=NOW_MS + 1)
    assert (("motd", "updated"),) == replaced.outcome.effects
    config = replaced.view.configs["motd"]
    assert (b"ciao", Version(replaced.view.index)) == (config.data, config.version)
    assert (NOW_MS, NOW_MS + 1) == (config.created_at_ms, config.updated_at_ms)
    same = commit(replaced.view, PutConfig(name="motd", data=b"ciao"))
    assert ((("motd", "unchanged"),), config) == (same.outcome.effects, same.view.configs["motd"])
    gone = commit(same.view, RemoveConfig(name="motd"))
    assert "motd" not in gone.view.configs
    assert isinstance(_refused(gone.view, RemoveConfig(name="motd")), NotFound)


def test_a_config_is_replaced_only_at_the_version_that_was_named() -> None:
    created = _after(View(), PutConfig(name="motd", data=b"hello"))
    version = created.configs["motd"].version
    fits = PutConfig(name="motd", data=b"ciao", version=version)
    replaced = _after(created, fits)
    assert isinstance(_refused(replaced, fits), Conflict)
    missing = PutConfig(name="other", data=b"", version=version)
    assert isinstance(_refused(replaced, missing), Conflict)


def test_configs_are_limited_in_size_and_number() -> None:
    large = PutConfig(name="motd", data=bytes(MAX_CONFIG_BYTES + 1))
    assert "at most 1000000" in str(_refused(View(), large))
    config = _after(View(), PutConfig(name="c", data=b"")).configs["c"]
    full = evolve(
        View(), configs=Configs().updated((str(n), packed(config)) for n in range(MAX_CONFIGS))
    )
    assert "its limit" in str(_refused(full, PutConfig(name="one more", data=b"")))
