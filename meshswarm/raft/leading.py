"""What a leader does: replicate, commit, confirm reads, hand over (Raft section 5.3, 5.4).

Nothing is sent from where it is decided: handlers change a peer's progress, and `flush`, run once
before each `Ready`, sends what is due. So all proposals between two Readys travel in one append,
and batches grow with the load. A commit index travels with the next entries, and an entry that
comes alone is spared those who need not hear of it at once (`thrift`); whoever drives the core has
the peers catch up with both after a while (`catch_up`).
"""

from meshswarm.ids import Index, NodeId
from meshswarm.raft import losses, quorum, thrift
from meshswarm.raft.election import enrol_peers
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    TimeoutNow,
)
from meshswarm.raft.progress import Progress, ProgressState
from meshswarm.raft.state import RaftState, Reign
from meshswarm.raft.types import Entry, EntryKind, News, Snapshot


def tick(state: RaftState, reign: Reign) -> None:
    """A tick of the leader: check its quorum once an election timeout, and send heartbeats."""
    config = state.config
    for progress in reign.peers.values():
        progress.silent_ticks += 1
    state.election_elapsed += 1
    if state.election_elapsed >= config.election_ticks:
        state.election_elapsed = 0
        _check_quorum(state, reign)
        if state.reign is None:
            return
    if reign.transferee is not None:
        reign.transfer_elapsed += 1
        if reign.transfer_elapsed >= config.election_ticks:
            reign.transferee = None
    reign.heartbeat_elapsed += 1
    if reign.heartbeat_elapsed >= config.heartbeat_ticks:
        _broadcast_heartbeat(state, reign)


def due_in(state: RaftState, reign: Reign) -> int:
    """In how many ticks one of the leader's timers is due."""
    config = state.config
    due = min(
        config.heartbeat_ticks - reign.heartbeat_elapsed,
        config.election_ticks - state.election_elapsed,
    )
    if reign.transferee is None:
        return due
    return min(due, config.election_ticks - reign.transfer_elapsed)


def _check_quorum(state: RaftState, reign: Reign) -> None:
    """Step down unless a majority was heard within the last election timeout (thesis 6.2), or all
    were who can help those that recover."""
    _vouch(state, reign)
    active = {peer: True for peer, progress in reign.peers.items() if progress.is_active}
    active[state.id] = True
    heard = {peer for peer, progress in reign.peers.items() if progress.recent_active}
    are_all = losses.are_all(state, heard | {state.id}, reign.recovering)
    for progress in reign.peers.values():
        progress.end_round(state.config.snapshot_elections, state.log.committed)
    won = quorum.vote_result(state.conf.voters, active) is quorum.VoteResult.WON
    if won or are_all or not state.config.check_quorum:
        state.silent_ticks = 0
    else:
        state.become_follower(state.term, None)


def _ask_for_reads(state: RaftState, reign: Reign) -> None:
    """Have a majority confirm that this node leads."""
    if state.config.thrifty:
        thrift.look_at_reads(reign)
    _broadcast_heartbeat(state, reign, but=reign.unasked)
    if len(state.conf.voters) == 1:  # no answer will come
        _complete_reads(state, reign)


def _broadcast_heartbeat(
    state: RaftState, reign: Reign, *, but: frozenset[NodeId] = thrift.NOBODY
) -> None:
    """Tell every peer that the leader lives, with as much of the commit index as it can use; who
    is left out hears it when the next heartbeat is due."""
    if not but:
        reign.heartbeat_elapsed = 0
    _vouch(state, reign)
    position = reign.reads.next_position()
    for peer, progress in reign.peers.items():
        if peer in but:
            continue
        state.send(
            Heartbeat(
                from_=state.id,
                to=peer,
                term=state.term,
                commit=min(progress.match, state.log.committed),
                read_position=position,
                vouched=progress.vouched,
                vouched_at=progress.vouched_at if progress.vouched else Index(0),
            )
        )


def flush(state: RaftState, reign: Reign) -> None:
    """Send everything that is due now: appends, and heartbeats for reads."""
    if reign.reads.needs_heartbeat:
        _ask_for_reads(state, reign)
    if state.config.thrifty and reign.looked_at != state.log.last_index:
        thrift.look(state, reign)
    last, spared = state.log.last_index, reign.spared
    for peer, progress in reign.peers.items():
        if peer in spared and not progress.nudged:
            continue
        while (progress.next <= last or progress.nudged) and not progress.paused:
            if not _send_append(state, peer, progress):
                break


