"""Whom a leader need not ask: a majority is enough for a lone entry, and for a read.

One peer more commits an entry no sooner, nor confirms a read: where one comes after the other its
work is only in the way of theirs. So a lone entry goes to the peers that were the quickest the last
time that all were asked, and the others get theirs together a little later (`catch_up`); reads are
confirmed by those who were the quickest to do so. EPaxos calls a leader that asks no more than it
needs thrifty (Moraru, Andersen, Kaminsky, SOSP 2013).

Who stops answering holds up a single entry, and the reads that came meanwhile, until `catch_up`.
Whoever is relied on for an entry must hold all before it: while one is behind, all are asked. And
once a read was not confirmed in time, all are asked until some have been the quickest again.
"""

from meshswarm.ids import NodeId
from meshswarm.raft import quorum
from meshswarm.raft.progress import ProgressState
from meshswarm.raft.state import RaftState, Reign

ALL_ASKED_EVERY = 64
"""Of so many entries, and of so many rounds of reads, one is for all: who is the quickest now?"""

NOBODY: frozenset[NodeId] = frozenset()


def look(state: RaftState, reign: Reign) -> None:
    """The log has grown: decide who is spared what came since the last look."""
    reign.looked_at = state.log.last_index
    reign.spared = reign.slow if _is_enough(state, reign) else NOBODY


def note_quick(state: RaftState, reign: Reign) -> None:
    """Something was committed just now. If all were asked for it, and nothing else is under way,
    those that hold it were the quickest."""
    committed = state.log.committed
    if not reign.spared and committed == state.log.last_index:
        voters = (reign.peers[voter] for voter in state.conf.voters if voter != state.id)
        reign.quick = tuple(progress for progress in voters if progress.counted >= committed)
        reign.slow = frozenset(
            peer for peer, progress in reign.peers.items() if progress not in reign.quick
        )


def look_at_reads(reign: Reign) -> None:
    """Another round of reads is to be confirmed."""
    if (reign.reads.position + 1) % ALL_ASKED_EVERY == 0:
        reign.unasked = NOBODY


def note_confirmed(reign: Reign) -> None:
    """Reads were confirmed just now. If all were asked, those who did it were the quickest."""
    if not reign.unasked:
        reign.unasked = frozenset(
            peer for peer in reign.peers if not reign.reads.was_confirmed_by(peer)
        )


def forget(reign: Reign) -> None:
    """The membership is another now: all are asked the next time."""
    reign.quick, reign.slow = (), NOBODY
    reign.spared = reign.unasked = NOBODY


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
