"""What a manager has on its disk, and what a crash makes of what is still on the way there.

Like the journal, it writes in groups: what comes while one sync is under way is the next group.
"""

import random
from collections.abc import Sequence
from functools import partial

from attrs import Factory, define, frozen

from meshswarm.ids import Index
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import Entry, HardState, Snapshot
from meshswarm.sim.clock import Life, Work


@frozen(kw_only=True)
class Saving:
    """A manager's own snapshot; the log keeps `keep` entries behind it."""

    snapshot: Snapshot
    keep: int


@define(eq=False)
class Disk:
    """One manager's; it outlives the manager's processes."""

    rng: random.Random
    hard_state: HardState = HardState()
    entries: list[Entry] = Factory(list)
    snapshot: Snapshot | None = None
    is_damaged: bool = False
    """Whether entries were lost that may have been acknowledged, and are not repaired yet."""
    sync_ms: tuple[int, int] = (1, 3)
    _queue: list[tuple[Ready | Saving, Work]] = Factory(list)
    _syncing: int = 0
    """How many of the queue are part of the sync under way."""

    @property
    def last_index(self) -> Index:
        """The last entry that is durable, or what the snapshot stands for."""
        floor = self.snapshot.meta.index if self.snapshot else 0
        return Index(max(floor, self.entries[-1].index if self.entries else 0))

    @property
    def is_whole(self) -> bool:
        """Whether it holds a log that nothing is missing from; an empty one may have been wiped."""
        return not self.is_damaged and self.last_index > 0

    def submit(self, life: Life, write: Ready | Saving, done: Work) -> None:
        """Make this durable some time, then call `done`."""
        self._queue.append((write, done))
        if not self._syncing:
            self._sync(life)

    def crash(self) -> None:
        """The process died: any part of what was on its way, from its beginning, got there."""
        landed = self.rng.randrange(len(self._queue) + 1)
        for write, _ in self._queue[:landed]:
            self._write(write)
        self._queue.clear()
        self._syncing = 0

    def damage(self) -> None:
        """The log cannot be read any more: what is left is the snapshot, term and vote."""
        self.entries.clear()
        base = self.snapshot.meta.index if self.snapshot else Index(0)
        self.hard_state = HardState(self.hard_state.term, self.hard_state.vote, base)
        self.is_damaged = True

    def _sync(self, life: Life) -> None:
        self._syncing = len(self._queue)
        low, high = self.sync_ms
        life.after(low + self.rng.randrange(high - low + 1), partial(self._synced, life))

    def _synced(self, life: Life) -> None:
        group, self._queue = self._queue[: self._syncing], self._queue[self._syncing :]
        self._syncing = 0
        for write, _ in group:
            self._write(write)
        if self._queue:
            self._sync(life)
        for _, done in group:
            done()

    def _write(self, write: Ready | Saving) -> None:
        if isinstance(write, Saving):
            self._adopt(write)
            return
        assert write.hard_state is not None, f"nothing to write in {write}"
        if write.snapshot is not None:
            self.snapshot = write.snapshot
            self.entries = []
        if write.entries:
            self.entries = _joined(self.entries, write.entries)
        self.hard_state = write.hard_state

    def _adopt(self, saving: Saving) -> None:
        """Stand on an own snapshot, unless the leader's newer one came first."""
        meta = saving.snapshot.meta
        if self.snapshot is None or meta.index > self.snapshot.meta.index:
            self.snapshot = saving.snapshot
            self.entries = [e for e in self.entries if e.index > meta.index - saving.keep]


def _joined(entries: list[Entry], newer: Sequence[Entry]) -> list[Entry]:
    """The log after a write: whatever it held from the first new entry on is replaced."""
    first = newer[0].index
    keep = first - entries[0].index if entries else 0
    assert 0 <= keep <= len(entries), f"entry {first} in a log that ends at {entries[-1:]}"
    del entries[keep:]
    entries += newer
    return entries
