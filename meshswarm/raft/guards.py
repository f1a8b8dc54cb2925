"""What a leader refuses although Raft allows it: safe changes that may end availability."""

from meshswarm.ids import NodeId
from meshswarm.raft import quorum
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.state import RaftState, Reign
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState


def check(state: RaftState, reign: Reign, change: ConfChange, after: ConfState) -> None:
    """Raise `ConfChangeRefused` if `change`, which leads to `after`, is rash.

    A voter begins as a learner and is promoted when it holds all that was committed when it came,
    and one election timeout ago: until it has caught up it could commit nothing, but would count
    (thesis section 4.2.1). And after any change a quorum must be there: otherwise nothing commits
    any more, not even what would undo the change.
    """
    if change.kind is ConfChangeKind.ADD_VOTER:
        _refuse_newcomer(reign, change.node)
    answering = [voter for voter in after.voters if _answers(state, reign, voter)]
    needed = quorum.majority_of(len(after.voters))
    if len(answering) < needed:
        raise ConfChangeRefused(
            f"only {len(answering)} of the {len(after.voters)} voters that it leaves answer, and "
            f"{needed} are a quorum",
            hint="see which managers answer with `meshswarm cluster status`",
        )


def _refuse_newcomer(reign: Reign, node: NodeId) -> None:
    progress = reign.peers.get(node)
    if progress is None:
        raise ConfChangeRefused(f"`{node}` must be a learner first, and catch up")
    if not progress.has_caught_up:
        raise ConfChangeRefused(
            f"`{node}` holds the log up to {progress.match}, and must have reached {progress.goal}"
        )


def _answers(state: RaftState, reign: Reign, voter: NodeId) -> bool:
    """Whether `voter` said anything within the last election timeout."""
    if voter == state.id:
        return True
    progress = reign.peers.get(voter)
    return progress is not None and progress.silent_ticks < state.config.election_ticks
