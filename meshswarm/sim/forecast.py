"""What would happen if: a cluster's view goes on as a model, with the real controllers in it.

`forecast` takes a view, changes it or kills nodes in it, lets time pass and tells what came of it.
Nothing but values goes in and out; the cluster whose view it is never hears of it. `adopted.py`
says what is assumed, `account.py` how it is told.
"""

import random
from collections.abc import Sequence
from functools import partial

from attrs import evolve, field, frozen
from attrs.validators import gt

from meshswarm.control.liveness import LivenessPolicy
from meshswarm.control.why import why
from meshswarm.ids import NodeId, ServiceId
from meshswarm.model.node import NodeState
from meshswarm.model.service import Service
from meshswarm.model.task import Reason, Task, TaskState
from meshswarm.raft.quorum import majority_of
from meshswarm.sim.account import Account, Meter, Moment
from meshswarm.sim.adopted import Assumed, Programs, adopted
from meshswarm.sim.clock import Clock, Life
from meshswarm.sim.direct import DirectAgent
from meshswarm.sim.hosts import Host
from meshswarm.sim.ideal import Ideal, Pace
from meshswarm.sim.trace import Trace
from meshswarm.store.commands import Command
from meshswarm.store.view import View

SETTLE_MS = 1_000
"""The model runs for so long before the question is asked: agents report what they hold."""

DELAY_MS = (1, 1)
PACE = Pace(commit_ms=(5, 5), lost_share=0.0)


@frozen(kw_only=True)
class Managers:
    """Who votes and who leads; with no voters named, managers never fail in the model."""

    voters: frozenset[NodeId] = frozenset()
    leader: NodeId | None = None
    election_ms: int = 2_000
    """From a leader's death to the next one."""


@frozen(kw_only=True)
class Question:
    """What is done to the cluster at the beginning: commands first, then hosts that lose power."""

    commands: tuple[Command, ...] = ()
    killed: tuple[NodeId, ...] = ()
    span_ms: int = field(default=600_000, validator=gt(0))
    """For how long it is watched."""
    managers: Managers = Managers()
    policy: LivenessPolicy = LivenessPolicy()
    assumed: Assumed = Assumed()


@frozen(kw_only=True)
class Move:
    """A slot that ends up elsewhere."""

    slot: str
    from_node: str | None
    """None: it did not run anywhere."""
    to_node: str | None
    """None: it does not run any more, or the slot is gone."""


@frozen(kw_only=True)
class Down:
    """A slot that does not serve in the end, and why."""

    slot: str
    was_down: bool
    """Whether it did not serve before either."""
    state: str
    reason: str
    message: str
    refusals: dict[str, tuple[str, ...]]
    """What speaks against each node, by name."""


@frozen(kw_only=True)
class ServiceForecast:
    """What becomes of one service."""

    name: str
    wanted_before: int
    serving_before: int
    wanted: int
    serving: int
    """Tasks that really run and are healthy, in the end."""
    longest_outage_ms: int
    """The longest time in which not one served."""
    is_out: bool
    """Whether that is so in the end."""
    longest_short_ms: int
    """The longest time in which fewer served than should."""
    is_short: bool
    moved: tuple[Move, ...]
    down: tuple[Down, ...]
    summary: tuple[str, ...]
    """Where its rollout stands, in sentences."""


@frozen(kw_only=True)
class Forecast:
    """What would happen."""

    timeline: tuple[Moment, ...]
    left_out: int
    """Moments for which there was no room."""
    services: tuple[ServiceForecast, ...]
    span_ms: int


def forecast(view: View, question: Question, now_ms: int) -> Forecast:
    """What comes of it; `now_ms` is the wall clock. Raises a command's refusal."""
    model = _Model(view, question, max(now_ms, view.clock_ms))
    model.settle()
    before = model.served()
    model.ask()
    model.clock.run_until(model.clock.now_ms + question.span_ms)
    model.account.close()
    services = tuple(model.told(service_id, before) for service_id in model.service_ids())
    model.end()
    return Forecast(
        timeline=tuple(model.account.moments),
        left_out=model.account.left_out,
        services=services,
        span_ms=question.span_ms,
    )


@frozen(kw_only=True)
class _Served:
    """How a service stood before the question."""

    name: str
    wanted: int
    serving: int
    places: dict[str, str | None]
    """The node of each slot that serves, by the slot's name."""
    meter: Meter


