"""The change feed: a watcher's copy becomes the newer view of the tables that it asked for."""

from functools import reduce

import pytest

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.ids import Index, Term
from meshswarm.model.task import DesiredState, TaskState
from meshswarm.store.commands import ForgetTask, PutConfig, PutService, RemoveService, SetDesired
from meshswarm.store.feed import Copy, Delta, delta_of, deltas_of, follow, looked_up, row_of
from meshswarm.store.slices import framed, view_slices
from meshswarm.store.view import Table, View
from tests.support.builders import commit, node, only, service, service_spec, task, view

ALL = frozenset(Table)
WEB, N1 = service("web"), node("n1")


def test_only_the_tables_asked_for_are_sent() -> None:
    whole = view([N1], [WEB], [task(WEB, 1, N1)])
    part = only(whole, frozenset({Table.TASKS}))
    assert (0, 0, 1) == (len(part.nodes), len(part.services), len(part.tasks))
    assert [task(WEB, 1, N1).id] == [one.id for one in part.tasks_on(N1.id)]


@pytest.mark.parametrize("number", ["", "x", "1/1", "01", " 1", "9" * 5_000, "-1"])
def test_a_key_that_no_revision_has_finds_none(number: str) -> None:
    whole = commit(view(), PutService(spec=service_spec("web", replicas=1))).view
    (service_id,) = whole.services
    assert row_of(whole, Table.REVISIONS, f"{service_id}/1") is not None
    assert row_of(whole, Table.REVISIONS, f"{service_id}/{number}") is None


def test_a_delta_carries_rows_and_deletions() -> None:
    dead = task(WEB, 1, N1, TaskState.FAILED, id="dead")
    before = view([N1], [WEB], [dead, task(WEB, 2, N1)])
    first = commit(before, ForgetTask(task_id=dead.id))
    second = commit(first.view, SetDesired(task_id=task(WEB, 2).id, desired=DesiredState.SHUTDOWN))
    delta = delta_of(second.view, first.changed | second.changed, ALL)
    assert (("tasks", "dead"),) == delta.deleted
    assert [task(WEB, 2).id] == [one.id for one in delta.tasks]
    assert follow(only(before, ALL), delta) == only(second.view, ALL)
    assert [] == list(deltas_of(second.view, [], ALL, 10))
    pieces = list(deltas_of(second.view, first.changed | second.changed, ALL, 1))
    assert [1, 0] == [len(piece.deleted) for piece in pieces], "deletions first"
    assert only(second.view, ALL) == reduce(follow, pieces, only(before, ALL))


@pytest.mark.parametrize("table", list(Table))
def test_what_is_looked_up_is_what_is_there(table: Table) -> None:
    """One key, or several; rows that are there, and some that are not."""
    first = view([N1, node("n2")], [WEB, service("db")], [task(WEB, 1, N1), task(WEB, 2, N1)])
    whole = commit(first, PutConfig(name="a", data=b"1")).view
    known: dict[Table, list[str]] = {
        Table.NODES: list(whole.nodes),
        Table.SERVICES: list(whole.services),
        Table.REVISIONS: [f"{WEB.id}/1"],
        Table.TASKS: list(whole.tasks),
        Table.CONFIGS: ["a"],
    }
    keys = [(table, key) for key in known.get(table, [])] + [(table, "nothing/9")]
    for asked in ([keys[0]], [keys[-1]], keys):
        found = looked_up(delta_of(whole, set(asked), ALL), asked)
        assert found == [row_of(whole, *key) for key in asked]
    assert all(row_of(whole, *key) is not None for key in keys[:-1])


def test_a_name_that_was_freed_and_taken_anew_belongs_to_the_new_row() -> None:
    before = view([N1], [WEB])
    removed = commit(before, RemoveService(service_id=WEB.id))
    anew = commit(removed.view, PutService(spec=service_spec("web")))
    copy = follow(only(before, ALL), delta_of(anew.view, removed.changed | anew.changed, ALL))
    assert only(anew.view, ALL) == copy
    assert copy.service_named("web") == anew.view.service_named("web")


def test_a_watcher_without_tasks_keeps_the_revisions_that_they_run() -> None:
    before = view([N1], [WEB], [task(WEB, 1, N1)])
    tables = frozenset({Table.SERVICES, Table.REVISIONS})
    removed = commit(before, RemoveService(service_id=WEB.id))
    copy = follow(only(before, tables), delta_of(removed.view, removed.changed, tables))
    assert [1] == list(copy.revisions[WEB.id])
    assert only(removed.view, tables) == copy


def test_a_node_that_was_dropped_is_gone_with_its_name() -> None:
    before = only(view([N1, node("n2")], [WEB]), ALL)
    copy = follow(
        before, delta_of(only(view([node("n2")], [WEB]), ALL), [(Table.NODES, N1.id)], ALL)
    )
    assert ["n2"] == list(copy.node_ids)
    assert follow(copy, delta_of(copy, [(Table.NODES, N1.id)], ALL)) == copy


@pytest.mark.parametrize("key", [("nodess", "n1"), ("revisions", "web"), ("revisions", "web/x")])
def test_a_deletion_of_what_can_be_no_row_is_refused(key: tuple[str, str]) -> None:
    delta = Delta(index=Index(1), term=Term(1), clock_ms=0, deleted=(key,))
    with pytest.raises(Undecodable, match="no row that could be deleted"):
        follow(View(), delta)


def test_a_copy_is_handed_out_when_it_is_whole() -> None:
    before, after = view([N1], [WEB]), view([N1, node("n2")], [WEB])
    *slices, last = map(framed, view_slices(before, ALL))
    copy = Copy()
    assert all(copy.take(["copy", False], part) is None for part in slices)
    assert only(before, ALL) == copy.take(["copy", True], last)
    deltas = deltas_of(after, [(Table.NODES, N1.id), (Table.NODES, node("n2").id)], ALL, 1)
    assert copy.take(["delta", False], codec.encode(next(deltas))) is None
    assert only(after, ALL) == copy.take(["delta", True], codec.encode(next(deltas)))
    with pytest.raises(Undecodable, match="neither a copy nor a delta"):
        copy.take({"full": True}, b"")
