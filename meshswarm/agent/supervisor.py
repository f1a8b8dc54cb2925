"""Carries the plan out: one coroutine a task, one step at a time.

Each coroutine asks `plan.next_step`, has its runtime do it, writes the result on the task's card
and asks again; with nothing to do it sleeps until a manager or a runtime says something of the
task. A preparation under way is given up as soon as the task is no longer wanted.

*Invariant:* a card is replaced here and nowhere else, and every change of its status is said.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from attrs import evolve, frozen

from meshswarm.agent import plan
from meshswarm.agent.card import (
    Card,
    Failure,
    Forget,
    Held,
    HeldState,
    Place,
    Prepare,
    Probed,
    Remove,
    Report,
    Silence,
    Start,
    Step,
    Stop,
    Wait,
)
from meshswarm.agent.files import FileStore
from meshswarm.agent.memory import MemoryFile
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.errors import Unavailable
from meshswarm.ids import Index, TaskId
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Reason, TaskStatus
from meshswarm.store.assignments import Assignment, AssignmentChange

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 0.2
"""At least so long between two savings of the memory; what happens meanwhile is found again."""

ASK_AGAIN_S = 1.0
"""Between two attempts to learn what a runtime holds that does not answer."""


@frozen
class Attended:
    """What belongs to one task's coroutine."""

    nudge: asyncio.Event
    preparing: "list[asyncio.Task[Held | Failure | None]]"
    """The preparation under way, if any."""


