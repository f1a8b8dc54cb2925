"""Forgets ended tasks: beyond the history kept of each slot, and those that were to be removed."""

from meshswarm.control.restart import history_of
from meshswarm.control.slots import slots_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import ServiceId
from meshswarm.model.task import DesiredState
from meshswarm.store.commands import ForgetTask

HISTORY = 5
"""Ended tasks kept of each slot, for people to see; more if the restart policy counts further."""


def reap(whatif: WhatIf, service_id: ServiceId) -> None:
    """Forget what is over and no longer of interest."""
    view = whatif.view
    rows = (view.tasks[task_id] for task_id in view.tasks_by_service.get(service_id, ()))
    if not any(task.status.state.is_terminal for task in rows):
        return
    service = view.services.get(service_id)
    keep = 0 if service is None else history_of(service.spec.task.restart, HISTORY)
    for slot in slots_of(view.tasks_of(service_id)):
        unwanted = [task for task in slot.dead if task.desired is DesiredState.REMOVE]
        history = [task for task in slot.dead if task.desired is not DesiredState.REMOVE]
        for task in [*unwanted, *history[: max(0, len(history) - keep)]]:
            whatif.do(ForgetTask(task_id=task.id))
