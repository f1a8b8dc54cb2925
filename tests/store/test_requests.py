"""A named request is carried out once, and its answer kept until it is acknowledged."""

import pytest
from attrs import evolve
from immutables import Map

from meshswarm import codec
from meshswarm.errors import Conflict, Invalid, SessionExpired
from meshswarm.ids import ClientId, Index, Term
from meshswarm.store.commands import (
    Batch,
    Group,
    PutService,
    RemoveStack,
    decode_command,
    encode_command,
    group_of,
)
from meshswarm.store.log_entry import Request
from meshswarm.store.outcome import MAX_ANSWERS, ClientSession, Outcome, outcome_of
from meshswarm.store.slices import decode_view, encode_view
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View
from tests.support.builders import commit, service_spec

CLI = ClientId("cli")


def _request(sequence: int, acknowledged: int = 0) -> Request:
    return Request(client=CLI, sequence=sequence, acknowledged=acknowledged)


def _put(replicas: int) -> PutService:
    return PutService(spec=service_spec("web", replicas=replicas))


def test_s71_a_repeated_request_gets_the_first_answer() -> None:
    first = commit(View(), _put(1), request=_request(1))
    other = commit(first.view, _put(5))
    again = commit(other.view, _put(1), request=_request(1))
    assert first.outcome == again.outcome
    assert 5 == again.view.sorted_services()[0].spec.replicas


def test_a_refusal_is_an_answer_too() -> None:
    refused = commit(View(), _put(1_000_000), request=_request(1))
    again = commit(refused.view, _put(1), request=_request(1))
    assert again.outcome == refused.outcome
    assert not again.view.services


def test_acknowledged_answers_are_forgotten_and_not_carried_out_again() -> None:
    view = commit(View(), _put(1), request=_request(1)).view
    view = commit(view, _put(2), request=_request(2, acknowledged=1)).view
    assert [2] == list(view.clients[CLI].answers)
    late = commit(view, _put(1), request=_request(1))
    assert isinstance(late.outcome.error, Conflict)
    assert late.outcome.error.message == "request 1 was answered, and its answer acknowledged"


def _forgotten() -> View:
    """The client's request 1 was carried out at index 1; then the cluster forgot the client."""
    view = commit(View(), _put(1), request=_request(1)).view
    transaction = Transaction(view, view.index, view.term, view.clock_ms)
    transaction.put_client(ClientSession(id=ClientId("other"), used_at=Index(2)), most=1)
    view = transaction.view
    assert [ClientId("other")] == list(view.clients)
    return evolve(view, index=Index(2))


@pytest.mark.parametrize("request_", [_request(1), _request(2, acknowledged=1), _request(2)])
def test_s71_an_expired_session_gets_an_explicit_error_and_changes_nothing(
    request_: Request,
) -> None:
    """Also a repeated first request, of which nobody knows any more that it was carried out."""
    before = _forgotten()
    late = commit(before, _put(5), request=request_)
    assert isinstance(late.outcome.error, SessionExpired)
    assert frozenset() == late.changed
    assert before.clients == late.view.clients


def test_s71_whoever_begins_after_the_forgetting_is_no_expired_client() -> None:
    begun = evolve(_request(1), client=ClientId("new"), opened_at=Index(1))
    assert commit(_forgotten(), _put(5), request=begun).outcome.error is None


def test_s71_a_request_whose_predecessors_were_lost_is_carried_out() -> None:
    """The first one was given up, and never arrived: there is no session, and there was none."""
    assert commit(View(), _put(1), request=_request(2, acknowledged=1)).outcome.error is None


def test_s71_what_was_forgotten_is_part_of_the_snapshot() -> None:
    before = _forgotten()
    restored = decode_view(encode_view(before))
    assert (before.clients, before.forgotten_at) == (restored.clients, restored.forgotten_at)
    late = commit(restored, _put(5), request=_request(1))
    assert isinstance(late.outcome.error, SessionExpired)


