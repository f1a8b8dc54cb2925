"""Mistakes that clients see: stale reads, commands twice, states that differ."""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from attrs import evolve

from meshswarm.errors import Unavailable
from meshswarm.ids import Index, Term
from meshswarm.raft import reads
from meshswarm.raft.core import RaftCore
from meshswarm.raft.reads import Reads
from meshswarm.raft.ready import ReadState
from meshswarm.sim import driver, network
from meshswarm.sim.seat import Seat
from meshswarm.store import apply as store_apply
from meshswarm.store.apply import Applied
from meshswarm.store.commands import decode_command
from meshswarm.store.log_entry import Request
from meshswarm.store.outcome import ClientSession, Outcome
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View


def reads_what_is_there(patch: pytest.MonkeyPatch) -> None:
    """A manager serves reads without asking who leads."""

    async def confirm(seat: Seat) -> Index:
        return seat.driver.view.index

    patch.setattr(Seat, "_confirm", confirm)


def leader_reads_locally(patch: pytest.MonkeyPatch) -> None:
    """Who believes that it leads serves reads without asking a majority."""

    async def confirm_here(seat: Seat, limit_ms: int) -> Index:
        return seat.driver.core.status().commit

    patch.setattr(Seat, "confirm_here", confirm_here)


def reads_before_it_commits(patch: pytest.MonkeyPatch) -> None:
    """A new leader serves reads by a commit index that may be old."""

    def read_index(core: RaftCore, context: object) -> None:
        core._own_reign().reads.add(context, core._state.log.committed)

    patch.setattr(RaftCore, "read_index", read_index)


def reads_by_old_answers(patch: pytest.MonkeyPatch) -> None:
    """A read takes the position of a heartbeat that is on its way already (S40)."""

    def add(reads: Reads, context: object, commit: Index) -> None:
        reads._waiting.append((reads.position, ReadState(context, commit)))
        reads.needs_heartbeat = True

    patch.setattr(Reads, "add", add)


def reads_by_two(patch: pytest.MonkeyPatch) -> None:
    """The leader and one other confirm a read, however many voters there are."""

    def second(values: Sequence[int]) -> int:
        return sorted(values)[-2:][0]

    patch.setattr(reads, "quorum", SimpleNamespace(majority_value=second))


def keeps_reads_without_a_limit(patch: pytest.MonkeyPatch) -> None:
    """A leader takes all reads, however many wait for a majority."""

    def read_index(core: RaftCore, context: object) -> None:
        waiting = core._own_reign().reads
        if core._state.log.term(core.commit) == core.term:
            waiting.add(context, core.commit)
        else:
            waiting.hold(context)

    patch.setattr(RaftCore, "read_index", read_index)


def reads_before_it_applies(patch: pytest.MonkeyPatch) -> None:
    """A manager asks the leader for the index, and does not wait until it has applied it."""

    async def read(seat: Seat) -> View:
        await seat._confirm()
        return seat.driver.view

    patch.setattr(Seat, "read", read)


def repeats_requests(patch: pytest.MonkeyPatch) -> None:
    """A named request is carried out as often as it is in the log."""

    def run_once(transaction: Transaction, request: Request, command: bytes) -> Outcome:
        return store_apply._run(transaction, decode_command(command))

    patch.setattr(store_apply, "_run_once", run_once)


def forgets_answers(patch: pytest.MonkeyPatch) -> None:
    """Only the newest answer of each client is remembered, under the wrong number."""
    right = ClientSession.with_answer

    def with_answer(
        session: ClientSession, sequence: int, acknowledged: int, outcome: Outcome
    ) -> ClientSession:
        return evolve(right(session, sequence, acknowledged, outcome), answers={})

    patch.setattr(ClientSession, "with_answer", with_answer)


def answers_before_commit(patch: pytest.MonkeyPatch) -> None:
    """A leader answers as soon as it has appended."""
    right = driver.Driver.propose

    def propose(driving: driver.Driver, data: bytes, waiter: driver.Waiter) -> None:
        right(driving, data, waiter)
        waiter(Outcome(index=driving.core.status().last_index))

    patch.setattr(driver.Driver, "propose", propose)


def gives_up_as_not_done(patch: pytest.MonkeyPatch) -> None:
    """Who does not know what became of a command says that nothing did."""
    patch.setattr(network, "OutcomeUnknown", Unavailable)


def applies_as_it_likes(patch: pytest.MonkeyPatch) -> None:
    """Applying reads something besides state and command."""
    calls = itertools.count(1)
    right = store_apply.apply

    def apply(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        applied = right(view, index=index, term=term, data=data)
        rows = applied.view.nodes
        if next(calls) % 50 or not rows:
            return applied
        row = rows[min(rows)]
        nodes = rows.set(row.id, evolve(row, labels={"odd": "1"}))
        return evolve(applied, view=evolve(applied.view, nodes=nodes))

    patch.setattr(driver, "apply", apply)


def skips_an_entry(patch: pytest.MonkeyPatch) -> None:
    """Now and then a node passes over a command that it should apply."""
    calls = itertools.count(1)
    right = store_apply.apply

    def apply(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        if next(calls) % 40:
            return right(view, index=index, term=term, data=data)
        passed = store_apply.advance(view, index=index, term=term)
        return Applied(view=passed, outcome=Outcome(index=index), changed=frozenset())

    patch.setattr(driver, "apply", apply)
