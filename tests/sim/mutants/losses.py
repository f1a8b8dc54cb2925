"""Mistakes with a voter whose disk was wiped, and that gave its word before."""

import pytest

from meshswarm.ids import Index
from meshswarm.raft import following, leading, quorum
from meshswarm.raft import losses as raft_losses
from meshswarm.raft.messages import AppendEntries, Heartbeat, HeartbeatReply
from meshswarm.raft.progress import Progress
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.state import Campaign, RaftState


def counts_who_recovers(patch: pytest.MonkeyPatch) -> None:
    """What it acknowledges since counts at once."""
    patch.setattr(Progress, "counted", property(lambda progress: progress.match))


def vouches_at_once(patch: pytest.MonkeyPatch) -> None:
    """The leader vouches for it before anybody else holds what came since."""
    patch.setattr(leading, "_may_vouch", lambda state, reign, forgetful: True)


def founds_without_all(patch: pytest.MonkeyPatch) -> None:
    """A majority of those who hold nothing elects, or of those and others."""

    def vote_result(state: RaftState, race: Campaign) -> VoteResult:
        return quorum.vote_result(state.conf.voters, race.votes)

    patch.setattr(raft_losses, "vote_result", vote_result)


def recovers_unvouched(patch: pytest.MonkeyPatch) -> None:
    """It takes itself for whole once it holds what one leader knows to be committed."""
    right = following.on_append

    def on_append(state: RaftState, message: AppendEntries) -> None:
        if state.recovering and message.commit:
            state.vouched_at = message.commit
        right(state, message)

    patch.setattr(following, "on_append", on_append)


def confirms_reads_although_it_lost(patch: pytest.MonkeyPatch) -> None:
    """It confirms a leader's reads, as if it knew of no other leader."""
    right = following.on_heartbeat

    def on_heartbeat(state: RaftState, message: Heartbeat) -> None:
        def reply(**fields: object) -> HeartbeatReply:
            return HeartbeatReply(**{**fields, "read_position": message.read_position})  # type: ignore[arg-type]

        with patch.context() as here:
            here.setattr(following, "HeartbeatReply", reply)
            right(state, message)

    patch.setattr(following, "on_heartbeat", on_heartbeat)


def commits_what_was_lost(patch: pytest.MonkeyPatch) -> None:
    """A leader that has not heard of the loss says what is committed; it takes that for its own."""
    right = following.on_heartbeat

    def on_heartbeat(state: RaftState, message: Heartbeat) -> None:
        right(state, message)
        state.log.commit_to(Index(min(message.commit, state.log.last_index)))

    patch.setattr(following, "on_heartbeat", on_heartbeat)
