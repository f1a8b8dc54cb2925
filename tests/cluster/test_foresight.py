"""What an entry will do is found out while its majority is waited for, and counts only as it is."""

import pytest

from meshswarm.cluster.foresight import LIGHT_BYTES, Foresight, is_light
from meshswarm.ids import Index, Term, Version
from meshswarm.raft.types import Entry, EntryKind
from meshswarm.store.apply import Applied, apply
from meshswarm.store.commands import PutConfig, encode_command
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.view import View


def _entry(index: int, data: bytes, *, term: int = 1) -> Entry:
    command = encode_command(PutConfig(name="c", data=data))
    entry = LogEntry(at_ms=1_000 * index, by="test", request=None, command=command)
    return Entry(Index(index), Term(term), entry.encoded())


def _config(view: View) -> bytes:
    return view.configs["c"].data


def _view(index: int = 0) -> View:
    return View(index=Index(index))


def test_what_was_foreseen_is_what_comes_to_pass() -> None:
    foresight, view, entry = Foresight(), _view(), _entry(1, b"first")
    foresight.look(view, [entry])
    applied = foresight.apply(view, entry)
    plain = apply(view, index=entry.index, term=entry.term, data=entry.data)
    assert plain.outcome == applied.outcome
    assert plain.changed == applied.changed
    assert b"first" == _config(applied.view)
    assert "c" not in view.configs


def test_an_entry_that_took_another_ones_place_is_applied_itself() -> None:
    foresight, view = Foresight(), _view()
    foresight.look(view, [_entry(1, b"of a leader that was deposed")])
    other = _entry(1, b"of its successor", term=2)
    assert b"of its successor" == _config(foresight.apply(view, other).view)


def test_what_was_foreseen_of_another_view_does_not_count() -> None:
    foresight, entry = Foresight(), _entry(2, b"second")
    foresight.look(_view(1), [entry])
    installed = foresight.apply(_view(), _entry(1, b"first")).view  # as from a leader's snapshot
    assert Version(1) == installed.configs["c"].version
    foresight.look(_view(1), [entry])
    applied = foresight.apply(installed, entry)
    assert 1_000 == applied.view.configs["c"].created_at_ms, "the row was there already"


def test_each_entry_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out = list[Index]()

    def counting(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        worked_out.append(index)
        return apply(view, index=index, term=term, data=data)

    monkeypatch.setattr("meshswarm.cluster.foresight.apply", counting)
    foresight, view, entry = Foresight(), _view(), _entry(1, b"x")
    foresight.look(view, [entry])
    view = foresight.apply(view, entry).view
    foresight.look(view, [_entry(2, b"two that were"), _entry(3, b"appended together")])
    foresight.look(view, [_entry(3, b"behind one that is waited for")])
    foresight.look(view, [Entry(Index(2), Term(1), b"", EntryKind.CONF_CHANGE)])
    assert [1] == worked_out
    foresight.apply(view, _entry(2, b"y"))
    assert [1, 2] == worked_out


def test_only_one_small_command_is_light() -> None:
    small, large = _entry(1, b"x"), _entry(1, bytes(LIGHT_BYTES))
    assert is_light([small])
    assert not is_light([])
    assert not is_light([small, _entry(2, b"y")])
    assert not is_light([large])
