"""A node's agent: session, reporter and supervisor retold; `agent.plan` decides what it does.

What it runs, it runs in the fake runtime that the agent's own tests use.
"""

import random
from functools import partial

from attrs import evolve

from meshswarm.agent import dialing, plan
from meshswarm.agent.card import Card, Failure, Forget, Prepare, Remove, Report, Start, Stop, Wait
from meshswarm.agent.runtimes.port import RuntimeFailure
from meshswarm.errors import MeshswarmError, Unavailable
from meshswarm.ids import Index, NodeId, TaskId
from meshswarm.model.node import NodeDescription
from meshswarm.model.resources import Resources
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import TaskState, TaskStatus
from meshswarm.sim.clock import Bell, Life, at_once
from meshswarm.sim.hosts import Host
from meshswarm.sim.network import Door, Stream
from meshswarm.sim.seat import Premises, Seat
from meshswarm.sim.shape import BEAT_MS
from meshswarm.store.assignments import AssignmentChange
from meshswarm.store.commands import RegisterNode, ReportTasks, TaskReport, encode_command
from meshswarm.store.outcome import Outcome

OPEN_TIMEOUT_MS = 5_000
PROPOSE_TIMEOUT_MS = 10_000
SAVE_INTERVAL_MS = 200
LINGER_MS = 50
RETRY_FIRST_MS, RETRY_MAX_MS = 100, 2_000

Verb = Prepare | Start | Stop | Remove
"""The steps that the runtime carries out."""


