"""Whether what clients saw can be explained by operations that took effect one after another.

Each operation took effect at one instant between its call and its answer (Herlihy and Wing 1990).
`check` looks for an order that says so: the search of Wing and Gong (1993) with Lowe's memory of
what has failed (2017), key by key, since a history is linearizable if that of each key is. What a
key holds and does is a `Model`. Knows nothing of the simulator: any recorded history will do.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from attrs import frozen

State = Hashable
"""What one key holds."""

MAX_STEPS = 2_000_000
"""Tried placements of operations after which the search for one key is given up."""


@frozen(kw_only=True)
class Operation:
    """One call of one client, and what came of it.

    Leave out calls that were certainly not carried out, and reads that got no answer: they say
    nothing. Times need only be of one clock; equal ones count as overlapping.
    """

    client: str
    key: str
    kind: str
    """What it does, in the model's words."""
    value: Hashable = None
    """What with."""
    result: Hashable = None
    """What the client was told."""
    invoked: float
    returned: float | None
    """None: nobody knows; it took effect at any time after it was invoked, or never will."""


@frozen(kw_only=True)
class Model:
    """What one key does: `apply` gives the state after an operation, and its right answer."""

    initial: State
    apply: Callable[[State, Operation], tuple[State, Hashable]]


@frozen(kw_only=True)
class Finding:
    """Why a history was not accepted."""

    key: str
    is_undecided: bool
    """Whether the search was given up; it then found nothing in either direction."""
    order: tuple[Operation, ...]
    """The longest explanation found."""
    state: State
    """What the key holds after it."""
    unexplained: tuple[Operation, ...]
    """Those of which one had to be next, and none could."""

    def in_words(self) -> str:
        """A few lines for a reader; only the end of a long explanation."""
        verdict = f"`{self.key}` is not linearizable"
        if self.is_undecided:
            verdict = f"whether `{self.key}` is linearizable was not found out"
        lines = [f"{verdict}: {len(self.order)} operations can be explained, ending with"]
        lines += [f"  {_in_words(operation)}" for operation in self.order[-5:]]
        lines.append(f"it then holds {self.state!r}, and none of these can be next:")
        lines += [f"  {_in_words(operation)}" for operation in self.unexplained]
        return "\n".join(lines)


def check(
    operations: Iterable[Operation], model: Model, max_steps: int = MAX_STEPS
) -> Finding | None:
    """What contradicts linearizability, of the first key in order that has such; None: nothing."""
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    for key in sorted(by_key):
        finding = _Search(key, by_key[key], model).run(max_steps)
        if finding is not None:
            return finding
    return None


def _register(state: State, operation: Operation) -> tuple[State, Hashable]:
    match operation.kind, operation.value:
        case "read", None:
            return state, state
        case "write", value:
            return value, None
        case "compare_and_set", (expected, value):
            return (value, True) if state == expected else (state, False)
        case kind, value:
            raise ValueError(f"a register does not know {kind!r} of {value!r}")


REGISTER = Model(initial=None, apply=_register)
"""Holds one value: `read` tells it, `write` of `value` is told None, `compare_and_set` of
(expected, new) is told whether it was done."""


def _in_words(operation: Operation) -> str:
    until = "?" if operation.returned is None else f"{operation.returned:g}"
    told = "" if operation.returned is None else f" -> {operation.result!r}"
    what = operation.kind if operation.value is None else f"{operation.kind} {operation.value!r}"
    return f"{operation.invoked:g}..{until} {operation.client}: {what}{told}"


@frozen
class _Place:
    """How far an order has come: which operations it holds, and the state after them.

    Of those with an answer, in the order of their calls, it holds all before `first`, and after
    that those whose bit is set in `ahead`. `guessed` are the bits of those without.
    """

    first: int
    ahead: int
    guessed: int
    state: State


_Step = tuple[_Place, tuple[Operation, ...]]
"""A place, and the operations that lead to it from the one before: guesses, then a known one."""


@frozen
class _Node:
    """A place on the way that is being tried, and what can still be tried from it."""

    place: _Place
    taken: tuple[Operation, ...]
    choices: Iterator[_Step]


