"""The trouble of an ideal world: leaders fall, nodes die, are cut off or flap, tasks end.

Every fault ends by itself; `calm` ends all of them at once.
"""

import random
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial

from meshswarm.agent.card import Exit
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import Reason
from meshswarm.sim.clock import Life
from meshswarm.sim.hosts import Host
from meshswarm.sim.ideal_world import IdealWorld
from meshswarm.store.apply import Applied
from meshswarm.store.commands import Command
from meshswarm.store.view import Table, View

LONGEST_MS = 12_000
"""The longest that a node is away."""

NO_LEADER_MS = 3_000
"""The longest without a leader."""

STRIKE_MS = 60
"""Within this of an entry that changes a rollout its leader falls, if it is to."""


class Woe(Enum):
    """What can happen, and what that stands for."""

    LEADER = "leader"
    """The leader is lost, at any moment of what it decides, and there may be none for a while."""
    CRASH = "crash"
    """An agent is killed; what it ran runs on."""
    POWER = "power"
    """A power cut at one host."""
    CUT = "cut"
    """A host does not reach any manager; what it runs runs on."""
    FLAP = "flap"
    """A bad cable: the same again and again, for about as long as silence is borne."""
    TASK_ENDS = "task_ends"
    """A program exits, crashes, or is killed for its memory."""
    TASK_VANISHES = "task_vanishes"
    """Somebody removes a container by hand."""
    RUNTIME_FAILS = "runtime_fails"
    """The container engine refuses."""
    STUBBORN = "stubborn"
    """A program ignores its stop signal."""


GENTLE = (Woe.LEADER, Woe.CRASH, Woe.CUT, Woe.FLAP)
"""What speaks against no task: a rollout ends with it as without."""