class Supervisor:
    """All tasks of a node. `say` is called with every new status; it must not block. `alone_ms`
    tells how long no manager has known of this node, `on_card` is called with every card that
    changed."""

    def __init__(
        self,
        runtimes: Mapping[RuntimeKind, Runtime],
        memory: MemoryFile,
        say: Callable[[TaskId, TaskStatus], None],
        files: FileStore,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        alone_ms: Callable[[], int] = lambda: 0,
        on_card: Callable[[Card], None] = lambda card: None,
    ) -> None:
        self._runtimes = runtimes
        self._memory = memory
        self._say = say
        self._files = files
        self._now_ms = now_ms
        self._alone_ms = alone_ms
        self._on_card = on_card
        self._cards: dict[TaskId, Card] = memory.load()
        self._index = Index(0)
        self._attended: dict[TaskId, Attended] = {}
        self._answered: set[RuntimeKind] = set()
        self._silences: dict[RuntimeKind, Silence] = {}
        self._changed = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        for runtime in runtimes.values():
            runtime.board.listen(partial(self._look, runtime.kind))
            runtime.board.listen_silence(partial(self._note_silence, runtime))

    @property
    def cards(self) -> Mapping[TaskId, Card]:
        """What is known of each task now."""
        return self._cards

    async def run(self) -> None:
        """Look after the node's tasks until cancelled; ends none of them."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._files.sweep(self._cards.keys())
                for task_id, card in list(self._cards.items()):
                    self._put(self._seen(card))
                    self._attend(task_id)
                for kind, runtime in self._runtimes.items():
                    group.create_task(self._open(runtime), name=f"open {kind.value}")
                    group.create_task(runtime.run(), name=f"runtime {kind.value}")
                await self._keep_memory()
        finally:
            self._group = None
            self._save()

    def told(self, change: AssignmentChange) -> None:
        """A manager spoke.

        :raises Unavailable: if it knows less than an earlier one did; nothing was changed.
        """
        if change.index < self._index:
            raise Unavailable(f"it is at index {change.index}, this node at {self._index}")
        self._index = change.index
        for task_id, card in plan.told(self._cards, change, self._now_ms()).items():
            if card is not self._cards.get(task_id):
                self._put(self._seen(card))
                self._attend(task_id)
        for assignment in change.upserts:
            card = self._cards[assignment.task.id]
            if card.status != assignment.task.status:
                self._say(card.task_id, card.status)

    def probed(self, task_id: TaskId, said: Probed) -> None:
        """A task's probes say something else now."""
        card = self._cards.get(task_id)
        if card is not None and card.runs:
            self._put(evolve(card, probed=said))

    # --- cards ------------------------------------------------------------------------------------

    def _put(self, card: Card) -> None:
        known = self._cards.get(card.task_id)
        self._cards[card.task_id] = card
        if known is not None and card.status != known.status:
            _log_status(card)
            self._say(card.task_id, card.status)
        if known is None or card.held != known.held:
            self._nudge_place(card)
        if card.status.state.is_terminal and not (card.held and card.held.state < HeldState.EXITED):
            self._files.drop(card.task_id)
        self._nudge(card.task_id)
        self._changed.set()
        self._on_card(card)

    def _seen(self, card: Card) -> Card:
        """The card with what its runtime holds, as far as that has answered."""
        kind = _kind_of(card)
        if kind is None or kind not in self._runtimes:
            return plan.seen(card, None)
        card = plan.heard(card, self._silences.get(kind))
        held = self._runtimes[kind].board.look(card.task_id)
        if held is None and kind not in self._answered:
            return card
        return plan.seen(card, held)

    def _note_silence(self, runtime: Runtime) -> None:
        """A runtime does not answer any more, or does again."""
        self._silences.pop(runtime.kind, None)
        if why := runtime.board.silence:
            self._silences[runtime.kind] = Silence(since_ms=self._now_ms(), message=why)
        for card in list(self._cards.values()):
            if _kind_of(card) is runtime.kind:
                self._put(self._seen(card))

    def _look(self, kind: RuntimeKind, task_id: TaskId) -> None:
        """What a runtime holds of a task changed; of an unknown task it is found now.

        If a manager has spoken already, it did not speak of this one: it is not this node's.
        """
        board = self._runtimes[kind].board
        held = board.look(task_id)
        card = self._cards.get(task_id)
        if card is None:
            if held is None:
                return
            card = Card(task_id=task_id, confirmed=self._index > 0)
        self._put(plan.pulled(plan.seen(card, held), board.pulled(task_id)))
        self._attend(task_id)

    def _nudge(self, task_id: TaskId) -> None:
        attended = self._attended.get(task_id)
        if attended is None:
            return
        attended.nudge.set()
        if not self._cards[task_id].is_wanted:
            for preparing in attended.preparing:
                preparing.cancel()

    def _nudge_place(self, card: Card) -> None:
        """Wake those that may wait for this task to leave their slot."""
        for other in self._cards.values():
            if other.place == card.place and other.task_id != card.task_id:
                self._nudge(other.task_id)

    # --- one coroutine a task ---------------------------------------------------------------------

    def _attend(self, task_id: TaskId) -> None:
        if task_id not in self._attended and self._group is not None:
            attended = Attended(asyncio.Event(), [])
            self._attended[task_id] = attended
            self._group.create_task(self._look_after(task_id, attended), name=f"task {task_id}")

    async def _look_after(self, task_id: TaskId, attended: Attended) -> None:
        while True:
            attended.nudge.clear()
            card = self._cards[task_id]
            step = plan.next_step(card, self._cards, self._now_ms(), self._alone_ms())
            match step:
                case Wait(until_ms=until_ms):
                    await self._sleep(attended.nudge, until_ms)
                case Forget():
                    del self._cards[task_id], self._attended[task_id]
                    self._files.drop(task_id)
                    self._changed.set()
                    return
                case Report():
                    self._put(plan.after(card, step, None, self._now_ms()))
                case Place() | Prepare() | Start() | Stop() | Remove():
                    await self._carry_out(task_id, step, attended)

    async def _carry_out(self, task_id: TaskId, step: Step, attended: Attended) -> None:
        card, began_ms = self._cards[task_id], self._now_ms()
        if isinstance(step, Place | Prepare):
            async with asyncio.TaskGroup() as group:
                preparing = group.create_task(self._perform(card, step), name=f"prepare {task_id}")
                attended.preparing.append(preparing)
            attended.preparing.clear()
            if preparing.cancelled():
                return
            result = preparing.result()
        else:
            result = await self._perform(card, step)
        if isinstance(result, Failure):
            result = evolve(result, lasted_ms=max(0, self._now_ms() - began_ms))
            log.warning("task=%s reason=%s: %s", task_id, result.reason.value, result.message)
        self._put(plan.after(self._cards[task_id], step, result, self._now_ms()))

    async def _perform(self, card: Card, step: Step) -> Held | Failure | None:
        kind = _kind_of(card)
        runtime = self._runtimes.get(kind) if kind else None
        if runtime is None:
            name = kind.value if kind else "a"
            return Failure(
                reason=Reason.RUNTIME_UNAVAILABLE, message=f"this node offers no {name} runtime"
            )
        try:
            match step:
                case Place(assignment=assignment):
                    await self._place(runtime, assignment)
                case Prepare(assignment=assignment):
                    await runtime.prepare(assignment)
                case Start():
                    await runtime.start(card.task_id)
                case Stop(kill=kill):
                    await runtime.stop(card.task_id, kill=kill)
                case Remove():
                    await runtime.remove(card.task_id)
        except RuntimeFailure as failure:
            return Failure(reason=failure.reason, message=failure.message)
        # Not what the verb returned: something newer may have been seen meanwhile.
        return runtime.board.look(card.task_id)

    async def _place(self, runtime: Runtime, assignment: Assignment) -> None:
        """Put the task's files into place; if that changes them under it, tell it."""
        changed = await self._files.place(assignment)
        reload, held = assignment.spec.reload, runtime.board.look(assignment.task.id)
        if changed and reload and reload.signal and held and held.state is HeldState.RUNNING:
            log.info("task=%s has other files signal=%s", assignment.task.name, reload.signal)
            await runtime.signal(assignment.task.id, reload.signal)
        self._files.note(assignment)

    async def _sleep(self, nudge: asyncio.Event, until_ms: int | None) -> None:
        delay_s = None if until_ms is None else max(0, until_ms - self._now_ms()) / 1_000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await nudge.wait()

    # --- runtimes and memory ----------------------------------------------------------------------

    async def _open(self, runtime: Runtime) -> None:
        """Learn what a runtime holds, as soon as it answers."""
        complained = False
        while True:
            try:
                await runtime.refresh()
                break
            except RuntimeFailure as failure:
                if not complained:
                    log.warning(
                        "runtime=%s does not answer: %s", runtime.kind.value, failure.message
                    )
                complained = True
                await asyncio.sleep(ASK_AGAIN_S)
        self._answered.add(runtime.kind)
        for held in runtime.board.all():
            self._look(runtime.kind, held.task_id)
        for card in list(self._cards.values()):
            if _kind_of(card) is runtime.kind:
                self._put(self._seen(card))

    async def _keep_memory(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._save()
            await asyncio.sleep(SAVE_INTERVAL_S)

    def _save(self) -> None:
        try:
            self._memory.save(self._cards)
        except OSError as error:
            log.warning("cannot save my assignments: %s", error)


def _kind_of(card: Card) -> RuntimeKind | None:
    """What runs, or is to run, the task."""
    if card.held is not None:
        return card.held.runtime
    return card.assignment.spec.runtime if card.assignment else None


def _log_status(card: Card) -> None:
    status = card.status
    name = card.assignment.task.name if card.assignment else card.task_id
    log.info(
        "task=%s state=%s reason=%s %s",
        name,
        status.state.label,
        status.reason.value,
        status.message,
    )