class _Model:
    """The cluster as a model."""

    def __init__(self, view: View, question: Question, now_ms: int) -> None:
        self._before, self._question = view, question
        self.clock = Clock()
        rng = random.Random(0)
        epoch_ms = now_ms - SETTLE_MS
        self.ideal = Ideal(
            self.clock,
            Trace(self.clock),
            rng,
            view,
            policy=question.policy,
            epoch_ms=epoch_ms,
            pace=PACE,
        )
        self.account = Account(self.clock, view)
        self.ideal.observers.append(self.account.entry)
        programs = Programs(lambda: self.ideal.view, self.clock, question.assumed)
        self._hosts: dict[NodeId, Host] = {}
        for node in view.sorted_nodes():
            if node.state is NodeState.DOWN:
                continue
            host = adopted(view, node, self.clock, epoch_ms, question.assumed, rng)
            self._hosts[node.id] = host
            programs.watch(host)
            self.account.watch(host)
            host.life = Life(self.clock)
            DirectAgent(host, host.life, self.ideal, _unwatched, DELAY_MS)

    def settle(self) -> None:
        """Let agents say what they hold, before anything is asked."""
        if self._has_quorum(()):
            self.ideal.lead("the leader")
        self.clock.run_until(SETTLE_MS)
        self.account.open()

    def ask(self) -> None:
        """Do what the question says."""
        question = self._question
        if not self._has_quorum(()):
            self.account.tell("managers", self._quorum_told(()))
        for command in question.commands:
            outcome = self.ideal.submit(command)
            if outcome.error is not None:
                raise outcome.error
        for node_id in question.killed:
            self._kill(node_id)
        if not self._has_quorum(question.killed):
            self.ideal.depose()
            self.account.tell("managers", self._quorum_told(question.killed))
        elif question.managers.leader in question.killed:
            self.ideal.depose()
            self.account.tell("managers", "the leader is lost; the others elect one")
            self.clock.after(question.managers.election_ms, partial(self._elect, "another manager"))

    def _elect(self, name: str) -> None:
        self.account.tell("managers", f"{name} leads")
        self.ideal.lead(name)

    def _kill(self, node_id: NodeId) -> None:
        node, host = self.ideal.view.nodes[node_id], self._hosts.pop(node_id, None)
        if host is None or host.life is None:
            self.account.tell("node", "it is down already", node=node.name)
            return
        self.account.tell("node", "it is killed", node=node.name)
        host.life.end(silently=True)
        host.life = None
        self.account.darkens(host)
        self.ideal.loses(node_id)

    def end(self) -> None:
        """Nothing happens any more."""
        self.ideal.end()
        for host in self._hosts.values():
            if host.life is not None:
                host.life.end(silently=True)

    # --- managers -----------------------------------------------------------------------------

    def _has_quorum(self, killed: Sequence[NodeId]) -> bool:
        voters = self._question.managers.voters
        return not voters or len(self._voters_left(killed)) >= majority_of(len(voters))

    def _voters_left(self, killed: Sequence[NodeId]) -> frozenset[NodeId]:
        nodes = self._before.nodes
        down = {id_ for id_, node in nodes.items() if node.state is NodeState.DOWN}
        return self._question.managers.voters - down - frozenset(killed)

    def _quorum_told(self, killed: Sequence[NodeId]) -> str:
        left, voters = len(self._voters_left(killed)), len(self._question.managers.voters)
        return (
            f"{left} of {voters} managers are left, a quorum needs {majority_of(voters)}: what "
            "runs goes on, and nothing is replaced or changed"
        )

    # --- what came of it ----------------------------------------------------------------------

    def service_ids(self) -> list[ServiceId]:
        """The services that there were or are, by name, but for runs that are long over."""
        names = {s.id: s.spec.name for s in self._before.services.values()}
        names |= {s.id: s.spec.name for s in self.ideal.view.services.values()}
        over = {i for i, run in self._before.runs.items() if run.phase.is_over}
        runs = self.ideal.view.runs
        past = {i for i in over if i not in runs or runs[i].edition == self._before.runs[i].edition}
        return sorted(names.keys() - past, key=lambda service_id: names[service_id])

    def served(self) -> dict[ServiceId, _Served]:
        """How each service stands."""
        return {service_id: self._stands(service_id) for service_id in self.service_ids()}

    def _stands(self, service_id: ServiceId) -> _Served:
        view, meter = self.ideal.view, self.account.meters.get(service_id, Meter())
        service = view.services.get(service_id) or self._before.services[service_id]
        serving = [view.tasks[one] for one in sorted(meter.serving) if one in view.tasks]
        return _Served(
            name=service.spec.name,
            wanted=len(meter.serving) if service.spec.mode.is_job else meter.wanted,
            serving=len(meter.serving),
            places={_slot(view, task): _node_name(view, task.node_id) for task in serving},
            meter=meter,
        )

    def told(self, service_id: ServiceId, before: dict[ServiceId, _Served]) -> ServiceForecast:
        """What became of the service."""
        now = self._stands(service_id)
        was = before.get(service_id) or evolve(now, wanted=0, serving=0, places={})
        service = self.ideal.view.services.get(service_id)
        return ServiceForecast(
            name=now.name,
            wanted_before=was.wanted,
            serving_before=was.serving,
            wanted=now.wanted,
            serving=now.serving,
            longest_outage_ms=now.meter.out.longest_ms,
            is_out=now.meter.out.since_ms is not None,
            longest_short_ms=now.meter.short.longest_ms,
            is_short=now.meter.short.since_ms is not None,
            moved=_moves(was, now),
            down=() if service is None else tuple(self._down(service, was, now)),
            summary=() if service is None else self._summary(service),
        )

    def _summary(self, service: Service) -> tuple[str, ...]:
        view = self.ideal.view
        rollout, known = view.rollouts.get(service.id), self._before.rollouts.get(service.id)
        is_past = rollout is None or (not rollout.is_under_way and rollout == known)
        if is_past and service.id not in view.runs:
            return ()
        summary = why(view, service, self.ideal.log_time_ms()).summary
        return summary if service.spec.mode.is_job else summary[1:]

    def _down(self, service: Service, was: _Served, now: _Served) -> list[Down]:
        """The slots that do not serve, but for those that are done."""
        view, found = self.ideal.view, list[Down]()
        report = why(view, service, self.ideal.log_time_ms())
        for slot in report.slots:
            if slot.state is TaskState.COMPLETE and slot.reason is Reason.COMPLETED:
                continue
            if slot.state is None and service.spec.mode.is_job:
                continue  # its turn comes after others
            name = f"{report.service}.{slot.slot or slot.node}"
            node = view.node_named(slot.node or "")
            if service.spec.mode.is_global and node and node.id not in self._hosts:
                continue
            found.append(
                Down(
                    slot=name,
                    was_down=name not in was.places,
                    state="missing" if slot.state is None else slot.state.label,
                    reason=slot.reason.value,
                    message=slot.message,
                    refusals=dict(slot.refusals),
                )
            )
        told = {one.slot for one in found}
        return found + [one for one in self._unnoticed(service, was, now) if one.slot not in told]

    def _unnoticed(self, service: Service, was: _Served, now: _Served) -> list[Down]:
        """The slots whose host is dead, and for which nobody does anything."""
        view, found = self.ideal.view, list[Down]()
        for task in view.tasks_of(service.id):
            node = view.nodes.get(task.node_id) if task.node_id else None
            name = _slot(view, task)
            if not task.is_healthy or not task.is_live or node is None or name in now.places:
                continue
            if service.spec.mode.is_global:
                continue
            message = node.message or f"its host {node.name} is dead, and nobody replaces it"
            if not self.ideal.has_leader:
                message = f"its host {node.name} is dead, and no manager leads to replace it"
            found.append(
                Down(
                    slot=name,
                    was_down=name not in was.places,
                    state="lost",
                    reason="unnoticed",
                    message=message,
                    refusals={},
                )
            )
        return found


def _unwatched(*_: object) -> None:
    """Nobody judges a model's agents."""


def _moves(was: _Served, now: _Served) -> tuple[Move, ...]:
    """The slots that serve elsewhere than before, or no more, or anew."""
    names = sorted({*was.places, *now.places}, key=_numbered)
    return tuple(
        Move(slot=name, from_node=was.places.get(name), to_node=now.places.get(name))
        for name in names
        if was.places.get(name) != now.places.get(name)
    )


def _numbered(slot: str) -> tuple[str, int, str]:
    """Slots in the order of their numbers."""
    service, _, last = slot.rpartition(".")
    return (service, int(last), "") if last.isdigit() else (service, 0, last)


def _slot(view: View, task: Task) -> str:
    return f"{task.service_name}.{task.slot or _node_name(view, task.node_id)}"


def _node_name(view: View, node_id: NodeId | None) -> str | None:
    node = view.nodes.get(node_id) if node_id is not None else None
    return node.name if node is not None else node_id
