"""A node's agent in a world without packets: it hears what is committed, and is heard, after a
short while, as long as its host is linked."""

import random

from meshswarm.errors import Unavailable
from meshswarm.sim.clock import Bell, Life
from meshswarm.sim.hosts import Host
from meshswarm.sim.ideal import Ideal
from meshswarm.sim.reporter import Reporter
from meshswarm.sim.supervisor import Supervisor, Watcher
from meshswarm.store.assignments import Told
from meshswarm.store.commands import ReportTasks

UNHEARD_SHARE = 0.1
"""Of the reports that are on their way when nobody leads: they are in the log all the same."""


class DirectAgent:
    """One run of an agent."""

    def __init__(
        self, host: Host, life: Life, ideal: Ideal, watcher: Watcher, delay_ms: tuple[int, int]
    ) -> None:
        self._host, self._life, self._ideal, self._delay_ms = host, life, ideal, delay_ms
        self._rng = random.Random(host.rng.getrandbits(64))
        self._bell = Bell(life)
        self._cuts = 0
        reporter = Reporter(host.id, life, self._rng, self._send)
        self._supervisor = Supervisor(host, life, self._rng, reporter.say, watcher)
        life.spawn(self._supervisor.open_runtime())
        life.spawn(self._supervisor.keep_memory())
        life.spawn(reporter.report_forever())
        life.spawn(self._keep_session())

    def link_changed(self) -> None:
        """Its host was cut off, or linked again."""
        if not self._host.is_linked:
            self._cuts += 1
            self._ideal.loses(self._host.id)
        self._bell.ring()

    # --- the session --------------------------------------------------------------------------

    async def _keep_session(self) -> None:
        while True:
            await self._pause()
            if self._host.is_linked and self._is_registered():
                await self._session()
            else:
                await self._bell.wait(self._delay_ms[1])

    def _is_registered(self) -> bool:
        """Whether the cluster knows this very process; it is told if somebody leads."""
        row = self._ideal.view.nodes.get(self._host.id)
        if row is not None and row.incarnation == self._host.incarnation:
            return True
        if not self._ideal.has_leader:
            return False
        return self._ideal.submit(self._host.registration()).error is None

    async def _session(self) -> None:
        """Hear of every change, until the link is cut."""
        ideal, me = self._ideal, self._host.id
        ideal.hears(me, self._host.incarnation, self._bell.ring)
        told, has_begun, cuts = Told(me), False, self._cuts
        while self._cuts == cuts:
            self._bell.clear()
            view = ideal.view
            change = told.next(view, None) if has_begun else told.all(view)
            has_begun = True
            if change is not None:
                await self._pause()
                if self._cuts != cuts:
                    return
                self._supervisor.told(change)
            await self._bell.wait()

    async def _send(self, report: ReportTasks) -> None:
        """To whoever leads; raises `Unavailable` as well if it is not known whether it came."""
        await self._pause()
        if not self._host.is_linked:
            raise Unavailable("no manager can be reached")
        if not self._ideal.has_leader and self._rng.random() < UNHEARD_SHARE:
            self._ideal.commit(report)
            raise Unavailable("nobody said whether it was taken")
        outcome = self._ideal.submit(report)
        if outcome.error is not None:
            raise outcome.error

    async def _pause(self) -> None:
        await self._life.sleep(self._rng.randint(*self._delay_ms))
