"""What a majority says: pure functions over one value a voter."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from meshswarm.ids import NodeId


class VoteResult(Enum):
    """Where an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority_of(count: int) -> int:
    """How many of `count` voters are a majority."""
    return count // 2 + 1


def majority_value(values: Sequence[int]) -> int:
    """The greatest value that a majority of the voters has reached; 0 without voters.

    With match indexes this is what may be committed (Raft section 5.3, Figure 2).
    """
    if not values:
        return 0
    return sorted(values)[(len(values) - 1) // 2]


def vote_result(voters: Collection[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Whether these votes decide the election; votes of non-voters do not count."""
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    needed = majority_of(len(voters))
    if granted >= needed:
        return VoteResult.WON
    if len(voters) - refused < needed:
        return VoteResult.LOST
    return VoteResult.PENDING
