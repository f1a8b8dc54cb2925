"""Single-server membership changes as a pure function (thesis section 4.1).

A change adds or takes away at most one voter, so the majorities before and after overlap.
"""

from typing import assert_never

from meshswarm import codec
from meshswarm.raft.refusals import ConfChangeRefused
from meshswarm.raft.types import ConfChange, ConfChangeKind, ConfState

MAX_REMOVED = 10_000
"""So many removed members are remembered; then no more can be removed."""


def changed(conf: ConfState, change: ConfChange) -> ConfState:
    """The configuration after `change`; raises `ConfChangeRefused` if it changes nothing, would
    leave no voter, or would bring a removed node back."""
    node = change.node
    voters, learners, removed = set(conf.voters), set(conf.learners), set(conf.removed)
    _refuse_if(
        node in removed,
        f"`{node}` was removed, for ever",
        hint="let the host join anew, under a new identity",
    )
    match change.kind:
        case ConfChangeKind.ADD_LEARNER:
            _refuse_if(node in learners, f"`{node}` is a learner already")
            _refuse_if(node in voters, f"`{node}` is a voter already")
            learners.add(node)
        case ConfChangeKind.ADD_VOTER:
            _refuse_if(node in voters, f"`{node}` is a voter already")
            voters.add(node)
            learners.discard(node)
        case ConfChangeKind.DEMOTE:
            _refuse_if(node not in voters, f"`{node}` is no voter")
            voters.discard(node)
            learners.add(node)
        case ConfChangeKind.REMOVE:
            _refuse_if(node not in voters | learners, f"`{node}` is not a member")
            _refuse_if(len(removed) >= MAX_REMOVED, f"{MAX_REMOVED} members were removed already")
            voters.discard(node)
            learners.discard(node)
            removed.add(node)
        case _:
            assert_never(change.kind)
    _refuse_if(not voters, f"`{node}` is the last voter")
    has_founders = conf.has_founders and voters == set(conf.voters)
    return ConfState(tuple(voters), tuple(learners), tuple(removed), has_founders)


def encode(change: ConfChange) -> bytes:
    """`change` as the data of a log entry."""
    return codec.encode(change)


def decode(data: bytes) -> ConfChange:
    """The change in a log entry; raises `Undecodable`."""
    return codec.decode(data, ConfChange)


def _refuse_if(
    refused: bool, reason: str, *, hint: str = "see the members with `meshswarm node ls`"
) -> None:
    if refused:
        raise ConfChangeRefused(reason, hint=hint)
