"""What the tasks placed on each node have taken of it: kept from pass to pass, recounted on change.

A node's load is a function of its tasks' rows, so it is known as long as they are the same rows:
to see that they are costs a fraction of counting them anew.
"""

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from attrs import frozen
from immutables import Map

from meshswarm.ids import NodeId, TaskId
from meshswarm.model.network import Port
from meshswarm.model.resources import DeviceGrant
from meshswarm.model.service import TaskSpec
from meshswarm.model.task import DesiredState, Task, TaskState
from meshswarm.store.view import View

ASSUMED_NANO_CPUS = 100_000_000
ASSUMED_MEMORY_BYTES = 128 << 20
"""What a task weighs that reserves less: it is not nothing, and nobody knows how much it is."""


@frozen(kw_only=True)
class Load:
    """What the tasks placed on a node have taken of it; those that still stop included."""

    tasks: int = 0
    nano_cpus: int = 0
    memory_bytes: int = 0
    """Both reserved."""
    weighed_nano_cpus: int = 0
    weighed_memory_bytes: int = 0
    """What is reserved, and the assumed least of each task."""
    ports: tuple[Port, ...] = ()
    """Only those with a fixed published port."""
    services: Map[str, int] = Map()
    """Tasks by the names of their services."""
    stopping: Map[str, int] = Map()
    """Those of them that are not to go on running."""
    shunned: frozenset[str] = frozenset()
    """Services from which a task there must be apart."""
    devices: tuple[DeviceGrant, ...] = ()

    def plus(self, more: "More", devices: tuple[DeviceGrant, ...] = (), times: int = 1) -> "Load":
        """The load with so many more tasks."""
        name = more.name
        return Load(
            tasks=self.tasks + times,
            nano_cpus=self.nano_cpus + times * more.nano_cpus,
            memory_bytes=self.memory_bytes + times * more.memory_bytes,
            weighed_nano_cpus=self.weighed_nano_cpus + times * more.weighed_nano_cpus,
            weighed_memory_bytes=self.weighed_memory_bytes + times * more.weighed_memory_bytes,
            ports=self.ports + times * more.ports if more.ports else self.ports,
            services=self.services.set(name, self.services.get(name, 0) + times),
            stopping=self.stopping,
            shunned=self.shunned | more.shunned if more.shunned else self.shunned,
            devices=self.devices + devices if devices else self.devices,
        )

    def live_of(self, name: str) -> int:
        """How many tasks of the service of that name are there to stay."""
        return self.services.get(name, 0) - self.stopping.get(name, 0)


@frozen(kw_only=True)
class More:
    """What each task of one kind adds to a node's load, but for its devices."""

    name: str
    nano_cpus: int
    memory_bytes: int
    weighed_nano_cpus: int
    weighed_memory_bytes: int
    ports: tuple[Port, ...]
    shunned: frozenset[str]


def more_of(spec: TaskSpec, name: str) -> More:
    """What a task of the service of that name adds."""
    reserved = spec.reservations
    return More(
        name=name,
        nano_cpus=reserved.nano_cpus,
        memory_bytes=reserved.memory_bytes,
        weighed_nano_cpus=max(reserved.nano_cpus, ASSUMED_NANO_CPUS),
        weighed_memory_bytes=max(reserved.memory_bytes, ASSUMED_MEMORY_BYTES),
        ports=fixed_ports(spec),
        shunned=shunned_by(spec),
    )


def fixed_ports(spec: TaskSpec) -> tuple[Port, ...]:
    """The ports of the node that a task takes for itself alone."""
    return tuple(port for port in spec.ports if port.published)


def shunned_by(spec: TaskSpec) -> frozenset[str]:
    """The services from which a task must be apart."""
    rules = spec.placement.affinities
    return frozenset(rule.service for rule in rules if rule.is_apart and rule.is_required)


class Loads:
    """The nodes' loads as last counted, each with the rows that it was counted of."""

    def __init__(self) -> None:
        self._counted: dict[NodeId, tuple[Sequence[Task], Load]] = {}

    def of(self, view: View, node_id: NodeId) -> Load:
        """What has been taken of the node."""
        rows = list(map(view.tasks.__getitem__, view.tasks_by_node.get(node_id, ())))
        known = self._counted.get(node_id)
        if known is not None and known[0] == rows:
            return known[1]
        load = None if known is None else _followed(view, *known, rows)
        if load is None:
            load = _counted(view, rows)
        self._counted[node_id] = (rows, load)
        return load


def _followed(view: View, before: Sequence[Task], load: Load, rows: Sequence[Task]) -> Load | None:
    """The load of these rows, if they are those `before`, which had this load, and new ones, and
    none of those weighs anything else by now; None if not."""
    known = {task.id: task for task in before}
    new: list[Task] = []
    for task in rows:
        old = known.get(task.id)
        if old is None:
            new.append(task)
        elif old is not task and _weight(old) != _weight(task):
            return None
    if len(known) + len(new) != len(rows):
        return None
    for task in new:
        is_over, stops = _weight(task)
        if stops and not is_over:
            return None
        if not is_over:
            load = load.plus(more_of(view.spec_of(task).task, task.service_name), task.devices)
    return load


def _weight(task: Task) -> tuple[bool, bool]:
    """What of a placed task's row may change, and its node's load with it: whether it is over, and
    whether it is to stop."""
    return (task.status.state >= TaskState.COMPLETE, task.desired > DesiredState.RUNNING)


def load_of(view: View, node_id: NodeId, *, without: Container[TaskId] = ()) -> Load:
    """What the tasks on the node, those that stop included, have taken; `without` some of them."""
    ids = view.tasks_by_node.get(node_id, ())
    return _counted(view, (view.tasks[task_id] for task_id in ids if task_id not in without))


def _counted(view: View, rows: Iterable[Task]) -> Load:
    """The load of these tasks, those that are over passed by."""
    over, wanted = int(TaskState.COMPLETE), int(DesiredState.RUNNING)
    tasks = cpus = memory = weighed_cpus = weighed_memory = 0
    ports: tuple[Port, ...] = ()
    services: Counter[str] = Counter()
    stopping: Counter[str] = Counter()
    shunned: frozenset[str] = frozenset()
    devices: tuple[DeviceGrant, ...] = ()
    for task in rows:
        if task.status.state >= over:
            continue
        spec = view.spec_of(task).task
        reserved = spec.reservations
        tasks += 1
        cpus += reserved.nano_cpus
        memory += reserved.memory_bytes
        weighed_cpus += max(reserved.nano_cpus, ASSUMED_NANO_CPUS)
        weighed_memory += max(reserved.memory_bytes, ASSUMED_MEMORY_BYTES)
        services[task.service_name] += 1
        if task.desired > wanted:
            stopping[task.service_name] += 1
        if spec.ports:
            ports += fixed_ports(spec)
        if spec.placement.affinities:
            shunned |= shunned_by(spec)
        devices += task.devices
    return Load(
        tasks=tasks,
        nano_cpus=cpus,
        memory_bytes=memory,
        weighed_nano_cpus=weighed_cpus,
        weighed_memory_bytes=weighed_memory,
        ports=ports,
        services=Map(services),
        stopping=Map(stopping),
        shunned=shunned,
        devices=devices,
    )
