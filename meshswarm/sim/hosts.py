"""One host: what outlives its processes, and where those can be reached."""

import random

from attrs import define, field

from meshswarm.agent.card import Exit, HeldState
from meshswarm.agent.runtimes.fake import FakeRuntime
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import NodeDescription, NodeRole
from meshswarm.model.resources import Resources
from meshswarm.model.service import RuntimeKind, TaskSpec
from meshswarm.model.task import TaskStatus
from meshswarm.sim.clock import Clock, Life
from meshswarm.sim.disk import Disk
from meshswarm.sim.shape import EPOCH_MS, TICK_MS
from meshswarm.store.assignments import Assignment
from meshswarm.store.commands import RegisterNode

DISTURBED_MS = 8_000
"""Longer than an agent that is back takes to end what it should have ended: a grace period, two of
the runtime's verbs, some attempts that fail."""

Memory = tuple[tuple[Assignment, TaskStatus], ...]
"""What an agent saved of its tasks."""


WORK = "work"
"""What a task runs that is to end by itself ..."""

WORK_MS = (200, 3_000)
"""... after so long, ..."""

FAILING_SHARE = 0.25
"""... with an exit code that is not 0."""


@define(eq=False)
class Host:
    """A machine of the cluster. `life` is the run of its node's process; None: it is down."""

    id: NodeId
    role: NodeRole
    clock: Clock
    rng: random.Random
    disk: Disk
    skew_ms: int = 0
    """By how much its clock is wrong, besides its drift."""
    pace: float = 1.0
    """How fast its clock goes, of late."""
    tick_ms: int = TICK_MS
    """What it takes for the length of a tick."""
    incarnation: int = 0
    memory: Memory = ()
    life: Life | None = None
    contact_ms: int = 0
    """When a manager last vouched for it, as its agent noted; 0: never."""
    disturbed_ms: int = -DISTURBED_MS
    """When last something happened to it that no agent can make up for."""
    verb_ms: tuple[int, int] = (5, 300)
    """How long the runtime takes for what it is told; that takes effect in the middle of it."""
    returns_at_once: bool = False
    """Whether the runtime returns as soon as that took effect."""
    is_linked: bool = True
    """Whether the managers and its agent hear each other, in a world without packets."""
    runtime: FakeRuntime = field(init=False)
    _paced_since_ms: int = 0

    def __attrs_post_init__(self) -> None:
        self.runtime = FakeRuntime(self.wall_ms)

    @property
    def is_up(self) -> bool:
        """Whether the node's process runs, be it paused."""
        return self.life is not None

    def wall_ms(self) -> int:
        """What this host's clock shows."""
        now_ms = self.clock.now_ms
        gained_ms = int((now_ms - self._paced_since_ms) * (self.pace - 1.0))
        return EPOCH_MS + now_ms + self.skew_ms + gained_ms

    def registration(self) -> RegisterNode:
        """What its agent says of it."""
        return RegisterNode(
            node_id=self.id,
            name=self.id,
            role=self.role,
            address="",
            incarnation=self.incarnation,
            labels={},
            description=NodeDescription(
                hostname=self.id,
                resources=Resources(nano_cpus=4 * 10**9, memory_bytes=8 << 30),
                runtimes=(RuntimeKind.PROCESS,),
            ),
        )

    def set_pace(self, pace: float) -> None:
        """Let its clock go so fast from now on."""
        self.skew_ms = self.wall_ms() - EPOCH_MS - self.clock.now_ms
        self.pace, self._paced_since_ms = pace, self.clock.now_ms
        self.disturb()

    def disturb(self) -> None:
        """Its agent was away, or its clock was set: for a while it cannot keep its deadlines."""
        self.disturbed_ms = self.clock.now_ms

    @property
    def is_steady(self) -> bool:
        """Whether its agent has been at work for a while, by a clock that goes right."""
        life = self.life
        if life is None or life.is_paused or self.pace != 1.0 or self.runtime.refuses("stop"):
            return False
        since_ms = max(self.disturbed_ms, life.resumed_ms)
        return self.clock.now_ms - since_ms >= DISTURBED_MS

    def running(self) -> list[TaskId]:
        """The tasks that really run here."""
        held = self.runtime.board.all()
        return [one.task_id for one in held if one.state is HeldState.RUNNING]

    def work(self, task_id: TaskId, spec: TaskSpec) -> None:
        """A task has started: let it end by itself if it is to, whatever becomes of the agent."""
        if spec.command is None or spec.command[0] != WORK:
            return
        code = 1 if self.rng.random() < FAILING_SHARE else 0
        self.clock.after(self.rng.randrange(*WORK_MS), lambda: self._end(task_id, code))

    def _end(self, task_id: TaskId, code: int) -> None:
        if task_id in self.running():
            self.runtime.end(task_id, Exit(code=code))

    def lose_power(self) -> None:
        """Everything that ran here is over."""
        for task_id in self.running():
            self.runtime.end(task_id, Exit(code=None))
