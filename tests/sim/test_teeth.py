"""The checkers bite: each of these mistakes, made on purpose, is found within a few seeds.

A mistake that is found no longer means that the world has become too tame for it.
"""

import itertools
import re
from collections.abc import Callable

import pytest
from attrs import evolve
from immutables import Map

from meshswarm.agent import plan
from meshswarm.agent.card import Card
from meshswarm.control.slots import Slot
from meshswarm.ids import Index, TaskId, Term
from meshswarm.model.task import Task
from meshswarm.raft import election, leading, outbox, quorum
from meshswarm.raft.messages import AppendReply, Message, RequestVote, VoteReply
from meshswarm.raft.state import RaftState
from meshswarm.sim import driver
from meshswarm.sim.agent import AgentRun
from meshswarm.sim.faults import Fault
from meshswarm.sim.run import run
from meshswarm.sim.seat import Seat
from meshswarm.store import apply as store_apply
from meshswarm.store.apply import Applied
from meshswarm.store.commands import Request, decode_command
from meshswarm.store.view import View

SEEDS = 40
"""Within so many seeds every mistake must show."""

TROUBLE_MS = 20_000

Mistake = Callable[[pytest.MonkeyPatch], None]


def sends_early(kind: type[Message]) -> Mistake:
    """A kind of message leaves before what it promises is durable."""

    def make(patch: pytest.MonkeyPatch) -> None:
        right = outbox.waits_for_disk
        wrong = lambda message: right(message) and not isinstance(message, kind)  # noqa: E731
        patch.setattr(outbox, "waits_for_disk", wrong)

    return make


def commits_old_terms(patch: pytest.MonkeyPatch) -> None:
    """A leader counts replicas of earlier terms' entries (Raft Figure 8)."""

    def commit(state: RaftState) -> None:
        reign, log = state.reign, state.log
        if reign is None:
            return
        held = [log.durable if v == state.id else reign.peers[v].match for v in state.conf.voters]
        if log.commit_to(max(Index(quorum.majority_value(held)), log.committed)):
            reign.reads.release(log.committed)

    patch.setattr(leading, "commit", commit)


def votes_for_anyone(patch: pytest.MonkeyPatch) -> None:
    """A voter does not look at the candidate's log."""
    patch.setattr(election, "_is_up_to_date", lambda state, request: True)


def applies_as_it_likes(patch: pytest.MonkeyPatch) -> None:
    """Applying reads something besides state and command."""
    calls = itertools.count(1)
    right = store_apply.apply

    def apply(view: View, *, index: Index, term: Term, data: bytes) -> Applied:
        applied = right(view, index=index, term=term, data=data)
        if next(calls) % 50 or not applied.view.tasks:
            return applied
        task = applied.view.tasks[min(applied.view.tasks)]
        tasks: Map[TaskId, Task] = applied.view.tasks.set(task.id, evolve(task, attempt=77))
        return evolve(applied, view=evolve(applied.view, tasks=tasks))

    patch.setattr(driver, "apply", apply)


def repeats_requests(patch: pytest.MonkeyPatch) -> None:
    """A named request is carried out as often as it is in the log."""

    def run_once(base: View, request: Request, command: bytes) -> Applied:
        return store_apply.apply_command(base, decode_command(command))

    patch.setattr(store_apply, "_run_once", run_once)


def reads_what_is_there(patch: pytest.MonkeyPatch) -> None:
    """A manager serves reads without asking who leads."""

    async def confirm(seat: Seat) -> Index:
        return seat.driver.view.index

    patch.setattr(Seat, "_confirm", confirm)


def believes_a_stale_manager(patch: pytest.MonkeyPatch) -> None:
    """A manager that lags tells an old full set, and the agent ignores what is newer."""

    async def nothing(seat: Seat) -> None:
        """Open the session at once."""

    patch.setattr(Seat, "_catch_up", nothing)
    patch.setattr(AgentRun, "_is_stale", lambda agent, change: False)


def hands_decisions_on(patch: pytest.MonkeyPatch) -> None:
    """A deposed leader has the next one carry out what it decided on its own view."""

    async def propose(seat: Seat, batch: bytes) -> None:
        await seat.submit(batch, None, seat.id)

    patch.setattr(Seat, "_propose_batch", propose)


def forgets_what_it_finds(patch: pytest.MonkeyPatch) -> None:
    """An agent whose runtime answers late waits for a word on what it finds, for ever."""

    def look(agent: AgentRun, task_id: TaskId) -> None:
        held = agent._host.runtime.board.look(task_id)
        if held is not None or task_id in agent.cards:
            card = agent.cards.get(task_id, Card(task_id=task_id))
            agent._put(plan.seen(card, held))
            agent._attend(task_id)

    patch.setattr(AgentRun, "_look", look)


def lets_time_stand(patch: pytest.MonkeyPatch) -> None:
    """Log time waits for this leader's clock where an earlier leader's was ahead."""

    def log_time_ms(seat: Seat) -> int:
        return max(seat.driver.view.clock_ms, seat._host.wall_ms())

    patch.setattr(Seat, "_log_time_ms", log_time_ms)


def starts_successors_at_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a slot's last task to stop."""
    patch.setattr(Slot, "stopping", property(lambda slot: ()))


LOST_ON_THE_WAY = (Fault.HAND_OVER, Fault.TASK_ENDS, Fault.STORM)

MISTAKES: dict[str, tuple[Mistake, str, tuple[Fault, ...] | None]] = {
    "vote": (sends_early(VoteReply), "tells its vote", None),
    "candidacy": (sends_early(RequestVote), "tells its vote", None),
    "ack": (sends_early(AppendReply), "acknowledges entry", None),
    "old-term": (commits_old_terms, "commits an entry of", None),
    "any-vote": (votes_for_anyone, "without committed", None),
    "apply": (applies_as_it_likes, "than others", None),
    "repeat": (repeats_requests, "expected|was told|again", None),
    "read": (reads_what_is_there, "misses what was acknowledged|meant to run|still runs", None),
    "stale": (believes_a_stale_manager, "meant to run|still runs", None),
    "hand-on": (hands_decisions_on, "two live tasks in a slot|still runs", LOST_ON_THE_WAY),
    "orphan": (forgets_what_it_finds, "which has no row", None),
    "clock": (lets_time_stand, "not whole", None),
    "successor": (starts_successors_at_once, "still runs", None),
}
"""What goes wrong, the words in which it is found, and the trouble that shows it (None: any)."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mistake, words, kinds = MISTAKES[name]
    mistake(monkeypatch)
    runs = (run(seed, safety_ms=TROUBLE_MS, kinds=kinds) for seed in range(1, SEEDS + 1))
    found = (result.violation for result in runs if result.violation is not None)
    assert re.search(words, next(found, "nothing was found"))
