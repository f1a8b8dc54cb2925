"""Mistakes in changes of the membership."""

import pytest
from attrs import evolve

from meshswarm.ids import Index, Term
from meshswarm.raft import confchange, leading, quorum
from meshswarm.raft.core import RaftCore
from meshswarm.raft.ready import Ready
from meshswarm.raft.state import RaftState
from meshswarm.raft.types import ConfChange, EntryKind


def changes_overlap(patch: pytest.MonkeyPatch) -> None:
    """A change is taken while another is under way, and before anything is committed."""

    def propose(core: RaftCore, change: ConfChange) -> tuple[Term, Index]:
        core._writable_reign()
        state = core._state
        confchange.changed(state.conf, change)
        return state.term, state.append([confchange.encode(change)], EntryKind.CONF_CHANGE)

    patch.setattr(RaftCore, "propose_conf_change", propose)


def commits_past_a_change(patch: pytest.MonkeyPatch) -> None:
    """The voters before a change commit what follows it."""

    def commit(state: RaftState) -> None:
        reign, log = state.reign, state.log
        if reign is None:
            return
        held = [log.durable if v == state.id else reign.peers[v].match for v in state.conf.voters]
        index = Index(quorum.majority_value(held))
        if index > log.committed and log.term(index) == state.term and log.commit_to(index):
            reign.reads.release(log.committed)

    patch.setattr(leading, "commit", commit)


def changes_too_early(patch: pytest.MonkeyPatch) -> None:
    """The leader counts by the new members as soon as it has appended the change: where others
    do so when they apply it, two majorities need not meet."""
    right = RaftCore.propose_conf_change

    def propose(core: RaftCore, change: ConfChange) -> tuple[Term, Index]:
        term, index = right(core, change)
        state = core._state
        state.conf = confchange.changed(state.conf, change)
        assert state.reign is not None
        leading.on_conf_changed(state, state.reign)
        return term, index

    patch.setattr(RaftCore, "propose_conf_change", propose)


def forgets_the_commit_index(patch: pytest.MonkeyPatch) -> None:
    """The commit index is not saved with the entries: a change may be held, and the one before
    it not be known to be committed."""
    right = RaftCore.ready

    def ready(core: RaftCore) -> Ready:
        made = right(core)
        hard = made.hard_state
        return made if hard is None else evolve(made, hard_state=evolve(hard, commit=Index(0)))

    patch.setattr(RaftCore, "ready", ready)
