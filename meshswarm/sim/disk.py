"""What a manager has on its disk, and what a crash makes of what is still on the way there.

It stands for `cluster.journal`: writes become durable in order, in groups with one sync each. What
comes while a sync is under way is the next group. Where it differs, it allows more, never less:

- A crash keeps any beginning of what waits, write by write; the journal's groups are all or
  nothing, since each is one record.
- An own snapshot is adopted and the log behind it dropped in two writes, which are one in the
  journal; the file is not a third one, for one that was never adopted is removed at the start.
- Damage that the journal would find (a mark ahead of the log, a bad record before good ones) is
  here a fact, not bytes: the node starts as the journal would let it. Not simulated is what it
  cannot find: that the mark, which has no sync of its own, was lost in a power cut *and* the log's
  end is damaged; nor a whole directory put back from an older copy.
"""

import random
from collections.abc import Sequence
from functools import partial

from attrs import Factory, define, frozen

from meshswarm.ids import Index, Term
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import Entry, HardState, Snapshot, SnapshotMeta
from meshswarm.sim.clock import Life, Work
from meshswarm.sim.shape import TICK_MS

SYNC_MS = (1, 3)
"""How long a sync takes on a disk that is well."""

RETRY_MS = 100
"""How often a write is tried for which there was no room."""


@frozen(kw_only=True)
class Append:
    """What one `Ready` wants durable; `is_incomplete`: entries are missing here, as noted with
    it (`JournalWrite.damage`)."""

    ready: Ready
    is_incomplete: bool


@frozen
class Adopt:
    """The log stands on the manager's own snapshot from now on."""

    snapshot: Snapshot


@frozen
class Drop:
    """The entries up to this one are not needed any more."""

    through: Index


@frozen
class Note:
    """Entries are missing here, or they are not any more."""

    is_damaged: bool


Write = Append | Adopt | Drop | Note


