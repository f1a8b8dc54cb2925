"""What must never happen, told by observers that stand apart from the nodes.

They see what leaves a core, what is durable and what really runs, and keep books of their own:
`Consensus` (next door) those of Raft, `States` those of the replicated state, `Tasks` those of what
runs, `History` those of what users were told.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import assert_never

from attrs import define, field

from meshswarm.agent.card import Held, HeldState, Prepare, Remove, Start, Stop
from meshswarm.ids import Index, JobId, NodeId, ServiceId, TaskId
from meshswarm.model.task import Health, Task, TaskState
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import Message
from meshswarm.raft.ready import ReadState, Ready
from meshswarm.raft.status import RaftStatus
from meshswarm.raft.types import Entry, EntryKind
from meshswarm.sim.consensus import Consensus
from meshswarm.sim.disk import Disk
from meshswarm.sim.fires import Fires
from meshswarm.sim.history import History
from meshswarm.sim.hosts import Host
from meshswarm.sim.ledger import Ledger
from meshswarm.sim.limits import check_view
from meshswarm.sim.promises import Promises, leaves, starts_first
from meshswarm.sim.trace import Violation
from meshswarm.store.outcome import Outcome
from meshswarm.store.slices import encode_view
from meshswarm.store.view import Key, Table, View

COMPARE_EVERY = 32
"""Entries between two comparisons of the nodes' whole states, byte by byte."""


@define(eq=False)
class States:
    """The replicated state: the same at the same index on every node."""

    views: list[View] = field(factory=lambda: [View()])
    """By index; as whoever came first applied it."""
    changes: int = 0
    """How many entries changed a row."""
    promises: Promises = field(factory=Promises)
    _outcomes: list[Outcome] = field(factory=lambda: [Outcome(index=Index(0))])
    _applied: dict[NodeId, Index] = field(factory=dict)

    @property
    def newest(self) -> View:
        """Everything that was committed and applied anywhere."""
        return self.views[-1]

    def knew(self, node: NodeId) -> bool:
        """Whether this node was ever part of the state."""
        return any(node in view.nodes for view in reversed(self.views))

    def applied(
        self, node: NodeId, entry: Entry, view: View, outcome: Outcome, changed: frozenset[Key]
    ) -> bool:
        """A node applied an entry; whether it was the first."""
        before = self._applied[node]
        if entry.index != before + 1 or view.index != entry.index:
            raise Violation(f"{node} applies {entry.index} after {before}")
        self._applied[node] = entry.index
        if entry.index == len(self.views):
            known = self.newest
            self.views.append(view)
            self._outcomes.append(outcome)
            self.changes += bool(changed)
            self.promises.entry(known, view, changed)
            return True
        if outcome != self._outcomes[entry.index]:
            raise Violation(f"{node} says {outcome} of what is {self._outcomes[entry.index]}")
        known = self.views[entry.index]
        if (view.clients, view.clock_ms) != (known.clients, known.clock_ms):
            raise Violation(f"{node} remembers other requests than others at index {entry.index}")
        self._compare_rows(node, view, changed)
        if entry.index % COMPARE_EVERY == 0:
            self._compare_bytes(node, view)
            check_view(view)
        return False

    def restored(self, node: NodeId, view: View) -> None:
        """A node took a whole state: from its disk, or from the leader."""
        if view.index >= len(self.views):
            raise Violation(f"{node} restores {view.index}, which nobody applied")
        self._compare_bytes(node, view)
        self._applied[node] = view.index

    def _compare_rows(self, node: NodeId, view: View, changed: frozenset[Key]) -> None:
        for key in changed:
            if _row(view, key) != _row(self.views[view.index], key):
                raise Violation(f"{node} has {key} otherwise than others at index {view.index}")

    def _compare_bytes(self, node: NodeId, view: View) -> None:
        if encode_view(view) != encode_view(self.views[view.index]):
            raise Violation(f"{node} has another state than others at index {view.index}")


