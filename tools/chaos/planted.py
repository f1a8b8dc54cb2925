"""A node with a bug planted in it, to see whether the checks bite: `planted BUG node start ...`.

    python3 tools/run.py chaos --plant BUG

No part of the product: it replaces a method in this one process and runs the command line.
"""

import sys
import time
from collections.abc import Callable

from attrs import evolve

from meshswarm.cli.main import main
from meshswarm.cluster.driver import Driver, Waiter
from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.proposals import Proposals
from meshswarm.ids import Index
from meshswarm.model.service import Service
from meshswarm.store.outcome import ClientSession, Outcome
from meshswarm.store.transaction import Transaction


def local_reads() -> None:
    """A manager answers reads from its own view, without asking whether it is current."""

    async def confirm(self: Proposals) -> Index:
        return self._driver.hub.view.index

    Proposals.confirm = confirm  # type: ignore[method-assign]


def early_answer() -> None:
    """The leader answers as soon as it has appended, before anyone else holds the entry."""
    propose = Driver.propose

    def propose_and_answer(self: Driver, data: bytes, waiter: Waiter) -> None:
        propose(self, data, waiter)
        if b"Group" not in data:  # which needs an outcome for each of its parts
            waiter(Outcome(index=self.core.status().last_index))

    Driver.propose = propose_and_answer  # type: ignore[method-assign]


def forgetful_journal() -> None:
    """Entries are called durable though they were never written."""
    submit = Journal.submit

    def submit_less(self: Journal, write: JournalWrite, done: Callable[[], None]) -> None:
        state = write.hard_state
        kept = evolve(state, commit=Index(0)) if state is not None else None
        submit(self, evolve(write, entries=(), hard_state=kept), done)

    Journal.submit = submit_less  # type: ignore[method-assign]


def twice() -> None:
    """A command that is sent again is carried out again."""

    def forget(
        self: ClientSession, sequence: int, acknowledged: int, outcome: Outcome
    ) -> ClientSession:
        return evolve(self, used_at=outcome.index)

    ClientSession.with_answer = forget  # type: ignore[method-assign]


def own_clock() -> None:
    """A row bears the time at which it was written here, instead of the log's."""
    put_service = Transaction.put_service

    def put_now(self: Transaction, service: Service) -> None:
        now_ms = time.time_ns() // 1_000_000
        put_service(self, evolve(service, updated_at_ms=now_ms))

    Transaction.put_service = put_now  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug for bug in (local_reads, early_answer, forgetful_journal, twice, own_clock)
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    sys.exit(main())
