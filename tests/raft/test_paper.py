"""What the paper demands, one test a rule; the name says the rule, the docstring where it stands.

"Raft" is Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm (extended
version, 2014); "thesis" is Ongaro, Consensus: Bridging Theory and Practice (2014).
"""

import pytest
from attrs import evolve

from meshswarm.errors import Corrupt, Invalid
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import confchange
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from meshswarm.raft.refusals import ConfChangeRefused, NotLeader, ProposalRefused
from meshswarm.raft.types import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    Role,
    Snapshot,
    SnapshotMeta,
)
from tests.raft.driving import (
    THREE,
    A,
    B,
    C,
    ack,
    append,
    carried_out,
    core_of,
    elected,
    entries_of,
    sent_by,
)

PLAIN = RaftConfig(node_id=A, pre_vote=False)


def request_vote(term: int, last: tuple[int, int], *, candidate: NodeId = B) -> RequestVote:
    return RequestVote(
        from_=candidate,
        to=A,
        term=Term(term),
        last_index=Index(last[0]),
        last_term=Term(last[1]),
    )


def test_a_newer_term_makes_a_leader_follow() -> None:
    """Raft section 5.1."""
    core = elected(core_of())
    core.step(append(9, (0, 0)))
    assert core.status().role is Role.FOLLOWER
    assert (core.status().term, core.status().leader) == (9, B)


def test_a_message_of_an_older_term_changes_nothing_and_is_told_the_term() -> None:
    """Raft section 5.1."""
    core = core_of(term=5)
    before = core.status()
    core.step(append(4, (0, 0), [4]))
    assert core.status() == before
    assert [(m.term, type(m)) for m in sent_by(core)] == [(5, AppendReply)]


def test_nodes_start_as_followers() -> None:
    """Raft section 5.2."""
    assert core_of(term=3, vote=A).status().role is Role.FOLLOWER


def test_a_follower_campaigns_when_the_election_timeout_has_passed() -> None:
    """Raft section 5.2: it raises its term, votes for itself, asks all others."""
    core = core_of(config=PLAIN)
    for _ in range(9):
        core.tick()
        assert not core.has_ready()
    core.tick()
    assert (core.status().role, core.status().term, core.status().vote) == (Role.CANDIDATE, 1, A)
    assert [m.to for m in sent_by(core) if isinstance(m, RequestVote)] == [B, C]


def test_the_election_timeout_is_drawn_anew_from_one_to_two_timeouts() -> None:
    """Raft section 5.2, 9.3."""
    drawn: list[tuple[int, int]] = []

    class Spy:
        def randrange(self, start: int, stop: int, /) -> int:
            drawn.append((start, stop))
            return start

    core = core_of(config=PLAIN)
    core._state._rng = Spy()
    for _ in range(20):
        core.tick()
    assert drawn == [(10, 20), (10, 20)]


def test_a_leader_heard_in_time_keeps_followers_from_campaigning() -> None:
    """Raft section 5.2."""
    core = core_of(term=1)
    for _ in range(100):
        core.step(Heartbeat(from_=B, to=A, term=Term(1), commit=Index(0)))
        for _ in range(9):
            core.tick()
    assert core.status().role is Role.FOLLOWER
    assert core.status().term == 1


def test_a_leader_sends_heartbeats_to_keep_its_authority() -> None:
    """Raft section 5.2."""
    core = elected(core_of())
    sent_by(core)
    core.tick()
    assert [m.to for m in sent_by(core) if isinstance(m, Heartbeat)] == [B, C]


def test_only_followers_with_a_leader_of_their_term_learn_the_commit_index_it_can_prove() -> None:
    """Raft Figure 2: commitIndex = min(leaderCommit, index of last new entry)."""
    core = core_of(terms=[1, 1, 1], term=1)
    core.step(append(2, (1, 1), [], commit=3))
    assert core.status().commit == 1


def test_an_append_is_refused_unless_the_entry_before_matches() -> None:
    """Raft section 5.3, the consistency check."""
    core = core_of(terms=[1, 1], term=1)
    core.step(append(2, (2, 2), [2]))
    [reply] = sent_by(core)
    assert isinstance(reply, AppendReply)
    assert reply.rejected
    assert (reply.index, reply.hint_index, reply.hint_term) == (2, 2, 1)
    assert core.status().last_index == 2


def test_conflicting_entries_are_replaced_with_all_that_follow() -> None:
    """Raft section 5.3, Figure 2 AppendEntries 3."""
    core = core_of(terms=[1, 1, 1, 1], term=1)
    core.step(append(2, (1, 1), [2]))
    [ready], _ = carried_out(core)
    assert ready.entries == tuple(entries_of([2], 2))
    assert core.status().last_index == 2


