"""A service's numbered revisions: kept for its tasks, and for going back."""

from attrs import evolve

from meshswarm.ids import ServiceId
from meshswarm.model.service import Revision
from meshswarm.store.transaction import Transaction

KEPT_REVISIONS = 10
"""Revisions of a service that are kept for going back to."""


def put_revision(transaction: Transaction, service_id: ServiceId, number: int) -> None:
    """Keep what the service runs now under this number, and forget old revisions."""
    service = transaction.view.services[service_id]
    transaction.put_revision(
        Revision(
            service_id=service_id,
            number=number,
            task=service.spec.task,
            depends_on=service.spec.depends_on,
            created_at_ms=transaction.view.clock_ms,
        )
    )
    transaction.prune_revisions(service_id, keep=KEPT_REVISIONS)


def note_dependencies(transaction: Transaction, service_id: ServiceId) -> None:
    """Write what the service depends on into all its revisions: tasks of any may be the last."""
    depends_on = transaction.view.services[service_id].spec.depends_on
    numbered = transaction.view.revisions[service_id]
    for number in sorted(numbered):
        if numbered[number].depends_on != depends_on:
            transaction.put_revision(evolve(numbered[number], depends_on=depends_on))
