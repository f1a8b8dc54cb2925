"""A model cluster whose nodes run things: agents decide as real ones do, containers are values.

Rows say what managers know; `running` says what is really there, also on hosts that are cut off.
"""

from attrs import define, evolve, field

from meshswarm.agent import plan
from meshswarm.agent.card import (
    Card,
    Exit,
    Forget,
    Held,
    HeldState,
    Place,
    Prepare,
    Remove,
    Report,
    Start,
    Step,
    Stop,
    Wait,
)
from meshswarm.control.liveness import LivenessPolicy
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.node import Node
from meshswarm.store.assignments import Told
from meshswarm.store.commands import ReportTasks, TaskReport
from tests.support.model_world import ModelWorld

MOST_STEPS = 500
"""Steps of one agent without an end: more is a bug."""

SLICE_MS = 250
"""In such pieces time goes on, so that agents act when they are due."""


@define
class Host:
    """One node: what its agent knows, and what runs there."""

    id: NodeId
    cards: dict[TaskId, Card] = field(factory=dict)
    held: dict[TaskId, Held] = field(factory=dict)
    """Outlives the agent."""
    told: Told | None = None
    """What its session told it; None: it has none."""
    cut_at_ms: int | None = None

    def running(self) -> list[Held]:
        """What runs here, wanted or not."""
        return [one for one in self.held.values() if one.state is HeldState.RUNNING]


