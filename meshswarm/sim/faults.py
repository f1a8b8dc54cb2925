"""The trouble that a seed makes: each kind for a while, some kinds in one world and not in another.

Every fault ends by itself; `calm` ends all of them at once.
"""

import random
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import assert_never

from meshswarm.agent.card import Exit
from meshswarm.errors import Unavailable
from meshswarm.ids import NodeId, TaskId
from meshswarm.model.task import Reason
from meshswarm.sim.clock import Life
from meshswarm.sim.disk import SYNC_MS
from meshswarm.sim.hosts import Host
from meshswarm.sim.network import Weather
from meshswarm.sim.world import World


class Fault(Enum):
    """What can happen."""

    CRASH = "crash"
    """kill -9 of a node's process; what it runs goes on."""
    POWER = "power"
    """A host goes dark, with all that ran on it."""
    BLACKOUT = "blackout"
    """All hosts go dark at once."""
    PAUSE = "pause"
    """SIGSTOP."""
    SPLIT = "split"
    """The nodes fall into two halves that do not reach each other."""
    ISOLATE = "isolate"
    """One node reaches nobody, users neither."""
    ONE_WAY = "one_way"
    """What a node sends to some others is lost; what they send arrives."""
    STORM = "storm"
    """Messages are lost, late, repeated, overtaken."""
    SLOW_DISK = "slow_disk"
    DAMAGE = "damage"
    """A manager's log cannot be read when it comes back: never of two managers at once."""
    HAND_OVER = "hand_over"
    """Leadership is handed to another manager."""
    TASK_ENDS = "task_ends"
    TASK_VANISHES = "task_vanishes"
    """Somebody removes a container behind the agent's back."""
    RUNTIME_FAILS = "runtime_fails"
    STUBBORN = "stubborn"
    """A task ignores its stop signal."""


LONGEST_MS = 8_000
"""The longest that one fault lasts."""


