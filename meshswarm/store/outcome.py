"""What became of a command, and the memory that makes repeating one harmless."""

from collections.abc import Sequence
from itertools import chain

from attrs import Factory, astuple, field, frozen

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.errors import MeshswarmError, from_wire
from meshswarm.ids import ClientId, Index
from meshswarm.making import maker

_FOUR_ITEMS = codec.array_head(4)


@frozen(kw_only=True)
class Refusal:
    """An error as a value that can be stored: what `errors.to_wire` lists."""

    code: str
    message: str
    where: str | None = None
    hint: str | None = None
    details: tuple[str, ...] = ()


@frozen(kw_only=True, weakref_slot=False)
class Outcome:
    """What applying one command did; equal on every node."""

    index: Index
    refusal: Refusal | None = None
    """Why nothing was done; None if it was carried out."""
    effects: tuple[tuple[str, str], ...] = ()
    """What changed, for people: (object, "created" | "updated" | "unchanged" | "removed" | ...)."""
    parts: "tuple[Outcome, ...]" = ()
    """Of a group: what became of each of its commands, at the same index; they have no parts."""

    def to_plain(self) -> list[object]:
        """This outcome as plain values for the mesh; `outcome_of` reads them."""
        return [self.index, *_plain_of(self), _plain_parts(self.parts)]

    def encoded(self) -> codec.Encoded:
        """The same as bytes; that of a single command, carried out, is what a client waits for."""
        if self.refusal is not None or self.parts:
            return codec.Encoded(codec.dumps_in_order(self.to_plain()))
        texts = list(chain.from_iterable(self.effects))
        effects = (codec.array_head(len(texts)), *map(codec.text, texts))
        start = (_FOUR_ITEMS, codec.number(self.index), codec.NONE)
        return codec.Encoded(b"".join((*start, *effects, codec.NO_ITEMS)))

    @staticmethod
    def done(index: Index, effects: tuple[tuple[str, str], ...]) -> "Outcome":
        """The outcome of a command that was carried out; for those that come by the thousand."""
        return _outcome(index, None, effects, ())

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


_outcome = maker(Outcome)
"""Of index, refusal, effects and parts."""


def _plain_of(outcome: Outcome) -> tuple[object, list[object]]:
    """Why it was refused, and its effects: object, what became of it, object, what ..."""
    refusal = None if outcome.refusal is None else list(astuple(outcome.refusal))
    return refusal, list(chain.from_iterable(outcome.effects))


def _plain_parts(parts: Sequence[Outcome]) -> list[object]:
    """The parts of a group side by side, for they come by the thousand: the number of effects of
    each, the effects of all, and the refusals by the places of those that were refused."""
    if not parts:
        return []
    refused = {place: _plain_of(part)[0] for place, part in enumerate(parts) if part.refusal}
    effects = [part.effects for part in parts]
    flat = list(chain.from_iterable(chain.from_iterable(effects)))
    return [list(map(len, effects)), flat, refused]


def outcome_of(plain: object) -> Outcome:
    """The outcome that `Outcome.to_plain` described; raises `Undecodable` for anything else."""
    match plain:
        case [int() as number, None | list() as refusal, list() as effects, list() as parts] if (
            type(number) is int
        ):
            index = Index(number)
        case _:
            raise Undecodable(f"not an outcome: {plain!r:.100}")
    try:
        return Outcome(
            index=index,
            refusal=None if refusal is None else _refusal_of(*refusal),
            effects=tuple(_pairs(effects)),
            parts=_parts_of(index, *parts) if parts else (),
        )
    except (TypeError, ValueError) as error:
        raise Undecodable(f"not an outcome: {plain!r:.100}") from error


def _parts_of(
    index: Index, lengths: object, effects: object, refused: object
) -> tuple[Outcome, ...]:
    if not isinstance(lengths, list) or not isinstance(refused, dict):
        raise TypeError("parts are lengths, effects and refusals")
    pairs, at = _pairs(effects), 0
    parts: list[Outcome] = []
    for place, length in enumerate(lengths):
        refusal = _refusal_of(*refused[place]) if place in refused else None
        parts.append(_outcome(index, refusal, tuple(pairs[at : at + _whole(length)]), ()))
        at += max(0, length)
    if at != len(pairs):
        raise ValueError(f"{len(pairs)} effects, parts with {at}")
    return tuple(parts)


def _pairs(effects: object) -> list[tuple[str, str]]:
    """Object and what became of it, of each effect."""
    if not isinstance(effects, list) or not set(map(type, effects)) <= {str}:
        raise TypeError(f"not effects: {effects!r:.100}")
    return list(zip(effects[::2], effects[1::2], strict=True))


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


@frozen(kw_only=True, weakref_slot=False)
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
        answers = {s: o for s, o in self.answers.items() if s > acknowledged}
        answers[sequence] = outcome
        return _session(self.id, acknowledged, answers, outcome.index)


_session = maker(ClientSession)
"""Of id, acknowledged, answers and used_at."""
