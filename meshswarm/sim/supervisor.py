"""A node's supervisor, retold without I/O: `agent.plan` decides, the fake runtime does it."""

import random
from collections.abc import Callable
from functools import partial

from attrs import evolve

from meshswarm.agent import plan
from meshswarm.agent.card import (
    Card,
    Failure,
    Forget,
    Place,
    Prepare,
    Probed,
    Remove,
    Report,
    Start,
    Stop,
    Wait,
)
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.errors import Unavailable
from meshswarm.ids import Index, NodeId, TaskId
from meshswarm.model.task import TaskStatus
from meshswarm.sim.clock import Bell, Life, at_once
from meshswarm.sim.hosts import Host
from meshswarm.store.assignments import AssignmentChange

SAVE_INTERVAL_MS = 200

Verb = Prepare | Start | Stop | Remove
"""The steps that the runtime carries out."""

Watcher = Callable[[NodeId, TaskId, Verb], None]
"""Is told of each step at the moment in which it takes effect."""


class Supervisor:
    """What one run of an agent knows of its tasks, and does with them."""

    def __init__(
        self,
        host: Host,
        life: Life,
        rng: random.Random,
        say: Callable[[TaskId, TaskStatus], None],
        watcher: Watcher,
        alone_ms: Callable[[], int] = lambda: 0,
        on_decision: Watcher = lambda node, task_id, step: None,
    ) -> None:
        self._host, self._life, self._rng = host, life, rng
        self._say, self._watcher = say, watcher
        self._alone_ms, self._on_decision = alone_ms, on_decision
        self.cards: dict[TaskId, Card] = _remembered(host)
        self._index = Index(0)
        self._bells: dict[TaskId, Bell] = {}
        self._runtime_answered = False
        self._changed = Bell(life)
        host.runtime.board.listen(lambda task_id: life.run(partial(self._look, task_id)))
        for task_id in list(self.cards):
            self._attend(task_id)

    def told(self, change: AssignmentChange) -> None:
        """A manager spoke; raises `Unavailable` if it knows less than an earlier one did."""
        if self._is_stale(change):
            raise Unavailable(f"it is at index {change.index}, this node at {self._index}")
        self._index = change.index
        for task_id, card in plan.told(self.cards, change, self._host.wall_ms()).items():
            if card is not self.cards.get(task_id):
                self._put(self._seen(card))
                self._attend(task_id)
        for assignment in change.upserts:
            card = self.cards[assignment.task.id]
            if card.status != assignment.task.status:
                self._say(card.task_id, card.status)

    def _is_stale(self, change: AssignmentChange) -> bool:
        return change.index < self._index

    def _put(self, card: Card) -> None:
        known = self.cards.get(card.task_id)
        if card.probed is None:
            # Here the runtime says what probes would.
            card = evolve(card, probed=Probed())
        self.cards[card.task_id] = card
        if known is not None and card.status != known.status:
            self._say(card.task_id, card.status)
        if known is None or card.held != known.held:
            self._nudge_place(card)
        self._nudge(card.task_id)
        self._changed.ring()

    def _seen(self, card: Card) -> Card:
        """The card with what the runtime holds, as far as that has answered."""
        held = self._host.runtime.board.look(card.task_id)
        if held is None and not self._runtime_answered:
            return card
        return plan.seen(card, held)

    def _look(self, task_id: TaskId) -> None:
        """What the runtime holds of a task changed; of an unknown task it is found now.

        If a manager has spoken already, it did not speak of this one: it is not this node's.
        """
        held = self._host.runtime.board.look(task_id)
        card = self.cards.get(task_id)
        if card is None:
            if held is None:
                return
            card = Card(task_id=task_id, confirmed=self._index > 0)
        self._put(plan.seen(card, held))
        self._attend(task_id)

    def _nudge(self, task_id: TaskId) -> None:
        if task_id in self._bells:
            self._bells[task_id].ring()

    def _nudge_place(self, card: Card) -> None:
        """Wake those that may wait for this task to leave their slot."""
        for other in self.cards.values():
            if other.place == card.place and other.task_id != card.task_id:
                self._nudge(other.task_id)

    def _attend(self, task_id: TaskId) -> None:
        if task_id not in self._bells:
            self._bells[task_id] = Bell(self._life)
            self._life.spawn(self._look_after(task_id))

    async def _look_after(self, task_id: TaskId) -> None:
        bell = self._bells[task_id]
        while True:
            bell.clear()
            now_ms = self._host.wall_ms()
            step = plan.next_step(self.cards[task_id], self.cards, now_ms, self._alone_ms())
            match step:
                case Wait(until_ms=until_ms):
                    await bell.wait(None if until_ms is None else max(0, until_ms - now_ms))
                case Forget():
                    del self.cards[task_id], self._bells[task_id]
                    self._changed.ring()
                    return
                case Report() | Place():  # nothing here has files
                    self._put(plan.after(self.cards[task_id], step, None, now_ms))
                case Prepare() | Start() | Stop() | Remove():
                    await self._carry_out(task_id, step)

    async def _carry_out(self, task_id: TaskId, step: Verb) -> None:
        """Let the runtime do it at some moment of the time that it takes."""
        self._on_decision(self._host.id, task_id, step)
        low, high = self._host.verb_ms
        await self._life.sleep(self._rng.randrange(low, high + 1) // 2)
        if isinstance(step, Prepare) and not self.cards[task_id].is_wanted:
            return
        self._watcher(self._host.id, task_id, step)
        failure: Failure | None = None
        try:
            self._perform(task_id, step)
        except RuntimeFailure as error:
            failure = Failure(reason=error.reason, message=error.message)
        if not self._host.returns_at_once:
            await self._life.sleep(self._rng.randrange(low, high + 1) // 2)
        # Not what the verb returned: something newer may have been seen meanwhile.
        result = failure or self._host.runtime.board.look(task_id)
        card = plan.after(self.cards[task_id], step, result, self._host.wall_ms())
        self._put(card)

    def _perform(self, task_id: TaskId, step: Verb) -> None:
        runtime = self._host.runtime
        match step:
            case Prepare(assignment=assignment):
                at_once(runtime.prepare(assignment))
            case Start():
                at_once(runtime.start(task_id))
                card = self.cards[task_id]
                if card.assignment is not None:
                    self._host.work(task_id, card.assignment.spec)
            case Stop(kill=kill):
                at_once(runtime.stop(task_id, kill=kill))
            case Remove():
                at_once(runtime.remove(task_id))

    async def open_runtime(self) -> None:
        """Learn what the runtime holds, as soon as it answers."""
        await self._life.sleep(self._rng.randrange(0, 500))
        self._runtime_answered = True
        for held in self._host.runtime.board.all():
            self._look(held.task_id)
        for card in list(self.cards.values()):
            self._put(self._seen(card))

    async def keep_memory(self) -> None:
        """Save what is known of the tasks, now and then."""
        while True:
            await self._changed.wait()
            self._host.memory = tuple(
                (card.assignment, card.status)
                for _, card in sorted(self.cards.items())
                if card.assignment is not None
            )
            await self._life.sleep(SAVE_INTERVAL_MS)


def _remembered(host: Host) -> dict[TaskId, Card]:
    """The cards as last saved, none of them confirmed."""
    return {
        assignment.task.id: evolve(
            Card(task_id=assignment.task.id),
            assignment=assignment,
            told_at_ms=assignment.task.created_at_ms,
            status=status,
        )
        for assignment, status in host.memory
    }
