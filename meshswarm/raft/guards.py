"""What a leader refuses although Raft allows it: safe changes that may end availability."""

from meshswarm.ids import NodeId
from meshswarm.raft import quorum
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.state import RaftState, Reign
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState


def refuse_newcomer(reign: Reign, change: ConfChange) -> None:
    """Raise `ConfChangeRefused` if this makes a voter of a node that is not ready to be one.

    A voter begins as a learner and is promoted when it holds all that was committed when it came,
    and one election timeout ago (thesis section 4.2.1). Before, it would count in every quorum and
    help none: a node that holds nothing does not even vote.
    """
    if change.kind is not ConfChangeKind.ADD_VOTER:
        return
    progress = reign.peers.get(change.node)
    if progress is None:
        raise ConfChangeRefused(f"`{change.node}` must be a learner first, and catch up")
    if not progress.has_caught_up:
        raise ConfChangeRefused(
            f"`{change.node}` holds the log up to {progress.match}, and must hold it up to "
            f"{progress.goal}"
        )
    if progress.recovery:
        raise ConfChangeRefused(f"`{change.node}` is recovering what it lost, or never had")


def refuse_without_quorum(state: RaftState, reign: Reign, after: ConfState) -> None:
    """Raise `ConfChangeRefused` if too few of the voters in `after` answer.

    Then nothing would commit any more, not even what would undo the change.
    """
    answering = [voter for voter in after.voters if _answers(state, reign, voter)]
    needed = quorum.majority_of(len(after.voters))
    if len(answering) < needed:
        raise ConfChangeRefused(
            f"only {len(answering)} of the {len(after.voters)} voters that it leaves answer, and "
            f"{needed} are a quorum",
            hint="see which managers answer with `meshswarm cluster status`",
        )


def _answers(state: RaftState, reign: Reign, voter: NodeId) -> bool:
    """Whether `voter` said anything within the last election timeout, and counts."""
    if voter == state.id:
        return True
    progress = reign.peers.get(voter)
    if progress is None or progress.recovery:
        return False
    return progress.silent_ticks < state.config.election_ticks
