"""The book of what the clerks of a bare cluster saw in its registers, judged by `linearizability`.

A register is a node's row with one label: the cheapest thing that the store keeps. The judge knows
nothing of log indexes and trusts no node.
"""

from attrs import define, field

from meshswarm.ids import NodeId
from meshswarm.sim.linearizability import Model, Operation, State, check
from meshswarm.sim.trace import Violation
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

KEYS = ("k1", "k2")
LABEL = "v"

MAX_STEPS = 200_000
"""Of the search for an order; no history of a run comes near."""


def _register(state: State, operation: Operation) -> tuple[State, object]:
    """A register that must be made before it is written; reading tells what was written last."""
    match operation.kind:
        case "make":
            return ("" if state is None else state), True
        case "write":
            return (state, False) if state is None else (operation.value, True)
        case "read":
            return state, state
        case _:
            raise ValueError(f"no register does {operation.kind}")


REGISTER = Model(initial=None, apply=_register)


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
        finding = check([*self.answered, *self._open.values()], REGISTER, MAX_STEPS)
        if finding is not None:
            raise Violation(finding.in_words())


def value_in(view: View, key: str) -> str | None:
    """What the register holds; None if it was never made."""
    row = view.nodes.get(NodeId(key))
    return None if row is None else row.labels.get(LABEL, "")
