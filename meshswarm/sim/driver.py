"""One manager's Raft, carried out: `cluster.driver` retold for a simulated disk and network."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen

from meshswarm.cluster.abdication import Abdication
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.config import RaftConfig
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import AppendReply, InstallSnapshot, Message
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import ConfChange, ConfState, Entry, EntryKind, News, Role, Snapshot
from meshswarm.sim import limits
from meshswarm.sim.checkers import Checkers
from meshswarm.sim.clock import Life, Promise, Work
from meshswarm.sim.disk import Adopt, Append, Disk, Drop, Note
from meshswarm.sim.shape import ELECTION_TICKS, HEARTBEAT_TICKS, Shape
from meshswarm.sim.trace import Trace
from meshswarm.sim.watch import Watch
from meshswarm.store.apply import advance, apply
from meshswarm.store.outcome import Outcome
from meshswarm.store.slices import decode_view, encode_view
from meshswarm.store.view import Key, View

NEVER = 1 << 62
"""A tick that does not come."""

NOTICE_MS = 5
"""How long a commit index waits for entries to travel with, as in the real driver."""

Waiter = Callable[[Outcome | Unavailable], None]
"""Told the outcome of an entry, or why there is none."""


@frozen(kw_only=True)
class Surroundings:
    """What a driver is put into."""

    life: Life
    disk: Disk
    rng: random.Random
    shape: Shape
    checkers: Checkers
    trace: Trace
    tick_ms: int
    """This node's idea of a tick's length."""
    send: Callable[[Message], bool]
    send_whole: Callable[[InstallSnapshot], Promise[None]]
    has_room: Callable[[NodeId], bool]
    """Whether a peer says that its disk has room."""


@frozen
class DiskWatch:
    """A disk as the process sees it that writes to it: `cluster.journal_disk.DiskWatch` retold."""

    disk: Disk
    life: Life

    @property
    def is_full(self) -> bool:
        """Whether the last write did not fit."""
        return self.disk.has_refused

    @property
    def stalled_s(self) -> float:
        """For how long it has been at what it is doing now; 0 when it does nothing."""
        since_ms = self.disk.busy_since_ms
        return 0.0 if since_ms is None else (self.life.clock.now_ms - since_ms) / 1_000

    @property
    def low_space(self) -> bool:
        """Whether so little room is left that proposals are refused."""
        return self.disk.is_low


class Driver:
    """Raft from what is on the disk, until its life ends."""

    def __init__(self, node_id: NodeId, around: Surroundings) -> None:
        self.id = node_id
        self._around = around
        self._life, self._disk = around.life, around.disk
        stored = self._disk.snapshot
        self.view = decode_view(stored.data) if stored else View()
        self.core = _core(node_id, around)
        self.on_role: list[Work] = []
        self._watches: dict[Watch, None] = {}
        self._waiting: dict[Index, tuple[Term, Waiter]] = {}
        self._reads: dict[object, Promise[Index]] = {}
        self._read_number = 0
        self._applied: list[tuple[Index, Promise[None]]] = []
        self._pump_is_due = False
        self._news = News(Index(0), Index(0), 0)
        self._snapshot_at = stored.meta.index if stored else Index(0)
        self._is_saving = False
        self._is_incomplete = self._disk.is_damaged
        self._ticks, self._woken_at = 0, NEVER
        self._abdication = Abdication(
            self.core,
            DiskWatch(self._disk, self._life),
            ClusterSettings(),
            around.has_room,
            self._say,
            self._say,
        )
        self._paused_ms = 0
        around.checkers.started(node_id, self._disk, self.view)
        self._pump_soon()

    # --- running ------------------------------------------------------------------------------

    def _count_ticks(self) -> None:
        """Give the core the ticks that have passed since it was last given some.

        Those that only count are kept back until something else happens (`quiet_ticks`). Like the
        real driver's, they stand still while the process does.
        """
        passed = self._life.lived_ms // self._around.tick_ms
        if self._ticks < passed:
            self._look_at_fitness()
        while self._ticks < passed:
            self._ticks += 1
            self.core.tick()

    def _say(self, what: str) -> None:
        self._around.trace.tell("fitness", f"{self.id}: {what}")

    def _look_at_fitness(self) -> None:
        """As the real driver does before each tick; here only if there may be something to see."""
        lag_ms = self._life.paused_ms - self._paused_ms
        disk, is_fit = self._disk, self._abdication.unfit_because is None
        if lag_ms or disk.busy_since_ms is not None or disk.is_low or not is_fit:
            self._paused_ms += lag_ms
            self._abdication.look(lag_ms / 1_000)

    def _wake_in_time(self) -> None:
        """See to it that the next tick that does more than count is not missed."""
        due = self._ticks + 1 + self.core.quiet_ticks
        if due < self._woken_at:
            self._woken_at = due
            delay_ms = due * self._around.tick_ms - self._life.lived_ms
            self._life.after(max(delay_ms, 1), partial(self._wake, due))

    def _wake(self, tick: int) -> None:
        if tick == self._woken_at:
            self._woken_at = NEVER
            self._count_ticks()
            self._pump()

    def _pump_soon(self) -> None:
        """Carry out what is ready once all input of this instant has been stepped."""
        if not self._pump_is_due:
            self._pump_is_due = True
            self._life.after(0, self._pump)

    def _pump(self) -> None:
        self._pump_is_due = False
        core = self.core
        while core.has_ready():
            self._carry_out(core.ready())
        if core.leads and (news := core.news) != self._news:
            self._news = news
            self._life.after(NOTICE_MS, partial(self._catch_up, news))
        if self._is_incomplete is not core.is_recovering:
            self._note_loss()
        self._wake_in_time()

    def _catch_up(self, news: News) -> None:
        self._count_ticks()
        if self.core.catch_up(news):
            self._pump()

    def _note_loss(self) -> None:
        """Keep the disk's word on whether entries are missing, for a restart must know it too."""
        self._is_incomplete = self.core.is_recovering
        what = "misses what it held" if self._is_incomplete else "holds again what it had lost"
        self._around.trace.tell("damage", f"{self.id} {what}")
        self._disk.submit(self._life, Note(self._is_incomplete), _nothing)

    def _carry_out(self, ready: Ready) -> None:
        if ready.entries or ready.committed or ready.snapshot:
            self._around.checkers.ready(self.core.status(), ready)
        for state in ready.read_states:  # before a change is applied: its voters were others
            self._around.checkers.confirms(self.core, state)
        self._send_all(ready.messages)
        if ready.snapshot is not None:
            self._install(ready.snapshot)
        if ready.token is not None:
            write = Append(ready=ready, is_incomplete=self.core.is_recovering)
            self._disk.submit(self._life, write, partial(self._persisted, ready))
        if ready.committed:
            self._apply_all(ready.committed)
        for state in ready.read_states:
            self._reads.pop(state.context).keep(state.index)
        for context in ready.rejected_reads:
            lost = Unavailable("leadership was lost before the read was confirmed")
            self._reads.pop(context).fail(lost)
        for peer in ready.snapshot_requests:
            data = encode_view(self.view)
            self.core.send_snapshot(peer, Snapshot(self.core.snapshot_meta(), data))
        if ready.soft_state is not None:
            self._note_role()

    def _persisted(self, ready: Ready) -> None:
        assert ready.token is not None, f"nothing was written of {ready}"
        self._around.checkers.wrote(self.id, ready)
        self._count_ticks()
        self._send_all(self.core.persisted(ready.token))
        self._pump_soon()

    def _send_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._life.begin_io()
            self._around.checkers.sent(message, self._disk)
            limits.check_message(message, self.core)
            if isinstance(message, InstallSnapshot):
                self._life.spawn(self._transfer(message))
            elif not self._around.send(message):
                self.core.unreachable(message.to)

    async def _transfer(self, message: InstallSnapshot) -> None:
        """Send a snapshot and tell the core how that ended."""
        try:
            await self._around.send_whole(message)
        except MeshswarmError:
            arrived = False
        else:
            arrived = True
        self._count_ticks()
        self.core.snapshot_sent(message.to, ok=arrived)
        self._pump_soon()

    def _note_role(self) -> None:
        status = self.core.status()
        leader = status.leader or "nobody"
        text = f"{self.id} is {status.role.value} in term {status.term}, leader {leader}"
        self._around.trace.tell("role", text)
        if status.role is Role.LEADER:
            self._around.trace.counts["reign"] += 1
        for work in self.on_role:
            work()

    # --- input --------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take in one message of a peer."""
        self._count_ticks()
        self.core.step(message)
        if isinstance(message, AppendReply):
            self._around.checkers.heard(self.core, message.from_)
        self._pump_soon()

    def lost_contact(self, peer: NodeId) -> None:
        """The connection to a peer broke."""
        self._count_ticks()
        self.core.lost_contact(peer)
        self._pump_soon()

    def propose(self, data: bytes, waiter: Waiter) -> None:
        """Append `data` on the leader; `waiter` is told what became of it."""
        if self._disk.is_low:
            raise Unavailable("the leader's disk is nearly full: it takes no writes")
        self._count_ticks()
        term, index = self.core.propose([data])
        limits.check_proposals(self.core)
        self._waiting[index] = (term, waiter)
        self._pump_soon()

    def confirmed_index(self) -> Promise[Index]:
        """On the leader: an index that covers everything acknowledged before now."""
        self._count_ticks()
        self._read_number += 1
        self.core.read_index(self._read_number)
        limits.check_reads(self.core)
        self._around.checkers.asked(self.core, self._read_number)
        promise: Promise[Index] = Promise(self._life)
        self._reads[self._read_number] = promise
        self._pump_soon()
        return promise

    def transfer_leadership(self, to: NodeId) -> None:
        """Begin handing leadership over."""
        self._count_ticks()
        self.core.transfer_leadership(to)
        self._pump_soon()

    def change_members(self, change: ConfChange) -> None:
        """On the leader: append a change of the membership; raises why not, as the core does."""
        self._count_ticks()
        self.core.propose_conf_change(change)
        self._pump_soon()

    # --- the change feed ----------------------------------------------------------------------

    def watching(self) -> Watch:
        """A place in the feed, until `unwatch`."""
        watch = Watch(self._life, self.view)
        self._watches[watch] = None
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Leave the feed."""
        self._watches.pop(watch, None)

    def applied(self, index: Index) -> Promise[None]:
        """Kept once everything up to `index` is applied here."""
        promise: Promise[None] = Promise(self._life)
        if self.view.index >= index:
            promise.keep(None)
        else:
            self._applied.append((index, promise))
        return promise

    def _publish(self, view: View, changed: frozenset[Key] | None) -> None:
        self.view = view
        if changed is None or changed:
            for watch in self._watches:
                watch.tell(view, changed)
        self.core.applied(view.index)
        for wanted, promise in self._applied:
            if wanted <= view.index:
                promise.keep(None)
        self._applied = [pair for pair in self._applied if pair[0] > view.index]

    # --- apply and snapshots ------------------------------------------------------------------

    def _apply_all(self, committed: Sequence[Entry]) -> None:
        view, changed = self.view, frozenset[Key]()
        for entry in committed:
            outcome, rows = Outcome(index=entry.index), frozenset[Key]()
            if entry.kind is EntryKind.NORMAL:
                applied = apply(view, index=entry.index, term=entry.term, data=entry.data)
                view, outcome, rows = applied.view, applied.outcome, frozenset(applied.changed)
            else:
                view = advance(view, index=entry.index, term=entry.term)
            self._around.checkers.applied(self.id, entry, view, outcome, rows)
            changed |= rows
            self._settle(entry, outcome)
        self._publish(view, changed)
        if view.index - self._snapshot_at >= self._around.shape.snapshot_entries:
            self._save_snapshot()

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        if (waiting := self._waiting.pop(entry.index, None)) is not None:
            term, waiter = waiting
            replaced = Unavailable("another leader took over before the command was committed")
            waiter(outcome if term == entry.term else replaced)

    def _install(self, snapshot: Snapshot) -> None:
        view = decode_view(snapshot.data)
        self._around.checkers.restored(self.id, view)
        self._around.trace.tell("install", f"{self.id} takes a snapshot of {view.index}")
        for index in sorted(self._waiting):
            if index <= view.index:
                _, waiter = self._waiting.pop(index)
                waiter(OutcomeUnknown("a snapshot holds, or does not hold, what was proposed here"))
        self._snapshot_at = snapshot.meta.index
        self._publish(view, None)

    def _save_snapshot(self) -> None:
        if self._is_saving:
            return
        self._is_saving = True
        snapshot = Snapshot(self.core.snapshot_meta(), encode_view(self.view))
        self._disk.submit(self._life, Adopt(snapshot), partial(self._adopted, snapshot))

    def _adopted(self, snapshot: Snapshot) -> None:
        """The snapshot is durable: what it stands for may go."""
        keep = self._around.shape.trailing_entries
        drop = Drop(Index(max(0, snapshot.meta.index - keep)))
        self._disk.submit(self._life, drop, partial(self._saved, snapshot))

    def _saved(self, snapshot: Snapshot) -> None:
        self._is_saving = False
        meta = snapshot.meta
        if meta.index > self._snapshot_at:
            self._snapshot_at = meta.index
            self.core.compact(meta, keep=self._around.shape.trailing_entries)
            self._pump_soon()


def _nothing() -> None:
    """Nobody waits for it."""


def _core(node_id: NodeId, around: Surroundings) -> RaftCore:
    disk, shape = around.disk, around.shape
    founders = ConfState(tuple(NodeId(founder) for founder in shape.founder_ids))
    meta = disk.meta
    return RaftCore(
        RaftConfig(
            node_id=node_id,
            election_ticks=ELECTION_TICKS,
            heartbeat_ticks=HEARTBEAT_TICKS,
            max_append_entries=shape.max_append_entries,
            max_inflight=shape.max_inflight,
            max_uncommitted_bytes=shape.max_uncommitted_bytes,
            max_pending_reads=shape.max_pending_reads,
            thrifty=True,
        ),
        random.Random(around.rng.getrandbits(64)),
        hard_state=disk.hard_state,
        conf=meta.conf if meta else founders,
        snapshot=meta,
        entries=tuple(disk.entries),
        applied=meta.index if meta else Index(0),
        recovering=disk.is_damaged,
        blank=disk.is_blank,
    )
