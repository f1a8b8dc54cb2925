"""A service's tasks by slot: what lives there, what still stops, what was there before."""

from collections.abc import Iterable

from attrs import frozen

from meshswarm.ids import NodeId
from meshswarm.model.service import Service
from meshswarm.model.task import DesiredState, Task


@frozen(kw_only=True)
class Slot:
    """One slot of a service and all its tasks, oldest first; a missing slot has none."""

    number: int
    """1, 2, ...; 0 in a global service."""
    node_id: NodeId | None = None
    """The slot of a global service is its node."""
    tasks: tuple[Task, ...] = ()

    @property
    def latest(self) -> Task | None:
        """The newest task, dead or alive."""
        return self.tasks[-1] if self.tasks else None

    @property
    def live(self) -> Task | None:
        """The newest task that is meant to run and may."""
        for task in reversed(self.tasks):
            if task.is_live:
                return task
        return None

    @property
    def surplus(self) -> tuple[Task, ...]:
        """Live tasks besides the newest: none, but for the old one in a step that starts first."""
        return tuple(task for task in self.tasks if task.is_live)[:-1]

    @property
    def stopping(self) -> tuple[Task, ...]:
        """Tasks that were told to stop and may still run."""
        return tuple(t for t in self.tasks if not t.is_live and not t.status.state.is_terminal)

    @property
    def dead(self) -> tuple[Task, ...]:
        """Tasks that are over."""
        return tuple(task for task in self.tasks if task.status.state.is_terminal)

    @property
    def is_left(self) -> bool:
        """Whether nothing here is wanted any more: free to be taken anew."""
        return all(task.desired is DesiredState.REMOVE for task in self.tasks)


def slots_of(tasks: Iterable[Task]) -> list[Slot]:
    """The slots that these tasks of one service take, in order."""
    found: dict[tuple[int, str], list[Task]] = {}
    for task in tasks:
        node_id = "" if task.slot else task.node_id or ""
        found.setdefault((task.slot, node_id), []).append(task)
    return [
        Slot(
            number=number,
            node_id=NodeId(node_id) if node_id else None,
            tasks=tuple(sorted(found[number, node_id], key=_age)),
        )
        for number, node_id in sorted(found)
    ]


def is_outdated(slot: Slot, service: Service) -> bool:
    """Whether what runs in the slot, or ran last, is of another revision."""
    task = slot.live or slot.latest
    return task is not None and task.revision != service.revision


def _age(task: Task) -> tuple[int, bool, int, int, str]:
    """Oldest first. A live task is the newest of its slot, also within one millisecond."""
    return (task.created_at_ms, task.is_live, task.revision, task.attempt, task.id)
