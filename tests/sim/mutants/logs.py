"""Mistakes in how a follower takes what its leader sends."""

from collections.abc import Sequence

import pytest

from meshswarm.ids import Index, Term
from meshswarm.raft import following
from meshswarm.raft.core import RaftCore
from meshswarm.raft.log import RaftLog
from meshswarm.raft.messages import AppendEntries
from meshswarm.raft.progress import Inflights
from meshswarm.raft.state import RaftState
from meshswarm.raft.types import Entry, EntryKind


def keeps_what_conflicts(patch: pytest.MonkeyPatch) -> None:
    """A follower keeps its own entries where the leader's differ."""

    def take(state: RaftState, message: AppendEntries) -> None:
        log = state.log
        news = tuple(entry for entry in message.entries if entry.index > log.last_index)
        if news:
            log.append(news)

    patch.setattr(following, "_take_entries", take)


def cuts_what_matches(patch: pytest.MonkeyPatch) -> None:
    """Any append with entries replaces the rest of the log, be it late or repeated."""

    def take(state: RaftState, message: AppendEntries) -> None:
        log = state.log
        fresh = tuple(entry for entry in message.entries if entry.index > log.committed)
        if fresh:
            if fresh[0].index <= log.last_index:
                log.truncate_from(fresh[0].index)
            log.append(fresh)

    patch.setattr(following, "_take_entries", take)


def does_not_look_back(patch: pytest.MonkeyPatch) -> None:
    """An append is taken wherever it fits by its index, whatever the terms before it."""

    def agrees(state: RaftState, message: AppendEntries) -> bool:
        return message.prev_index <= state.log.last_index

    patch.setattr(following, "_agrees", agrees)


def believes_the_commit_index(patch: pytest.MonkeyPatch) -> None:
    """A follower commits up to the leader's commit index whatever it was shown to agree on."""
    right = following.on_append

    def on_append(state: RaftState, message: AppendEntries) -> None:
        state.log.commit_to(min(message.commit, state.log.last_index))
        right(state, message)

    patch.setattr(following, "on_append", on_append)


def vouches_for_what_was_cut(patch: pytest.MonkeyPatch) -> None:
    """The completion of an older write makes what replaced its entries durable (the ABA race)."""
    patch.setattr(RaftLog, "_vouch_at_most", lambda log, index: None)


def sends_without_a_window(patch: pytest.MonkeyPatch) -> None:
    """Appends go out however many of them were not answered yet."""
    right = Inflights.__init__

    def endless(window: Inflights, max_count: int, max_bytes: int) -> None:
        right(window, 1 << 60, 1 << 60)

    patch.setattr(Inflights, "__init__", endless)


def takes_without_a_limit(patch: pytest.MonkeyPatch) -> None:
    """A leader that reaches no quorum goes on appending what it is given."""

    def propose(core: RaftCore, datas: Sequence[bytes]) -> tuple[Term, Index]:
        core._writable_reign()
        return core._state.term, core._state.append(datas, EntryKind.NORMAL)

    patch.setattr(RaftCore, "propose", propose)


def packs_without_a_limit(patch: pytest.MonkeyPatch) -> None:
    """One append holds all that is missing, whatever its limit."""
    right = RaftLog.slice

    def whole(
        log: RaftLog, first: Index, last: Index, *, max_entries: int, max_bytes: int
    ) -> tuple[Entry, ...]:
        return right(log, first, last, max_entries=1 << 30, max_bytes=1 << 60)

    patch.setattr(RaftLog, "slice", whole)
