"""When an entry is applied so that nobody waits for that: while something else is waited for.

Applying is a function of values, so it may be done before it counts: a leader works out what the
entry that it just appended will do, while the others write it; and whoever has one small entry to
apply and another to write applies the one while its disk writes the other.
"""

from collections.abc import Sequence

from meshswarm.raft.types import Entry, EntryKind
from meshswarm.store.apply import Applied, apply
from meshswarm.store.view import View

LIGHT_BYTES = 1 << 10
"""A command of that size is mostly applied in the time that a quick disk takes to write another."""


def is_light(due: Sequence[Entry]) -> bool:
    """Whether this is so little to apply that what waits for the disk may wait for it too."""
    return len(due) == 1 and len(due[0].data) <= LIGHT_BYTES


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
                self._foreseen = view, entry, _applied(view, entry)

    def apply(self, view: View, entry: Entry) -> Applied:
        """What this entry, with a command, does to `view`."""
        if (foreseen := self._foreseen) is not None:
            self._foreseen = None
            if foreseen[0] is view and foreseen[1] is entry:
                return foreseen[2]
        return _applied(view, entry)


def _applied(view: View, entry: Entry) -> Applied:
    return apply(view, index=entry.index, term=entry.term, data=entry.data)
