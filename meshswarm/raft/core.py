"""The door to consensus on one node: inputs in, `Ready` out."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from attrs import evolve

from meshswarm.errors import Invalid
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft import confchange, dispatch, election, following, guards, leading
from meshswarm.raft.config import RaftConfig, Rng
from meshswarm.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from meshswarm.raft.messages import InstallSnapshot, Message
from meshswarm.raft.progress import Progress, ProgressState
from meshswarm.raft.ready import Ready, SoftState
from meshswarm.raft.refusals import ConfChangeRefused, NotLeader, ProposalRefused
from meshswarm.raft.state import RaftState, Reign
from meshswarm.raft.status import PeerStatus, RaftStatus
from meshswarm.raft.types import (
    ConfChange,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    News,
    Role,
    Snapshot,
    SnapshotMeta,
)

T = TypeVar("T")


class RaftCore:
    """One node of a Raft cluster.

    Made from what was durable: `hard_state`, the newest `snapshot` and the `entries` after it (or
    from some way before it: trailing entries are kept for laggards). The embedder's state machine
    stands at `applied`, where the membership was `conf`: that of the founders, if nothing is
    applied, also on a node that joins later. `recovering`: entries may have been lost here; the
    node counts for nothing until its leader has repaired it, and vouches for it. `blank`: no
    entry was ever stored here, or all were wiped. The votes of both count only with all others
    (`losses`), for what they may have said before must not be outvoted.
    Raises `Corrupt` if the parts do not fit together, `Invalid` if `conf` has no voter.
    """

    def __init__(
        self,
        config: RaftConfig,
        rng: Rng,
        *,
        hard_state: HardState,
        conf: ConfState,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
        applied: Index,
        recovering: bool = False,
        blank: bool = False,
    ) -> None:
        if not conf.voters:
            raise Invalid(
                "a membership without voters: a node that joins starts with that of the founders"
            )
        if snapshot is None:
            conf = evolve(conf, has_founders=True)
        stored_to = max(entries[-1].index if entries else 0, snapshot.index if snapshot else 0)
        committed = min(hard_state.commit, stored_to) if recovering else hard_state.commit
        log = RaftLog(
            snapshot=snapshot, entries=entries, committed=Index(committed), applied=applied
        )
        self._state = RaftState(
            config,
            rng,
            hard_state=hard_state,
            conf=conf,
            log=log,
            recovering=recovering,
            blank=blank,
        )
        self._saved = HardState(hard_state.term, hard_state.vote, log.committed)
        self._told = SoftState(None, self._state.reported_role)

    # Inputs

    def tick(self) -> None:
        """One tick of logical time has passed."""
        state = self._state
        state.silent_ticks += 1
        if state.reign is not None:
            leading.tick(state, state.reign)
        else:
            election.tick(state)

    def step(self, message: Message) -> None:
        """Take a message in; what is stale, repeated or from a stranger does no harm."""
        assert message.to == self._state.id, f"message for `{message.to}` at `{self._state.id}`"
        dispatch.step(self._state, message)

    def propose(self, datas: Sequence[bytes]) -> tuple[Term, Index]:
        """Append `datas` as consecutive entries; their term, and the first one's index.

        They are committed if, and only if, entries of this term are applied at these indexes.
        Raises `NotLeader`, `ProposalRefused` (nothing was appended; later it may work), or
        `Invalid` if one is larger than an append may be.
        """
        assert datas, "an empty batch was proposed"
        self._writable_reign()
        state = self._state
        limit = state.config.max_append_bytes
        size = 0
        for data in datas:
            if len(data) > limit:
                raise Invalid(
                    f"a proposal of {len(data)} bytes is more than one log entry may hold ({limit})"
                )
            size += len(data) + ENTRY_OVERHEAD_BYTES
        waiting = state.log.uncommitted_bytes
        if waiting and waiting + size > state.config.max_uncommitted_bytes:
            raise ProposalRefused(
                f"{waiting} bytes wait for a quorum, the limit is "
                f"{state.config.max_uncommitted_bytes}",
                hint="see which managers answer with `meshswarm cluster status`",
            )
        return state.term, state.append(datas, EntryKind.NORMAL)

    def propose_conf_change(self, change: ConfChange, *, force: bool = False) -> tuple[Term, Index]:
        """Append a membership change; its term and index. It takes effect when applied.

        Raises `NotLeader`, or `ConfChangeRefused` while another change is unapplied, before the
        leader has committed in its term (Ongaro's correction of 2015), if it does not fit, if it
        promotes a node that has not caught up, or, unless by `force`, if it leaves no quorum that
        answers (`guards.py`).
        """
        reign = self._writable_reign()
        state = self._state
        pending = state.log.unapplied_conf_change
        if pending is not None:
            raise ConfChangeRefused(f"the membership change at index {pending} is under way")
        if state.log.term(state.log.committed) != state.term:
            raise ConfChangeRefused(f"nothing is committed yet in term {state.term}")
        conf = confchange.changed(state.conf, change)
        guards.refuse_newcomer(reign, change)
        if not force:
            guards.refuse_without_quorum(state, reign, conf)
        return state.term, state.append([confchange.encode(change)], EntryKind.CONF_CHANGE)

    def read_index(self, context: object) -> None:
        """Ask for a linearizable read; `Ready.read_states` or `rejected_reads` will name it.

        Raises `NotLeader`, or `ProposalRefused` when too many reads wait.
        """
        reign = self._own_reign()
        state = self._state
        if len(reign.reads) >= state.config.max_pending_reads:
            raise ProposalRefused(f"{len(reign.reads)} reads wait already")
        if state.log.term(state.log.committed) == state.term:
            reign.reads.add(context, state.log.committed)
        else:
            reign.reads.hold(context)

    def transfer_leadership(self, to: NodeId | None) -> None:
        """Hand leadership to the voter `to`, or to the best one; given up after one election
        timeout. No proposals are taken meanwhile.

        Raises `NotLeader`, or `ProposalRefused` if `to` is no voter or recovers, or nobody answers.
        """
        reign = self._own_reign()
        state = self._state
        target = leading.best_transferee(state, reign) if to is None else to
        if target is None:
            raise ProposalRefused("no other voter answers, so leadership cannot be handed over")
        if target not in state.conf.voters:
            raise ProposalRefused(
                f"`{target}` is no voter", hint="see the managers with `meshswarm cluster status`"
            )
        if target in reign.peers and reign.peers[target].recovery:
            raise ProposalRefused(
                f"`{target}` is recovering what it lost and cannot lead yet",
                hint="see when it is whole with `meshswarm cluster status`",
            )
        if target not in (state.id, reign.transferee):
            leading.transfer_to(state, reign, target)

    def abdicate(self) -> None:
        """Give leadership away at once, to the best voter if one answers; nothing if not leading.

        For a leader that cannot do its work, or that cannot know whether it still leads. What it
        has not committed may or may not be committed by its successor.
        """
        if self._state.reign is not None:
            leading.abdicate(self._state, self._state.reign)

    def set_fit(self, fit: bool) -> None:
        """Whether this node could lead now. One that cannot abdicates and does not campaign; it
        follows, acknowledges and votes as ever, as far as its disk lets it.
        """
        self._state.is_fit = fit
        if not fit:
            self.abdicate()
            if self._state.campaign is not None:
                self._state.become_follower(self._state.term, None)

    def unreachable(self, peer: NodeId) -> None:
        """A message to `peer` was lost for certain: find out anew how far it is."""
        progress = self._progress(peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe()

    def lost_contact(self, peer: NodeId) -> None:
        """The connection to `peer` broke; it may have ended. If it leads, it is soon replaced
        unless it is heard again: this alone decides nothing, a majority must find the same."""
        state = self._state
        if peer == state.leader and state.role is Role.FOLLOWER:
            election.doubt_leader(state)

    def send_snapshot(self, peer: NodeId, snapshot: Snapshot) -> bool:
        """The snapshot that `Ready.snapshot_requests` asked for; False if it came too late."""
        return leading.send_snapshot(self._state, peer, snapshot)

    def awaits_snapshot(self, peer: NodeId, index: Index) -> bool:
        """Whether the snapshot at `index` is still on its way to `peer`, as far as we know."""
        progress = self._progress(peer)
        return progress is not None and progress.pending_snapshot == index > 0

    def snapshot_moved(self, peer: NodeId) -> None:
        """The snapshot on its way to `peer` has come further: it does not count as lost yet."""
        progress = self._progress(peer)
        if progress is not None:
            progress.snapshot_rounds = 0

    def wants_snapshot(self, message: InstallSnapshot) -> bool:
        """Whether `step` would take the snapshot: then its state must be at hand before."""
        return following.wants_snapshot(self._state, message)

    def snapshot_sent(self, peer: NodeId, ok: bool) -> None:
        """The transfer of a snapshot ended: `peer`'s core has it (`ok`), or it failed."""
        progress = self._progress(peer)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            if ok:
                progress.snapshot_delivered()
            else:
                progress.snapshot_failed()

    def catch_up(self, news: News) -> bool:
        """These were the news a while ago, and nothing came for them to travel with: tell the peers
        that do not know them; whether there are any."""
        state = self._state
        return state.reign is not None and leading.catch_up(state, state.reign, news)

    # Outputs

    def has_ready(self) -> bool:
        """Whether `ready` has anything to say."""
        state = self._state
        if state.reign is not None:
            leading.flush(state, state.reign)
        log = state.log
        return bool(
            not state.outbox.is_empty
            or log.submitted < log.last_index
            or log.applying < log.committed
            or state.read_states
            or log.snapshot is not None
            or self._must_save
            or self._has_news_of_role
            or state.rejected_reads
            or state.snapshot_requests
        )

    def ready(self) -> Ready:
        """All work that is due now; the duties it brings stand in `ready.py`."""
        state, log, config = self._state, self._state.log, self._state.config
        if state.reign is not None:
            leading.flush(state, state.reign)
        snapshot, entries = log.take_unwritten()
        token, messages = state.outbox.take(
            writes=bool(entries) or snapshot is not None or self._must_save
        )
        hard_state = None
        if token is not None:
            log.write_submitted(token)
            hard_state = self._saved = HardState(state.term, state.vote, log.committed)
        return Ready(
            token=token,
            soft_state=self._news_of_role(),
            hard_state=hard_state,
            entries=entries,
            snapshot=snapshot,
            messages=messages,
            committed=log.take_committed(
                max_entries=config.max_append_entries, max_bytes=config.max_append_bytes
            ),
            read_states=_taken(state.read_states) if state.read_states else (),
            rejected_reads=_taken(state.rejected_reads) if state.rejected_reads else (),
            snapshot_requests=_taken(state.snapshot_requests) if state.snapshot_requests else (),
        )

    @property
    def term(self) -> Term:
        """The term that this node is in."""
        return self._state.term

    @property
    def commit(self) -> Index:
        """The last entry that is known to be committed."""
        return self._state.log.committed

    @property
    def news(self) -> News:
        """What the peers of a leader should know, a little later at most."""
        log, reign = self._state.log, self._state.reign
        return News(log.committed, log.last_index, reign.reads.position if reign else 0)

    @property
    def is_settled(self) -> bool:
        """Whether what is due now, if anything, can be joined by no more: all that is in the log is
        committed and not yet handed out, or reads are confirmed."""
        state, log = self._state, self._state.log
        return log.applying < log.committed == log.last_index or bool(state.read_states)

    @property
    def quiet_ticks(self) -> int:
        """How many of the next ticks only count, if nothing else comes in meanwhile.

        An embedder may keep them back until the next input, as the simulator does.
        """
        state = self._state
        due = election.due_in(state) if state.reign is None else leading.due_in(state, state.reign)
        return max(due - 1, 0)

    def persisted(self, token: int) -> tuple[Message, ...]:
        """The writes up to `token` are durable; the messages to send now."""
        state = self._state
        state.log.write_completed(token)
        released = state.outbox.persisted(token)
        leading.commit(state)
        if following.finish_repair(state):
            following.tell_repaired(state)
        for message in released:
            if message.to == state.id:
                self.step(message)
        return tuple(message for message in released if message.to != state.id)

    def applied(self, index: Index) -> None:
        """Everything up to `index` is applied; membership changes among it take effect."""
        state = self._state
        for entry in state.log.applied_to(index):
            # A change that does not fit changes nothing, and that on every node alike.
            with suppress(ConfChangeRefused):
                state.conf = confchange.changed(state.conf, confchange.decode(entry.data))
            if state.reign is not None:
                leading.on_conf_changed(state, state.reign)

    def compact(self, snapshot: SnapshotMeta, keep: int) -> None:
        """The embedder stored `snapshot`: forget the log before it but for `keep` entries.

        More is kept while a snapshot is on its way to a peer.
        """
        leading.compact(self._state, Index(max(snapshot.index - keep, 0)))

    # Pictures

    def snapshot_meta(self) -> SnapshotMeta:
        """What a snapshot of the state that is applied now stands for."""
        state = self._state
        assert not state.log.is_installing, "a snapshot from the leader is not applied yet"
        return SnapshotMeta(state.log.applied, state.log.term(state.log.applied), state.conf)

    def entries_within(self, index: Index, max_entries: int, max_bytes: int) -> int:
        """How many entries up to `index` stay within both limits, of those that are kept."""
        return index - self._state.log.first_within(index, max_entries, max_bytes)

    def bytes_since(self, index: Index) -> int:
        """What the applied entries after `index` count, as far as they are kept."""
        log = self._state.log
        return log.size_bytes(max(index, log.offset), max(log.applied, log.offset))

    @property
    def id(self) -> NodeId:
        """This node."""
        return self._state.id

    @property
    def leader(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        return self._state.leader

    @property
    def leads(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._state.reign is not None

    @property
    def is_disconnected(self) -> bool:
        """Whether neither a leader nor a quorum was heard for one maximal election timeout."""
        return self._state.is_disconnected

    @property
    def is_recovering(self) -> bool:
        """Whether entries were lost here and the leader has not repaired them yet."""
        return self._state.recovering

    def status(self) -> RaftStatus:
        """This node now."""
        state, log = self._state, self._state.log
        return RaftStatus(
            id=state.id,
            role=state.reported_role,
            leader=state.leader,
            term=state.term,
            vote=state.vote,
            first_index=log.first_index,
            last_index=log.last_index,
            durable_index=log.durable,
            commit=log.committed,
            applied=log.applied,
            conf=state.conf,
            peers=_peer_statuses(state.reign),
            election_elapsed=state.election_elapsed,
            disconnected=state.is_disconnected,
            recovering=state.recovering,
            removed=state.removed,
            transferee=state.reign.transferee if state.reign else None,
            is_fit=state.is_fit,
            elections=state.elections,
        )

    # Helpers

    @property
    def _must_save(self) -> bool:
        """Whether the hard state is worth a write of its own.

        A commit index is, if it makes a membership change take effect: a node that forgot it would
        ask voters that may be gone for good.
        """
        state, saved = self._state, self._saved
        if state.term != saved.term or state.vote != saved.vote:
            return True
        change = state.log.unapplied_conf_change
        return change is not None and saved.commit < change <= state.log.committed

    def _news_of_role(self) -> SoftState | None:
        """Leader and role, if they are not what was told last."""
        state = self._state
        if not self._has_news_of_role:
            return None
        self._told = SoftState(state.leader, state.reported_role, state.removed)
        return self._told

    @property
    def _has_news_of_role(self) -> bool:
        state, told = self._state, self._told
        return (
            state.leader != told.leader
            or state.reported_role is not told.role
            or state.removed is not told.removed
        )

    def _own_reign(self) -> Reign:
        if self._state.reign is None:
            raise NotLeader(leader=self._state.leader)
        return self._state.reign

    def _writable_reign(self) -> Reign:
        reign = self._own_reign()
        if reign.transferee is not None:
            raise ProposalRefused(f"leadership is being handed over to `{reign.transferee}`")
        return reign

    def _progress(self, peer: NodeId) -> Progress | None:
        return self._state.reign.peers.get(peer) if self._state.reign else None


def _taken(items: list[T]) -> tuple[T, ...]:
    """What is in the list, which is empty then."""
    taken = tuple(items)
    items.clear()
    return taken


def _peer_statuses(reign: Reign | None) -> tuple[PeerStatus, ...]:
    if reign is None:
        return ()
    return tuple(
        PeerStatus(
            id=peer,
            match=progress.match,
            next=progress.next,
            state=progress.state,
            recent_active=progress.recent_active,
            recovering=bool(progress.recovery),
        )
        for peer, progress in reign.peers.items()
    )
