"""A service's numbered revisions: kept for its tasks, and for going back."""

from meshswarm.ids import ServiceId
from meshswarm.model.service import Revision
from meshswarm.store.transaction import Transaction

KEPT_REVISIONS = 10
"""Revisions of a service that are kept for going back to."""


def put_revision(transaction: Transaction, service_id: ServiceId, number: int) -> None:
    """Keep the service's present `TaskSpec` under this number, and forget old ones."""
    service = transaction.view.services[service_id]
    transaction.put_revision(
        Revision(
            service_id=service_id,
            number=number,
            task=service.spec.task,
            created_at_ms=transaction.view.clock_ms,
        )
    )
    transaction.prune_revisions(service_id, keep=KEPT_REVISIONS)
