"""A named request is carried out once, and its answer kept until it is acknowledged."""

import pytest
from attrs import evolve

from meshswarm.errors import Conflict, Invalid
from meshswarm.ids import ClientId, Index
from meshswarm.store.commands import (
    Batch,
    Group,
    PutService,
    RemoveStack,
    Request,
    encode_command,
    group_of,
)
from meshswarm.store.outcome import MAX_ANSWERS, ClientSession, Outcome
from meshswarm.store.view import View
from tests.support.builders import commit, service_spec

CLI = ClientId("cli")


def _request(sequence: int, acknowledged: int = 0) -> Request:
    return Request(client=CLI, sequence=sequence, acknowledged=acknowledged)


def _put(replicas: int) -> PutService:
    return PutService(spec=service_spec("web", replicas=replicas))


def test_a_repeated_request_gets_the_first_answer() -> None:
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


def test_a_client_that_the_cluster_forgot_is_told_so() -> None:
    late = commit(View(), _put(1), request=_request(8, acknowledged=7))
    assert isinstance(late.outcome.error, Conflict)
    assert not late.view.services


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
    assert encode_command(Group(commands=commands)) == group_of(encoded)
