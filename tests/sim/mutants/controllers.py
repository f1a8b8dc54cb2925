"""Mistakes of the controllers; ideal worlds show them."""

import pytest
from attrs import evolve

from meshswarm.control import decide, leaving, rebalance, rollout, turns
from meshswarm.control.whatif import WhatIf
from meshswarm.ids import TaskId
from meshswarm.model.rollout import UpdatePolicy
from meshswarm.model.task import Task
from meshswarm.store import apply, rollouts
from meshswarm.store.commands import RevertService
from meshswarm.store.transaction import Transaction


def surges_without_limit(patch: pytest.MonkeyPatch) -> None:
    """As many slots have their turn as there are, whatever the parallelism."""
    patch.setattr(turns, "_room", lambda *_: 100)


def restores_something_else(patch: pytest.MonkeyPatch) -> None:
    """What is given up has its old revision's number again, and keeps its new spec."""

    def revert(transaction: Transaction, command: RevertService) -> tuple[tuple[str, str], ...]:
        new = transaction.view.services[command.service_id].spec
        effects = rollouts.revert_service(transaction, command)
        service = transaction.view.services[command.service_id]
        transaction.put_service(evolve(service, spec=new))
        return effects

    patch.setitem(apply._HANDLERS, RevertService, revert)


def counts_from_its_own_beginning(patch: pytest.MonkeyPatch) -> None:
    """A leader keeps the deadlines of new tasks in mind; the next one begins anew."""
    seen: dict[tuple[TaskId, int], int] = {}

    def healthy_by_ms(
        whatif: WhatIf, _: object, __: object, task: Task, policy: UpdatePolicy
    ) -> int:
        first_ms = seen.setdefault((task.id, whatif.view.term), whatif.now_ms)
        return first_ms + round(policy.healthy_deadline_s * 1_000)

    patch.setattr(rollout, "_healthy_by_ms", healthy_by_ms)


def moves_without_a_budget(patch: pytest.MonkeyPatch) -> None:
    """A drained node is left by all at once, whatever may be missing."""
    patch.setattr(leaving, "budget_of", lambda *_: 100)


def moves_beside_what_runs_alone(patch: pytest.MonkeyPatch) -> None:
    """What may never run twice is moved as everything else, unasked, too."""
    patch.setattr(leaving, "runs_alone", lambda *_: False)
    patch.setattr(rebalance, "runs_alone", lambda *_: False)


def moves_on_and_on(patch: pytest.MonkeyPatch) -> None:
    """Tasks are moved unasked though others still move."""
    patch.setattr(rebalance, "is_calm", lambda *_: True)


def leaves_dead_nodes_tasks(patch: pytest.MonkeyPatch) -> None:
    """A node is down, and its tasks are taken to run on."""
    patch.setattr(decide, "give_up_tasks", lambda *_: None)