def test_s24_a_committed_entry_is_never_replaced() -> None:
    """Raft section 5.4.3: a leader that asks for it breaks safety, so this node stops.

    It says both terms, and wants nothing written: whoever looks finds the log as it was.
    """
    for wrong in (append(2, (1, 1), [2]), append(2, (2, 2), [])):
        core = core_of(terms=[1, 1], term=2, vote=B, commit=2)
        carried_out(core)
        with pytest.raises(AssertionError, match="term 2 at 2, here it is committed with term 1"):
            core.step(wrong)
        assert core.status().last_index == 2
        assert core.ready().entries == ()


def test_a_leader_never_changes_its_own_log() -> None:
    """Raft section 5.3, Leader Append-Only: a second leader in its term stops it instead."""
    core = elected(core_of())
    with pytest.raises(AssertionError, match="two leaders in term 1"):
        core.step(append(1, (0, 0), [1]))


def test_a_vote_goes_to_who_is_up_to_date() -> None:
    """Raft section 5.4.1: the higher last term wins, then the longer log."""
    for last, granted in [((9, 1), False), ((1, 2), False), ((2, 2), True), ((1, 3), True)]:
        core = core_of(terms=[1, 2], term=3)
        core.step(request_vote(4, last))
        [reply] = sent_by(core)
        assert isinstance(reply, VoteReply)
        assert (last, reply.granted) == (last, granted)


def test_one_vote_a_term_first_come_first_served() -> None:
    """Raft section 5.2."""
    core = core_of()
    core.step(request_vote(1, (0, 0), candidate=B))
    core.step(request_vote(1, (0, 0), candidate=C))
    core.step(request_vote(1, (0, 0), candidate=B))
    granted = [m.granted for m in sent_by(core) if isinstance(m, VoteReply)]
    assert granted == [True, False, True]


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    """Raft Figure 2: persistent state is updated before responding to RPCs."""
    core = core_of()
    core.step(request_vote(1, (0, 0)))
    ready = core.ready()
    assert ready.messages == ()
    assert ready.token is not None
    assert [type(m) for m in core.persisted(ready.token)] == [VoteReply]


def test_a_candidacy_leaves_only_when_it_is_durable() -> None:
    """Raft Figure 2; else the candidate could win one term twice."""
    core = core_of(config=PLAIN)
    for _ in range(10):
        core.tick()
    ready = core.ready()
    assert ready.messages == ()
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (1, A)
    assert ready.token is not None
    assert [m.to for m in core.persisted(ready.token)] == [B, C]


def test_an_acknowledgement_leaves_only_when_entries_and_commit_index_are_durable() -> None:
    """Raft Figure 2; the commit index travels in the same write, for memberships hang on it."""
    core = core_of(terms=[1], term=1)
    core.step(append(1, (1, 1), [1], commit=2))
    ready = core.ready()
    assert ready.messages == ()
    assert ready.hard_state is not None
    assert ready.hard_state.commit == 2
    # A repeated append acknowledges entries whose write is under way: it waits for it too.
    core.step(append(1, (1, 1), [1], commit=2))
    assert core.ready().messages == ()
    assert ready.token is not None
    assert [m.index for m in core.persisted(ready.token) if isinstance(m, AppendReply)] == [2]


def test_a_heartbeat_is_answered_at_once() -> None:
    """It promises nothing, so it does not wait for the write under way."""
    core = core_of()
    core.step(append(1, (0, 0), [1]))
    core.ready()
    core.step(Heartbeat(from_=B, to=A, term=Term(1), commit=Index(0)))
    assert [type(m) for m in core.ready().messages] == [HeartbeatReply]


def test_a_leader_commits_only_entries_of_its_term_by_counting() -> None:
    """Raft section 5.4.2."""
    core = elected(core_of(terms=[1, 2], term=2))
    sent_by(core)
    core.step(ack(B, 3, 2))
    assert core.status().commit == 0
    core.step(ack(B, 3, 3))
    assert core.status().commit == 3


def test_a_leader_counts_itself_only_as_far_as_its_disk() -> None:
    """Thesis section 10.2.1."""
    core = elected(core_of(conf=ConfState((A, B))))
    sent_by(core)
    core.step(ack(B, 1, 1))
    core.propose([b"x"])
    ready = core.ready()
    core.step(ack(B, 1, 2))
    assert core.status().commit == 1
    assert ready.token is not None
    core.persisted(ready.token)
    assert core.status().commit == 2


def test_s26_acknowledgements_of_old_terms_and_of_strangers_do_not_count() -> None:
    """Raft section 5.1; a reign begins with nothing known of its followers."""
    core = elected(core_of(term=4))
    sent_by(core)
    before = core.status()
    for reply in (ack(B, 4, 1), ack(NodeId("z"), 5, 1), ack(B, 5, 99)):
        core.step(reply)
    assert core.status().peers == before.peers
    assert core.status().commit == 0


