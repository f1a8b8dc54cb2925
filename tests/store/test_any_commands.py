"""What holds after any sequence of commands, sensible or not."""

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from meshswarm import codec
from meshswarm.ids import ClientId, Index, Term
from meshswarm.store.apply import Applied, advance, apply
from meshswarm.store.commands import Command, PutService, decode_command, encode_command
from meshswarm.store.feed import Delta, delta_of, follow
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.slices import decode_view, encode_view
from meshswarm.store.view import Key, Table, View, build_view
from meshswarm.store.words import MAX_LENGTH, in_words
from tests.support.builders import commit, only, service_spec
from tests.support.commands import aimed, commands

ALL = frozenset(Table)
SOME = frozenset({Table.SERVICES, Table.REVISIONS})


def _rebuilt(view: View) -> View:
    """The view with its indexes made anew from its tables."""
    return build_view(
        View(index=view.index, term=view.term, clock_ms=view.clock_ms),
        nodes=tuple(view.nodes.values()),
        services=tuple(view.services.values()),
        revisions=tuple(row for rows in view.revisions.values() for row in rows.values()),
        stacks=tuple(view.stacks.values()),
        tasks=tuple(view.tasks.values()),
        clients=tuple(view.clients.values()),
        configs=tuple(view.configs.values()),
        rollouts=tuple(view.rollouts.values()),
        secrets=tuple(view.secrets.values()),
        kept_files=tuple(view.kept_files.values()),
        secrets_keys=tuple(view.secrets_keys.values()),
        runs=tuple(view.runs.values()),
        jobs=tuple(view.jobs.values()),
    )


def _rows(view: View) -> View:
    return evolve(view, index=Index(0), clock_ms=0, term=Term(0), clients=Map())


def _follow(copy: View, view: View, changed: frozenset[Key], tables: frozenset[Table]) -> View:
    """The watcher's next copy, its delta sent over the mesh."""
    delta = delta_of(view, changed, tables)
    received: Delta = codec.structure(
        codec.loads(codec.dumps(codec.unstructure(delta))), Delta, lenient=True
    )
    return follow(copy, received)


def _check(before: View, applied: Applied) -> None:
    after = applied.view
    assert _rebuilt(after) == after
    if applied.outcome.error is not None:
        assert _rows(before) == _rows(after)
        assert not applied.changed
    written = {key for key in _keys(before) | _keys(after) if _row(before, key) != _row(after, key)}
    assert written <= applied.changed
    _check_files(after)
    encoded = encode_view(after)
    assert decode_view(encoded) == after
    assert encode_view(decode_view(encoded)) == encoded


def _check_files(view: View) -> None:
    """What may run has its content, and no content is kept for nobody."""
    revisions = [row for rows in view.revisions.values() for row in rows.values()]
    used = {(u.kind, u.source, u.version) for row in revisions for u in row.task.files}
    assert {(k.kind, k.name, k.version) for k in view.kept_files.values()} <= used
    live = [view.spec_of(task).task for task in view.tasks.values() if task.is_live]
    for spec in (*live, *(service.spec.task for service in view.services.values())):
        assert all(view.content(use) is not None for use in spec.files)


def _keys(view: View) -> set[Key]:
    return {
        *((Table.NODES, key) for key in view.nodes),
        *((Table.SERVICES, key) for key in view.services),
        *((Table.STACKS, key) for key in view.stacks),
        *((Table.TASKS, key) for key in view.tasks),
        *((Table.CONFIGS, key) for key in view.configs),
        *((Table.ROLLOUTS, key) for key in view.rollouts),
        *((Table.SECRETS, key) for key in view.secrets),
        *((Table.KEPT_FILES, key) for key in view.kept_files),
        *((Table.SECRETS_KEYS, key) for key in view.secrets_keys),
        *((Table.RUNS, key) for key in view.runs),
        *((Table.JOBS, key) for key in view.jobs),
        *((Table.REVISIONS, f"{s}/{n}") for s, rows in view.revisions.items() for n in rows),
    }


def _row(view: View, key: Key) -> object:
    return evolve(delta_of(view, [key], ALL), index=Index(0), term=Term(0), clock_ms=0)


@given(st.data())
def test_any_commands_leave_a_sound_state_and_watchers_follow_it(data: st.DataObject) -> None:
    view = View()
    whole, part, late = only(view, ALL), only(view, SOME), only(view, ALL)
    missed: frozenset[Key] = frozenset()
    for step in range(data.draw(st.integers(1, 25), label="steps")):
        command: Command = aimed(data.draw(commands), view)
        applied = commit(view, command, at_ms=step)
        _check(view, applied)
        changed = frozenset(applied.changed)
        view, missed = applied.view, missed | changed
        whole = _follow(whole, view, changed, ALL)
        part = _follow(part, view, changed, SOME)
        assert only(view, ALL) == whole
        assert only(view, SOME) == part
        assert decode_command(encode_command(command)) == command
        words = in_words(command, view)
        assert 0 < len(words) <= MAX_LENGTH
        assert "\n" not in words
    assert _follow(late, view, missed, ALL) == only(view, ALL)