class Faults:
    """Makes trouble until it is told to stop."""

    def __init__(self, world: World, kinds: Sequence[Fault], pause_ms: int) -> None:
        self._world, self._rng = world, random.Random(world.rng.getrandbits(64))
        self._kinds, self._pause_ms = kinds, pause_ms
        self._life = Life(world.clock)
        self._life.spawn(self._go_on())

    def calm(self) -> None:
        """End all trouble: whatever is down comes up, whatever is cut is joined."""
        self._life.end()
        world = self._world
        world.network.cuts.clear()
        world.network.weather = Weather()
        for node_id, host in world.hosts.items():
            host.disk.sync_ms = SYNC_MS
            host.runtime.stubborn.clear()
            if host.life is None:
                world.start(node_id)
            else:
                host.life.resume()

    async def _go_on(self) -> None:
        while True:
            await self._life.sleep(self._rng.randrange(1, 2 * self._pause_ms))
            kind = self._rng.choice(self._kinds)
            what = self._begin(kind)
            if what:
                self._world.trace.tell("fault", f"{kind.value}: {what}")

    def _begin(self, kind: Fault) -> str:  # noqa: C901, PLR0912 - a table of faults
        match kind:
            case Fault.CRASH:
                return self._kill(self._some_nodes(1), power=False)
            case Fault.POWER:
                return self._kill(self._some_nodes(1), power=True)
            case Fault.BLACKOUT:
                return self._kill(list(self._world.hosts), power=True)
            case Fault.PAUSE:
                return self._pause()
            case Fault.SPLIT:
                return self._split(self._rng.randrange(1, len(self._world.hosts)))
            case Fault.ISOLATE:
                return self._split(1)
            case Fault.ONE_WAY:
                return self._one_way()
            case Fault.STORM:
                return self._storm()
            case Fault.SLOW_DISK:
                return self._slow_disk()
            case Fault.DAMAGE:
                return self._damage()
            case Fault.HAND_OVER:
                return self._hand_over()
            case Fault.TASK_ENDS:
                return self._task("ends", lambda host, task: host.runtime.end(task, self._exit()))
            case Fault.TASK_VANISHES:
                return self._task("is removed", lambda host, task: host.runtime.lose(task))
            case Fault.RUNTIME_FAILS:
                return self._runtime_fails()
            case Fault.STUBBORN:
                return self._task("ignores its stop signal", _make_stubborn)
            case _:
                assert_never(kind)

    # --- processes ----------------------------------------------------------------------------

    def _some_nodes(self, count: int) -> list[NodeId]:
        return self._rng.sample(list(self._world.hosts), count)

    def _duration_ms(self) -> int:
        """Mostly short, sometimes long."""
        return int(LONGEST_MS * self._rng.random() ** 3) + 20

    def _kill(self, nodes: Sequence[NodeId], *, power: bool) -> str:
        killed = [node for node in nodes if self._world.hosts[node].is_up]
        for node in killed:
            self._world.kill(node, power=power)
            self._life.after(self._duration_ms(), partial(self._start, node))
        return " ".join(killed)

    def _start(self, node: NodeId) -> None:
        if not self._world.hosts[node].is_up:
            self._world.trace.tell("start", node)
            self._world.start(node)

    def _pause(self) -> str:
        (node,) = self._some_nodes(1)
        life = self._world.hosts[node].life
        if life is None or life.is_paused:
            return ""
        life.pause()
        duration_ms = self._duration_ms()
        self._life.after(duration_ms, life.resume)
        return f"{node} for {duration_ms} ms"

    # --- the network --------------------------------------------------------------------------

    def _split(self, size: int) -> str:
        """Cut some nodes, and some users, off from all others."""
        users = [user.id for user in self._world.users if self._rng.random() < 0.5]
        inside: set[str] = {*self._some_nodes(size), *(users if size > 1 else [])}
        outside = [name for name in self._everybody() if name not in inside]
        pairs = {(a, b) for a in inside for b in outside}
        self._cut(pairs | {(b, a) for a, b in pairs})
        return " ".join(sorted(inside))

    def _one_way(self) -> str:
        (node,) = self._some_nodes(1)
        others = [name for name in self._everybody() if name != node]
        deaf = self._rng.sample(others, self._rng.randrange(1, len(others) + 1))
        self._cut({(node, other) for other in deaf})
        return f"{node} is not heard by {' '.join(deaf)}"

    def _everybody(self) -> list[str]:
        return [*self._world.hosts, *(user.id for user in self._world.users)]

    def _cut(self, pairs: set[tuple[str, str]]) -> None:
        network = self._world.network
        network.cuts |= pairs
        self._life.after(self._duration_ms(), partial(network.cuts.difference_update, pairs))

    def _storm(self) -> str:
        network, rng = self._world.network, self._rng
        network.weather = Weather(
            loss=rng.choice((0.0, 0.05, 0.3)),
            duplication=rng.choice((0.0, 0.05, 0.3)),
            delay_ms=rng.choice(((1, 3), (5, 60), (50, 400))),
            gusts=rng.choice((0.0, 0.1, 0.5)),
        )
        self._life.after(self._duration_ms(), partial(setattr, network, "weather", Weather()))
        return str(network.weather)

    # --- disks --------------------------------------------------------------------------------

    def _a_manager(self) -> Host:
        return self._world.hosts[NodeId(self._rng.choice(self._world.shape.manager_ids))]

    def _slow_disk(self) -> str:
        host = self._a_manager()
        host.disk.sync_ms = self._rng.choice(((20, 100), (200, 900), (1_500, 3_000)))
        self._life.after(self._duration_ms(), partial(setattr, host.disk, "sync_ms", SYNC_MS))
        return f"{host.id} {host.disk.sync_ms} ms"

    def _damage(self) -> str:
        """Let a manager that is down find its log unreadable."""
        managers = [self._world.hosts[NodeId(one)] for one in self._world.shape.manager_ids]
        if len(managers) < 3 or not all(host.disk.is_whole for host in managers):
            return ""
        host = self._a_manager()
        if host.is_up:
            self._kill([host.id], power=False)
        host.disk.lose_log()
        return host.id

    def _hand_over(self) -> str:
        for seat in self._world.seats():
            if seat.leads:
                target = self._a_manager().id
                try:
                    seat.driver.transfer_leadership(target)
                except Unavailable:
                    return ""
                return f"from {seat.id} to {target}"
        return ""

    # --- what runs ----------------------------------------------------------------------------

    def _exit(self) -> Exit:
        return Exit(code=self._rng.choice((0, 1, 137)))

    def _task(self, text: str, happen: Callable[[Host, TaskId], None]) -> str:
        running = [(host, task) for host in self._world.hosts.values() for task in host.running()]
        if not running:
            return ""
        host, task = self._rng.choice(running)
        happen(host, task)
        return f"{task} on {host.id} {text}"

    def _runtime_fails(self) -> str:
        host = self._world.hosts[self._some_nodes(1)[0]]
        verb = self._rng.choice(("prepare", "start", "stop", "remove"))
        reason = self._rng.choice((Reason.RUNTIME_UNAVAILABLE, Reason.START_FAILED))
        host.runtime.fail(verb, reason, times=self._rng.randrange(1, 4))
        return f"{verb} on {host.id}: {reason.value}"


def _make_stubborn(host: Host, task: TaskId) -> None:
    host.runtime.stubborn.add(task)


def drawn(rng: random.Random) -> list[Fault]:
    """The kinds of one world: each by chance, so that some worlds are pure in their trouble."""
    share = rng.choice((0.25, 0.5, 1.0))
    kinds = [kind for kind in Fault if rng.random() < share]
    return kinds or [Fault.CRASH]
