"""Room for what matters more: tasks of services with a smaller priority are asked to stop.

Only where nothing else helps, only as many as it takes, the least important ones first; never more
of a service than its budget lets be missing, and none that nothing would replace. Whoever is to
have the room waits until it is free; what makes way, or goes for good, counts as gone already, so
that nobody is stopped twice for the same task. What made way has no claim for its successor.
"""

import heapq
from collections.abc import Collection, Iterable, Sequence

from attrs import frozen

from meshswarm.control.filters import filters_by_load, first_refusal, suits
from meshswarm.control.loads import load_of, more_of
from meshswarm.control.skew import Skew, skew_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import NodeId, ServiceId, TaskId
from meshswarm.model.node import Node
from meshswarm.model.service import Mode, RestartCondition, Service, ServiceSpec, TaskSpec
from meshswarm.model.task import DesiredState, Reason, Task
from meshswarm.store.commands import SetDesired
from meshswarm.store.view import View


@frozen(kw_only=True, order=True)
class _Offer:
    """What one node can do for the task: nothing need stop there, or these must."""

    highest: int
    """Priority of the most important victim."""
    number: int
    node: str
    victims: tuple[TaskId, ...]
    node_id: NodeId


def make_room(
    whatif: WhatIf,
    service: Service,
    spec: TaskSpec,
    waiting: Sequence[TaskId],
    only: NodeId | None = None,
) -> None:
    """Stop what must make way for the waiting tasks, `only` on one node if given, and note for
    whom room is kept. A global service has no task that waits: the id stands for its slot."""
    lesser = _lesser(whatif.view, service.spec.priority)
    if not lesser:
        return
    whatif.promised.difference_update(waiting)
    whatif.release(waiting)
    room = _Room(whatif, service.spec.name, spec, lesser)
    suited = suits(spec)
    skew = skew_of(whatif, spec, service.spec.name) if only is None else None
    nodes = [
        node
        for node in whatif.candidates(spec)
        if only in (None, node.id) and (suited is None or suited(node))
    ]
    offers = [offer for node in nodes if (offer := room.offer(node)) is not None]
    heapq.heapify(offers)
    for task_id in waiting:
        # Others may have used up a budget since the offer was made: it is made anew.
        best = _best(whatif, room, offers, skew)
        if best is None:
            return
        room.take(best, task_id)
        if skew is not None:
            skew.note(whatif.view.nodes[best.node_id])
        whatif.promised.add(task_id)
        further = room.offer(whatif.view.nodes[best.node_id])
        if further is not None:
            heapq.heappush(offers, further)


def _best(whatif: WhatIf, room: "_Room", offers: list[_Offer], skew: Skew | None) -> _Offer | None:
    """The best of the offers as they are now, taken off the heap; those whose node would get too
    far ahead of others stay there."""
    ahead: list[_Offer] = []
    try:
        return _next_best(whatif, room, offers, skew, ahead)
    finally:
        for one in ahead:
            heapq.heappush(offers, one)


def _next_best(
    whatif: WhatIf,
    room: "_Room",
    offers: list[_Offer],
    skew: Skew | None,
    ahead: list[_Offer],
) -> _Offer | None:
    while offers:
        best = heapq.heappop(offers)
        if skew is not None and skew.against(whatif.view.nodes[best.node_id]) is not None:
            ahead.append(best)
            continue
        renewed = room.offer(whatif.view.nodes[best.node_id])
        if renewed is not None and renewed <= best:
            return renewed
        if renewed is not None:
            heapq.heappush(offers, renewed)
    return None


def _lesser(view: View, priority: int) -> frozenset[ServiceId]:
    """The services that must make way for one of this priority."""
    return frozenset(s.id for s in view.services.values() if s.spec.priority < priority)