def _row(view: View, key: Key) -> object:  # noqa: C901, PLR0912 -- a table
    table, name = key
    match table:
        case Table.NODES:
            return view.nodes.get(NodeId(name))
        case Table.SERVICES:
            return view.services.get(ServiceId(name))
        case Table.TASKS:
            return view.tasks.get(TaskId(name))
        case Table.STACKS:
            return view.stacks.get(name)
        case Table.CONFIGS:
            return view.configs.get(name)
        case Table.ROLLOUTS:
            return view.rollouts.get(ServiceId(name))
        case Table.SECRETS:
            return view.secrets.get(name)
        case Table.KEPT_FILES:
            return view.kept_files.get(name)
        case Table.SECRETS_KEYS:
            return view.secrets_keys.get(name)
        case Table.RUNS:
            return view.runs.get(ServiceId(name))
        case Table.JOBS:
            return view.jobs.get(JobId(name))
        case Table.REVISIONS:
            return None  # they come and go with their services, and are part of the bytes
        case _:
            assert_never(table)


@define(eq=False)
class Tasks:
    """What the runtimes are told, and hold, judged by what was committed."""

    hosts: dict[NodeId, Host]
    newest: Callable[[], View]
    """Everything that was committed and applied anywhere."""
    _fenced: set[TaskId] = field(factory=set)

    def carrying_out(
        self, node: NodeId, task_id: TaskId, step: Prepare | Start | Stop | Remove
    ) -> None:
        """An agent's step takes effect now."""
        row = self.newest().tasks.get(task_id)
        if isinstance(step, Stop):
            self._stops(node, row)
        elif isinstance(step, Start) and row is not None:
            self._starts(node, row)

    def fences(self, node: NodeId, task_id: TaskId) -> None:
        """An agent of which no manager has known for long decides to end a task: only one of those
        that allow it, and not too soon."""
        host, row = self.hosts[node], self.newest().tasks.get(task_id)
        alone_ms = host.clock.now_ms - host.contact_ms
        after_s = None if row is None else self.newest().spec_of(row).task.stop_after_s
        if row is not None and (after_s is None or alone_ms < 1_000 * after_s):
            raise Violation(f"{node} ends {row.name} after {alone_ms} ms without a manager")
        self._fenced.add(task_id)

    def _stops(self, node: NodeId, row: Task | None) -> None:
        """Only what somebody decided to stop is stopped: desired and states never go back. What
        its check calls unhealthy, or no manager knows of, is stopped by its own agent."""
        if row is None or not row.is_live or row.node_id != node or row.id in self._fenced:
            return
        held = self.hosts[node].runtime.board.look(row.id)
        if held is None or held.health is not Health.UNHEALTHY:
            raise Violation(f"{node} stops {row.name}, which is meant to run")

    def _starts(self, node: NodeId, row: Task) -> None:
        """No slot has two running tasks, unless one is on a node that was given up.

        Or both are meant to run: `promises` judged that when the later one was made, for its node
        may be one that was to be left then, and is not any more.
        """
        self._starts_alone(node, row)
        if row.status.state is TaskState.LOST:
            return
        for other_node, held in self._running(self.hosts):
            other = self.newest().tasks.get(held.task_id)
            if other is None or other.id == row.id or other.status.state is TaskState.LOST:
                continue
            is_older = other.revision != row.revision
            if is_older and starts_first(self.newest(), row.service_id):
                continue
            if leaves(self.newest(), other) or other.is_live:
                continue
            if (other.service_id, other.slot) == (row.service_id, row.slot) and (
                row.slot or other_node == node
            ):
                raise Violation(f"{node} starts {row.name} while {other.name} still runs")

    def _starts_alone(self, node: NodeId, row: Task) -> None:
        """Of a slot whose agents fence themselves nothing else runs anywhere, whoever was given up;
        unless on a host whose agent was away of late, or whose runtime refuses."""
        spec = self.newest().spec_of(row).task
        if spec.stop_after_s is None or row.slot == 0:
            return
        for other_node, held in self._running(self.hosts):
            is_same = (held.service_id, held.slot) == (row.service_id, row.slot)
            is_other = held.task_id != row.id and held.stop_after_s is not None
            if is_same and is_other and self.hosts[other_node].is_steady:
                raise Violation(
                    f"{node} starts {row.name} while {held.task_id} still runs on {other_node}, "
                    "whose agent should have ended it"
                )

    def _running(self, nodes: Iterable[NodeId]) -> Iterator[tuple[NodeId, Held]]:
        for node in nodes:
            for held in self.hosts[node].runtime.board.all():
                if held.state is HeldState.RUNNING:
                    yield node, held

    def leftovers(self, nodes: list[NodeId]) -> list[str]:
        """In what the runtimes of these nodes differ from what is wanted; for a calm world."""
        view = self.newest()
        running = {held.task_id: node for node, held in self._running(nodes)}
        found: list[str] = []
        for task in sorted(view.tasks.values(), key=lambda one: one.id):
            if task.is_live and running.get(task.id) != task.node_id:
                found.append(f"{task.name} ({task.status.state.label}) does not really run")
            if not task.is_live and task.id in running:
                found.append(f"{task.name} runs, and is not meant to")
            if not task.is_live and not task.status.state.is_terminal:
                found.append(f"{task.name} still stops")
        held = [(node, one) for node in nodes for one in self.hosts[node].runtime.board.all()]
        strays = [
            f"{node} holds {one.task_id} ({one.state.name}), which has no row"
            for node, one in held
            if one.task_id not in view.tasks
        ]
        return found + strays


