"""Elections: timers, campaigns, votes (Raft section 5.2, 5.4.1; pre-vote: thesis section 9.6)."""

from typing import assert_never

from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import losses
from meshswarm.raft.messages import RequestVote, TimeoutNow, VoteReply
from meshswarm.raft.progress import Progress
from meshswarm.raft.quorum import VoteResult
from meshswarm.raft.reads import Reads
from meshswarm.raft.state import Campaign, RaftState, Reign
from meshswarm.raft.types import EntryKind, Role


def tick(state: RaftState) -> None:
    """A tick of a node that does not lead: campaign when the timeout has passed."""
    state.election_elapsed += 1
    if state.election_elapsed < state.election_timeout:
        return
    if state.id in state.conf.removed and not state.removed:
        state.reset_election_timer()
        _ask_for_votes(state, Term(state.term + 1), pre_vote=True)
    else:
        campaign(state)


def due_in(state: RaftState) -> int:
    """In how many ticks the election timeout passes, or it shows that nobody is heard."""
    due = state.election_timeout - state.election_elapsed
    unheard = state.config.election_ticks_max - state.silent_ticks
    return min(due, unheard) if unheard > 0 else due


def doubt_leader(state: RaftState) -> None:
    """The connection to the leader broke, as it does when its process ends: do not wait long.

    A leader that lives is heard before the time is up, which ends the doubt. Until then this node
    does not take it for reason enough to refuse others. Everybody notices at the same time, so it
    is not chance that keeps them from splitting the votes: each waits a tick longer than the voter
    before it in the list.
    """
    config, others = state.config, [v for v in state.conf.voters if v != state.leader]
    left = state.election_timeout - state.election_elapsed
    soon = config.heartbeat_ticks + 1 + (others.index(state.id) if state.id in others else 0)
    state.election_elapsed = max(state.election_elapsed, config.election_ticks)
    state.election_timeout = state.election_elapsed + min(left, soon)


def campaign(state: RaftState, *, transfer: bool = False) -> None:
    """Run for leader, unless this node must not; at a leader's wish (`transfer`) without
    asking first. A blank node asks all the same: what was granted to it before it was wiped may
    still come, and must not elect it with nothing in its log."""
    if may_campaign(state):
        asks_first = state.config.pre_vote and (state.blank or not transfer)
        _run(state, pre_vote=asks_first, transfer=transfer)


def may_campaign(state: RaftState) -> bool:
    """Whether this node may run for leader.

    Not with a committed membership change that it has not applied: it would ask the wrong voters,
    for changes take effect when applied.
    """
    change = state.log.unapplied_conf_change
    return (
        state.is_voter
        and not state.removed
        and state.reign is None
        and state.is_fit
        and not state.recovering
        and not state.log.is_installing
        and (change is None or change > state.log.committed)
    )


def _run(state: RaftState, *, pre_vote: bool, transfer: bool) -> None:
    term = Term(state.term + 1)
    if not pre_vote:
        state.term, state.vote = term, state.id
        state.elections += 1
    state.role = Role.CANDIDATE
    state.leader = None
    state.campaign = Campaign(pre_vote)
    state.reset_election_timer()
    _ask_for_votes(state, term, pre_vote=pre_vote, transfer=transfer)
    own = VoteReply(
        from_=state.id,
        to=state.id,
        term=term,
        granted=True,
        pre_vote=pre_vote,
        forgetful=state.is_forgetful,
    )
    if pre_vote:
        on_vote_reply(state, own)
    else:
        state.send(own)  # comes back when the vote is durable, and counts only then


def _ask_for_votes(state: RaftState, term: Term, *, pre_vote: bool, transfer: bool = False) -> None:
    """Ask all members: a learner may be a voter by now, or alone know that it is."""
    for member in state.conf.members:
        if member != state.id:
            state.send(
                RequestVote(
                    from_=state.id,
                    to=member,
                    term=term,
                    last_index=state.log.last_index,
                    last_term=state.log.last_term,
                    pre_vote=pre_vote,
                    leadership_transfer=transfer,
                    commit=state.log.committed,
                    commit_term=state.log.term(state.log.committed),
                )
            )


def on_removed(state: RaftState) -> None:
    """Others know that this node was removed, so it is needed no more."""
    state.removed = True
    state.become_follower(state.term, None)


def is_sticky(state: RaftState) -> bool:
    """Whether a leader was heard so recently that no other is wanted (thesis section 4.2.3)."""
    return (
        state.config.check_quorum
        and state.leader is not None
        and state.election_elapsed < state.config.election_ticks
    )