class AgentRun:
    """One run of an agent."""

    def __init__(self, host: Host, life: Life, premises: Premises) -> None:
        self._host, self._life, self._premises = host, life, premises
        self._rng = random.Random(host.rng.getrandbits(64))
        self.cards: dict[TaskId, Card] = _remembered(host)
        self._index = Index(0)
        self._bells: dict[TaskId, Bell] = {}
        self._runtime_answered = False
        self._changed = Bell(life)
        self._pending: dict[TaskId, TaskStatus] = {}
        self._news, self._urgent = Bell(life), Bell(life)
        self._serving: Door[Seat] | None = None
        self._answered_ms = 0
        host.runtime.board.listen(lambda task_id: life.run(partial(self._look, task_id)))
        for task_id in list(self.cards):
            self._attend(task_id)
        for script in (self._open_runtime(), self._keep_memory(), self._report_forever()):
            life.spawn(script)
        life.spawn(self._keep_session())
        life.spawn(self._beat_forever())

    # --- the session --------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        doors = [self._premises.managers[NodeId(m)] for m in self._premises.shape.manager_ids]
        managers = dialing.in_order([_Named(door) for door in doors], self._host.id)
        failures = 0
        while True:
            if await self._session(managers[failures % len(managers)].door):
                failures = 0
            failures += 1
            pause_s = dialing.pause_s(failures, len(managers), self._rng.random())
            await self._life.sleep(round(1_000 * pause_s))

    async def _session(self, door: Door[Seat]) -> bool:
        """Do as one manager says until it falls silent; whether it ever spoke."""
        network, life, seat = self._premises.network, door.life, door.process
        await self._life.sleep(network.delay_ms())
        if life is None or seat is None:
            return False
        ends = ((door.id, life), (self._host.id, self._life))
        stream: Stream[AssignmentChange] = Stream(network, *ends, "assignments")
        serve = partial(seat.serve, self._registration(), stream)
        network.carry(self._host.id, door.id, "session", life, lambda: life.spawn(serve()))
        spoke = False
        try:
            while True:
                change = await stream.next(self._patience_ms())
                if change is not None:
                    spoke = True
                    self._hear(door, change)
                elif self._serving is None or self._patience_ms() == 0:
                    return spoke
        except Unavailable:
            return spoke
        finally:
            self._serving = None
            stream.leave()

    def _hear(self, door: Door[Seat], change: AssignmentChange) -> None:
        if self._serving is None:
            self._answered_ms = self._life.clock.now_ms
            self._serving = door
        self._told(change)

    def _patience_ms(self) -> int:
        """For how long to wait for the next word of the manager."""
        if self._serving is None:
            return OPEN_TIMEOUT_MS
        beats = dialing.Beats(beat_s=BEAT_MS / 1_000, answered_s=self._answered_ms / 1_000)
        return max(0, round(1_000 * beats.dead_s) - self._life.clock.now_ms)

    async def _beat_forever(self) -> None:
        me, incarnation = self._host.id, self._host.incarnation
        while True:
            if (manager := self._serving) is not None:
                beat = partial(self._beat_at, manager, me, incarnation)
                self._premises.network.tell(me, manager, "beat", beat)
            await self._life.sleep(BEAT_MS)

    def _beat_at(self, door: Door[Seat], me: NodeId, incarnation: int, seat: Seat) -> None:
        """Arrive at a manager; it may acknowledge."""
        if seat.on_beat(me, incarnation):
            network = self._premises.network
            ack = partial(self._on_ack, door)
            network.carry(seat.id, me, "beat_ack", self._life, ack)

    def _on_ack(self, manager: Door[Seat]) -> None:
        if manager is self._serving:
            self._answered_ms = self._life.clock.now_ms

    def _registration(self) -> RegisterNode:
        return RegisterNode(
            node_id=self._host.id,
            name=self._host.id,
            role=self._host.role,
            address="",
            incarnation=self._host.incarnation,
            labels={},
            description=NodeDescription(
                hostname=self._host.id,
                resources=Resources(nano_cpus=4 * 10**9, memory_bytes=8 << 30),
                runtimes=(RuntimeKind.PROCESS,),
            ),
        )

    # --- the reporter -------------------------------------------------------------------------

    def _say(self, task_id: TaskId, status: TaskStatus) -> None:
        self._pending.pop(task_id, None)
        self._pending[task_id] = status
        self._news.ring()
        if status.state >= TaskState.RUNNING:
            self._urgent.ring()

    async def _report_forever(self) -> None:
        attempt = 0
        while True:
            if not self._pending:
                self._news.clear()
                self._urgent.clear()
                await self._news.wait()
            if not any(status.state >= TaskState.RUNNING for status in self._pending.values()):
                await self._urgent.wait(LINGER_MS)
            batch = dict(self._pending)
            try:
                await self._report(batch)
                attempt = 0
            except MeshswarmError:
                attempt += 1
                delay_ms = min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** min(attempt - 1, 10))
                await self._life.sleep(round(delay_ms * (1 - self._rng.random() / 2)))
                continue
            for task_id, status in batch.items():
                if self._pending.get(task_id) == status:
                    del self._pending[task_id]

    async def _report(self, batch: dict[TaskId, TaskStatus]) -> None:
        if self._serving is None:
            raise Unavailable("no manager serves this node")
        reports = tuple(TaskReport(task_id=t, status=status) for t, status in batch.items())
        command = encode_command(ReportTasks(node_id=self._host.id, reports=reports))
        outcome: Outcome = await self._premises.network.ask(
            self._life,
            self._host.id,
            self._serving,
            "report",
            lambda seat: seat.submit(command, None, self._host.id),
            PROPOSE_TIMEOUT_MS,
        )
        if outcome.error is not None:
            raise outcome.error

    # --- the supervisor -----------------------------------------------------------------------

    def _told(self, change: AssignmentChange) -> None:
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
            step = plan.next_step(self.cards[task_id], self.cards, now_ms)
            match step:
                case Wait(until_ms=until_ms):
                    await bell.wait(None if until_ms is None else max(0, until_ms - now_ms))
                case Forget():
                    del self.cards[task_id], self._bells[task_id]
                    self._changed.ring()
                    return
                case Report():
                    self._put(plan.after(self.cards[task_id], step, None, now_ms))
                case Prepare() | Start() | Stop() | Remove():
                    await self._carry_out(task_id, step)

    async def _carry_out(self, task_id: TaskId, step: Verb) -> None:
        """Let the runtime do it at some moment of the time that it takes."""
        low, high = self._host.verb_ms
        await self._life.sleep(self._rng.randrange(low, high + 1) // 2)
        if isinstance(step, Prepare) and not self.cards[task_id].is_wanted:
            return
        self._premises.checkers.carrying_out(self._host.id, task_id, step)
        failure: Failure | None = None
        try:
            self._perform(task_id, step)
        except RuntimeFailure as error:
            failure = Failure(reason=error.reason, message=error.message)
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
            case Stop(kill=kill):
                at_once(runtime.stop(task_id, kill=kill))
            case Remove():
                at_once(runtime.remove(task_id))

    async def _open_runtime(self) -> None:
        """Learn what the runtime holds, as soon as it answers."""
        await self._life.sleep(self._rng.randrange(0, 500))
        self._runtime_answered = True
        for held in self._host.runtime.board.all():
            self._look(held.task_id)
        for card in list(self.cards.values()):
            self._put(self._seen(card))

    async def _keep_memory(self) -> None:
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


class _Named:
    """A door as `dialing` wants it: with a node's id."""

    def __init__(self, door: Door[Seat]) -> None:
        self.door = door
        self.id = NodeId(door.id)