def catch_up(state: RaftState, reign: Reign, news: News) -> bool:
    """Spare nobody the entries up to `news.last`, nor the reads up to `news.reads`, any longer, and
    send an append without entries to each peer that was not told that `news.commit` is committed,
    and can use that; whether there was anyone. Who has to answer first, or lags too far, is passed
    over.
    """
    log, peers, reads = state.log, reign.peers, reign.reads
    is_unconfirmed = bool(reign.unasked) and reads.waits_for(news.reads)
    if is_unconfirmed:
        reign.unasked = thrift.NOBODY
        reads.needs_heartbeat = True  # the next flush sends it, to all
    is_behind = any(peers[peer].next <= news.last for peer in reign.spared)
    if is_behind:
        reign.spared = thrift.NOBODY  # the next flush sends what they lack, and the commit index
    told = [
        (peer, progress)
        for peer, progress in peers.items()
        if progress.sent_commit < news.commit
        and progress.wants_commit(log.committed)
        and not progress.paused
        and progress.next > log.offset
        and not (is_behind and progress.next <= log.last_index)
    ]
    for peer, progress in told:
        _append(state, peer, progress, ())
    return bool(told) or is_behind or is_unconfirmed


def _send_append(state: RaftState, peer: NodeId, progress: Progress) -> bool:
    """Send one append, if there is anything to say; whether more entries may follow."""
    log, config = state.log, state.config
    if progress.state is ProgressState.SNAPSHOT:
        return False
    if progress.next <= log.offset:
        _request_snapshot(state, peer, progress)
        return False
    entries: tuple[Entry, ...] = ()
    if progress.next <= log.last_index and progress.may_stream:
        entries = log.slice(
            progress.next,
            log.last_index,
            max_entries=config.max_append_entries,
            max_bytes=config.max_append_bytes,
        )
    if entries or progress.nudged:
        _append(state, peer, progress, entries)
    return bool(entries)


def _append(state: RaftState, peer: NodeId, progress: Progress, entries: tuple[Entry, ...]) -> None:
    """Send these entries, which are next for this peer, and the commit index."""
    log, prev = state.log, Index(progress.next - 1)
    state.send(
        AppendEntries(
            from_=state.id,
            to=peer,
            term=state.term,
            prev_index=prev,
            prev_term=log.term(prev),
            entries=entries,
            commit=log.committed,
        )
    )
    size_bytes = log.size_bytes(prev, Index(prev + len(entries))) if entries else 0
    progress.sent_append(len(entries), size_bytes, log.committed)


def _request_snapshot(state: RaftState, peer: NodeId, progress: Progress) -> None:
    """Ask the embedder for a snapshot, if the peer is there to take it."""
    progress.nudged = False
    if progress.recent_active:
        progress.become_snapshot(state.log.offset)
        state.snapshot_requests.append(peer)


def send_snapshot(state: RaftState, peer: NodeId, snapshot: Snapshot) -> bool:
    """Send the snapshot that was asked for; False if nobody wants it any more."""
    progress = state.reign.peers.get(peer) if state.reign else None
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return False
    index = snapshot.meta.index
    assert index >= state.log.offset, (
        f"snapshot at {index} does not reach the log, which begins after {state.log.offset}"
    )
    progress.become_snapshot(index)
    state.send(InstallSnapshot(from_=state.id, to=peer, term=state.term, snapshot=snapshot))
    return True


def compact(state: RaftState, index: Index) -> None:
    """Forget the log up to `index`, but nothing that follows a snapshot under way, nor what a peer
    gets a little later because it was spared."""
    if (reign := state.reign) is not None:
        for peer, progress in reign.peers.items():
            if progress.state is ProgressState.SNAPSHOT:
                index = min(index, progress.pending_snapshot)
            elif peer in reign.spared and progress.state is ProgressState.REPLICATE:
                index = min(index, Index(progress.next - 1))
    state.log.compact(index)


def on_append_reply(state: RaftState, reply: AppendReply) -> None:
    """Learn what a peer holds; commit what a majority holds."""
    reign = state.reign
    if reign is None or reply.from_ not in reign.peers:
        return
    progress = reign.peers[reply.from_]
    progress.heard()
    has_changed = reply.recovery != progress.recovery
    if has_changed:
        _note_recovery(state, progress, reply.recovery)
        if reign.transferee == reply.from_:
            reign.transferee = None
    log = state.log
    if reply.rejected:
        hint, _ = log.find_conflict_by_term(reply.hint_index, reply.hint_term)
        retry_from = Index(hint + 1)
        if reply.recovery:
            progress.lost_data(min(reply.index, retry_from))
        else:
            progress.rejected(reply.index, retry_from)
        return
    if reply.index > log.last_index:
        return  # No honest answer to this reign's appends: never count it.
    if progress.accepted(reply.index, log.first_index) or has_changed:
        if progress.match > log.committed:
            commit(state)
        _hand_over(state, reign)


