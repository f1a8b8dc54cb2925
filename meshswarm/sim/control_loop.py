"""A leader's control loop, retold: `cluster.leadership` around the real `decide`."""

from collections.abc import Callable

from meshswarm.control.decide import decide
from meshswarm.control.kept import Kept
from meshswarm.control.liveness import Liveness, LivenessPolicy
from meshswarm.control.rebalance import EVERY_MS, Rounds
from meshswarm.errors import Unavailable
from meshswarm.sim.clock import Script
from meshswarm.sim.trace import Trace, Violation
from meshswarm.sim.watch import Watch
from meshswarm.store.commands import Batch
from meshswarm.store.view import Key, View

LOOK_AGAIN_MS = 250
"""How often the leader looks at the silence of nodes when nothing else happens."""

RETRY_MS = 50
"""Between two attempts when a batch could not be committed."""

CHECKED = 8
"""Every so manieth pass is made once more with nothing kept: it must decide the same."""


class ControlLoop:
    """What one manager decides whenever it leads; `propose` raises what was not committed.

    Tasks are moved unasked once nodes have been ready for `calm_ms`; None: never.
    """

    def __init__(
        self,
        name: str,
        trace: Trace,
        policy: LivenessPolicy,
        *,
        log_time_ms: Callable[[], int],
        liveness: Callable[[], Liveness],
        propose: Callable[[Batch], Script[None]],
        look_again_ms: int | None = LOOK_AGAIN_MS,
        calm_ms: int | None = None,
    ) -> None:
        self._name, self._trace, self._policy = name, trace, policy
        self._log_time_ms, self._liveness, self._propose = log_time_ms, liveness, propose
        self._look_again_ms = look_again_ms
        self._kept, self._passes = Kept(), 0
        self._rounds = None if calm_ms is None else Rounds(calm_ms)

    async def reign(
        self,
        watch: Watch,
        leads: Callable[[], bool],
        has_applied_all: Callable[[], Script[None]],
    ) -> None:
        """Decide and propose for as long as this manager leads."""
        revisit: frozenset[Key] | None = None
        while leads():
            if revisit is None:
                await has_applied_all()
            view, dirty = watch.take()
            known = None if dirty is None or revisit is None else dirty | revisit
            revisit, pause_ms = await self._decide_once(view, known)
            if self._rounds is not None and not revisit:
                pause_ms = min(EVERY_MS, EVERY_MS if pause_ms is None else pause_ms)
                await self._rebalance(self._rounds, view)
            await watch.bell.wait(pause_ms)

    async def _decide_once(
        self, view: View, dirty: frozenset[Key] | None
    ) -> tuple[frozenset[Key] | None, int | None]:
        """One pass: what the next must look at besides, and when at the latest; as `Leadership`."""
        now_ms = self._log_time_ms()
        liveness = self._liveness()
        decision = decide(view, dirty, liveness, self._policy, now_ms, self._kept)
        self._passes += 1
        if self._passes % CHECKED == 0:
            anew = decide(view, dirty, liveness, self._policy, now_ms)
            if anew != decision:
                raise Violation(f"{self._name} decides {decision} by what it kept, else {anew}")
        if decision.commands:
            batch = Batch(commands=decision.commands, cause=decision.cause)
            self._trace.tell("decide", f"{self._name}: {decision.cause}")
            try:
                await self._propose(batch)
            except Unavailable:
                return None, RETRY_MS
        elif decision.wake_at_ms is not None and decision.wake_at_ms <= now_ms:
            raise Violation(f"{self._name} decides nothing, and wants to look again at once")
        pause_ms = self._look_again_ms
        if decision.wake_at_ms is not None:
            until_ms = max(0, decision.wake_at_ms - now_ms)
            pause_ms = until_ms if pause_ms is None else min(pause_ms, until_ms)
        return decision.revisit, pause_ms

    async def _rebalance(self, rounds: Rounds, view: View) -> None:
        """Have a few tasks moved, if all is calm; what is not committed is planned again."""
        now_ms = self._log_time_ms()
        moved = rounds.next(view, now_ms, now_ms)
        if moved is not None:
            self._trace.tell("rebalance", f"{self._name}: {len(moved.task_ids)} tasks")
            try:
                await self._propose(Batch(commands=(moved,), cause="rebalancing"))
            except Unavailable:
                return