@define(eq=False)
class Checkers:
    """All of them, as the world calls them."""

    consensus: Consensus
    states: States
    tasks: Tasks
    history: History
    ledger: Ledger
    fires: Fires = field(factory=Fires)

    def sent(self, message: Message, disk: Disk) -> None:
        """A message leaves a manager."""
        self.consensus.sent(message, disk)

    def heard(self, core: RaftCore, peer: NodeId) -> None:
        """A core took an acknowledgement in."""
        state = core._state
        if state.reign is not None and peer in state.reign.peers:
            match = state.reign.peers[peer].match
            self.consensus.believes(state.id, state.term, peer, match)

    def asked(self, core: RaftCore, context: object) -> None:
        """A core was asked to confirm a read."""
        self.consensus.asked(core.id, core.term, context)

    def confirms(self, core: RaftCore, read: ReadState) -> None:
        """A core confirmed a read."""
        self.consensus.confirms(core.id, core._state.conf.voters, read)

    def ready(self, status: RaftStatus, ready: Ready) -> None:
        """A core handed out work."""
        self.consensus.ready(status, ready)

    def wrote(self, node: NodeId, ready: Ready) -> None:
        """A write became durable."""
        self.consensus.wrote(node, ready)

    def lost(self, node: NodeId, *, promises: bool = False) -> None:
        """A manager's disk was damaged, or wiped, its `promises` with it."""
        self.consensus.lost(node, promises=promises)

    def started(self, node: NodeId, disk: Disk, view: View) -> None:
        """A manager begins with this."""
        self.consensus.started(node, disk)
        self.states.restored(node, view)

    def restored(self, node: NodeId, view: View) -> None:
        """A manager took the leader's state."""
        self.states.restored(node, view)

    def applied(
        self, node: NodeId, entry: Entry, view: View, outcome: Outcome, changed: frozenset[Key]
    ) -> None:
        """A manager applied an entry."""
        before = self.states.views[entry.index - 1]
        is_news = self.states.applied(node, entry, view, outcome, changed)
        if is_news:
            self.fires.applied(before, view, changed)
        if is_news and entry.kind is EntryKind.NORMAL:
            self.history.committed(entry.index, entry.data, before, outcome, changed)

    def decided(self, node: NodeId, task_id: TaskId, step: Prepare | Start | Stop | Remove) -> None:
        """An agent decided on a step."""
        if isinstance(step, Stop) and step.fenced:
            self.tasks.fences(node, task_id)

    def carrying_out(
        self, node: NodeId, task_id: TaskId, step: Prepare | Start | Stop | Remove
    ) -> None:
        """An agent's step takes effect."""
        if isinstance(step, Prepare):
            self.states.promises.runs(step.assignment.task, step.assignment.spec)
        self.tasks.carrying_out(node, task_id, step)
        newest = self.states.newest
        if isinstance(step, Start) and task_id in newest.tasks:
            self.fires.starts(newest, newest.tasks[task_id])
