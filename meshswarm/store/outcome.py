"""What became of a command, and the memory that makes repeating one harmless."""

from attrs import Factory, astuple, evolve, field, frozen

from meshswarm.codec import Undecodable
from meshswarm.errors import MeshswarmError, from_wire
from meshswarm.ids import ClientId, Index


@frozen(kw_only=True)
class Refusal:
    """An error as a value that can be stored: what `errors.to_wire` lists."""

    code: str
    message: str
    where: str | None = None
    hint: str | None = None
    details: tuple[str, ...] = ()


@frozen(kw_only=True)
class Outcome:
    """What applying one command did; equal on every node."""

    index: Index
    refusal: Refusal | None = None
    """Why nothing was done; None if it was carried out."""
    effects: tuple[tuple[str, str], ...] = ()
    """What changed, for people: (object, "created" | "updated" | "unchanged" | "removed" | ...)."""
    parts: "tuple[Outcome, ...]" = ()
    """Of a group: what became of each of its commands."""

    def to_plain(self) -> list[object]:
        """This outcome as plain values for the mesh; `outcome_of` reads them."""
        refusal = None if self.refusal is None else list(astuple(self.refusal))
        parts = [part.to_plain() for part in self.parts]
        return [self.index, refusal, list(map(list, self.effects)), parts]

    @staticmethod
    def refused(index: Index, error: MeshswarmError) -> "Outcome":
        """The outcome of a command that changed nothing."""
        refusal = Refusal(
            code=error.code,
            message=error.message,
            where=error.where,
            hint=error.hint,
            details=error.details,
        )
        return Outcome(index=index, refusal=refusal)

    @property
    def error(self) -> MeshswarmError | None:
        """Why it was refused; None if it was carried out."""
        return None if self.refusal is None else from_wire(list(astuple(self.refusal)))


def outcome_of(plain: object) -> Outcome:
    """The outcome that `Outcome.to_plain` described; raises `Undecodable` for anything else."""
    match plain:
        case [index, None | list() as refusal, list() as effects, list() as parts]:
            pass
        case _:
            raise Undecodable(f"not an outcome: {plain!r:.100}")
    try:
        return Outcome(
            index=Index(_whole(index)),
            refusal=None if refusal is None else _refusal_of(*refusal),
            effects=tuple([(_text(name), _text(what)) for name, what in effects]),
            parts=tuple([outcome_of(part) for part in parts]) if parts else (),
        )
    except (TypeError, ValueError) as error:
        raise Undecodable(f"not an outcome: {plain!r:.100}") from error


def _refusal_of(
    code: object, message: object, where: object, hint: object, details: object
) -> Refusal:
    if not isinstance(details, list):
        raise TypeError(f"not a list of details: {details!r:.100}")
    return Refusal(
        code=_text(code),
        message=_text(message),
        where=None if where is None else _text(where),
        hint=None if hint is None else _text(hint),
        details=tuple(_text(detail) for detail in details),
    )


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"not a whole number: {value!r:.100}")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(f"not a text: {value!r:.100}")
    return value


MAX_ANSWERS = 1_024
"""Unacknowledged requests of one client; one more is refused until it acknowledges some."""

MAX_CLIENTS = 10_000
"""Remembered clients; beyond that those unused for longest are forgotten, whatever the time."""


@frozen(kw_only=True)
class ClientSession:
    """What the cluster remembers of one client's requests (thesis section 6.3)."""

    id: ClientId
    acknowledged: int = 0
    answers: dict[int, Outcome] = field(default=Factory(dict))
    """By sequence, all larger than `acknowledged`."""
    used_at: Index = Index(0)

    def with_answer(self, sequence: int, acknowledged: int, outcome: Outcome) -> "ClientSession":
        """This session after one more answer, without those that the client says it has."""
        acknowledged = max(acknowledged, self.acknowledged)
        kept = {s: o for s, o in self.answers.items() if s > acknowledged}
        return evolve(
            self,
            acknowledged=acknowledged,
            answers={**kept, sequence: outcome},
            used_at=outcome.index,
        )
