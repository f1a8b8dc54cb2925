"""Raft's embedder: ticks the core, makes its writes durable, sends, applies; in that order.

The core decides everything (`raft`); this shell carries out each `Ready` by the duties written in
`raft.ready`. All of it runs on the event loop, in one place, never re-entrantly; only the disk is
elsewhere (the journal's thread), and its completions come back as calls on the loop, unless it is
so quick that the loop itself writes. Because ticks come from this same loop, a loop that is stuck
neither sends heartbeats nor looks alive.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from meshswarm.cluster.abdication import Abdication
from meshswarm.cluster.foresight import Foresight, is_light
from meshswarm.cluster.hub import Hub
from meshswarm.cluster.journal import Journal, JournalWrite
from meshswarm.cluster.metrics import DriverMetrics
from meshswarm.cluster.notices import Notices
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.cluster.snapshot_sending import Call
from meshswarm.cluster.snapshots import Stored
from meshswarm.cluster.snapshotting import Snapshots
from meshswarm.cluster.state_hash import RollingHash
from meshswarm.errors import Denied, OutcomeUnknown, Unavailable
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.core import RaftCore
from meshswarm.raft.messages import InstallSnapshot, Message
from meshswarm.raft.ready import Ready
from meshswarm.raft.types import ConfChange, Entry, EntryKind, News, Snapshot
from meshswarm.store.apply import advance
from meshswarm.store.changes import NOTHING, Changed, merged
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

log = logging.getLogger("meshswarm.raft")

Waiter = Callable[[Outcome | Unavailable], None]
"""Told the outcome of an entry, or why there is none."""

Fresh = Index | Unavailable
"""From which index on a view is fresh enough for a read, or why nobody can say. (A union with an
identifier is a call of Python's; closures that are made for each read name this one.)"""

Confirmed = Callable[[Fresh], None]
"""Told that."""

NOT_CONFIRMED = "no majority of the managers confirmed the read in time"

INCOMPLETE = "entries that the others hold are missing here"
"""What the journal notes while the node catches up with what it lost, or never had."""

SNAPSHOT_RETRY_S = 10.0
"""Until a snapshot is tried again that the disk had no room for."""

GIVEN_UP_AT_ONCE = 500
"""Of those that wait, the oldest that a tick looks at: more than that are not told in one turn."""

TURN_S = 0.02
"""How long the loop may be kept from all else by what Raft wants done."""


class Driver:
    """One manager's Raft, running."""

    def __init__(
        self,
        core: RaftCore,
        journal: Journal,
        hub: Hub,
        settings: ClusterSettings,
        send: Callable[[Message], bool],
        call: Call,
        cluster_id: ClusterId,
        snapshot: Stored | None,
        has_room: Callable[[NodeId], bool],
    ) -> None:
        self.core = core
        self.hub = hub
        self.metrics = DriverMetrics()
        say = log.warning, log.error
        self.abdication = Abdication(core, journal.disk, settings, has_room, *say)
        self.state_hash = RollingHash(
            hub.view, window=settings.state_window, state_every_ms=settings.state_every_ms
        )
        self._journal = journal
        self._failure: Exception | None = None
        self._is_over = False
        self._settings = settings
        self._send = send
        self._parts = asyncio.TaskGroup()
        self._waiting: dict[Index, tuple[Term, Waiter, float]] = {}
        self._last_leader: NodeId | None = None
        self._reads: dict[object, tuple[Confirmed, float]] = {}
        self._loop = asyncio.get_running_loop()
        self._now = time.monotonic  # as the loop's
        self._notices = Notices(self._catch_up, self._loop)
        self._has_input = False
        self.snapshots = Snapshots(
            core,
            hub,
            journal,
            settings,
            call,
            cluster_id,
            snapshot.meta.index if snapshot else Index(0),
            pump=self.end_turn_soon,
            install=self._step_snapshot,
        )
        self._arrived: tuple[Stored, View] | None = None
        self._lost = asyncio.Event()
        self._repaired = asyncio.Event()
        self._due: tuple[Entry, ...] = ()
        self._foresight = Foresight()
        self._applied: list[tuple[Index, asyncio.Future[None]]] = []
        self._role_listeners: list[Callable[[], None]] = []

    # --- running ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tick until cancelled; a failed disk ends it with the journal's error.

        The mesh outlives it by a moment: what peers send then is not taken in.
        """
        try:
            async with self._parts as parts:
                parts.create_task(self._tick_forever(), name="raft-ticks")
                parts.create_task(self.snapshots.run(parts), name="raft-snapshots")
                parts.create_task(self._note_losses(), name="raft-losses")
        finally:
            self._is_over = True
            self.snapshots.close()

    async def _tick_forever(self) -> None:
        """Ticks at a steady pace; those missed by a stalled loop are not made up for.

        Making them up would let a node that slept start elections it has no reason for.
        """
        now = self._now
        self.end_turn_soon()
        period = self._settings.tick_ms / 1_000
        due = now()
        while True:
            due = max(due + period, now())
            await asyncio.sleep(due - now())
            self._journal.raise_if_failed()
            if self._failure is not None:
                raise self._failure
            lag_s = now() - due
            self.metrics.loop_lag_ms.add(1_000 * lag_s)
            self._carefully(self._tick, lag_s)
            self._pump()

    def _tick(self, lag_s: float) -> None:
        self.abdication.look(lag_s)
        self.core.tick()
        self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        """Tell those whose time is over that nobody can say what became of what they want."""
        oldest_s = self._now() - self._settings.proposal_timeout_s
        for index, (_, waiter, since_s) in list(islice(self._waiting.items(), GIVEN_UP_AT_ONCE)):
            if since_s < oldest_s:
                del self._waiting[index]
                waiter(unconfirmed())
        for context, (confirmed, since_s) in list(islice(self._reads.items(), GIVEN_UP_AT_ONCE)):
            if since_s < oldest_s:
                del self._reads[context]
                confirmed(Unavailable(NOT_CONFIRMED))

    async def _note_losses(self) -> None:
        """Keep the journal's word on whether entries are missing: a restart must know it too."""
        while True:
            await self._lost.wait()
            log.warning("the log is not complete: not voting until a leader has completed it")
            await self._journal.mark_damaged(INCOMPLETE)
            await self._repaired.wait()
            await self._journal.mark_healed()
            log.warning("the log is complete: voting again")

    def end_turn(self) -> None:
        """A batch of messages was taken in: carry out what that made ready. The mesh calls this
        after each batch; whoever puts something in from elsewhere calls `end_turn_soon`."""
        if self._has_input:
            self._pump()

    def end_turn_soon(self) -> None:
        """Have the turn ended once whatever else comes in now was taken in too."""
        self._has_input = True
        self._loop.call_soon(self.end_turn)

    def _carefully(self, work: Callable[..., None], *arguments: object) -> None:
        """Do `work` unless it is over or something failed; what fails in it ends the node.

        Messages and completions come in as callbacks, from where no error would reach anyone. A
        core that broke an invariant, or whose `Ready` was carried out by half, must not go on.
        """
        if self._failure is None and not self._is_over:
            try:
                work(*arguments)
            except Exception as error:
                log.exception("consensus failed here: the node stops")
                self._failure = error

    def _pump(self) -> None:
        self._has_input = False
        self._carefully(self._carry_out_all)

    def _carry_out_all(self) -> None:
        """Carry out what is ready; after a while the rest in the next turn of the loop.

        A restarted node may have a hundred thousand entries to apply, and must answer meanwhile.
        """
        turn_ends = time.monotonic() + TURN_S
        while self.core.has_ready():
            self._carry_out(self.core.ready())
            if time.monotonic() >= turn_ends:
                self.end_turn_soon()
                break
        if self.core.leads:
            self._notices.look(self.core.news)
        if self.core.is_recovering:
            self._repaired.clear()
            self._lost.set()
        elif self._lost.is_set():
            self._lost.clear()
            self._repaired.set()

    def _carry_out(self, ready: Ready) -> None:
        self._send_all(ready.messages)
        arrived = self._install(ready.snapshot) if ready.snapshot is not None else None
        self._due = ready.committed
        if ready.token is not None:
            self._save(ready, ready.token, arrived)
        self._apply_due()
        for state in ready.read_states:
            if (waiting := self._reads.pop(state.context, None)) is not None:
                waiting[0](state.index)
        for context in ready.rejected_reads:
            if (waiting := self._reads.pop(context, None)) is not None:
                waiting[0](Unavailable("leadership was lost before the read was confirmed"))
        for peer in ready.snapshot_requests:
            self.snapshots.supply(peer)
        if ready.soft_state is not None:
            self._note_role()
        if self.core.leads:  # last: nobody waits for it yet
            self._foresight.look(self.hub.view, ready.entries)

    def _save(self, ready: Ready, token: int, arrived: Stored | None) -> None:
        """Have the journal write it; what waits for that is sent now, or once it is durable."""
        write = JournalWrite(
            token=token,
            entries=ready.entries,
            hard_state=ready.hard_state,
            snapshot=arrived,
            damage=INCOMPLETE if self.core.is_recovering else "",
        )
        done = partial(self._send_promises, token)
        meanwhile = self._apply_due if is_light(self._due) else None
        if not self._journal.write_at_once(write, done, meanwhile):
            self._journal.submit(write, partial(self._persisted, token))

    def _persisted(self, token: int) -> None:
        self._carefully(self._send_promises, token)
        self.end_turn_soon()

    def _send_promises(self, token: int) -> None:
        self._send_all(self.core.persisted(token))

    def _send_all(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, InstallSnapshot):
                self.snapshots.send(message)
            elif not self._send(message):
                self.core.unreachable(message.to)

    def _catch_up(self, news: News) -> None:
        if self.core.catch_up(news):
            self._pump()

    # --- input --------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take in one message of a peer; it is carried out when the turn ends.

        Or now, if it answers all that anybody waits for: the rest of the turn would only be in the
        way, with one write after the other most often the same word of the next peer.
        """
        self._has_input = True
        self._carefully(self.core.step, message)
        if self.core.is_settled:
            self._pump()

    def propose(self, data: bytes, waiter: Waiter) -> None:
        """Append `data` on the leader when the turn ends; `waiter` is told what became of it, after
        `proposal_timeout_s` that nobody knows.

        Raises `raft.NotLeader` or `raft.ProposalRefused` (both `Unavailable`): nothing was done.
        """
        if self._journal.disk.low_space:
            raise Unavailable(
                "the leader's disk is nearly full: it takes no writes",
                hint="free space in the manager's data directory",
            )
        if len(self._waiting) >= self._settings.max_pending_proposals:
            raise Unavailable(
                f"{self._settings.max_pending_proposals} proposals are waiting already"
            )
        term, index = self.core.propose([data])
        self._has_input = True
        replaced = self._waiting.pop(index, None)
        self._waiting[index] = (term, waiter, self._now())
        if replaced is not None:  # of an earlier reign: it may be on another leader's log
            replaced[1](OutcomeUnknown("this manager lost what it had appended"))

    def confirm(self, confirmed: Confirmed) -> Callable[[], None]:
        """On the leader, when the turn ends: have `confirmed` told an index that covers everything
        acknowledged before now (thesis 6.4), or that leadership was lost meanwhile, or, after
        `proposal_timeout_s`, that no majority confirmed it; gives what makes it forget that.

        Raises `raft.NotLeader`.
        """
        self.metrics.reads += 1
        context = self.metrics.reads
        self.core.read_index(context)
        self._reads[context] = confirmed, self._now()
        self._has_input = True
        return lambda: self._forget_read(context)

    def _forget_read(self, context: int) -> None:
        self._reads.pop(context, None)

    async def confirmed_index(self) -> Index:
        """As `confirm`, awaited; raises `Unavailable` when leadership is lost meanwhile."""
        waiter: asyncio.Future[Index | Unavailable] = asyncio.get_running_loop().create_future()

        def confirmed(found: Index | Unavailable) -> None:
            if not waiter.done():  # given up in this very turn of the loop
                waiter.set_result(found)

        forget = self.confirm(confirmed)
        self.end_turn_soon()
        try:
            found = await waiter
        finally:
            forget()
        if isinstance(found, Unavailable):
            raise found
        return found

    def transfer_leadership(self, to: NodeId | None) -> None:
        """Begin handing leadership over; raises `raft.NotLeader`."""
        self.core.transfer_leadership(to)
        self.end_turn_soon()

    def change_members(self, change: ConfChange, *, force: bool = False) -> tuple[Term, Index]:
        """On the leader: begin a membership change; its term and index. It holds once applied.

        Raises `raft.NotLeader`, or `raft.ConfChangeRefused`, which says why.
        """
        position = self.core.propose_conf_change(change, force=force)
        self.end_turn_soon()
        return position

    @property
    def has_room(self) -> bool:
        """Whether this manager's disk has room for more of the log."""
        return not self._journal.disk.low_space

    def fail(self, error: Exception) -> None:
        """End the node with this error; until then it takes nothing in and applies nothing."""
        if self._failure is None:
            self._failure = error

    def lost_contact(self, peer: NodeId) -> None:
        """The mesh lost a connection to a peer."""
        self._carefully(self.core.lost_contact, peer)

    # --- roles --------------------------------------------------------------------------------

    def on_role_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the leader or the reported role changes."""
        self._role_listeners.append(listener)

    def _note_role(self) -> None:
        status = self.core.status()
        log.info(
            "role changed node=%s role=%s term=%d leader=%s",
            status.id,
            status.role.value,
            status.term,
            status.leader,
        )
        if status.removed:
            self._failure = Denied(
                "this node was removed from the cluster",
                hint="to bring the host back, let it join anew, with a new key and an empty data "
                "directory",
            )
        if status.leader is not None:
            self.metrics.leader_changes += self._last_leader not in (None, status.leader)
            self._last_leader = status.leader
        self.snapshots.note_role()
        for listener in self._role_listeners:
            listener()

    # --- apply --------------------------------------------------------------------------------

    def _apply_due(self) -> None:
        """Apply what the last `Ready` said is committed, unless that was done."""
        due, self._due = self._due, ()
        if due:
            self._apply_all(due)

    def _apply_all(self, committed: Sequence[Entry]) -> None:
        view = self.hub.view
        changed: list[Changed] = []
        for entry in committed:
            assert entry.index == view.index + 1, f"applying {entry.index} after {view.index}"
            if entry.kind is EntryKind.NORMAL:
                applied = self._foresight.apply(view, entry)
                view, outcome, rows = applied.view, applied.outcome, applied.changed
                changed.append(rows)
            else:
                view = advance(view, index=entry.index, term=entry.term)
                outcome, rows = Outcome(index=entry.index), NOTHING
            if self._waiting:
                self._settle(entry, outcome)
            self.state_hash.note(view, outcome, rows)
        self.hub.publish(view, merged(changed))
        self.core.applied(view.index)
        self._wake_appliers(view.index)
        self.snapshots.note_applied(view.index)

    async def applied(self, index: Index) -> None:
        """Return once everything up to `index` is applied here."""
        if self.hub.view.index >= index:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._applied.append((index, waiter))
        try:
            await waiter
        finally:
            self._applied = [pair for pair in self._applied if pair[1] is not waiter]

    def _wake_appliers(self, index: Index) -> None:
        for wanted, waiter in self._applied:
            if wanted <= index and not waiter.done():
                waiter.set_result(None)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        """Tell whoever proposed the entry at this index what became of it."""
        waiting = self._waiting.pop(entry.index, None)
        if waiting is not None:
            term, waiter, since_s = waiting
            if term == entry.term:
                waiter(outcome)
            else:
                waiter(Unavailable("another leader took over before the command was committed"))
            self.metrics.commit_ms.add(1_000 * (self._now() - since_s))

    # --- snapshots ----------------------------------------------------------------------------

    def _step_snapshot(
        self, message: InstallSnapshot, stored: Stored | None, view: View | None
    ) -> None:
        """Take in a leader's snapshot whose state is at hand, if the core wanted it."""
        self._arrived = (stored, view) if stored is not None and view is not None else None
        self.step(message)
        self._pump()
        if self._arrived is not None:  # the core has come further by itself
            self.snapshots.discard(self._arrived[0])
            self._arrived = None

    def _install(self, snapshot: Snapshot) -> Stored:
        """Take the leader's state in place of ours, which is older."""
        assert self._arrived is not None, f"the state of {snapshot.meta} is not at hand"
        (stored, view), self._arrived = self._arrived, None
        assert view.index == snapshot.meta.index, f"{view.index} in a snapshot of {snapshot.meta}"
        for index in sorted(self._waiting):
            if index <= view.index:
                _, waiter, _ = self._waiting.pop(index)
                waiter(OutcomeUnknown("a snapshot holds, or does not hold, what was proposed here"))
        self.snapshots.installed(view.index)
        self.hub.publish(view, None)
        self.state_hash.restart(view)
        self.core.applied(view.index)
        self._wake_appliers(view.index)
        log.info("installed a snapshot index=%d term=%d", snapshot.meta.index, snapshot.meta.term)
        return stored


def unconfirmed() -> OutcomeUnknown:
    """What is said of a command whose time is over."""
    why = "no majority of the managers confirmed it in time"
    return OutcomeUnknown(f"{why}; the command may still be carried out")