class _Room:
    """The nodes as they will be when all that is to stop has stopped."""

    def __init__(
        self, whatif: WhatIf, name: str, spec: TaskSpec, lesser: Collection[ServiceId]
    ) -> None:
        self._whatif = whatif
        self._name, self._spec = name, spec
        self._lesser = lesser
        self._filters = filters_by_load(spec)
        self._more = more_of(spec, name)
        self._budgets: dict[ServiceId, float] = {}

    def offer(self, node: Node) -> _Offer | None:
        """The least that must stop there for one more task; None: nothing that may would help."""
        tasks = self._whatif.view.tasks_on(node.id)
        may_stop = self._may_stop(tasks)
        if not self._fits(node, tasks, may_stop):
            return None
        victims: list[Task] = []
        while not self._fits(node, tasks, victims):
            victims.append(may_stop[len(victims)])
        for victim in sorted(victims, key=self._worth, reverse=True):
            spared = [one for one in victims if one is not victim]
            if self._fits(node, tasks, spared):
                victims = spared
        return _Offer(
            highest=max((self._priority(one) for one in victims), default=-(1 << 62)),
            number=len(victims),
            node=node.name,
            victims=tuple(one.id for one in victims),
            node_id=node.id,
        )

    def take(self, offer: _Offer, task_id: TaskId) -> None:
        """Stop the offer's tasks; one more place of the node is spoken for."""
        for victim in offer.victims:
            service_id = self._whatif.view.tasks[victim].service_id
            self._budgets[service_id] -= 1
            self._whatif.disturbed.add(service_id)
            self._whatif.do(
                SetDesired(task_id=victim, desired=DesiredState.SHUTDOWN, reason=Reason.PREEMPTED)
            )
        self._whatif.hold(offer.node_id, task_id, self._more)

    def _may_stop(self, tasks: Iterable[Task]) -> list[Task]:
        """All that may be stopped of these, the least important first."""
        found: list[Task] = []
        used: dict[ServiceId, int] = {}
        for task in sorted(tasks, key=self._worth):
            if task.service_id not in self._lesser or not task.is_live:
                continue
            restart = self._whatif.view.spec_of(task).task.restart
            spent = used.get(task.service_id, 0)
            if restart.condition is RestartCondition.NONE or spent >= self._budget(task.service_id):
                continue
            used[task.service_id] = spent + 1
            found.append(task)
        return found

    def _fits(self, node: Node, tasks: Iterable[Task], victims: Sequence[Task]) -> bool:
        """Whether the node takes one more when these, and what stops already, are gone."""
        gone = {task.id for task in victims} | {task.id for task in tasks if _leaves_room(task)}
        load = load_of(self._whatif.view, node.id, without=gone)
        for more in self._whatif.held_on(node.id):
            load = load.plus(more)
        return first_refusal(self._filters, node, self._spec, load, self._name) is None

    def _worth(self, task: Task) -> tuple[int, int, str]:
        """The order in which tasks make way: by priority, then the youngest first."""
        return (self._priority(task), -task.created_at_ms, task.id)

    def _priority(self, task: Task) -> int:
        service = self._whatif.view.services.get(task.service_id)
        return service.spec.priority if service else 0

    def _budget(self, service_id: ServiceId) -> float:
        """How many more of the service's tasks may be missing."""
        if service_id not in self._budgets:
            service = self._whatif.view.services[service_id]
            self._budgets[service_id] = budget_of(self._whatif.view, service)
        return self._budgets[service_id]


def _leaves_room(task: Task) -> bool:
    """Whether it stops without a successor that has a claim on its place."""
    return task.desired is DesiredState.REMOVE or (
        task.desired > DesiredState.RUNNING and task.ending is Reason.PREEMPTED
    )


def budget_of(view: View, service: Service) -> float:
    """How many more of the service's slots we may leave without a task that works; infinite
    without a limit. A slot that has two of them, in the middle of a move, makes up for no other."""
    spec = service.spec
    if spec.max_unavailable is None and spec.max_unavailable_percent is None:
        return float("inf")
    tasks = [view.tasks[task_id] for task_id in view.tasks_by_service.get(service.id, ())]
    work = {task.slot or task.node_id for task in tasks if task.is_live and task.is_healthy}
    wanted = _wanted(spec, tasks)
    return most_missing(spec, wanted) - max(0, wanted - len(work))


def most_missing(spec: ServiceSpec, wanted: int) -> float:
    """How many of so many tasks may be missing by our own doing; infinite without a limit.

    A percentage is rounded down, but to no less than 1, unless it is 0: else no task of a small
    service could ever be moved.
    """
    if spec.max_unavailable_percent is not None:
        return wanted * spec.max_unavailable_percent // 100 or min(1, spec.max_unavailable_percent)
    return float("inf") if spec.max_unavailable is None else spec.max_unavailable


def _wanted(spec: ServiceSpec, tasks: Iterable[Task]) -> int:
    """How many slots should have a task; of a global service one whose task made way counts too."""
    if spec.mode is Mode.REPLICATED:
        return spec.replicas
    if spec.mode is Mode.GLOBAL:
        return len({task.node_id for task in tasks if task.desired is not DesiredState.REMOVE})
    return len({task.slot or task.node_id for task in tasks if task.is_live})