def _note_recovery(state: RaftState, progress: Progress, recovery: int) -> None:
    """A peer lost part of what it held, or has recovered (0).

    It may also have lost votes, and terms: another leader may have been elected with them, or may
    still be, and count on what it forgot. So it does not count until a majority of the others holds
    an entry of this leader's that was appended since. Who counts on a vote or on entries that the
    peer forgot needs one of these others, as any two majorities share a voter, and this one is not
    the peer. It knows of this term then: a leader of an older one it serves no more; a candidate of
    a newer one that lacks the entry it refuses; and it would not have taken the entry, had it known
    a newer leader. The answer names the loss, for the peer may have had another one since.
    """
    vouched_at = state.append([b""], EntryKind.NOOP) if recovery else Index(0)
    progress.told_recovery(recovery, vouched_at)


def _vouch(state: RaftState, reign: Reign) -> None:
    """Vouch for who recovers, if enough others hold what they need for that."""
    for progress in reign.peers.values():
        if progress.recovery != progress.vouched and _may_vouch(state, reign, progress):
            progress.vouched = progress.recovery


def _may_vouch(state: RaftState, reign: Reign, forgetful: Progress) -> bool:
    """Whether enough others hold what was appended since this one's loss was told of: it is
    committed without who recovers, or all others hold it, be they recovering, too (`losses`).
    """
    log, index = state.log, forgetful.vouched_at
    if index <= log.committed:
        return True
    holding = {
        peer
        for peer, progress in reign.peers.items()
        if progress.match >= index or progress is forgetful
    }
    if index <= log.durable:
        holding.add(state.id)
    return losses.are_all(state, holding, reign.recovering)


def on_heartbeat_reply(state: RaftState, reply: HeartbeatReply) -> None:
    """The peer is there and follows: confirm reads, and look whether it lags."""
    reign = state.reign
    if reign is None or reply.from_ not in reign.peers:
        return
    progress = reign.peers[reply.from_]
    progress.heartbeat_answered(state.log.last_index)
    reign.reads.confirm(reply.from_, reply.read_position)
    _complete_reads(state, reign)


def commit(state: RaftState) -> None:
    """Commit what a majority of the voters holds durably; who recovers is not counted.

    Only an entry of the own term is counted; older ones commit with it (Raft section 5.4.2). The
    leader counts itself only as far as its own disk is (thesis section 10.2.1). A membership change
    is committed by the voters before it, what follows by those after it: so nothing beyond a change
    commits before the change is applied.
    """
    reign, log = state.reign, state.log
    if reign is None:
        return
    index = Index(
        quorum.majority_value(
            [
                log.durable if voter == state.id else reign.peers[voter].counted
                for voter in state.conf.voters
            ]
        )
    )
    if index <= log.committed or log.term(index) != state.term:
        return
    change = log.unapplied_conf_change
    if log.commit_to(index if change is None else min(index, change)):
        if log.committed == index:  # else it stopped before this leader's own term
            reign.reads.release(log.committed)
        if state.config.thrifty:
            thrift.note_quick(state, reign)
        if change == log.committed:
            # Now: a leader that it removes leads no longer once it has applied it.
            catch_up(state, reign, News(log.committed, log.last_index, reads=0))


def _complete_reads(state: RaftState, reign: Reign) -> None:
    if confirmed := reign.reads.take_confirmed(state.conf.voters):
        state.read_states += confirmed
        if state.config.thrifty:
            thrift.note_confirmed(reign)


def transfer_to(state: RaftState, reign: Reign, target: NodeId) -> None:
    """Begin to hand leadership over; the target is brought up to date first (thesis 3.10)."""
    reign.transferee = target
    reign.transfer_elapsed = 0
    _hand_over(state, reign)


def best_transferee(state: RaftState, reign: Reign) -> NodeId | None:
    """Of the voters that answer and are whole the first one with the longest log."""
    able = [
        peer
        for peer, progress in reign.peers.items()
        if progress.silent_ticks < state.config.election_ticks
        and not progress.recovery
        and peer in state.conf.voters
    ]
    return max(able, key=lambda peer: reign.peers[peer].match, default=None)


def abdicate(state: RaftState, reign: Reign) -> None:
    """Lead no longer, now; the best voter is told to campaign, so that no timeout need pass.

    It is told even if it lacks the end of the log: what is committed, it cannot be elected without.
    """
    target = best_transferee(state, reign)
    if target is not None:
        state.send(TimeoutNow(from_=state.id, to=target, term=state.term))
    state.become_follower(state.term, None)


def _hand_over(state: RaftState, reign: Reign) -> None:
    """Tell the transferee to campaign once it holds everything."""
    target = reign.transferee
    if target is None:
        return
    if reign.peers[target].match == state.log.last_index:
        state.send(TimeoutNow(from_=state.id, to=target, term=state.term))
    else:
        reign.peers[target].nudged = True


def on_conf_changed(state: RaftState, reign: Reign) -> None:
    """The membership is another now: step down if no longer a voter, else count anew."""
    enrol_peers(state)
    thrift.forget(reign)
    if reign.transferee is not None and reign.transferee not in state.conf.voters:
        reign.transferee = None
    if not state.is_voter:
        state.become_follower(state.term, None)
        return
    commit(state)
    _complete_reads(state, reign)
