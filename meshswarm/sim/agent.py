"""A node's agent: its session retold, around a reporter and a supervisor (next door)."""

import random
from functools import partial

from meshswarm.agent import dialing
from meshswarm.agent.lease import Lease
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId
from meshswarm.sim.clock import Life
from meshswarm.sim.hosts import Host
from meshswarm.sim.network import Door, Stream
from meshswarm.sim.reporter import Reporter
from meshswarm.sim.seat import Premises, Seat
from meshswarm.sim.shape import BEAT_MS
from meshswarm.sim.supervisor import Supervisor
from meshswarm.store.assignments import AssignmentChange
from meshswarm.store.commands import ReportTasks, encode_command
from meshswarm.store.outcome import Outcome

OPEN_TIMEOUT_MS = 5_000
PROPOSE_TIMEOUT_MS = 10_000


class AgentRun:
    """One run of an agent."""

    def __init__(self, host: Host, life: Life, premises: Premises) -> None:
        self._host, self._life, self._premises = host, life, premises
        self._rng = random.Random(host.rng.getrandbits(64))
        self._serving: Door[Seat] | None = None
        self._answered_ms = 0
        self._lease = Lease(host.contact_ms or life.clock.now_ms)
        reporter = Reporter(host.id, life, self._rng, self._send)
        checkers = premises.checkers
        self._supervisor = Supervisor(
            host,
            life,
            self._rng,
            reporter.say,
            checkers.carrying_out,
            alone_ms=lambda: self._lease.alone_ms(life.clock.now_ms),
            on_decision=checkers.decided,
        )
        life.spawn(self._supervisor.open_runtime())
        life.spawn(self._supervisor.keep_memory())
        life.spawn(reporter.report_forever())
        life.spawn(self._keep_session())
        life.spawn(self._beat_forever())

    # --- the session --------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        doors = [self._premises.managers[NodeId(m)] for m in self._premises.shape.manager_ids]
        managers = dialing.in_order([_Named(door) for door in doors], self._host.id)
        failures = 0
        while True:
            if await self._session(managers[failures % len(managers)].door):
                failures = 0
            failures += 1
            pause_s = dialing.pause_s(failures, len(managers), self._rng.random())
            await self._life.sleep(round(1_000 * pause_s))

    async def _session(self, door: Door[Seat]) -> bool:
        """Do as one manager says until it falls silent; whether it ever spoke."""
        network, life, seat = self._premises.network, door.life, door.process
        await self._life.sleep(network.delay_ms())
        if life is None or seat is None:
            return False
        ends = ((door.id, life), (self._host.id, self._life))
        stream: Stream[AssignmentChange] = Stream(network, *ends, "assignments")
        serve = partial(seat.serve, self._host.registration(), stream)
        network.carry(self._host.id, door.id, "session", life, lambda: life.spawn(serve()))
        spoke = False
        try:
            while True:
                change = await stream.next(self._patience_ms())
                if change is not None:
                    spoke = True
                    self._hear(door, change)
                elif self._serving is None or self._patience_ms() == 0:
                    return spoke
        except Unavailable:
            return spoke
        finally:
            self._serving = None
            stream.leave()

    def _hear(self, door: Door[Seat], change: AssignmentChange) -> None:
        if self._serving is None:
            self._answered_ms = self._life.clock.now_ms
            self._serving = door
        self._supervisor.told(change)

    def _patience_ms(self) -> int:
        """For how long to wait for the next word of the manager."""
        if self._serving is None:
            return OPEN_TIMEOUT_MS
        beats = dialing.Beats(beat_s=BEAT_MS / 1_000, answered_s=self._answered_ms / 1_000)
        return max(0, round(1_000 * beats.dead_s) - self._life.clock.now_ms)

    async def _beat_forever(self) -> None:
        me, incarnation, sequence = self._host.id, self._host.incarnation, 0
        while True:
            if (manager := self._serving) is not None:
                sequence += 1
                self._lease.sent(sequence, self._life.clock.now_ms)
                beat = partial(self._beat_at, manager, me, incarnation, sequence)
                self._premises.network.tell(me, manager, "beat", beat)
            await self._life.sleep(BEAT_MS)

    def _beat_at(
        self, door: Door[Seat], me: NodeId, incarnation: int, sequence: int, seat: Seat
    ) -> None:
        """Arrive at a manager; it may acknowledge."""
        vouched = seat.on_beat(me, incarnation, sequence)
        if vouched is not None:
            network = self._premises.network
            ack = partial(self._on_ack, door, vouched)
            network.carry(seat.id, me, "beat_ack", self._life, ack)

    def _on_ack(self, manager: Door[Seat], vouched: int) -> None:
        if manager is self._serving:
            self._lease.vouched(vouched)
            self._host.contact_ms = self._lease.contact_ms
            self._answered_ms = self._life.clock.now_ms

    async def _send(self, report: ReportTasks) -> None:
        if self._serving is None:
            raise Unavailable("no manager serves this node")
        command = encode_command(report)
        outcome: Outcome = await self._premises.network.ask(
            self._life,
            self._host.id,
            self._serving,
            "report",
            lambda seat: seat.submit(command, None, self._host.id),
            PROPOSE_TIMEOUT_MS,
        )
        if outcome.error is not None:
            raise outcome.error


class _Named:
    """A door as `dialing` wants it: with a node's id."""

    def __init__(self, door: Door[Seat]) -> None:
        self.door = door
        self.id = NodeId(door.id)
