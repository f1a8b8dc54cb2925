"""Whether a run's history can be true: what was acknowledged is there, once, and in order.

Two judges that know nothing of each other. `by_index` holds every answer against the log index that
came with it: it is fast, and looks across all keys. `by_search` does not believe the indexes and
looks for any explanation at all, key by key (`meshswarm.sim.linearizability`).
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence

from attrs import frozen

from meshswarm.sim import linearizability
from tools.chaos.history import Kind, Operation, Outcome

MAX_FINDINGS = 20
"""Told of each kind; one is enough to fail."""


def findings(operations: Sequence[Operation]) -> list[str]:
    """What contradicts the promises, a sentence each; empty if nothing does."""
    told = [*_limited(by_index(operations)), *_limited(_odd_answers(operations))]
    found = by_search(operations)
    return [*told, found] if found else told


def _limited(sentences: Iterator[str]) -> list[str]:
    return [sentence for sentence, _ in zip(sentences, range(MAX_FINDINGS), strict=False)]


# --- by the log's order ---------------------------------------------------------------------------


@frozen
class _Writes:
    """All that clients tried to write to one key."""

    indexes: list[int]
    """Of the acknowledged writes, ascending."""
    values: list[set[str]]
    """Theirs; several where one entry of the log held several."""
    outcomes: dict[str, Outcome]
    """Of every value."""

    def expected_at(self, index: int) -> set[str]:
        """The values that the acknowledged writes alone may leave behind at this index."""
        position = bisect.bisect_right(self.indexes, index)
        return self.values[position - 1] if position else set()


def by_index(operations: Sequence[Operation]) -> Iterator[str]:
    """Answers that cannot be true in the order of the log."""
    yield from _out_of_order(operations)
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    for key in sorted(by_key):
        writes = _writes(by_key[key])
        for operation in by_key[key]:
            if operation.kind is Kind.READ and operation.outcome is Outcome.OK and operation.index:
                yield from _wrong_read(operation, writes)


def _out_of_order(operations: Sequence[Operation]) -> Iterator[str]:
    """What was invoked after an answer, and yet took effect before what that answer told."""
    answered = sorted(
        (op for op in operations if op.outcome is Outcome.OK and op.index),
        key=lambda op: op.returned_ns,
    )
    newest: list[Operation] = []
    for operation in answered:
        if not newest or operation.index > newest[-1].index:
            newest.append(operation)
    returned = [operation.returned_ns for operation in newest]
    for operation in answered:
        position = bisect.bisect_left(returned, operation.invoked_ns)
        if position == 0:
            continue
        before = newest[position - 1]
        is_stale = operation.index < before.index
        is_equal = operation.index == before.index and operation.kind is not Kind.READ
        if is_stale or is_equal:
            what = "STALE READ" if operation.kind is Kind.READ else "WRITE OUT OF ORDER"
            yield f"{what}: {_words(operation)}\n    was invoked after {_words(before)}"


def _writes(operations: Sequence[Operation]) -> _Writes:
    tried = [op for op in operations if op.kind is not Kind.READ]
    acknowledged: defaultdict[int, set[str]] = defaultdict(set)
    for operation in tried:
        if operation.outcome is Outcome.OK:
            acknowledged[operation.index].add(str(operation.value))
    indexes = sorted(acknowledged)
    outcomes = {str(op.value): op.outcome for op in tried}
    return _Writes(indexes, [acknowledged[index] for index in indexes], outcomes)


def _wrong_read(read: Operation, writes: _Writes) -> Iterator[str]:
    expected = writes.expected_at(read.index)
    if read.value in expected or (read.value is None and not expected):
        return
    if read.value is None:
        yield f"LOST: {_words(read)}\n    finds nothing; {_list(expected)} was acknowledged"
        return
    outcome = writes.outcomes.get(read.value)
    if outcome is None:
        yield f"PHANTOM: {_words(read)}\n    finds what nobody wrote"
    elif outcome in (Outcome.FAILED, Outcome.REFUSED):
        yield f"PHANTOM: {_words(read)}\n    finds a write whose client was told `{outcome.value}`"
    elif outcome is Outcome.OK:
        yield f"LOST: {_words(read)}\n    finds an acknowledged write, not {_list(expected)}"


def _odd_answers(operations: Sequence[Operation]) -> Iterator[str]:
    """Refusals for which there is no reason."""
    for operation in operations:
        if operation.outcome is Outcome.ODD:
            yield f"REFUSED: {_words(operation)}\n    was told: {operation.why}"


# --- by search ------------------------------------------------------------------------------------


def by_search(operations: Sequence[Operation]) -> str | None:
    """Why the history is not linearizable, or that this could not be found out; None if it is."""
    known = [_plain(op) for op in operations if _says_something(op)]
    finding = linearizability.check(known, linearizability.REGISTER)
    return f"NOT LINEARIZABLE: {finding.in_words()}" if finding else None


def _says_something(operation: Operation) -> bool:
    if operation.outcome is Outcome.FAILED:
        return False
    if operation.kind is Kind.READ:
        return operation.outcome is Outcome.OK
    return True


def _plain(operation: Operation) -> linearizability.Operation:
    is_known = operation.outcome in (Outcome.OK, Outcome.REFUSED)
    done = operation.outcome is Outcome.OK
    kind, value, result = {
        Kind.READ: ("read", None, operation.value),
        Kind.WRITE: ("write", operation.value, None),
        Kind.SWAP: ("compare_and_set", (operation.expected, operation.value), done),
    }[operation.kind]
    return linearizability.Operation(
        client=operation.client,
        key=operation.key,
        kind=kind,
        value=value,
        result=result if is_known else None,
        invoked=operation.invoked_ns / 1e9,
        returned=operation.returned_ns / 1e9 if is_known else None,
    )


def _list(values: set[str]) -> str:
    return " or ".join(sorted(values)) or "what was before"


def _words(operation: Operation) -> str:
    begin, end = operation.invoked_ns / 1e9, operation.returned_ns / 1e9
    swap = f" if {operation.expected}" if operation.expected else ""
    return (
        f"{operation.client} {operation.kind.value} {operation.key} = {operation.value}{swap} "
        f"at index {operation.index}, {begin:.3f} to {end:.3f} s"
    )
