"""When an entry is applied so that nobody waits for that: while something else is waited for.

Applying is a function of values, so it may be done before it counts: a leader works out what the
entry that it just appended will do, while the others write it; and whoever has one small entry to
apply and another to write applies the one while its disk writes the other.
"""

from collections.abc import Callable, Sequence

from meshswarm.raft.types import Entry, EntryKind
from meshswarm.store.apply import Applied, Applier, apply
from meshswarm.store.changes import NOTHING, Changed, merged
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

LIGHT_BYTES = 1 << 10
"""A command of that size is mostly applied in the time that a quick disk takes to write another."""


def is_light(due: Sequence[Entry]) -> bool:
    """Whether this is so little to apply that what waits for the disk may wait for it too."""
    return len(due) == 1 and len(due[0].data) <= LIGHT_BYTES


Told = Callable[[Entry, View, Outcome, Changed], None]
"""Told what became of an entry. The view is written on by the next one: who keeps it copies it."""


class Foresight:
    """What the next entry will do, if it is committed; worked out once."""

    def __init__(self) -> None:
        self._foreseen: tuple[View, Entry, Applied] | None = None

    def look(self, view: View, entries: Sequence[Entry]) -> None:
        """These entries were just appended, and `view` is the newest: if a single one is waited
        for, find out what it will do. Of several, the first ones' majority is soon there."""
        if len(entries) == 1:
            (entry,) = entries
            if entry.index == view.index + 1 and entry.kind is EntryKind.NORMAL:
                applied = apply(view, index=entry.index, term=entry.term, data=entry.data)
                self._foreseen = view, entry, applied

    def apply_all(self, view: View, committed: Sequence[Entry], tell: Told) -> tuple[View, Changed]:
        """Apply these entries, which follow the view, and `tell` of each; the view after them, and
        which rows changed."""
        foreseen, self._foreseen = self._foreseen, None
        if foreseen is not None and len(committed) == 1:
            base, entry, applied = foreseen
            if base is view and entry is committed[0]:
                tell(entry, applied.view, applied.outcome, applied.changed)
                return applied.view, applied.changed
        applier, changed = Applier(view), list[Changed]()
        for entry in committed:
            index, term = entry.index, entry.term
            assert index == applier.view.index + 1, f"{index} after {applier.view.index}"
            if entry.kind is EntryKind.NORMAL:
                outcome, rows = applier.apply(index=index, term=term, data=entry.data)
            else:
                applier.advance(index=index, term=term)
                outcome, rows = Outcome(index=index), NOTHING
            changed.append(rows)
            tell(entry, applier.view, outcome, rows)
        return applier.view, merged(changed)