@given(st.data())
def test_equal_commands_make_equal_bytes_wherever_they_are_applied(data: st.DataObject) -> None:
    here, there = View(), View()
    for step in range(data.draw(st.integers(1, 15))):
        command: Command = aimed(data.draw(commands), here)
        here = commit(here, command, at_ms=step).view
        # The other node was restarted from its snapshot in between.
        there = decode_view(encode_view(there))
        there = commit(there, command, at_ms=step).view
        assert encode_view(here) == encode_view(there)


@given(st.data())
def test_what_was_applied_in_vain_leaves_no_trace(data: st.DataObject) -> None:
    """A leader applies what is not committed yet, and may have to forget that."""
    view = View()
    for step in range(data.draw(st.integers(1, 15))):
        before = encode_view(view)
        commit(view, aimed(data.draw(commands), view), at_ms=step)
        assert before == encode_view(view)
        command: Command = aimed(data.draw(commands), view)
        applied = commit(view, command, at_ms=step)
        plain = commit(decode_view(before), command, at_ms=step)
        assert encode_view(plain.view) == encode_view(applied.view)
        assert plain.outcome == applied.outcome
        view = applied.view


@given(st.data())
def test_a_request_sent_twice_is_carried_out_once(data: st.DataObject) -> None:
    view = View()
    for sequence in range(1, data.draw(st.integers(1, 10)) + 1):
        acknowledged = data.draw(st.integers(0, sequence - 1))
        known = view.clients.get(ClientId("cli"))
        acknowledged = max(acknowledged, known.acknowledged if known else 0)
        request = Request(
            client=ClientId("cli"),
            sequence=sequence,
            acknowledged=acknowledged if known else 0,
        )
        command: Command = aimed(data.draw(commands), view)
        first = commit(view, command, request=request)
        second = commit(first.view, command, request=request)
        assert second.outcome == first.outcome
        assert not second.changed
        assert _rows(second.view) == _rows(first.view)
        view = second.view


@given(st.binary(max_size=60))
def test_unreadable_bytes_are_refused_and_change_nothing(data: bytes) -> None:
    before = View(clock_ms=5)
    applied = apply(before, index=Index(1), term=Term(1), data=data)
    assert applied.outcome.error is not None
    assert _rows(before) == _rows(applied.view)
    assert applied.view.index == 1
    assert advance(before, index=Index(2), term=Term(1)).index == 2


@pytest.mark.parametrize(
    "replicas", [float("inf"), float("-inf"), float("nan"), 1e300, 1e30, 2.5, 2.0, "2", b"2", True]
)
def test_what_is_no_whole_number_is_refused_as_one(replicas: object) -> None:
    """Infinity stopped every manager that applied the entry, and 1e30 would have become a number
    that no snapshot can hold."""
    plain = codec.loads(encode_command(PutService(spec=service_spec("web", replicas=2))))
    assert isinstance(plain, dict)
    plain["spec"]["replicas"] = replicas
    entry = LogEntry(at_ms=1, by="c", request=None, command=codec.dumps(plain))
    applied = apply(View(), index=Index(1), term=Term(1), data=entry.encoded())
    assert applied.outcome.refusal is not None
    assert "undecodable" == applied.outcome.refusal.code
    assert applied.outcome.refusal.message.startswith("not a PutService: ")
    assert not applied.changed


@pytest.mark.parametrize("name", [1, None, b"web", ["web"], True])
def test_what_is_no_text_is_refused_as_one(name: object) -> None:
    plain = codec.loads(encode_command(PutService(spec=service_spec("web", replicas=2))))
    assert isinstance(plain, dict)
    plain["spec"]["name"] = name
    with pytest.raises(codec.Undecodable):
        decode_command(codec.dumps(plain))


def test_a_number_that_python_would_not_print_is_refused() -> None:
    """It made the refusal fail: every manager that applied the entry would have stopped."""
    plain = codec.loads(encode_command(PutService(spec=service_spec("web", replicas=2))))
    assert isinstance(plain, dict)
    plain["spec"]["replicas"] = 1 << 20_000
    entry = LogEntry(at_ms=1, by="c", request=None, command=codec.dumps(plain))
    applied = apply(View(), index=Index(1), term=Term(1), data=entry.encoded())
    assert applied.outcome.error is not None
    assert applied.outcome.error.message.startswith("not valid CBOR")
