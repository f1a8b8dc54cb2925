"""The checker of histories: right on cases from the literature, and as a search of all orders."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.sim.linearizability import REGISTER, Finding, Model, Operation, State, check
from meshswarm.sim.registers import check_register

Times = tuple[float, float | None]


def read(client: str, times: Times, result: object, key: str = "x") -> Operation:
    return call(client, "read", times, None, result, key)


def write(client: str, times: Times, value: object, key: str = "x") -> Operation:
    return call(client, "write", times, value, None, key)


def swap(client: str, times: Times, expected: object, value: object, done: bool) -> Operation:
    return call(client, "compare_and_set", times, (expected, value), done)


def call(
    client: str, kind: str, times: Times, value: object, result: object, key: str = "x"
) -> Operation:
    invoked, returned = times
    return Operation(
        client=client,
        key=key,
        kind=kind,
        value=value,
        result=result,
        invoked=invoked,
        returned=returned,
    )


GOOD = {
    "nothing": (),
    "one after another": (write("a", (0, 1), 1), read("b", (2, 3), 1)),
    "a read beside a write sees either": (
        write("a", (0, 1), 1),
        write("a", (2, 9), 2),
        read("b", (3, 4), 1),
        read("c", (5, 6), 2),
    ),
    "an instant shared is an overlap": (write("a", (0, 1), 1), read("b", (1, 2), None)),
    "an unknown write that nobody sees": (write("a", (0, None), 1), read("b", (9, 10), None)),
    "an unknown write that is seen late": (
        write("a", (0, None), 1),
        read("b", (1, 2), None),
        read("b", (8, 9), 1),
    ),
    "swaps, the second of which fails": (
        swap("a", (0, 5), None, 1, True),
        swap("b", (1, 6), None, 2, False),
        read("a", (7, 8), 1),
    ),
    "an unknown swap explains one that failed": (
        swap("a", (0, None), None, 1, False),
        swap("b", (1, 6), None, 2, False),
    ),
}

BAD = {
    "a value that nobody wrote": (read("a", (0, 1), 1),),
    "a stale read": (
        write("a", (0, 1), 1),
        write("a", (2, 3), 2),
        read("b", (4, 5), 1),
    ),
    "an acknowledged write is lost": (write("a", (0, 1), 1), read("b", (2, 3), None)),
    "time goes back between two reads": (
        write("a", (0, 1), 1),
        write("a", (2, 20), 2),
        read("b", (3, 4), 2),
        read("c", (5, 6), 1),
    ),
    "an unknown write takes effect once": (
        write("a", (0, None), 1),
        read("b", (1, 2), 1),
        write("b", (3, 4), 2),
        read("b", (5, 6), 1),
        read("b", (7, 8), 2),
    ),
    "an unknown write takes effect before it is asked for": (
        read("b", (1, 2), 1),
        write("a", (3, None), 1),
    ),
    "both swaps of one value are done": (
        swap("a", (0, 5), None, 1, True),
        swap("b", (1, 6), None, 2, True),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_one_order_explains_is_linearizable(name: str) -> None:
    assert check(GOOD[name], REGISTER) is None


@pytest.mark.parametrize("name", BAD)
def test_what_no_order_explains_is_not(name: str) -> None:
    finding = check(BAD[name], REGISTER)
    assert finding is not None
    assert not finding.is_undecided


def test_keys_are_judged_apart_and_the_finding_says_where_it_breaks() -> None:
    first, second = write("a", (0, 1), 1, "y"), write("a", (2, 3), 2, "y")
    stale = read("b", (4, 5.5), 1, "y")
    history = (write("a", (0, 1), 7, "x"), read("c", (2, 3), 7, "x"), first, second, stale)
    finding = check(history, REGISTER)
    assert finding == Finding(
        key="y", is_undecided=False, order=(first, second), state=2, unexplained=(stale,)
    )
    assert "4..5.5 b: read -> 1" in finding.in_words()


def test_a_search_that_is_given_up_is_told_apart() -> None:
    history = [write(f"c{number}", (0, 100), number) for number in range(12)]
    finding = check([*history, read("r", (200, 201), 99)], REGISTER, max_steps=100)
    assert finding is not None
    assert finding.is_undecided
    assert "was not found out" in finding.in_words()


def test_a_model_may_be_anything() -> None:
    def increment(state: State, operation: Operation) -> tuple[State, int]:
        assert isinstance(state, int)
        return state + 1, state + 1

    counter = Model(initial=0, apply=increment)
    twice = call("a", "add", (0, 9), None, 2), call("b", "add", (1, 8), None, 1)
    assert check(twice, counter) is None
    assert check((*twice, call("c", "add", (20, 21), None, 2)), counter) is not None


def test_a_long_history_with_many_unknown_writes_is_decided() -> None:
    history = list[Operation]()
    for number in range(150):
        history.append(write("w", (10 * number, 10 * number + 8), number))
        history.append(read("r", (10 * number + 5, 10 * number + 12), number))
        if number % 8 == 0:
            history.append(write("u", (10 * number, None), -number - 1))
    assert check(history, REGISTER) is None
    finding = check([*history, read("r", (9_000, 9_001), 5)], REGISTER)
    assert finding is not None
    assert not finding.is_undecided


# --- against a search of all orders -------------------------------------------------------------


def explained(history: tuple[Operation, ...]) -> bool:
    """By definition: some subset that holds all answered ones, in some order, explains them."""
    unknown = [one for one in history if one.returned is None]
    known = [one for one in history if one.returned is not None]
    subsets = [
        [one for bit, one in enumerate(unknown) if mask >> bit & 1]
        for mask in range(1 << len(unknown))
    ]
    return any(agrees(order) for subset in subsets for order in permutations([*known, *subset]))


def agrees(order: tuple[Operation, ...]) -> bool:
    state: State = None
    for place, operation in enumerate(order):
        for later in order[place + 1 :]:
            if later.returned is not None and later.returned < operation.invoked:
                return False
        state, result = REGISTER.apply(state, operation)
        if operation.returned is not None and result != operation.result:
            return False
    return True


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    invoked = draw(st.integers(0, 8))
    kind = draw(st.sampled_from(("read", "write", "write", "compare_and_set")))
    unknown = kind != "read" and draw(st.booleans())
    returned = None if unknown else invoked + draw(st.integers(0, 5))
    values = st.sampled_from((None, 1, 2))
    value = {"read": None, "write": draw(values)}.get(kind, (draw(values), draw(values)))
    result = {"read": draw(values), "write": None}.get(kind, draw(st.booleans()))
    return call("c", kind, (invoked, returned), value, result)


@given(st.lists(operations(), max_size=5).map(tuple))
def test_the_search_finds_an_order_exactly_when_there_is_one(
    history: tuple[Operation, ...],
) -> None:
    assert explained(history) == (check(history, REGISTER) is None)


# --- registers whose values are written once ------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[Operation, ...]:
    """Writes of different values, and reads of them; no two instants are equal."""
    count = draw(st.integers(0, 7))
    instants = iter(draw(st.permutations(range(2 * count))))
    found = []
    for number in range(count):
        invoked, returned = sorted((next(instants), next(instants)))
        if draw(st.booleans()):
            known = draw(st.booleans())
            found.append(write("w", (invoked, returned if known else None), number))
        else:
            result = draw(st.sampled_from((None, *range(count))))
            found.append(read("r", (invoked, returned), result))
    return tuple(found)


@given(histories())
def test_registers_are_judged_as_the_search_judges_them(history: tuple[Operation, ...]) -> None:
    is_linearizable = check(history, REGISTER) is None
    assert is_linearizable == (check_register(history, initial=None) is None)