def test_s34_followers_are_told_no_more_of_the_commit_index_than_they_hold() -> None:
    """A heartbeat carries min(match, commit): it has no entry to check the log by."""
    core = elected(core_of())
    sent_by(core)
    core.step(ack(B, 1, 1))
    sent_by(core)
    core.tick()
    commits = {m.to: m.commit for m in sent_by(core) if isinstance(m, Heartbeat)}
    assert commits == {B: 1, C: 0}


def test_a_batch_of_proposals_travels_in_one_append() -> None:
    """Thesis section 10.2.2."""
    core = elected(core_of())
    sent_by(core)
    core.step(ack(B, 1, 1))
    sent_by(core)
    assert core.propose([b"x", b"y"]) == (1, 2)
    assert core.propose([b"z"]) == (1, 4)
    appends = [m for m in sent_by(core) if isinstance(m, AppendEntries) and m.to == B]
    assert [[entry.data for entry in m.entries] for m in appends] == [[b"x", b"y", b"z"]]


def test_only_the_leader_takes_requests_and_others_name_it() -> None:
    """Raft section 8."""
    core = core_of()
    core.step(append(1, (0, 0)))
    for request in (
        lambda: core.propose([b"x"]),
        lambda: core.read_index("r"),
        lambda: core.transfer_leadership(None),
        lambda: core.propose_conf_change(ConfChange(ConfChangeKind.REMOVE, B)),
    ):
        with pytest.raises(NotLeader) as refusal:
            request()
        assert refusal.value.leader == B


def test_s18_a_node_with_an_unapplied_membership_change_does_not_campaign() -> None:
    """Changes take effect when applied: it would ask the wrong voters (against thesis 4.1)."""
    change = confchange.encode(ConfChange(ConfChangeKind.REMOVE, C))
    entry = Entry(Index(1), Term(1), change, EntryKind.CONF_CHANGE)
    core = core_of(entries=[entry], term=1, commit=1)
    for _ in range(50):
        core.tick()
    core.step(TimeoutNow(from_=B, to=A, term=Term(1)))
    assert core.status().role is not Role.CANDIDATE
    assert core.status().term == 1
    ready = core.ready()
    core.applied(ready.committed[-1].index)
    core.tick()
    assert [m.to for m in sent_by(core) if isinstance(m, RequestVote)] == [B]


def test_a_candidate_learns_from_votes_what_is_committed() -> None:
    """Its own voters may be others since (raft-rs has the same for the same reason)."""
    change = confchange.encode(ConfChange(ConfChangeKind.REMOVE, C))
    entry = Entry(Index(1), Term(1), change, EntryKind.CONF_CHANGE)
    core = core_of(entries=[entry], term=1)
    for _ in range(10):
        core.tick()
    assert core.status().role is Role.CANDIDATE
    for commit, commit_term in ((1, 2), (2, 1)):  # not in this log: not learned
        core.step(refusal(term=1, commit=commit, commit_term=commit_term))
    assert core.status().commit == 0
    core.step(refusal(term=1, commit=1, commit_term=1))
    assert core.status().commit == 1
    assert core.status().role is Role.FOLLOWER
    carried_out(core)
    assert core.status().conf == ConfState((A, B), removed=(C,))


def test_what_is_committed_is_so_in_every_term() -> None:
    """A refusal of an earlier term, or by a voter whose term is behind, teaches all the same."""
    core = core_of(terms=[1, 1], term=7)
    core.step(refusal(term=3, commit=2, commit_term=1))
    assert core.status().commit == 2
    assert core.status().term == 7


def refusal(*, term: int, commit: int, commit_term: int) -> VoteReply:
    return VoteReply(
        from_=B,
        to=A,
        term=Term(term),
        granted=False,
        pre_vote=True,
        commit=Index(commit),
        commit_term=Term(commit_term),
    )


def test_a_commit_that_changes_the_membership_is_made_durable() -> None:
    """A node that forgot it would ask voters that may be gone (against thesis 4.1)."""
    change = confchange.encode(ConfChange(ConfChangeKind.REMOVE, C))
    entry = Entry(Index(1), Term(1), change, EntryKind.CONF_CHANGE)
    core = core_of(entries=[entry], term=1)
    core.step(append(1, (1, 1), commit=1))
    ready = core.ready()
    assert ready.hard_state is not None
    assert ready.hard_state.commit == 1