@define(eq=False)
class Disk:
    """One manager's; it outlives the manager's processes."""

    rng: random.Random
    hard_state: HardState = HardState()
    entries: list[Entry] = Factory(list)
    snapshot: Snapshot | None = None
    older: Snapshot | None = None
    """The snapshot before that, as long as the log reaches back to it."""
    is_damaged: bool = False
    """Whether it is noted that entries were lost that may have been acknowledged."""
    is_low: bool = False
    """Whether so little room is left that proposals are refused."""
    is_full: bool = False
    """Whether there is no room at all: what is to be written waits for some."""
    sync_fails: bool = False
    """Whether the next sync fails, which ends the manager; what it wrote may be there or not."""
    is_failing: bool = False
    """Whether a sync failed, and the manager is about to find that out."""
    on_failure: Work | None = None
    """Ends the manager that runs on this disk."""
    sync_ms: tuple[int, int] = SYNC_MS
    stalled_until_ms: int = 0
    """No sync ends before this instant."""
    _queue: list[tuple[Write, Work]] = Factory(list)
    _syncing: int = 0
    """How many of the queue are part of the sync under way."""
    busy_since_ms: int | None = None
    """Since when the sync under way has been, until it is over."""
    has_refused: bool = False
    """Whether it had no room for what is under way when that was tried last."""

    @property
    def last_index(self) -> Index:
        """The last entry that is durable, or what the snapshot stands for."""
        floor = self.snapshot.meta.index if self.snapshot else 0
        return Index(max(floor, self.entries[-1].index if self.entries else 0))

    def term_at(self, index: Index) -> Term | None:
        """The term of the entry stored there; None if there is none (any more)."""
        if self.entries and 0 <= index - self.entries[0].index < len(self.entries):
            return self.entries[index - self.entries[0].index].term
        return self.meta.term if self.meta and self.meta.index == index else None

    @property
    def meta(self) -> SnapshotMeta | None:
        """What the snapshot stands for."""
        return self.snapshot.meta if self.snapshot else None

    @property
    def is_whole(self) -> bool:
        """Whether it holds a log that nothing is missing from; an empty one may have been wiped."""
        return not self.is_damaged and self.last_index > 0

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing of a log: none was ever written, or it was wiped."""
        return self.snapshot is None and not self.entries

    # --- writing ------------------------------------------------------------------------------

    def submit(self, life: Life, write: Write, done: Work) -> None:
        """Make this durable some time, then call `done`."""
        life.begin_io()
        self._queue.append((write, done))
        if not self._syncing:
            self._sync(life)

    def _sync(self, life: Life) -> None:
        self._syncing = len(self._queue)
        self.busy_since_ms = life.clock.now_ms
        low, high = self.sync_ms
        took_ms = low + int(self.rng.random() * (high - low + 1))
        stalled_ms = max(0, self.stalled_until_ms - life.clock.now_ms)
        life.after(stalled_ms + took_ms, partial(self._synced, life))

    def _synced(self, life: Life) -> None:
        stalled_ms = self.stalled_until_ms - life.clock.now_ms
        if stalled_ms > 0:
            life.after(stalled_ms, partial(self._synced, life))
            return
        self.has_refused = self.is_full
        if self.is_full:
            life.after(RETRY_MS, partial(self._synced, life))
            return
        if self.sync_fails:
            assert self.on_failure is not None, "a disk at work whose manager nobody can end"
            self.is_failing = True
            life.after(self.rng.randrange(TICK_MS), self.on_failure)  # noticed at the next tick
            return
        group, self._queue = self._queue[: self._syncing], self._queue[self._syncing :]
        self._syncing, self.busy_since_ms = 0, None
        for write, _ in group:
            self._write(write)
        if self._queue:
            self._sync(life)
        for _, done in group:
            done()

    def _write(self, write: Write) -> None:
        match write:
            case Append(ready=ready, is_incomplete=is_incomplete):
                self._append(ready)
                self.is_damaged = self.is_damaged or is_incomplete
            case Adopt(snapshot=snapshot):
                if self.meta is None or snapshot.meta.index > self.meta.index:
                    self.older, self.snapshot = self.snapshot, snapshot
            case Drop(through=through):
                self.entries = [entry for entry in self.entries if entry.index > through]
                first = self.entries[0].index if self.entries else self.last_index + 1
                if self.older is not None and first > self.older.meta.index + 1:
                    self.older = None
            case Note(is_damaged=is_damaged):
                self.is_damaged = is_damaged

    def _append(self, ready: Ready) -> None:
        assert ready.hard_state is not None, f"nothing to write in {ready}"
        if ready.snapshot is not None:
            self.snapshot, self.older = ready.snapshot, None
            self.entries = []
        if ready.entries:
            self.entries = _joined(self.entries, ready.entries)
        self.hard_state = ready.hard_state

    # --- what happens to it -------------------------------------------------------------------

    def crash(self) -> None:
        """The process died: any part of what was on its way, from its beginning, got there."""
        landed = 0 if self.is_full else self.rng.randrange(len(self._queue) + 1)
        for write, _ in self._queue[:landed]:
            self._write(write)
        self._queue.clear()
        self._syncing, self.busy_since_ms, self.has_refused = 0, None, False
        self.sync_fails = self.is_failing = False

    def lose_log(self) -> None:
        """A record of the log, or the mark, is unreadable: the whole log counts as lost.

        What is left is the newest snapshot, term and vote, and the note not to vote.
        """
        self._start_again(self.snapshot)

    def lose_snapshot(self) -> bool:
        """The newest snapshot is unreadable: the one before it serves if the log reaches it.

        Whether anything was lost: if it does not, the log alone is of no use.
        """
        if self.older is not None or (self.entries and self.entries[0].index == 1):
            self.snapshot, self.older = self.older, None
            return False
        self._start_again(None)
        return True

    def _start_again(self, base: Snapshot | None) -> None:
        self.entries, self.snapshot, self.older = [], base, None
        term, vote = self.hard_state.term, self.hard_state.vote
        self.hard_state = HardState(term, vote, base.meta.index if base else Index(0))
        self.is_damaged = True

    def wipe(self) -> None:
        """All is gone, term and vote too, and nothing says that there was anything."""
        self.entries, self.snapshot, self.older = [], None, None
        self.hard_state, self.is_damaged = HardState(), False


def _joined(entries: list[Entry], newer: Sequence[Entry]) -> list[Entry]:
    """The log after a write: whatever it held from the first new entry on is replaced."""
    first = newer[0].index
    keep = first - entries[0].index if entries else 0
    assert 0 <= keep <= len(entries), f"entry {first} in a log that ends at {entries[-1:]}"
    del entries[keep:]
    entries += newer
    return entries
