"""Whom a leader need not tell at once of an entry that comes alone.

A majority commits it, and one more peer commits it no sooner: with one write after the other its
work is only in the way of theirs. So a lone entry goes to the peers that were the quickest the last
time that all were asked, and the others get theirs together a little later (`catch_up`). EPaxos
calls a leader that asks no more than it needs thrifty (Moraru, Andersen, Kaminsky, SOSP 2013).

Whoever is relied on must hold all that came before. So one that stops answering holds up a single
entry, until the others have caught up; while it is behind, all are asked.
"""

from meshswarm.ids import NodeId
from meshswarm.raft import quorum
from meshswarm.raft.progress import ProgressState
from meshswarm.raft.state import RaftState, Reign

ALL_ASKED_EVERY = 64
"""So many entries, one is sent to all at once: to find out who is the quickest now."""

NOBODY: frozenset[NodeId] = frozenset()


def look(state: RaftState, reign: Reign) -> None:
    """The log may have grown: decide who is spared what came since the last look."""
    last = state.log.last_index
    if last != reign.looked_at:
        reign.looked_at = last
        reign.spared = reign.slow if _is_enough(state, reign) else NOBODY


def note_quick(state: RaftState, reign: Reign) -> None:
    """Something was committed just now. If all were asked for it, and nothing else is under way,
    those that hold it were the quickest."""
    committed = state.log.committed
    if not reign.spared and committed == state.log.last_index:
        voters = (reign.peers[voter] for voter in state.conf.voters if voter != state.id)
        reign.quick = tuple(progress for progress in voters if progress.match >= committed)
        reign.slow = frozenset(
            peer for peer, progress in reign.peers.items() if progress not in reign.quick
        )


def forget(reign: Reign) -> None:
    """The membership is another now: all are asked the next time."""
    reign.quick, reign.slow, reign.spared = (), NOBODY, NOBODY


def _is_enough(state: RaftState, reign: Reign) -> bool:
    """Whether one entry waits, and the quick peers, who hold all before it, and the leader are a
    majority. A change of the membership, and a transfer, are for all."""
    log, quick = state.log, reign.quick
    before = log.last_index - 1
    return (
        log.committed == before
        and log.last_index % ALL_ASKED_EVERY != 0
        and log.unapplied_conf_change is None
        and reign.transferee is None
        and len(quick) + 1 >= quorum.majority_of(len(state.conf.voters))
        and all(
            progress.match == before and progress.state is ProgressState.REPLICATE
            for progress in quick
        )
    )
