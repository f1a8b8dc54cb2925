"""Single-server membership changes as a pure function (thesis section 4.1).

A change adds or takes away at most one voter, so the majorities before and after overlap.
"""

from typing import assert_never

from meshswarm import codec
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState


def changed(conf: ConfState, change: ConfChange) -> ConfState:
    """The configuration after `change`; raises `ConfChangeRefused` if it changes nothing or
    would leave no voter. A voter that is added as learner is demoted."""
    node = change.node
    voters, learners = set(conf.voters), set(conf.learners)
    match change.kind:
        case ConfChangeKind.ADD_VOTER:
            _refuse_if(node in voters, f"`{node}` is a voter already")
            voters.add(node)
            learners.discard(node)
        case ConfChangeKind.ADD_LEARNER:
            _refuse_if(node in learners, f"`{node}` is a learner already")
            voters.discard(node)
            learners.add(node)
        case ConfChangeKind.REMOVE:
            _refuse_if(node not in voters | learners, f"`{node}` is not a member")
            voters.discard(node)
            learners.discard(node)
        case _:
            assert_never(change.kind)
    _refuse_if(not voters, f"`{node}` is the last voter")
    return ConfState(tuple(voters), tuple(learners))


def encode(change: ConfChange) -> bytes:
    """`change` as the data of a log entry."""
    return codec.encode(change)


def decode(data: bytes) -> ConfChange:
    """The change in a log entry; raises `Undecodable`."""
    return codec.decode(data, ConfChange)


def _refuse_if(refused: bool, reason: str) -> None:
    if refused:
        raise ConfChangeRefused(reason, hint="see the members with `meshswarm node ls`")
