"""The book of what the clerks of a bare cluster saw in its registers, judged by `registers`.

A register is a node's row with one label: the cheapest thing that the store keeps. The judge knows
nothing of log indexes and trusts no node.
"""

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field

from meshswarm.ids import NodeId
from meshswarm.sim.linearizability import Operation
from meshswarm.sim.registers import check_register
from meshswarm.sim.trace import Violation
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

KEYS = ("k1", "k2")
LABEL = "v"


@define(eq=False)
class Ledger:
    """All clerks' operations."""

    answered: list[Operation] = field(factory=list)
    _open: dict[int, Operation] = field(factory=dict)
    """Writes under way, by the instant of their call; they may never end."""
    _instant: int = 0

    def instant(self) -> int:
        """A time of its own for each event, in the order in which they really happen."""
        self._instant += 1
        return self._instant

    def begins(self, client: str, key: str, kind: str, value: str | None) -> int:
        """A clerk writes; the number of the call."""
        call = self.instant()
        self._open[call] = Operation(
            client=client, key=key, kind=kind, value=value, invoked=call, returned=None
        )
        return call

    def ends(self, call: int, outcome: Outcome | None) -> None:
        """It was told the outcome; or None: surely nothing was done."""
        began = self._open.pop(call)
        if outcome is not None:
            self._answer(began, began.invoked, outcome.refusal is None)

    def reads(self, client: str, since: int, view: View) -> None:
        """A clerk that asked at that instant was told of all registers at once."""
        for key in KEYS:
            operation = Operation(client=client, key=key, kind="read", invoked=0, returned=None)
            self._answer(operation, since, value_in(view, key))

    def _answer(self, asked: Operation, since: float, result: object) -> None:
        answered = Operation(
            client=asked.client,
            key=asked.key,
            kind=asked.kind,
            value=asked.value,
            result=result,
            invoked=since,
            returned=self.instant(),
        )
        self.answered.append(answered)

    def check(self) -> None:
        """Raise `Violation` unless all of it is linearizable."""
        everything = [*self.answered, *self._open.values()]
        for key in KEYS:
            fault = check_register(_writes_and_reads(everything, key), initial=None)
            if fault is not None:
                raise Violation(f"`{key}` is not linearizable: {fault}")


def _writes_and_reads(operations: Iterable[Operation], key: str) -> Iterator[Operation]:
    """One register's history. Of those that make it the first that takes effect writes the empty
    value: after the first call, and before the first answer. The others do nothing."""
    makes: list[Operation] = []
    for operation in operations:
        if operation.key == key and operation.kind == "make":
            makes.append(operation)
        elif operation.key == key and (operation.kind == "read" or operation.result is not False):
            yield operation
    if makes:
        answers = [one.returned for one in makes if one.returned is not None]
        yield evolve(
            makes[0],
            kind="write",
            value="",
            invoked=min(one.invoked for one in makes),
            returned=min(answers, default=None),
        )


def value_in(view: View, key: str) -> str | None:
    """What the register holds; None if it was never made."""
    row = view.nodes.get(NodeId(key))
    return None if row is None else row.labels.get(LABEL, "")