def test_membership_changes_one_at_a_time() -> None:
    """Thesis section 4.1."""
    core = elected(core_of())
    sent_by(core)
    with pytest.raises(ConfChangeRefused, match="nothing is committed yet in term 1"):
        core.propose_conf_change(ConfChange(ConfChangeKind.REMOVE, C))
    core.step(ack(B, 1, 1))
    core.propose_conf_change(ConfChange(ConfChangeKind.REMOVE, C))
    with pytest.raises(ConfChangeRefused, match="at index 2"):
        core.propose_conf_change(ConfChange(ConfChangeKind.REMOVE, B))
    written = core.ready()
    assert written.token is not None
    core.persisted(written.token)
    core.step(ack(B, 1, 2))
    ready = core.ready()
    with pytest.raises(ConfChangeRefused, match="at index 2"):  # committed, but not applied
        core.propose_conf_change(ConfChange(ConfChangeKind.REMOVE, B))
    core.applied(ready.committed[-1].index)
    assert core.status().conf == ConfState((A, B), removed=(C,))


def test_a_transfer_bypasses_what_protects_a_leader() -> None:
    """Thesis section 3.10, 4.2.3: pre-vote and stickiness."""
    core = core_of()
    core.step(append(1, (0, 0)))
    core.step(evolve(request_vote(2, (0, 0), candidate=C), leadership_transfer=False))
    assert core.status().term == 1
    core.step(evolve(request_vote(2, (0, 0), candidate=C), leadership_transfer=True))
    assert core.status().vote == C


def test_timeout_now_is_taken_from_the_leader_only() -> None:
    """Thesis section 3.10."""
    core = core_of()
    core.step(append(1, (0, 0)))
    core.step(TimeoutNow(from_=C, to=A, term=Term(1)))
    assert core.status().term == 1
    core.step(TimeoutNow(from_=B, to=A, term=Term(1)))
    assert core.status().term == 2


def test_a_snapshot_replaces_a_log_that_it_passes() -> None:
    """Raft section 7, Figure 13; its acknowledgement waits for the disk."""
    core = core_of(terms=[1, 1], term=1)
    meta = SnapshotMeta(Index(5), Term(2), ConfState((A, B)))
    core.step(_install(meta))
    ready = core.ready()
    assert ready.snapshot is not None
    assert ready.snapshot.meta == meta
    assert ready.messages == ()
    assert ready.token is not None
    assert [m.index for m in core.persisted(ready.token) if isinstance(m, AppendReply)] == [5]
    assert (core.status().last_index, core.status().conf) == (5, meta.conf)


def test_a_snapshot_within_the_log_keeps_what_follows() -> None:
    """Raft section 7, Figure 13 step 6."""
    core = core_of(terms=[1, 1, 1], term=1)
    core.step(_install(SnapshotMeta(Index(2), Term(1), THREE)))
    readys, _ = carried_out(core)
    assert all(ready.snapshot is None for ready in readys)
    assert (core.status().last_index, core.status().commit) == (3, 2)


def _install(meta: SnapshotMeta) -> InstallSnapshot:
    return InstallSnapshot(from_=B, to=A, term=Term(2), snapshot=Snapshot(meta, b""))


def test_s40_a_late_answer_confirms_no_newer_read() -> None:
    """Thesis section 6.4: an answer to an older heartbeat confirms nothing newer."""
    core = elected(core_of())
    sent_by(core)
    core.step(ack(B, 1, 1))
    core.read_index("first")
    sent_by(core)
    core.read_index("second")
    sent_by(core)
    core.step(HeartbeatReply(from_=B, to=A, term=Term(1), read_position=1))
    [ready] = carried_out(core)[0]
    assert [read.context for read in ready.read_states] == ["first"]


def test_limits_refuse_and_say_so() -> None:
    core = elected(core_of(config=RaftConfig(node_id=A, max_pending_reads=1, max_append_bytes=10)))
    core.read_index("r")
    with pytest.raises(ProposalRefused, match="1 reads wait already"):
        core.read_index("s")
    with pytest.raises(Invalid, match="11 bytes"):
        core.propose([b"x" * 11])


def test_settings_that_contradict_each_other_are_all_told() -> None:
    with pytest.raises(Invalid) as fault:
        RaftConfig(node_id=A, election_ticks=1, heartbeat_ticks=2, max_inflight=0)
    assert len(fault.value.details) == 2


def test_stored_parts_that_do_not_fit_are_corrupt() -> None:
    meta = SnapshotMeta(Index(5), Term(2), THREE)
    with pytest.raises(Corrupt, match=r"\(7, term 2\) after \(5, term 2\)"):
        core_of(snapshot=meta, entries=entries_of([2], 7), term=2)
    with pytest.raises(Corrupt, match="entries were lost"):
        core_of(terms=[1], term=1, commit=2)
    assert core_of(terms=[1], term=1, commit=2, recovering=True).status().commit == 1


def test_a_membership_without_voters_is_refused() -> None:
    with pytest.raises(Invalid, match="founders"):
        core_of(conf=ConfState(()))
