"""Where messages go: terms are compared here, once, before any rule looks at a message."""

from typing import assert_never

from meshswarm.ids import Index
from meshswarm.raft import election, following, leading
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    Removed,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.state import RaftState


def step(state: RaftState, message: Message) -> None:
    """Compare terms (Raft section 5.1), then let the rule for this kind of message act.

    Who was removed and what is committed stays so in every term, and comes first.
    """
    if isinstance(message, RequestVote) and message.from_ in state.conf.removed:
        state.send(Removed(from_=state.id, to=message.from_, term=message.term))
        return
    if isinstance(message, RequestVote | VoteReply):
        election.learn_commit(state, message)
    if message.term < state.term:
        _answer_stale(state, message)
    elif message.term == state.term or _admit_newer(state, message):
        _deliver(state, message)


def _deliver(state: RaftState, message: Message) -> None:
    match message:
        case AppendReply():
            leading.on_append_reply(state, message)
        case AppendEntries():
            following.on_append(state, message)
        case Heartbeat():
            following.on_heartbeat(state, message)
        case HeartbeatReply():
            leading.on_heartbeat_reply(state, message)
        case RequestVote():
            election.on_request_vote(state, message)
        case VoteReply():
            election.on_vote_reply(state, message)
        case InstallSnapshot():
            following.on_install_snapshot(state, message)
        case TimeoutNow():
            election.on_timeout_now(state, message)
        case Removed():
            election.on_removed(state)
        case _:
            assert_never(message)


def _admit_newer(state: RaftState, message: Message) -> bool:
    """Adopt a newer term (Raft section 5.1); False if the message is to be ignored.

    A pre-vote and its grant speak of a term that has not begun. A node that hears its leader
    ignores other candidates, unless the leader itself sent them (thesis section 4.2.3).
    """
    match message:
        case RequestVote():
            if election.is_sticky(state) and not message.leadership_transfer:
                return False
            if message.pre_vote:
                return True
        case VoteReply(granted=True, pre_vote=True) | Removed():
            return True
        case _:
            pass
    state.become_follower(message.term, None)
    return True


def _answer_stale(state: RaftState, message: Message) -> None:
    """Tell leaders and candidates of older terms that theirs is over; ignore all else.

    Without the answer, a node whose term is ahead of the leader's (it campaigned while cut off)
    could never come back: it ignores the leader, and pre-vote keeps it from winning.
    """
    match message:
        case AppendEntries() | Heartbeat() | InstallSnapshot():
            state.send(
                AppendReply(
                    from_=state.id,
                    to=message.from_,
                    term=state.term,
                    index=Index(0),
                    rejected=True,
                )
            )
        case RequestVote():
            state.send(
                VoteReply(
                    from_=state.id,
                    to=message.from_,
                    term=state.term,
                    granted=False,
                    pre_vote=message.pre_vote,
                )
            )
        case AppendReply() | HeartbeatReply() | VoteReply() | TimeoutNow() | Removed():
            return
        case _:
            assert_never(message)
