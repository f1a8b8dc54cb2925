"""What a follower does with its leader's messages (Raft section 5.3, 7)."""

from meshswarm.ids import Index, Term
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
)
from meshswarm.raft.state import RaftState

FromLeader = AppendEntries | Heartbeat | InstallSnapshot
"""What only a leader sends."""


def hear_leader(state: RaftState, message: FromLeader) -> None:
    """Acknowledge the leader of this term."""
    assert state.reign is None, (
        f"two leaders in term {state.term}: `{state.id}` and `{message.from_}`"
    )
    state.become_follower(state.term, message.from_)
    state.election_elapsed = 0
    state.silent_ticks = 0


def on_append(state: RaftState, message: AppendEntries) -> None:
    """Take the entries if the log agrees with the leader's up to them; else say where it may."""
    hear_leader(state, message)
    if state.blank:
        _fill_blank(state, is_founding=_founds(state, message))
    log = state.log
    if not _agrees(state, message):
        index, term = log.find_conflict_by_term(
            min(message.prev_index, log.last_index), message.prev_term
        )
        _reply(state, message, message.prev_index, hint=(index, term))
        return
    _take_entries(state, message)
    last = Index(max(message.prev_index + len(message.entries), log.committed))
    log.commit_to(min(message.commit, last))
    if state.recovering:
        _note_repair(state, last)
    _reply(state, message, last)


def _agrees(state: RaftState, message: AppendEntries) -> bool:
    """Whether both logs are equal up to `prev_index`.

    They are, up to the commit index: whatever a leader was elected with holds what was committed
    (Raft section 5.4.3). A leader that differs there proves that the cluster's safety is broken:
    this node stops rather than rewrite a committed entry.
    """
    log, prev = state.log, message.prev_index
    if log.matches(prev, message.prev_term):
        return True
    if prev < log.offset:
        return True  # compacted, hence committed
    assert prev > log.committed, (
        f"`{message.from_}` has term {message.prev_term} at {prev}, here it is committed with "
        f"term {log.term(prev)}"
    )
    return False


def _take_entries(state: RaftState, message: AppendEntries) -> None:
    """Append what is new; drop what conflicts; leave what is there already.

    A late or repeated message holds less than the log does and must not shorten it (Raft section
    5.3, Figure 2).
    """
    log, entries = state.log, message.entries
    if not entries or entries[-1].index <= log.offset:
        return
    if message.prev_index == log.last_index:
        log.append(entries)
        return
    known = max(0, log.offset - message.prev_index)
    while known < len(entries) and log.matches(entries[known].index, entries[known].term):
        known += 1
    if known == len(entries):
        return
    first = entries[known].index
    if first <= log.last_index:
        assert first > log.committed, (
            f"`{message.from_}` has term {entries[known].term} at {first}, here it is committed "
            f"with term {log.term(first)}"
        )
        log.truncate_from(first)
    log.append(entries[known:])


def on_heartbeat(state: RaftState, message: Heartbeat) -> None:
    """Learn the commit index, and confirm that this node still follows."""
    hear_leader(state, message)
    log = state.log
    if state.recovering and message.vouched == state.recovery:
        _believe_voucher(state, message)
    if message.commit > log.last_index and not state.recovering:
        # The leader speaks of entries that this node acknowledged and has no more.
        state.begin_recovery()
        state.blank = False
    if state.recovering:  # the leader may speak of a log that was here once
        _ask_for_repair(state, message)
    else:
        log.commit_to(min(message.commit, log.last_index))
    state.send(
        HeartbeatReply(
            from_=state.id,
            to=message.from_,
            term=state.term,
            read_position=0 if state.recovering or state.blank else message.read_position,
        )
    )


