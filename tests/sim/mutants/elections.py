"""Mistakes in elections and in what a leader counts."""

import pytest

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import dispatch, election, leading, quorum
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import AppendReply, Heartbeat, Message, TimeoutNow, VoteReply
from meshswarm.raft.state import RaftState, Reign


def votes_for_anyone(patch: pytest.MonkeyPatch) -> None:
    """A voter does not look at the candidate's log (Raft 5.4.1)."""
    patch.setattr(election, "_is_up_to_date", lambda state, request: True)


def votes_again(patch: pytest.MonkeyPatch) -> None:
    """A follower that hears a leader of its own term forgets whom it voted for (CCF 8094)."""
    right = RaftState.become_follower

    def become_follower(state: RaftState, term: Term, leader: NodeId | None) -> None:
        right(state, term, leader)
        state.vote = None

    patch.setattr(RaftState, "become_follower", become_follower)


def takes_wishes_for_votes(patch: pytest.MonkeyPatch) -> None:
    """What was granted in the pre-vote counts in the election."""
    right = election.on_vote_reply

    def on_vote_reply(state: RaftState, reply: VoteReply) -> None:
        race = state.campaign
        votes = race.votes if race is not None and race.pre_vote else {}
        right(state, reply)
        if state.campaign is not None and not state.campaign.pre_vote:
            state.campaign.votes.update(votes)

    patch.setattr(election, "on_vote_reply", on_vote_reply)


def wins_by_half(patch: pytest.MonkeyPatch) -> None:
    """Half of the voters are taken for a majority."""
    patch.setattr(quorum, "majority_of", lambda count: max(1, count // 2))


def commits_old_terms(patch: pytest.MonkeyPatch) -> None:
    """A leader counts replicas of earlier terms' entries (Raft Figure 8)."""

    def commit(state: RaftState) -> None:
        reign, log = state.reign, state.log
        if reign is None:
            return
        held = [log.durable if v == state.id else reign.peers[v].match for v in state.conf.voters]
        if log.commit_to(max(Index(quorum.majority_value(held)), log.committed)):
            reign.reads.release(log.committed)

    patch.setattr(leading, "commit", commit)


def commits_by_the_fastest(patch: pytest.MonkeyPatch) -> None:
    """What one more node than the leader holds counts as committed, with five voters too."""

    def second_best(values: list[int]) -> int:
        return sorted(values)[-2] if len(values) > 1 else values[0]

    patch.setattr(quorum, "majority_value", second_best)


def counts_old_acknowledgements(patch: pytest.MonkeyPatch) -> None:
    """An acknowledgement of an earlier term is counted in this one."""
    right = dispatch.step

    def step(state: RaftState, message: Message) -> None:
        if isinstance(message, AppendReply) and message.term < state.term:
            leading.on_append_reply(state, message)
        else:
            right(state, message)

    patch.setattr(dispatch, "step", step)


def tells_commits_to_laggards(patch: pytest.MonkeyPatch) -> None:
    """Heartbeats carry the commit index also to those whose log is not known to agree so far."""
    right = leading._broadcast_heartbeat

    def broadcast(state: RaftState, reign: Reign, *, but: frozenset[NodeId] = frozenset()) -> None:
        def heartbeat(**fields: object) -> Heartbeat:
            return Heartbeat(**{**fields, "commit": state.log.committed})  # type: ignore[arg-type]

        with patch.context() as here:
            here.setattr(leading, "Heartbeat", heartbeat)
            right(state, reign, but=but)

    patch.setattr(leading, "_broadcast_heartbeat", broadcast)


def deposed_leader_goes_on(patch: pytest.MonkeyPatch) -> None:
    """A leader that hears of a newer term goes on leading in it."""
    right = RaftState.become_follower

    def become_follower(state: RaftState, term: Term, leader: NodeId | None) -> None:
        if state.reign is not None and term > state.term:
            state.term = term
            return
        right(state, term, leader)

    patch.setattr(RaftState, "become_follower", become_follower)


def transfers_to_laggards(patch: pytest.MonkeyPatch) -> None:
    """A hand-over lets the target run at once, and voters waive what its log lacks."""
    right = election._is_up_to_date

    def transfer(core: RaftCore, to: NodeId) -> None:
        state = core._state
        if state.reign is not None and to in state.conf.voters and to != state.id:
            state.send(TimeoutNow(from_=state.id, to=to, term=state.term))

    patch.setattr(RaftCore, "transfer_leadership", transfer)
    patch.setattr(
        election,
        "_is_up_to_date",
        lambda state, request: request.leadership_transfer or right(state, request),
    )
