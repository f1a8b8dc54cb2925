"""Forgets ended tasks: beyond the history kept of each slot, and those that were to be removed."""

from meshswarm.control.restart import history_of
from meshswarm.control.resting import HISTORY
from meshswarm.control.slots import slots_of
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import ServiceId
from meshswarm.model.task import DesiredState
from meshswarm.store.commands import ForgetTask


def reap(whatif: WhatIf, service_id: ServiceId) -> None:
    """Forget what is over and no longer of interest."""
    service = whatif.view.services.get(service_id)
    keep = 0 if service is None else history_of(service.spec.task.restart, HISTORY)
    rows = whatif.slots_of(service_id).restless_rows()
    if not any(task.status.state.is_terminal for task in rows):
        return
    for slot in slots_of(rows):
        unwanted = [task for task in slot.dead if task.desired is DesiredState.REMOVE]
        history = [task for task in slot.dead if task.desired is not DesiredState.REMOVE]
        for task in [*unwanted, *history[: max(0, len(history) - keep)]]:
            whatif.do(ForgetTask(task_id=task.id))