class _Search:
    """Depth first through the orders of one key's operations."""

    def __init__(self, key: str, operations: Sequence[Operation], model: Model) -> None:
        self._key, self._model = key, model
        in_order = sorted(operations, key=lambda one: one.invoked)
        self._known = [one for one in in_order if one.returned is not None]
        self._unknown = [one for one in in_order if one.returned is None]
        self._tried: defaultdict[tuple[int, int, State], list[int]] = defaultdict(list)
        """By all else of a place: the sets of guesses from which it was tried."""
        self._way: list[_Node] = []
        self._longest: tuple[int, tuple[Operation, ...], _Place] | None = None

    def run(self, max_steps: int) -> Finding | None:
        """Find an order that explains everything that was answered."""
        self._enter(_Place(0, 0, 0, self._model.initial), ())
        for _ in range(max_steps):
            if self._way[-1].place.first == len(self._known):
                return None
            step = next(self._way[-1].choices, None)
            if step is not None:
                if not self._is_hopeless(step[0]):
                    self._enter(*step)
                continue
            self._remember()
            self._way.pop()
            if not self._way:
                return self._finding(is_undecided=False)
        self._remember()
        return self._finding(is_undecided=True)

    def _enter(self, place: _Place, taken: tuple[Operation, ...]) -> None:
        self._way.append(_Node(place, taken, self._choices(place)))

    def _remember(self) -> None:
        """Keep the way that was come, if it is the longest so far, before it is given up."""
        place = self._way[-1].place
        explained = place.first + place.ahead.bit_count()
        if self._longest is None or explained > self._longest[0]:
            order = tuple(operation for node in self._way for operation in node.taken)
            self._longest = (explained, order, place)

    def _is_hopeless(self, place: _Place) -> bool:
        """Whether the same was tried with these guesses, or with fewer of them, which can do more.

        Remembers it as tried.
        """
        tried = self._tried[place.first, place.ahead, place.state]
        return not _is_news(tried, place.guessed)

    def _choices(self, place: _Place) -> Iterator[_Step]:
        """What can take effect next: a known operation, after as few guesses as will do."""
        candidates, deadline = self._candidates(place)
        for state, guessed, guesses in self._states(place, deadline):
            for number in candidates:
                operation = self._known[number]
                after, result = self._model.apply(state, operation)
                if result == operation.result:
                    yield self._after(place, number, guessed, after), (*guesses, operation)

    def _states(
        self, place: _Place, deadline: float
    ) -> Iterator[tuple[State, int, tuple[Operation, ...]]]:
        """The states that guesses can lead to from here, each by the fewest of them."""
        reached: defaultdict[State, list[int]] = defaultdict(list)
        reached[place.state].append(place.guessed)
        waiting = deque([(place.state, place.guessed, tuple[Operation, ...]())])
        while waiting:
            state, guessed, guesses = waiting.popleft()
            yield state, guessed, guesses
            for number, operation in enumerate(self._unknown):
                if operation.invoked > deadline:
                    break
                if not guessed >> number & 1:
                    after, _ = self._model.apply(state, operation)
                    if _is_news(reached[after], guessed | 1 << number):
                        waiting.append((after, guessed | 1 << number, (*guesses, operation)))

    def _candidates(self, place: _Place) -> tuple[list[int], float]:
        """The answered operations of which one is next, and by when it took effect at the latest.

        Nothing may be placed behind what was invoked only after it had returned.
        """
        deadline, open_ones = float("inf"), list[int]()
        for number in range(place.first, len(self._known)):
            operation = self._known[number]
            if operation.invoked > deadline:
                break
            if not place.ahead >> (number - place.first) & 1:
                assert operation.returned is not None
                open_ones.append(number)
                deadline = min(deadline, operation.returned)
        return [one for one in open_ones if self._known[one].invoked <= deadline], deadline

    def _after(self, place: _Place, number: int, guessed: int, state: State) -> _Place:
        ahead, first = place.ahead | 1 << (number - place.first), place.first
        while ahead & 1:
            ahead, first = ahead >> 1, first + 1
        return _Place(first, ahead, guessed, state)

    def _finding(self, *, is_undecided: bool) -> Finding:
        assert self._longest is not None, "a search that never began"
        _, order, place = self._longest
        candidates, _ = self._candidates(place)
        return Finding(
            key=self._key,
            is_undecided=is_undecided,
            order=order,
            state=place.state,
            unexplained=tuple(self._known[number] for number in candidates),
        )


def _is_news(known: list[int], guesses: int) -> bool:
    """Whether no subset of these guesses is known; they are then, in place of what they cover."""
    if any(fewer & guesses == fewer for fewer in known):
        return False
    known[:] = [more for more in known if more & guesses != guesses]
    known.append(guesses)
    return True
