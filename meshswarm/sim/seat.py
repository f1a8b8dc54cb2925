"""A manager's seat: proposals, reads, the evidence of who lives, sessions, the control loop.

`cluster.proposals`, `heard`, `sessions` and `leadership` retold; what they decide with (`store`,
`control`) is the real thing.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from attrs import frozen

from meshswarm.cluster.vouching import Vouching
from meshswarm.control.liveness import Liveness
from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.messages import InstallSnapshot, Message
from meshswarm.sim.checkers import Checkers
from meshswarm.sim.clock import Bell, Life, Promise, Script, Work
from meshswarm.sim.control_loop import RETRY_MS, ControlLoop
from meshswarm.sim.driver import Driver, Surroundings
from meshswarm.sim.hearing import Hearing, Report
from meshswarm.sim.hosts import Host
from meshswarm.sim.network import Door, Network, Stream
from meshswarm.sim.shape import BEAT_MS, PROPOSAL_MS, Shape
from meshswarm.store.assignments import AssignmentChange, Told
from meshswarm.store.commands import Batch, Command, RegisterNode, encode_command
from meshswarm.store.log_entry import LogEntry, Request
from meshswarm.store.outcome import Outcome
from meshswarm.store.view import View

T = TypeVar("T")

SNAPSHOT_MS = 60_000
"""How long a snapshot may be on its way before it counts as lost."""

PAUSE_MS = 20
"""Between two attempts at a proposal."""


@frozen(kw_only=True)
class Premises:
    """What all processes of a world share."""

    network: Network
    managers: dict[NodeId, "Door[Seat]"]
    shape: Shape
    checkers: Checkers


class Seat:
    """One manager, for one life."""

    def __init__(self, host: Host, life: Life, premises: Premises) -> None:
        self.id = host.id
        self._host, self._life, self._premises = host, life, premises
        self._network = premises.network
        self._log_ms = self._log_set_ms = 0
        self._serving: dict[NodeId, int] = {}
        self._heard_of: dict[NodeId, int] = {}
        """The newest life of each peer."""
        self._asking: dict[Promise[Any], str] = {}
        self._hearing = Hearing(host.id, life.clock.now_ms)
        self._vouching = Vouching(host.id)
        self._led_in, self._led_since_ms = Term(0), 0
        self.driver = Driver(
            host.id,
            Surroundings(
                life=life,
                disk=host.disk,
                rng=host.rng,
                shape=premises.shape,
                checkers=premises.checkers,
                trace=premises.network.trace,
                tick_ms=host.tick_ms,
                send=self._send,
                send_whole=self._send_whole,
                has_room=self._has_room,
            ),
        )
        self.driver.on_role.append(self._give_up_asking)
        if not premises.shape.is_bare:
            life.spawn(self._tell_others())
            life.spawn(self._lead())

    # --- Raft's messages ----------------------------------------------------------------------

    def _send(self, message: Message) -> bool:
        door = self._premises.managers[message.to]
        deliver = partial(_deliver, message, self._host.incarnation)
        return self._network.tell(self.id, door, type(message).__name__, deliver)

    def _send_whole(self, message: InstallSnapshot) -> Promise[None]:
        """A snapshot goes by a call: the sender must know whether it came."""
        door = self._premises.managers[message.to]
        take = partial(_take, message, self._host.incarnation)
        return self._network.ask(self._life, self.id, door, "InstallSnapshot", take, SNAPSHOT_MS)

    def _has_room(self, peer: NodeId) -> bool:
        other = self._premises.managers[peer].process
        return other is not None and not other._host.disk.is_low

    def lost_contact(self, peer: NodeId) -> None:
        """The connection to a peer broke, as it does when its process ends; soon that is known."""
        self._life.after(1, partial(self.driver.lost_contact, peer))

    def step(self, message: Message, incarnation: int) -> None:
        """A peer's Raft message; what an earlier life of it sent is dropped, as by the mesh."""
        if incarnation < self._heard_of.get(message.from_, 0):
            return
        self._heard_of[message.from_] = incarnation
        self._hearing.note(message.from_, self._life.clock.now_ms)
        self.driver.step(message)

    def ask_of_it(self, work: Work) -> None:
        """Let an operator's wish reach this process, when it runs."""
        self._life.run(work)

    # --- proposals and reads ------------------------------------------------------------------

    async def submit(self, command: bytes, request: Request | None, by: str) -> Outcome:
        """Carry out an encoded command, wherever the leader is; as `Proposals.submit`."""
        deadline_ms = self._deadline_ms()
        while True:
            leader = await self._leader(deadline_ms)
            try:
                if leader is None:
                    return await self.append(command, request, by, deadline_ms)
                return await self._ask(
                    leader,
                    "forward",
                    lambda seat: seat.append(command, request, by, seat._deadline_ms()),
                    deadline_ms,
                )
            except OutcomeUnknown as error:
                if request is None:
                    raise
                await self._pause(deadline_ms, error)
            except Unavailable as error:
                await self._pause(deadline_ms, error)

    async def append(
        self, command: bytes, request: Request | None, by: str, deadline_ms: int
    ) -> Outcome:
        """On the leader: append, wait for commit and apply; raises `NotLeader` elsewhere."""
        entry = LogEntry(at_ms=self._log_time_ms(), by=by, request=request, command=command)
        done: Promise[Outcome | Unavailable] = Promise(self._life)
        self.driver.propose(entry.encoded(), done.keep)
        late = OutcomeUnknown("no majority of the managers confirmed it in time")
        self._life.after(deadline_ms - self._life.clock.now_ms, partial(done.fail, late))
        outcome = await done
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    def _log_time_ms(self) -> int:
        """Log time: the wall clock, or the log's where that is ahead; it never stands still."""
        now_ms = self._life.clock.now_ms
        went_on_ms = self._log_ms + now_ms - self._log_set_ms if self._log_ms else 0
        self._log_ms = max(went_on_ms, self.driver.view.clock_ms, self._host.wall_ms())
        self._log_set_ms = now_ms
        return self._log_ms

    async def read(self) -> View:
        """A view that holds everything acknowledged before this call; raises `Unavailable`."""
        index = await self._confirm()
        reached = self.driver.applied(index)
        late = Unavailable(f"{self.id} has not applied entry {index} yet")
        self._life.after(PROPOSAL_MS, partial(reached.fail, late))
        await reached
        return self.driver.view

    async def _confirm(self) -> Index:
        deadline_ms = self._deadline_ms()
        while True:
            leader = await self._leader(deadline_ms)
            try:
                if leader is None:
                    return await self.confirm_here(deadline_ms - self._life.clock.now_ms)
                return await self._ask(
                    leader, "read_index", lambda seat: seat.confirm_here(PROPOSAL_MS), deadline_ms
                )
            except Unavailable as error:
                await self._pause(deadline_ms, error)

    async def confirm_here(self, limit_ms: int) -> Index:
        """On the leader: an index that covers everything acknowledged before now."""
        confirmed = self.driver.confirmed_index()
        late = Unavailable("no majority of the managers confirmed the read in time")
        self._life.after(limit_ms, partial(confirmed.fail, late))
        return await confirmed

    async def _leader(self, deadline_ms: int) -> "Door[Seat] | None":
        """The leader to ask, None if it is this node; waits for one until the deadline."""
        while True:
            core = self.driver.core
            if core.is_disconnected:
                raise Unavailable("this manager hears no leader and reaches no quorum")
            if core.leader == self.id:
                return None
            if core.leader is not None:
                return self._premises.managers[core.leader]
            if self._life.clock.now_ms >= deadline_ms:
                raise Unavailable("no leader was elected in time")
            await self._life.sleep(PAUSE_MS)

    async def _ask(
        self,
        leader: "Door[Seat]",
        what: str,
        question: "Callable[[Seat], Script[T]]",
        deadline_ms: int,
    ) -> T:
        """The leader's answer; given up as soon as another leads."""
        left_ms = deadline_ms - self._life.clock.now_ms
        answer = self._network.ask(self._life, self.id, leader, what, question, left_ms)
        self._asking[answer] = leader.id
        try:
            return await answer
        finally:
            del self._asking[answer]

    def _give_up_asking(self) -> None:
        """The role changed: whoever leads no longer may never answer."""
        leader = self.driver.core.leader
        for answer, asked in self._asking.items():
            if asked != leader:
                answer.fail(OutcomeUnknown(f"{asked} did not answer as long as it led"))

    def _deadline_ms(self) -> int:
        return self._life.clock.now_ms + PROPOSAL_MS

    async def _pause(self, deadline_ms: int, error: Unavailable) -> None:
        if deadline_ms - self._life.clock.now_ms <= PAUSE_MS:
            raise error
        await self._life.sleep(PAUSE_MS)

    # --- sessions -----------------------------------------------------------------------------

    async def _tell_others(self) -> None:
        """Tell the other managers what is heard here, once a beat."""
        while True:
            now_ms = self._life.clock.now_ms
            report = self._hearing.report(self._serving, now_ms, self._vouching.reporting(now_ms))
            for manager, door in self._premises.managers.items():
                if manager != self.id:
                    self._network.tell(self.id, door, "heard", partial(_hear, self.id, report))
            await self._life.sleep(BEAT_MS)

    def on_heard(self, manager: NodeId, report: Report) -> None:
        """Another manager tells whom it heard."""
        now_ms = self._life.clock.now_ms
        self._hearing.note(manager, now_ms)
        self._hearing.merge(report, now_ms)
        if self.driver.core.leader == self.id:
            door = self._premises.managers[manager]
            answer = partial(_confirm, self.id, report.sequence)
            self._network.tell(self.id, door, "heard_ack", answer)

    def on_confirmed(self, leader: NodeId, sequence: int) -> None:
        """A leader has this manager's report."""
        self._vouching.confirmed(leader, sequence)

    def on_beat(self, node_id: NodeId, incarnation: int, sequence: int) -> int | None:
        """A node whose session is served here lives; which beat of it to vouch for, None: this one
        is not acknowledged."""
        if self._serving.get(node_id) != incarnation:
            return None
        now_ms, core = self._life.clock.now_ms, self.driver.core
        self._hearing.note(node_id, now_ms)
        self._vouching.heard(node_id, sequence, now_ms)
        return None if core.is_disconnected else self._vouching.vouched(node_id, core.leader)

    async def serve(self, registration: RegisterNode, stream: Stream[AssignmentChange]) -> None:
        """One agent's session, until either side ends it."""
        node_id, incarnation = registration.node_id, registration.incarnation
        try:
            await self._register(registration)
            self._serving[node_id] = incarnation
            stream.on_end(partial(self._leave, node_id, incarnation))
            self._hearing.note(node_id, self._life.clock.now_ms)
            await self._catch_up()
        except MeshswarmError as error:
            stream.fail(error)
            return
        watch = self.driver.watching()
        stream.on_end(partial(self.driver.unwatch, watch))
        told = Told(node_id)
        view, _ = watch.take()
        stream.push(told.all(view))
        while not stream.is_over:
            await watch.bell.wait()
            change = told.next(*watch.take())
            if change is not None and not stream.is_over:
                stream.push(change)

    async def _catch_up(self) -> None:
        """A manager that lags would tell the agent to stop what it was just given."""
        await self.read()

    def _leave(self, node_id: NodeId, incarnation: int) -> None:
        if self._serving.get(node_id) == incarnation:
            del self._serving[node_id]
            self._vouching.forget(node_id)

    async def _register(self, registration: RegisterNode) -> None:
        node = self.driver.view.nodes.get(registration.node_id)
        if node is None or node.incarnation != registration.incarnation:
            await self.propose(registration)

    async def propose(self, command: Command) -> Outcome:
        """Carry out this node's own command; raises its refusal, or `Unavailable`."""
        outcome = await self.submit(encode_command(command), None, self.id)
        if outcome.error is not None:
            raise outcome.error
        return outcome

    # --- the control loop ---------------------------------------------------------------------

    @property
    def leads(self) -> bool:
        """Whether this manager believes that it leads."""
        return self.driver.core.leads

    async def _lead(self) -> None:
        """Control whenever this manager leads."""
        role = Bell(self._life)
        self.driver.on_role.append(role.ring)
        control = ControlLoop(
            self.id,
            self._network.trace,
            self._premises.shape.policy,
            log_time_ms=self._log_time_ms,
            liveness=self._evidence,
            propose=self._propose_batch,
        )
        while True:
            if not self.leads:
                await role.wait()
                continue
            watch = self.driver.watching()
            await control.reign(watch, lambda: self.leads, self._has_applied_all)
            self.driver.unwatch(watch)
            if self.leads:
                await self._life.sleep(RETRY_MS)

    async def _has_applied_all(self) -> None:
        """Wait until all that this leader's log holds is applied here, or it leads no more.

        What earlier leaders decided, and what it proposed itself and was not confirmed, may be
        among it; deciding without it would be deciding it twice.
        """
        last = self.driver.core.status().last_index
        while self.leads and self.driver.view.index < last:
            await self._life.sleep(RETRY_MS)

    def _evidence(self) -> Liveness:
        """Who lives, as this leader knows; what it leads since counts by its term."""
        now_ms, term = self._life.clock.now_ms, self.driver.core.term
        if term != self._led_in:
            self._led_in, self._led_since_ms = term, now_ms
        return self._hearing.liveness(now_ms, self._led_since_ms)

    async def _propose_batch(self, batch: Batch) -> None:
        """Here or not at all: another leader's view is not the one that this was decided on."""
        await self.append(encode_command(batch), None, self.id, self._deadline_ms())


def _deliver(message: Message, incarnation: int, seat: Seat) -> None:
    seat.step(message, incarnation)


async def _take(message: Message, incarnation: int, seat: Seat) -> None:
    seat.step(message, incarnation)


def _confirm(leader: NodeId, sequence: int, seat: Seat) -> None:
    seat.on_confirmed(leader, sequence)


def _hear(manager: NodeId, report: Report, seat: Seat) -> None:
    seat.on_heard(manager, report)