class Woes:
    """Makes trouble until it is told to stop."""

    def __init__(
        self,
        world: IdealWorld,
        kinds: Sequence[Woe],
        pause_ms: int,
        *,
        most_away: int | None = None,
        most_blows: int | None = None,
    ) -> None:
        """`most_away` nodes are away at a time, and `most_blows` befall nodes in all; None: any."""
        self._world = world
        self._most_away, self._blows_left = most_away, most_blows
        self._rng = random.Random(world.rng.getrandbits(64))
        self._kinds, self._pause_ms = kinds, pause_ms
        self._life = Life(world.clock)
        self._strike_share = self._rng.choice((0.0, 0.1, 0.4))
        self._life.spawn(self._go_on())
        if Woe.LEADER in kinds:
            world.ideal.observers.append(self._entry)

    def calm(self) -> None:
        """End all trouble: whoever is down comes up, whoever is cut off is joined."""
        self._life.end()
        world = self._world
        for node_id, host in world.hosts.items():
            host.runtime.stubborn.clear()
            if host.life is None:
                world.start(node_id)
            world.link(node_id, True)
        world.crown()

    async def _go_on(self) -> None:
        while True:
            await self._life.sleep(self._rng.randrange(1, 2 * self._pause_ms))
            kind = self._rng.choice(self._kinds)
            what = _MAKERS[kind](self)
            if what:
                self._world.trace.tell("fault", f"{kind.value}: {what}")
                self._world.trace.counts[f"of {kind.value}"] += 1

    def duration_ms(self) -> int:
        """Mostly short, sometimes long."""
        return int(LONGEST_MS * self._rng.random() ** 2) + 20

    # --- leaders ------------------------------------------------------------------------------

    def leader_falls(self) -> str:
        """Now, and another one leads at once or after a while."""
        world = self._world
        if not world.ideal.has_leader:
            return ""
        for rollout in world.view.rollouts.values():
            world.trace.counts[f"without a leader while {rollout.phase.value}"] += 1
        world.ideal.depose()
        gap_ms = self._rng.choice((0, 0, self._rng.randrange(NO_LEADER_MS)))
        self._life.after(gap_ms, world.crown)
        return f"none for {gap_ms} ms"

    def _entry(self, before: View, command: Command, applied: Applied) -> None:
        """Some entries that change a rollout are the last, or the last but one, of their leader."""
        if self._life.is_over or self._rng.random() >= self._strike_share:
            return
        if any(table is Table.ROLLOUTS for table, _ in applied.changed):
            self._life.after(self._rng.randrange(STRIKE_MS), self._strike)

    def _strike(self) -> None:
        if self.leader_falls():
            self._world.trace.tell("strike", "the leader falls as a rollout moves")

    # --- nodes --------------------------------------------------------------------------------

    def _a_node(self) -> NodeId | None:
        """One that is up and linked; None if there is none, or enough is broken."""
        hosts = self._world.hosts.items()
        fit = [node for node, host in hosts if host.life is not None and host.is_linked]
        away = len(self._world.hosts) - len(fit)
        if not fit or self._blows_left == 0 or away == self._most_away:
            return None
        if self._blows_left is not None:
            self._blows_left -= 1
        return self._rng.choice(fit)

    def node_dies(self, *, power: bool) -> str:
        """For a while."""
        node = self._a_node()
        if node is None:
            return ""
        self._world.kill(node, power=power)
        duration_ms = self.duration_ms()
        self._life.after(duration_ms, partial(self._start, node))
        return f"{node} for {duration_ms} ms"

    def _start(self, node: NodeId) -> None:
        if self._world.hosts[node].life is None:
            self._world.start(node)

    def node_is_cut_off(self) -> str:
        """For a while."""
        node = self._a_node()
        if node is None:
            return ""
        duration_ms = self.duration_ms()
        self._cut(node, duration_ms)
        return f"{node} for {duration_ms} ms"

    def _cut(self, node: NodeId, duration_ms: int) -> None:
        if self._world.hosts[node].is_linked:
            self._world.link(node, False)
            self._life.after(duration_ms, partial(self._world.link, node, True))

    def node_flaps(self) -> str:
        """Several cuts, each about as long as makes a node a suspect, or down."""
        node, times = self._a_node(), self._rng.randrange(3, 7)
        if node is None:
            return ""
        at_ms, policy = 0, self._world.shape.policy
        for _ in range(times):
            limit_ms = self._rng.choice((policy.suspect_ms, policy.down_ms))
            cut_ms = max(20, limit_ms + self._rng.randrange(-300, 300))
            self._life.after(at_ms, partial(self._cut, node, cut_ms))
            at_ms += cut_ms + self._rng.randrange(20, 1_500)
        return f"{node}, {times} times in {at_ms} ms"

    # --- tasks --------------------------------------------------------------------------------

    def task_ends(self) -> str:
        """By itself."""
        code = self._rng.choice((0, 1, 137))
        return self._to_a_task("ends", lambda host, task: host.runtime.end(task, Exit(code=code)))

    def task_vanishes(self) -> str:
        """Behind the agent's back."""
        return self._to_a_task("is removed", lambda host, task: host.runtime.lose(task))

    def task_is_stubborn(self) -> str:
        """It ends by SIGKILL alone."""
        return self._to_a_task("is stubborn", lambda host, task: host.runtime.stubborn.add(task))

    def _to_a_task(self, text: str, happen: Callable[[Host, TaskId], None]) -> str:
        hosts = self._world.hosts.values()
        running = [(host, task) for host in hosts for task in host.running()]
        if not running:
            return ""
        host, task = self._rng.choice(running)
        happen(host, task)
        return f"{task} on {host.id} {text}"

    def runtime_fails(self) -> str:
        """Some verb, a few times."""
        host = self._world.hosts[self._rng.choice(tuple(self._world.hosts))]
        verb = self._rng.choice(("prepare", "start", "stop", "remove"))
        reason = self._rng.choice((Reason.RUNTIME_UNAVAILABLE, Reason.START_FAILED))
        host.runtime.fail(verb, reason, times=self._rng.randrange(1, 4))
        return f"{verb} on {host.id}: {reason.value}"


_MAKERS: dict[Woe, Callable[[Woes], str]] = {
    Woe.LEADER: Woes.leader_falls,
    Woe.CRASH: lambda woes: woes.node_dies(power=False),
    Woe.POWER: lambda woes: woes.node_dies(power=True),
    Woe.CUT: Woes.node_is_cut_off,
    Woe.FLAP: Woes.node_flaps,
    Woe.TASK_ENDS: Woes.task_ends,
    Woe.TASK_VANISHES: Woes.task_vanishes,
    Woe.RUNTIME_FAILS: Woes.runtime_fails,
    Woe.STUBBORN: Woes.task_is_stubborn,
}


def drawn(rng: random.Random) -> list[Woe]:
    """The kinds of one world, leaders' fall always among them."""
    share = rng.choice((0.2, 0.5, 1.0))
    return [kind for kind in Woe if kind is Woe.LEADER or rng.random() < share]