def on_request_vote(state: RaftState, request: RequestVote) -> None:
    """Grant or refuse; learners too answer, for they may have been promoted unknowingly.

    A real request comes in our own term here; a pre-vote asks about a term of its own.
    """
    is_free = (
        state.vote == request.from_
        or (state.vote is None and state.leader is None)
        or (request.pre_vote and request.term > state.term)
    )
    granted = is_free and _is_up_to_date(state, request)
    if granted and not request.pre_vote:
        state.vote = request.from_
        state.election_elapsed = 0
    state.send(
        VoteReply(
            from_=state.id,
            to=request.from_,
            term=request.term if granted else state.term,
            granted=granted,
            pre_vote=request.pre_vote,
            forgetful=granted and state.is_forgetful,
            commit=state.log.committed,
            commit_term=state.log.term(state.log.committed),
        )
    )
    if granted and request.pre_vote and _stands_back_for(state, request):
        state.become_follower(state.term, None)


def _stands_back_for(state: RaftState, request: RequestVote) -> bool:
    """Whether this node, which asks for pre-votes itself, leaves the campaign to this one.

    Two that lose their leader at one instant would consent to each other, and then each vote for
    itself and wait for another timeout. So whoever holds less stands back; of equals, the one with
    the greater id. A pre-vote that is given up costs nothing: nothing was promised.
    """
    race, log = state.campaign, state.log
    if race is None or not race.pre_vote or request.term != state.term + 1:
        return False
    holds_more = (request.last_term, request.last_index) > (log.last_term, log.last_index)
    return request.from_ in state.conf.voters and (holds_more or request.from_ < state.id)


def _is_up_to_date(state: RaftState, request: RequestVote) -> bool:
    """Whether the candidate's log is at least as up to date as ours (Raft section 5.4.1).

    What who recovers holds beyond the commit index counts for nothing: it must not keep from being
    elected whoever all others want.
    """
    log = state.log
    index = log.committed if state.recovering else log.last_index
    return (request.last_term, request.last_index) >= (log.term(index), index)


def learn_commit(state: RaftState, message: RequestVote | VoteReply) -> None:
    """Take what its sender knows to be committed, if it is in this log: true for ever, in any term.

    A candidate may not know that a membership change in its log is committed, and ask voters that
    are none any more. One of them can hold a longer log than it, and refuse it for ever; but it
    knows of the change. So the campaign ends, the change is applied, and the next one asks those
    who are voters now. Or it does not ask one that is a voter now, and whom it refuses for its
    shorter log; but that one asks it, and knows. Or those who were voters are gone, and of those
    who remain only one that was a learner before the change knows of it: so learners are asked too.
    """
    if state.reign is not None or not state.log.matches(message.commit, message.commit_term):
        return
    state.log.commit_to(message.commit)
    if state.role is Role.CANDIDATE and not may_campaign(state):
        state.become_follower(state.term, None)


def on_vote_reply(state: RaftState, reply: VoteReply) -> None:
    """Count a vote; votes of another kind or round than asked for now do not count."""
    race = state.campaign
    if race is None or race.pre_vote != reply.pre_vote:
        return
    if reply.granted and reply.term != state.term + (1 if race.pre_vote else 0):
        return
    if reply.granted and state.blank and not reply.forgetful:
        return  # It was for a log that was here once: who holds anything grants nothing to this.
    if reply.from_ not in race.votes:
        race.votes[reply.from_] = reply.granted
        if reply.forgetful:
            race.forgetful.add(reply.from_)
    result = losses.vote_result(state, race)
    match result:
        case VoteResult.PENDING:
            return
        case VoteResult.LOST:
            state.become_follower(state.term, None)
        case VoteResult.WON:
            state.silent_ticks = 0
            if race.pre_vote:
                _run(state, pre_vote=False, transfer=False)
            else:
                become_leader(state)
        case _:
            assert_never(result)


def become_leader(state: RaftState) -> None:
    """Begin a reign: probe every peer, and append the entry that lets older ones commit."""
    assert state.vote == state.id, f"`{state.id}` leads term {state.term}, voted {state.vote}"
    answered = state.campaign.votes if state.campaign is not None else {}
    state.role = Role.LEADER
    state.leader = state.id
    state.campaign = None
    state.election_elapsed = 0
    state.reign = Reign(Reads(state.id))
    state.blank = False
    enrol_peers(state)
    for peer in answered:
        if peer in state.reign.peers:
            state.reign.peers[peer].silent_ticks = 0  # its vote was heard just now
    state.append([b""], EntryKind.NOOP)  # Raft section 5.4.2, 8


def enrol_peers(state: RaftState) -> None:
    """Let the leader's peers be the other members; those who stay keep their progress."""
    reign, config = state.reign, state.config
    assert reign is not None, f"`{state.id}` does not lead"
    old = reign.peers

    def progress_of(node: NodeId) -> Progress:
        if node in old:
            return old[node]
        following = Index(state.log.last_index + 1)
        progress = Progress(following, config.max_inflight, config.max_inflight_bytes)
        progress.recent_active = True  # benefit of the doubt until the next check of the quorum
        return progress

    reign.peers = {node: progress_of(node) for node in state.conf.members if node != state.id}


def on_timeout_now(state: RaftState, request: TimeoutNow) -> None:
    """The leader hands over: campaign at once (thesis section 3.10)."""
    if request.from_ == state.leader:
        campaign(state, transfer=True)