def on_install_snapshot(state: RaftState, message: InstallSnapshot) -> None:
    """Replace the log by the leader's snapshot, unless it brings nothing new (Raft Figure 13)."""
    hear_leader(state, message)
    log, meta = state.log, message.snapshot.meta
    if state.blank:
        _fill_blank(state, is_founding=False)
    if wants_snapshot(state, message):
        log.install(message.snapshot)
        state.conf = meta.conf
    elif log.matches(meta.index, meta.term):
        log.commit_to(meta.index)
    _reply(state, message, log.committed)


def wants_snapshot(state: RaftState, message: InstallSnapshot) -> bool:
    """Whether the snapshot of this leader, who is not of an older term, brings anything new."""
    log, meta = state.log, message.snapshot.meta
    return (
        message.term >= state.term
        and meta.index > log.committed
        and not log.matches(meta.index, meta.term)
    )


def _ask_for_repair(state: RaftState, message: Heartbeat) -> None:
    """Tell the leader how far the log goes, unless it has grown since the last heartbeat.

    The leader may believe that this node holds everything, and never send an append.
    """
    log = state.log
    if state.repaired_to == log.last_index:
        _reply(state, message, Index(log.last_index + 1), hint=(log.last_index, log.last_term))
    state.repaired_to = log.last_index


def _founds(state: RaftState, message: AppendEntries) -> bool:
    """Whether this leader was elected by all, this node among them, when none held anything.

    Then its own first entry is that of the log. Nothing that anyone acknowledged before is left to
    be contradicted, and what this node said since, it remembers: the vote, at least.
    """
    first = message.entries[0] if message.entries and message.prev_index == 0 else None
    return first is not None and first.term == message.term and state.vote == message.from_


def _fill_blank(state: RaftState, *, is_founding: bool) -> None:
    """A leader speaks to a node that held nothing: unless it is new, it has to recover first."""
    state.blank = False
    if not is_founding and not state.recovering:
        state.begin_recovery()


def _believe_voucher(state: RaftState, message: Heartbeat) -> None:
    """What this node forgot can do no harm any more: others hold an entry of this leader's that
    whoever is helped by it would need (`leading._note_recovery`).

    In this term it may have voted already, and forgotten that: it shall not vote for another. It
    asks how far the leader is, at once.
    """
    if state.vouched_at is None:
        state.repaired_to = state.log.last_index
    state.vouched_at = message.vouched_at
    if state.vote is None:
        state.vote = message.from_


def finish_repair(state: RaftState) -> bool:
    """End the recovery of lost data once everything that was missing is durable; whether it is."""
    if state.recovered_at is None or state.log.durable < state.recovered_at:
        return False
    state.recovery = 0
    state.vouched_at = None
    state.recovered_at = None
    return True


def tell_repaired(state: RaftState) -> None:
    """Let the leader know: its appends were answered as long as this node was recovering, and
    nothing may follow them for a long time. It may be another leader by now, whose log is known to
    be the same only as far as it is committed."""
    if state.leader not in (None, state.id):
        assert state.leader is not None
        index = min(state.log.committed, state.log.durable)
        state.send(AppendReply(from_=state.id, to=state.leader, term=state.term, index=index))


def _note_repair(state: RaftState, last: Index) -> None:
    """See whether this append shows that a recovering node has caught up.

    It has when it holds the log of whoever vouched up to the entry that was appended after the loss
    was told of: all that this node ever acknowledged and that was committed is before it. It need
    not be committed, or a leader could need this node for that. (A message to an earlier life of
    this node would prove nothing: the transport must not deliver it.)
    """
    if state.vouched_at is not None and last >= state.vouched_at:
        state.recovered_at = state.vouched_at
        finish_repair(state)


def _reply(
    state: RaftState,
    message: FromLeader,
    index: Index,
    *,
    hint: tuple[Index, Term] | None = None,
) -> None:
    hint_index, hint_term = hint or (Index(0), Term(0))
    state.send(
        AppendReply(
            from_=state.id,
            to=message.from_,
            term=state.term,
            index=index,
            rejected=hint is not None,
            hint_index=hint_index,
            hint_term=hint_term,
            recovery=state.recovery,
        )
    )
