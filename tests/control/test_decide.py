"""The pass as a whole: what it looks at, how much it does, what it says."""

import pytest

from meshswarm.control import decide as decide_module
from meshswarm.control.decide import services_to_visit
from meshswarm.control.services import reconcile
from meshswarm.control.whatif import MAX_COMMANDS, WhatIf
from meshswarm.ids import ServiceId
from meshswarm.model.service import Mode
from meshswarm.model.task import TaskState
from meshswarm.store import placements
from meshswarm.store.commands import CreateTask, LoseTask
from meshswarm.store.view import Key, Table, View
from tests.support.builders import NOW_MS, node, service, task, view
from tests.support.deciding import carried_out, decided, kinds, of_kind

N1, N2 = node("n1"), node("n2")
SERVICES = [service(f"s{number:03}", replicas=2) for number in range(200)]


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[ServiceId]:
    """The services that were looked at, in order."""
    seen: list[ServiceId] = []

    def counted(whatif: WhatIf, service_id: ServiceId) -> object:
        seen.append(service_id)
        return reconcile(whatif, service_id)

    monkeypatch.setattr(decide_module, "reconcile", counted)
    return seen


def _whole() -> View:
    """200 services with both of their tasks running."""
    tasks = [task(one, slot, host) for one in SERVICES for slot, host in ((1, N1), (2, N2))]
    return view([N1, N2], SERVICES, tasks)


def test_a_change_of_one_task_touches_its_service_only(visited: list[ServiceId]) -> None:
    decided(_whole(), dirty=frozenset({(Table.TASKS, "s042-1")}))
    assert visited == [SERVICES[42].id]


def test_nothing_changed_touches_nothing(visited: list[ServiceId]) -> None:
    assert decided(_whole(), dirty=frozenset()).commands == ()
    assert visited == []


def test_a_full_look_touches_everything_once(visited: list[ServiceId]) -> None:
    assert decided(_whole()).commands == ()
    assert visited == [one.id for one in SERVICES]


def test_which_services_a_change_may_concern() -> None:
    web, db = service("web"), service("db")
    agent = service("agent", mode=Mode.GLOBAL)
    over = task(db, 1, N2, TaskState.FAILED)
    before = view([N1, N2], [web, db, agent], [task(web, 1), over, task(db, 2, N2, id="runs")])

    def found(*keys: Key) -> list[str]:
        return [text.removeprefix("id-") for text in services_to_visit(before, frozenset(keys))]

    assert found((Table.TASKS, "runs")) == ["db"]
    assert found((Table.TASKS, over.id)) == ["agent", "db", "web"]
    assert found((Table.NODES, N2.id)) == ["agent", "db", "web"]
    assert found((Table.NODES, N1.id)) == ["agent", "web"]
    assert found((Table.SERVICES, "id-db")) == ["db"]
    assert found((Table.SERVICES, "id-gone")) == ["gone", "web"], "its claims are gone"
    assert found((Table.STACKS, "shop"), (Table.REVISIONS, "id-web/1")) == []
    assert found((Table.TASKS, "forgotten")) == []


def test_a_pass_is_cut_at_its_limit_and_goes_on_at_once() -> None:
    big = [service(f"s{number}", replicas=MAX_COMMANDS * 2 // 5) for number in range(4)]
    before = view([node(f"n{number}") for number in range(5)], big)
    first = decided(before)
    assert len(first.commands) == MAX_COMMANDS
    assert first.wake_at_ms == NOW_MS
    assert first.revisit == {(Table.SERVICES, "id-s2"), (Table.SERVICES, "id-s3")}
    middle = carried_out(before, first)
    second = decided(middle, dirty=first.revisit)
    assert len(second.commands) == MAX_COMMANDS * 3 // 5
    after = carried_out(middle, second)
    assert len(after.tasks) == MAX_COMMANDS * 8 // 5
    assert decided(after).commands == ()


def test_a_node_with_more_tasks_than_a_pass_can_lose_is_given_up_in_two() -> None:
    web = service("web", replicas=MAX_COMMANDS + 500)
    before = view([N1], [web], [task(web, slot, N1) for slot in range(1, MAX_COMMANDS + 501)])
    first = decided(before, dirty=frozenset(), silent={"n1": 4_000})
    assert kinds(first).count(LoseTask) == MAX_COMMANDS - 1
    middle = carried_out(before, first)
    second = decided(middle, dirty=first.revisit, silent={"n1": 4_000})
    assert kinds(second).count(LoseTask) == 501


def test_what_the_store_refuses_is_reported_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "MAX_TASKS", 3)
    decision = decided(view([N1], [service("web", replicas=20)]))
    assert len(of_kind(decision, CreateTask)) == 3
    assert set(decision.refused) == {"the cluster has 3 tasks, its limit"}


def test_the_cause_names_what_it_is_about() -> None:
    names = ["a", "b", "c", "d", "e"]
    decision = decided(view([N1], [service(name) for name in names]))
    assert decision.cause == "a, b, c and 2 more"
    assert decided(view([N1])).cause == ""