class AgentsWorld(ModelWorld):
    """Nodes that can be cut off, with agents that go by what they were told last."""

    def __init__(self, *nodes: Node, policy: LivenessPolicy | None = None) -> None:
        super().__init__(*nodes, policy=policy)
        self.hosts = {node.id: Host(id=node.id) for node in nodes}
        self.stubborn: set[TaskId] = set()
        """Containers that end by SIGKILL alone."""
        self.asked: set[TaskId] = set()
        """Those that were asked to end, and do so when time goes on."""

    # --- what happens ---------------------------------------------------------------------------

    def cut(self, node: Node) -> None:
        """The host reaches no manager; what it runs runs on."""
        self.kill(node)
        host = self.hosts[node.id]
        host.told = None
        if host.cut_at_ms is None:
            host.cut_at_ms = self.now_ms

    def join(self, node: Node) -> None:
        """The host is heard again; it is told what is its own with the next `hear`."""
        self.revive(node)
        self.hosts[node.id].cut_at_ms = None

    def restart_agent(self, node: Node) -> None:
        """Another process of the agent, which remembers nothing, finds what runs."""
        host = self.hosts[node.id]
        host.told = None
        host.cards = {one: plan.seen(Card(task_id=one), held) for one, held in host.held.items()}

    def lose_power(self, node: Node) -> None:
        """All that runs there ends, and its agent starts anew."""
        host = self.hosts[node.id]
        for held in host.running():
            self._put(host, evolve(held, state=HeldState.EXITED, exit=Exit(code=None)))
        self.restart_agent(node)

    def ends(self, task_id: TaskId) -> None:
        """A container ends by itself."""
        for host in self.hosts.values():
            held = host.held.get(task_id)
            if held is not None and held.state is HeldState.RUNNING:
                self._put(host, evolve(held, state=HeldState.EXITED, exit=Exit(code=1)))

    # --- agents ---------------------------------------------------------------------------------

    def hear(self, host: Host) -> bool:
        """Let the agent be told what is new; whether anything was."""
        if host.cut_at_ms is not None:
            return False
        if host.told is None:
            host.told = Told(host.id)
            change = host.told.all(self.view)
        else:
            news = host.told.next(self.view, None)
            if news is None:
                return False
            change = news
        host.cards = plan.told(host.cards, change, self.now_ms)
        for task_id, card in host.cards.items():
            host.cards[task_id] = plan.seen(card, host.held.get(task_id))
        self._report(host)
        return True

    def act(self, host: Host) -> bool:
        """Let the agent do all that it can now; whether it did anything."""
        alone_ms = 0 if host.cut_at_ms is None else self.now_ms - host.cut_at_ms
        did = False
        for _ in range(MOST_STEPS):
            steps = [
                (task_id, step)
                for task_id, card in sorted(host.cards.items())
                if not isinstance(
                    step := plan.next_step(card, host.cards, self.now_ms, alone_ms), Wait
                )
            ]
            if not steps:
                self._report(host)
                return did
            self._carry_out(host, *steps[0])
            did = True
        raise AssertionError(f"the agent of {host.id} does not come to rest")

    def _carry_out(self, host: Host, task_id: TaskId, step: Step) -> None:
        held = host.held.get(task_id)
        match step:
            case Forget():
                del host.cards[task_id]
                return
            case Prepare(assignment=assignment):
                task, spec = assignment.task, assignment.spec
                held = Held(
                    task_id=task_id,
                    service_id=task.service_id,
                    slot=task.slot,
                    fencing=task.fencing,
                    runtime=spec.runtime,
                    grace_s=spec.stop_grace_period_s,
                    stop_after_s=spec.stop_after_s,
                )
                self._put(host, held)
            case Start():
                assert held is not None, "what is started was prepared"
                held = evolve(held, state=HeldState.RUNNING, started_at_ms=self.now_ms)
                self._put(host, held)
            case Stop(kill=kill):
                assert held is not None, "what is stopped runs"
                self.asked.add(task_id)
                if kill:
                    held = evolve(held, state=HeldState.EXITED, exit=Exit(code=137))
            case Remove():
                host.held.pop(task_id)
                held = None
            case Report() | Place() | Wait():
                pass
        result = None if isinstance(step, Stop | Remove) else held
        host.cards[task_id] = plan.after(host.cards[task_id], step, result, self.now_ms)
        if held is not None:
            self._put(host, held)

    def _obey(self) -> bool:
        """Let what was asked to end do so; whether anything did."""
        ending = [
            (host, held)
            for host in self.hosts.values()
            for held in host.running()
            if held.task_id in self.asked - self.stubborn
        ]
        for host, held in ending:
            self._put(host, evolve(held, state=HeldState.EXITED, exit=Exit(code=143)))
        return bool(ending)

    def _put(self, host: Host, held: Held) -> None:
        host.held[held.task_id] = held
        card = host.cards.get(held.task_id)
        if card is not None:
            host.cards[held.task_id] = plan.seen(card, held)

    def _report(self, host: Host) -> None:
        """Tell the managers what they do not know; while it is cut off they hear nothing."""
        if host.cut_at_ms is not None or host.told is None:
            return
        rows = self.view.tasks
        reports = tuple(
            TaskReport(task_id=task_id, status=card.status)
            for task_id, card in sorted(host.cards.items())
            if card.assignment is not None
            and task_id in rows
            and rows[task_id].status != card.status
        )
        if reports:
            self.propose(ReportTasks(node_id=host.id, reports=reports))

    # --- time -----------------------------------------------------------------------------------

    def wait(self, ms: int) -> None:
        """Time goes on, and agents do in time what is due."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + SLICE_MS)
            self._obey()
            for host in self.hosts.values():
                self.act(host)

    def settle(self) -> None:
        """Let all go on until nothing is left to do."""
        for _ in range(2_000):
            self.control()
            moved = [self.hear(host) | self.act(host) for host in self.hosts.values()]
            if True in moved or self._obey():
                continue
            waits = [
                step.until_ms
                for host in self.hosts.values()
                for card in host.cards.values()
                if (card.stopping is not None or not card.runs)
                and isinstance(step := plan.next_step(card, host.cards, self.now_ms), Wait)
                and step.until_ms is not None
            ]
            if not waits and not self.dirty and not self.dead_since:
                return
            if self.wake_at_ms is not None:
                waits.append(self.wake_at_ms)
            assert waits, "something waits, and nothing will wake it"
            self.now_ms = max(self.now_ms + 1, min(waits))
        raise AssertionError("the cluster does not settle")