def test_s71_the_same_clients_are_forgotten_everywhere_whatever_the_order() -> None:
    sessions = [ClientSession(id=ClientId(f"c{n}"), used_at=Index(n)) for n in range(1, 251)]
    views = []
    for order in (sessions, sessions[::-1]):
        clients = Map((session.id, session) for session in order)
        transaction = Transaction(evolve(View(), clients=clients), Index(0), Term(0), 0)
        transaction.put_client(ClientSession(id=CLI, used_at=Index(251)), most=200)
        views.append(transaction.view)
    assert encode_view(views[0]) == encode_view(views[1])
    assert 198 == len(views[0].clients), "one in a hundred more than must be"
    assert (Index(53), False) == (views[0].forgotten_at, ClientId("c53") in views[0].clients)


def test_a_client_that_never_acknowledges_is_stopped() -> None:
    answers = {sequence: Outcome(index=Index(1)) for sequence in range(1, MAX_ANSWERS + 1)}
    session = ClientSession(id=CLI, answers=answers)
    full = evolve(View(), clients=View().clients.set(CLI, session))
    error = commit(full, _put(1), request=_request(MAX_ANSWERS + 1)).outcome.error
    assert isinstance(error, Conflict)
    freed = commit(full, _put(1), request=_request(MAX_ANSWERS + 1, acknowledged=9))
    assert freed.outcome.error is None
    assert MAX_ANSWERS - 8 == len(freed.view.clients[CLI].answers)


def test_a_group_is_one_request_with_an_answer_for_each_of_its_commands() -> None:
    group = Group(commands=(_put(1), _put(1_000_000), Batch(commands=(_put(3),), cause="x")))
    first = commit(View(), group, request=_request(1))
    made, refused, batch = first.outcome.parts
    assert (("web", "created"),) == made.effects
    assert isinstance(refused.error, Invalid)
    assert batch.error is None
    assert 3 == first.view.sorted_services()[0].spec.replicas, "a refusal undoes itself alone"
    again = commit(first.view, group, request=_request(1))
    assert first.outcome == again.outcome
    assert frozenset() == again.changed


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 70_000])
def test_a_group_is_made_of_commands_that_are_encoded_already(length: int) -> None:
    commands = (RemoveStack(name="s"),) * length
    encoded = [encode_command(command) for command in commands]
    assert Group(commands=commands) == decode_command(group_of(encoded))


def test_an_outcome_crosses_the_mesh_as_it_is() -> None:
    group = Group(commands=(_put(1), _put(1_000_000)))
    for outcome in (
        commit(View(), group, request=_request(1)).outcome,
        commit(View(), _put(1)).outcome,
        commit(View(), _put(1_000_000)).outcome,
        Outcome(index=Index(1 << 62)),
        Outcome(index=Index(9), effects=(("a", "created"), ("\u00e4" * 300, "removed"))),
    ):
        assert outcome == outcome_of(codec.loads(outcome.encoded()))


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        [1, None, [], [], 5],
        ["1", None, [], []],
        [True, None, [], []],
        [1, [], [], []],
        [1, ["code", "message", None, None, "details"], [], []],
        [1, None, 7, []],
        [1, None, ["a"], []],
        [1, None, ["a", 1], []],
        [1, None, [["a", "b"]], []],
        [1, None, [], 7],
        [1, None, [], [7]],
        [1, None, [], [7, [], {}]],
        [1, None, [], [[1], [], {}]],
        [1, None, [], [[0], ["a", "b"], {}]],
        [1, None, [], [[-1, 1], [], {}]],
        [1, None, [], [["1"], ["a", "b"], {}]],
        [1, None, [], [[1 << 60], ["a", "b"], {}]],
        [1, None, [], [[0], [], []]],
        [1, None, [], [[0], [], {0: ["code"]}]],
        [1, None, [], [[0], [], {0: 7}]],
    ],
)
def test_what_is_no_outcome_is_refused(plain: object) -> None:
    with pytest.raises(codec.Undecodable):
        outcome_of(plain)
