"""Whether the managers' states are equal: fingerprints of them at equal indexes, and who differs.

Equal logs must give equal states; where they do not (a bug, a flipped bit in memory, versions that
read a command differently), everything else would go on as if nothing were. Two fingerprints:

- of the *entries* of each window of the log: what became of every one, and, of every 64th, the rows
  that it wrote. Cheap enough for each entry; found soon; a window begins at the same index
  everywhere, so a manager that restarted or was sent a snapshot compares from its next one on;
- of the whole *state*, after the first entry of each minute of log time: found surely.

Pure but for the hashing. A majority is right by definition; a tie tells nobody who is wrong.
"""

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from heapq import nsmallest

from attrs import evolve, frozen

from meshswarm import codec
from meshswarm.ids import Index, NodeId
from meshswarm.store.feed import row_of
from meshswarm.store.outcome import Outcome
from meshswarm.store.slices import view_slices
from meshswarm.store.view import Key, View

SAMPLED_EVERY = 64
"""Of one entry in so many the rows that it wrote are looked at: encoding one costs more than
applying a small command."""

SAMPLED_ROWS = 4
"""Of a large batch no more rows than these, those with the smallest keys, and as many outcomes."""

KEPT = 64
"""Fingerprints kept until their like has come from the other managers; then the oldest go."""

DIGEST_BYTES = 16

_pack = struct.Struct(">QQqIB").pack
"""Of each entry: index, term, log time, rows changed, whether it was refused."""


class Kind(Enum):
    """What a fingerprint is of."""

    ENTRIES = "entries"
    STATE = "state"


@frozen
class Fingerprint:
    """Equal on every manager that applied the log up to `index`."""

    kind: Kind
    index: Index
    digest: bytes


def state_fingerprint(view: View) -> Fingerprint:
    """Of all that a view holds; takes as long as encoding it, in small slices."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in view_slices(view):
        digest.update(part)
    return Fingerprint(Kind.STATE, view.index, digest.digest())


class RollingHash:
    """Follows the applied entries of one manager; tells what is due to be compared.

    `tell` is given the fingerprint of each whole window, `due` each view whose state is to be
    fingerprinted; whoever wants to know sets them.
    """

    def __init__(self, view: View, *, window: int, state_every_ms: int) -> None:
        self.tell: Callable[[Fingerprint], None] = _ignore
        self.due: Callable[[View], None] = _ignore
        self._window = window
        self._state_every_ms = state_every_ms
        self._noted = bytearray()
        self._is_whole = False
        self._next_ms = 0
        self.restart(view)

    def restart(self, view: View) -> None:
        """Go on from a view that did not come of the entries noted so far."""
        self._noted.clear()
        self._is_whole = view.index % self._window == 0
        self._next_ms = self._after(view.clock_ms)

    def note(self, view: View, outcome: Outcome, changed: Collection[Key]) -> None:
        """Take in what became of the entry that led to `view`."""
        index = view.index
        refused = outcome.refusal is not None
        self._noted += _pack(index, view.term, view.clock_ms, len(changed), refused)
        if not index % SAMPLED_EVERY:
            self._sample(view, outcome, changed)
        if not index % self._window:
            self._end_window(index)
        if view.clock_ms >= self._next_ms:
            self._next_ms = self._after(view.clock_ms)
            self.due(view)

    def _sample(self, view: View, outcome: Outcome, changed: Collection[Key]) -> None:
        some = evolve(
            outcome, parts=outcome.parts[:SAMPLED_ROWS], effects=outcome.effects[:SAMPLED_ROWS]
        )
        self._noted += codec.encode(some)
        for table, key in nsmallest(SAMPLED_ROWS, changed, key=_order):
            self._noted += codec.encode([table.value, key, row_of(view, table, key)])

    def _end_window(self, index: Index) -> None:
        if self._is_whole:
            digest = hashlib.blake2b(self._noted, digest_size=DIGEST_BYTES).digest()
            self.tell(Fingerprint(Kind.ENTRIES, index, digest))
        self._noted.clear()
        self._is_whole = True

    def _after(self, clock_ms: int) -> int:
        return (clock_ms // self._state_every_ms + 1) * self._state_every_ms


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def _order(key: Key) -> tuple[str, str]:
    return key[0].value, key[1]


# --- who differs ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Verdict:
    """What the fingerprints of one kind at one index say, as far as they have come."""

    index: Index
    differing: frozenset[NodeId]
    """The others whose state is not this manager's."""
    agreeing: frozenset[NodeId]
    is_decided: bool
    """Whether a majority of the voters agree; without, nobody can say who is wrong."""
    is_mine_wrong: bool
    """Whether a majority agree on another state than this manager's."""


class Comparison:
    """The fingerprints of this manager and of the others, side by side."""

    def __init__(self, me: NodeId) -> None:
        self._me = me
        self._known: OrderedDict[tuple[Kind, Index], dict[NodeId, bytes]] = OrderedDict()

    def add(
        self, node: NodeId, fingerprint: Fingerprint, voters: Collection[NodeId]
    ) -> Verdict | None:
        """Take one in; the verdict, if it can be compared with this manager's own."""
        place = fingerprint.kind, fingerprint.index
        digests = self._known.setdefault(place, {})
        digests[node] = fingerprint.digest
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        mine = digests.get(self._me)
        if mine is None or len(digests) == 1:
            return None
        return _judged(self._me, fingerprint.index, digests, voters)


def _judged(
    me: NodeId, index: Index, digests: Mapping[NodeId, bytes], voters: Collection[NodeId]
) -> Verdict:
    majority = len(voters) // 2 + 1
    votes = [digests[voter] for voter in voters if voter in digests]
    won = next((digest for digest in votes if votes.count(digest) >= majority), None)
    others = digests.keys() - {me}
    return Verdict(
        index=index,
        differing=frozenset(node for node in others if digests[node] != digests[me]),
        agreeing=frozenset(node for node in others if digests[node] == digests[me]),
        is_decided=won is not None,
        is_mine_wrong=won is not None and won != digests[me],
    )
