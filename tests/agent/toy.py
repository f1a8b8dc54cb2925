"""A toy agent that carries out the plan's steps one after the other, without waiting."""

from attrs import evolve

from meshswarm.agent import plan
from meshswarm.agent.card import (
    Card,
    Exit,
    Failure,
    Forget,
    Held,
    HeldState,
    Prepare,
    Report,
    Start,
    Step,
    Stop,
    Wait,
)
from meshswarm.ids import Index, TaskId, Term
from meshswarm.model.service import RuntimeKind
from meshswarm.model.task import Fencing, TaskState, TaskStatus
from meshswarm.store.assignments import AssignmentChange
from tests.agent.cards import assignment, full


class Toy:
    """An agent's shell, in ten lines: what `Supervisor` does, without waiting."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self.cards: dict[TaskId, Card] = {}
        self.said: list[tuple[TaskId, TaskStatus]] = []
        self.steps: list[tuple[TaskId, Step]] = []
        self.failures: dict[type[Step], Failure] = {}
        self.stubborn = False

    def tell(self, change: AssignmentChange) -> None:
        self.cards = plan.told(self.cards, change, self.now_ms)
        self.cards = {i: evolve(card, looked=True) for i, card in self.cards.items()}

    def find(self, held: Held) -> None:
        card = self.cards.get(held.task_id, Card(task_id=held.task_id))
        self.cards[held.task_id] = plan.seen(card, held)

    def settle(self) -> None:
        for _ in range(200):
            stepped = [self.step(task_id) for task_id in sorted(self.cards)]
            if not any(stepped):
                return
        raise AssertionError(f"the plan does not settle: {self.steps[-6:]}")

    def step(self, task_id: TaskId) -> bool:
        card = self.cards[task_id]
        step = plan.next_step(card, self.cards, self.now_ms)
        if isinstance(step, Wait):
            return False
        self.steps.append((task_id, step))
        if isinstance(step, Forget):
            del self.cards[task_id]
            return True
        result = self.failures.get(type(step)) or self._carry_out(card, step)
        after = plan.after(self.cards[task_id], step, result, self.now_ms)
        if after.status != card.status:
            assert after.status.state >= card.status.state, "states only move forward"
            assert not card.status.state.is_terminal, "a terminal status stands"
            self.said.append((task_id, after.status))
        self.cards[task_id] = after
        return True

    def _carry_out(self, card: Card, step: Step) -> Held | None:
        held = card.held
        match step:
            case Prepare(assignment=a):
                assert held is None
                return remains(a.task.id, a.task.slot, a.task.fencing)
            case Start():
                assert held is not None
                assert held.state is HeldState.CREATED, "a task is started once"
                return evolve(held, state=HeldState.RUNNING, started_at_ms=self.now_ms)
            case Stop(kill=kill) if kill or not self.stubborn:
                self.end(card.task_id, Exit(code=137 if kill else 143))
        return None

    def end(self, task_id: TaskId, how: Exit) -> None:
        card = self.cards[task_id]
        assert card.held is not None
        self.cards[task_id] = plan.seen(card, evolve(card.held, state=HeldState.EXITED, exit=how))

    def status(self, task_id: str = "t1") -> TaskStatus:
        return self.cards[TaskId(task_id)].status

    def did(self, task_id: str = "t1") -> list[str]:
        """The steps of one task in words, reports by their state."""
        words = []
        for done_for, step in self.steps:
            if done_for == task_id:
                match step:
                    case Report(status=status):
                        words.append(status.state.label)
                    case Stop(kill=True):
                        words.append("Kill")
                    case _:
                        words.append(type(step).__name__)
        return words


def remains(
    task_id: str = "t1",
    slot: int = 1,
    fencing: Fencing = Fencing(term=Term(1), index=Index(1)),  # noqa: B008 -- frozen
    state: HeldState = HeldState.CREATED,
) -> Held:
    return Held(
        task_id=TaskId(task_id),
        service_id=assignment().task.service_id,
        slot=slot,
        fencing=fencing,
        runtime=RuntimeKind.PROCESS,
        runtime_id=f"id-{task_id}",
        state=state,
    )


def running() -> Toy:
    toy = Toy()
    toy.tell(full(assignment()))
    toy.settle()
    assert toy.status().state is TaskState.RUNNING
    return toy
