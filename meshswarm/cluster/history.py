"""The replicated log in words: what `cluster log` shows, read from this manager's journal."""

from collections.abc import AsyncIterator

from meshswarm import codec
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.journal import Journal
from meshswarm.ids import Index
from meshswarm.raft.types import Entry, EntryKind
from meshswarm.store.commands import decode_command
from meshswarm.store.log_entry import LogEntry
from meshswarm.store.view import View
from meshswarm.store.words import in_words

PAGE = 256
"""Entries read from the journal at once."""

MAX_BYTES = 4 << 20
"""Bytes read from the journal at once."""

Line = list[object]
"""[index, term, at_ms | None, by, words]"""


class History:
    """The committed log of this manager, as lines."""

    def __init__(self, driver: Driver, journal: Journal) -> None:
        self._driver = driver
        self._journal = journal

    async def lines(self, first: int | None, tail: int | None, follow: bool) -> AsyncIterator[Line]:
        """Applied entries from index `first` on, or the last `tail`; with `follow`, for ever.

        Entries that were compacted away are left out: the lines begin at the first one kept.
        """
        applied = self._driver.hub.view.index
        start = first if first is not None else applied - (tail if tail is not None else 50) + 1
        next_index = Index(max(1, start))
        while True:
            applied = self._driver.hub.view.index
            while next_index <= applied:
                end = Index(min(applied + 1, next_index + PAGE))
                entries = await self._journal.read(next_index, end, MAX_BYTES)
                for entry in entries:
                    yield line_of(entry, self._driver.hub.view)
                next_index = Index(entries[-1].index + 1) if entries else end
            if not follow:
                return
            await self._driver.applied(next_index)


def line_of(entry: Entry, view: View) -> Line:
    """One entry in words; an entry that cannot be read says so."""
    head: Line = [entry.index, entry.term]
    match entry.kind:
        case EntryKind.NOOP:
            return [*head, None, "raft", f"a leader begins term {entry.term}"]
        case EntryKind.CONF_CHANGE:
            return [*head, None, "raft", "membership changes"]
        case EntryKind.NORMAL:
            try:
                decoded = LogEntry.decoded(entry.data)
                words = in_words(decode_command(decoded.command), view)
                return [*head, decoded.at_ms, decoded.by, words]
            except codec.Undecodable as error:
                return [*head, None, "?", f"unreadable: {error.message}"]
