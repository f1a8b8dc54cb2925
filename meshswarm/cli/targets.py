"""Which task a user means: by service, slot or task. Pure."""

from collections.abc import Callable

from meshswarm.cli.rows import node_name
from meshswarm.errors import Conflict, NotFound
from meshswarm.model.service import Service
from meshswarm.model.task import Task, TaskState
from meshswarm.store.view import View


def running_task(view: View, target: str) -> Task:
    """The running task of `SERVICE`, `SERVICE.SLOT`, `SERVICE.NODE`, or with that id or name.

    Of a service it is the healthy one with the smallest slot, of a slot the newest.

    :raises NotFound: if there is no such task or service.
    :raises Conflict: if there is, and it does not run.
    """
    found = _service_and_slot(view, target)
    if found is None:
        task = _by_id(view, target)
        if task.status.state is not TaskState.RUNNING:
            raise _not_running(f"task {task.id} is {task.status.state.label}", task.service_name)
        return task
    service, slot = found
    running = [
        task
        for task in view.tasks_of(service.id)
        if task.status.state is TaskState.RUNNING and (slot is None or slot(task))
    ]
    if not running:
        raise _not_running(f"no task of {target} runs", service.spec.name)
    return min(running, key=lambda task: (not task.is_healthy, task.slot, -task.created_at_ms))


def label(view: View, task: Task) -> str:
    """The task's name as users write it: `SERVICE.SLOT`, or `SERVICE.NODE` of a global service."""
    return f"{task.service_name}.{task.slot or node_name(view, task.node_id)}"


def _service_and_slot(
    view: View, target: str
) -> tuple[Service, Callable[[Task], bool] | None] | None:
    """The service that is meant, and which of its tasks."""
    service = view.service_named(target)
    if service is not None:
        return service, None
    name, _, slot = target.rpartition(".")
    service = view.service_named(name)
    if service is None:
        return None

    def is_meant(task: Task) -> bool:
        return slot == (str(task.slot) if task.slot else node_name(view, task.node_id))

    return service, is_meant


def _by_id(view: View, target: str) -> Task:
    name, _, last = target.rpartition(".")
    try:
        return view.find_task(last)  # a container's name ends with the id
    except NotFound:
        message = f"there is no service, slot or task {target!r}"
        raise NotFound(message, hint=view.no_service(name or target)) from None


def _not_running(what: str, service: str) -> Conflict:
    return Conflict(what, hint=f"meshswarm service ps {service}; meshswarm why {service}")
