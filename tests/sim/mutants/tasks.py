"""Mistakes of agents and of the control loop; they show in whole worlds only."""

import pytest

from meshswarm.agent import plan
from meshswarm.agent.card import Card
from meshswarm.control.slots import Slot
from meshswarm.ids import TaskId
from meshswarm.sim.seat import Seat
from meshswarm.sim.supervisor import Supervisor


def believes_a_stale_manager(patch: pytest.MonkeyPatch) -> None:
    """A manager that lags tells an old full set, and the agent ignores what is newer."""

    async def nothing(seat: Seat) -> None:
        """Open the session at once."""

    patch.setattr(Seat, "_catch_up", nothing)
    patch.setattr(Supervisor, "_is_stale", lambda agent, change: False)


def forgets_what_it_finds(patch: pytest.MonkeyPatch) -> None:
    """An agent whose runtime answers late waits for a word on what it finds, for ever."""

    def look(agent: Supervisor, task_id: TaskId) -> None:
        held = agent._host.runtime.board.look(task_id)
        if held is not None or task_id in agent.cards:
            card = agent.cards.get(task_id, Card(task_id=task_id))
            agent._put(plan.seen(card, held))
            agent._attend(task_id)

    patch.setattr(Supervisor, "_look", look)


def lets_time_stand(patch: pytest.MonkeyPatch) -> None:
    """Log time waits for this leader's clock where an earlier leader's was ahead."""

    def log_time_ms(seat: Seat) -> int:
        return max(seat.driver.view.clock_ms, seat._host.wall_ms())

    patch.setattr(Seat, "_log_time_ms", log_time_ms)


def starts_successors_at_once(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a slot's last task to stop."""
    patch.setattr(Slot, "stopping", property(lambda slot: ()))
