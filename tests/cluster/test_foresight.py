"""What an entry will do is found out while its majority is waited for, and counts only as it is."""

import pytest

from meshswarm.cluster.foresight import LIGHT_BYTES, Foresight, is_light
from meshswarm.ids import Index, Term, Version
from meshswarm.raft.types import Entry, EntryKind
from meshswarm.store.apply import Applied, apply
from meshswarm.store.changes import NOTHING, Changed
from meshswarm.store.commands import PutConfig, encode_command
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import Table, View


def _entry(index: int, data: bytes, *, term: int = 1) -> Entry:
    command = encode_command(PutConfig(name="c", data=data))
    entry = LogEntry(at_ms=1_000 * index, by="test", request=None, command=command)
    return Entry(Index(index), Term(term), entry.encoded())


def _config(view: View) -> bytes:
    return view.configs["c"].data


def _view(index: int = 0) -> View:
    return View(index=Index(index))


def _applied(foresight: Foresight, view: View, *entries: Entry) -> Applied:
    """What becomes of the last of these."""
    outcomes = list[Outcome]()
    after, changed = foresight.apply_all(view, entries, lambda *told: outcomes.append(told[2]))
    return Applied(view=after, outcome=outcomes[-1], changed=changed)


def test_what_was_foreseen_is_what_comes_to_pass() -> None:
    foresight, view, entry = Foresight(), _view(), _entry(1, b"first")
    foresight.look(view, [entry])
    applied = _applied(foresight, view, entry)
    plain = apply(view, index=entry.index, term=entry.term, data=entry.data)
    assert plain.outcome == applied.outcome
    assert plain.changed == applied.changed
    assert b"first" == _config(applied.view)
    assert "c" not in view.configs


def test_an_entry_that_took_another_ones_place_is_applied_itself() -> None:
    foresight, view = Foresight(), _view()
    foresight.look(view, [_entry(1, b"of a leader that was deposed")])
    other = _entry(1, b"of its successor", term=2)
    assert b"of its successor" == _config(_applied(foresight, view, other).view)


def test_what_was_foreseen_of_another_view_does_not_count() -> None:
    foresight, entry = Foresight(), _entry(2, b"second")
    foresight.look(_view(1), [entry])
    from_leader = _applied(foresight, _view(), _entry(1, b"first"))
    installed = from_leader.view  # as from a snapshot
    assert Version(1) == installed.configs["c"].version
    foresight.look(_view(1), [entry])
    applied = _applied(foresight, installed, entry)
    assert 1_000 == applied.view.configs["c"].created_at_ms, "the row was there already"


def test_each_entry_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out = list[Index]()

    def counting(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        worked_out.append(index)
        return apply(view, index=index, term=term, data=data)

    monkeypatch.setattr("meshswarm.cluster.foresight.apply", counting)
    foresight, view, entry = Foresight(), _view(), _entry(1, b"x")
    foresight.look(view, [entry])
    view = _applied(foresight, view, entry).view
    foresight.look(view, [_entry(2, b"two that were"), _entry(3, b"appended together")])
    foresight.look(view, [_entry(3, b"behind one that is waited for")])
    foresight.look(view, [Entry(Index(2), Term(1), b"", EntryKind.CONF_CHANGE)])
    assert [1] == worked_out
    assert b"x" == _config(view)


def test_several_entries_are_told_one_by_one_and_published_together() -> None:
    told = list[tuple[Index, int, Outcome, Changed]]()

    def tell(entry: Entry, view: View, outcome: Outcome, changed: Changed) -> None:
        assert entry.index == view.index
        told.append((entry.index, view.clock_ms, outcome, changed))

    entries = [
        _entry(1, b"x"),
        Entry(Index(2), Term(2), b"", EntryKind.NOOP),
        Entry(Index(3), Term(2), b"no command"),
        _entry(4, b"y", term=2),
    ]
    foresight, before = Foresight(), _view()
    foresight.look(before, entries[:1])
    view, changed = foresight.apply_all(before, entries, tell)
    row = frozenset({(Table.CONFIGS, "c")})
    assert [(1, 1_000, row), (2, 1_000, NOTHING), (3, 1_000, NOTHING), (4, 4_000, row)] == [
        (index, clock_ms, rows) for index, clock_ms, _, rows in told
    ]
    effects = [outcome.effects for _, _, outcome, _ in told]
    assert [(("c", "created"),), (), (), (("c", "updated"),)] == effects
    assert [2] == [place for place, one in enumerate(told) if one[2].refusal is not None]
    assert (4, 2, b"y", row) == (view.index, view.term, _config(view), changed)
    assert _view() == before


def test_only_one_small_command_is_light() -> None:
    small, large = _entry(1, b"x"), _entry(1, bytes(LIGHT_BYTES))
    assert is_light([small])
    assert not is_light([])
    assert not is_light([small, _entry(2, b"y")])
    assert not is_light([large])
