"""The control loop: on the leader, decide what is missing and propose it; elsewhere, sleep.

One batch is in flight at a time, and the next look is at a view that holds it, so the controllers
never plan on what they have already changed. A batch is appended here or not at all: handed on to
another leader, it would be carried out on a view that it was not decided on. Losing leadership in
between costs nothing: whoever leads next looks at everything once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from meshswarm.cluster.driver import Driver
from meshswarm.cluster.heard import Heard
from meshswarm.cluster.hub import Watch
from meshswarm.cluster.proposals import Proposals
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.control.decide import DECISIVE, decide
from meshswarm.control.kept import Kept
from meshswarm.control.pacing import Pacing
from meshswarm.control.rebalance import Rounds
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId, ServiceId, Term
from meshswarm.store.commands import Batch
from meshswarm.store.view import Key, Table, View

log = logging.getLogger("meshswarm.control")

LOOK_AGAIN_S = 0.25
"""How often the leader looks at the silence of nodes when nothing else happens."""

SLICES = 120
"""In so many idle looks every service is looked at once, whether it changed or not."""

RETRY_S = 0.05
"""Between two attempts when a batch could not be committed."""

LONG_S = 0.01
"""A pass that takes longer is followed by a rest."""

LATE_S = 0.05
"""A loop that wakes its sleepers later than this is busy."""

REST_MAX_S = 2.0
"""However busy the loop is, the next pass is made after so long."""

COMPLAIN_S = 10.0
"""Between two log lines that say so."""


class Leadership:
    """The leader's control loop; `ask` has other managers look after silent nodes."""

    def __init__(
        self,
        driver: Driver,
        proposals: Proposals,
        heard: Heard,
        awake_s: Callable[[], float],
        settings: ClusterSettings,
        ask: Callable[[Sequence[NodeId]], None],
    ) -> None:
        self._driver = driver
        self._proposals = proposals
        self._heard = heard
        self._awake_s = awake_s
        self._ask = ask
        self._policy = settings.liveness
        self._led_since = 0.0
        self._led_in = Term(0)
        self._leads = asyncio.Event()
        self._round: list[ServiceId] = []
        self._slice = 0
        self._kept = Kept()
        self._pacing = Pacing()
        self._complained_at = -COMPLAIN_S
        self._took_s = 0.0
        self._settings = settings
        self._rounds = Rounds()
        driver.on_role_change(self._note_role)

    def _note_role(self) -> None:
        if self._driver.core.leads:
            self._leads.set()
        else:
            self._leads.clear()

    async def run(self) -> None:
        """Control whenever this node leads, until cancelled."""
        while True:
            await self._leads.wait()
            log.info("taking up the control loop")
            with self._driver.hub.watching(DECISIVE) as watch:
                await self._reign(watch)
            log.info("leaving the control loop")

    async def _reign(self, watch: Watch) -> None:
        """Decide and propose for as long as this node leads."""
        revisit: frozenset[Key] | None = None
        while self._leads.is_set():
            if revisit is None:
                await self._has_applied_all()
            view, dirty = watch.take()
            known = None
            if dirty is not None and revisit is not None:
                known = dirty | revisit | self._next_slice(view)
            revisit, pause_s = await self._decide_once(view, known)
            await self._rest()
            if self._settings.rebalance and not revisit:
                await self._rebalance(view)
            await self._sleep(watch, pause_s)

    def _next_slice(self, view: View) -> frozenset[Key]:
        """A few services to look at for no reason: what a bug let slip is found all the same."""
        if not self._round:
            self._round = sorted({*view.services, *view.tasks_by_service}, reverse=True)
            self._slice = -(-len(self._round) // SLICES)
        taken = [self._round.pop() for _ in range(min(self._slice, len(self._round)))]
        return frozenset((Table.SERVICES, service_id) for service_id in taken)

    async def _has_applied_all(self) -> None:
        """Return once all that this leader's log holds is applied here, or it leads no more.

        What earlier leaders decided, and what it appended itself and was not confirmed in time, may
        be among it; deciding without it would be deciding it twice.
        """
        last = self._driver.core.status().last_index
        while self._leads.is_set() and self._driver.hub.view.index < last:
            try:
                async with asyncio.timeout(RETRY_S):
                    await self._driver.applied(last)
            except TimeoutError:
                continue

    async def _decide_once(
        self, view: View, dirty: frozenset[Key] | None
    ) -> tuple[frozenset[Key] | None, float]:
        """One pass: what the next must look at besides, and in how many seconds at the latest.

        If what it wanted could not be committed, the next pass looks at everything (None).
        """
        now_ms = self._proposals.log_time_ms()
        now, term = self._awake_s(), self._driver.core.term
        if term != self._led_in:
            self._led_in, self._led_since = term, now
        liveness = self._heard.liveness(now, self._led_since)
        began = time.perf_counter()
        decision = decide(view, dirty, liveness, self._policy, now_ms, self._kept)
        self._took_s = time.perf_counter() - began
        self._ask(decision.suspects)
        for refused in decision.refused:
            log.warning("wanted, and cannot be had: %s", refused)
        if decision.commands:
            batch = Batch(commands=decision.commands, cause=decision.cause)
            try:
                await self._proposals.append_own(batch)
            except Unavailable as error:
                self._complain(len(batch.commands), error)
                return None, RETRY_S
            self._pacing.note(decision.commands)
        pause_s = LOOK_AGAIN_S
        if decision.wake_at_ms is not None and (decision.commands or decision.wake_at_ms > now_ms):
            pause_s = min(pause_s, max(0.0, (decision.wake_at_ms - now_ms) / 1_000))
        return decision.revisit, pause_s

    def _complain(self, commands: int, error: Unavailable) -> None:
        """Say it now and then: it is tried again at once, and the disk may be nearly full."""
        now = asyncio.get_running_loop().time()
        if now - self._complained_at >= COMPLAIN_S:
            self._complained_at = now
            log.warning("a batch of %d was not confirmed: %s", commands, error)

    async def _rebalance(self, view: View) -> None:
        """Now and then have a few tasks moved to where they are better placed, if all is calm."""
        clock_ms = round(1_000 * asyncio.get_running_loop().time())
        moved = self._rounds.next(view, self._proposals.log_time_ms(), clock_ms)
        if moved is None:
            return
        try:
            await self._proposals.append_own(Batch(commands=(moved,), cause="rebalancing"))
        except Unavailable as error:
            self._complain(1, error)

    async def _rest(self) -> None:
        """After a long pass: rest as long, and on until the loop has done what came of it, and
        agents say a word of most that they were given.

        A manager that places faster than it can tell agents and hear from them falls silent.
        """
        if self._took_s < LONG_S and not self._is_ahead():
            return
        now = asyncio.get_running_loop().time
        began = now()
        wait_s = self._took_s
        while True:
            asleep = now()
            await asyncio.sleep(wait_s)
            late_s = now() - asleep - wait_s
            is_busy = late_s >= LATE_S or self._is_ahead()
            if not is_busy or now() - began >= REST_MAX_S:
                return
            wait_s = LATE_S

    def _is_ahead(self) -> bool:
        return self._pacing.is_ahead(self._driver.hub.view, self._proposals.log_time_ms())

    async def _sleep(self, watch: Watch, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await watch.wait()
        except TimeoutError:
            return
