"""The trouble that a seed makes: each kind for a while, some kinds in one world and not in another.

Every fault ends by itself; `calm` ends all of them at once. What each does stands with its maker,
in `network_faults`, `host_faults` and `cluster_faults`.
"""

import random
from collections.abc import Sequence
from enum import Enum

from meshswarm.agent.card import HeldState
from meshswarm.model.task import Health
from meshswarm.sim import cluster_faults, host_faults, network_faults
from meshswarm.sim.clock import Life
from meshswarm.sim.disk import SYNC_MS
from meshswarm.sim.network import Weather
from meshswarm.sim.scene import Maker, Scene
from meshswarm.sim.world import World


class Fault(Enum):
    """What can happen, and what that stands for."""

    CRASH = "crash"
    """kill -9, or a bug that ends the process."""
    CRASH_IN_IO = "crash_in_io"
    """The same between any two of its I/O calls: messages sent, and not written what they said."""
    POWER = "power"
    """A power cut at one host."""
    BLACKOUT = "blackout"
    """A power cut at all of them: only what was synced is left of the cluster."""
    PAUSE = "pause"
    """SIGSTOP, a suspended machine, a swap storm: what was waiting happens afterwards at once."""
    SPLIT = "split"
    """A switch or a line between two rooms fails, for both directions."""
    ISOLATE = "isolate"
    """One host's cable is pulled."""
    UNLINK = "unlink"
    """Two hosts do not reach each other, and all others reach both."""
    ONE_WAY = "one_way"
    """A firewall or a route that is wrong in one direction."""
    CLOG = "clog"
    """A connection hangs, and its queue arrives late and at once: old messages at a new time."""
    STORM = "storm"
    """A bad line: loss, repetition, delay, and messages that overtake each other."""
    SLOW_DISK = "slow_disk"
    """A busy or dying disk."""
    STALL = "stall"
    """fsync hangs: a controller resets, a network disk is gone for a while."""
    SYNC_FAILS = "sync_fails"
    """fsync reports an error once; nothing that it was for may be trusted."""
    DISK_FULL = "disk_full"
    """A disk without room, for proposals (the watermark) or for anything at all."""
    DAMAGE = "damage"
    """Corrupted or misdirected sectors, in the log or in the journal's mark."""
    OLD_SNAPSHOT = "old_snapshot"
    """The same in the newest snapshot."""
    WIPE = "wipe"
    """The data directory was lost, and the node started again as if it were new."""
    CLOCK_JUMP = "clock_jump"
    """Somebody sets the clock, or a time server that is wrong does."""
    CLOCK_DRIFT = "clock_drift"
    """A bad quartz, or a time server that slews."""
    HAND_OVER = "hand_over"
    """An operator moves leadership."""
    MEMBERS = "members"
    """An operator adds, promotes, demotes and removes managers."""
    TASK_ENDS = "task_ends"
    """A program exits, crashes, or is killed for its memory."""
    TASK_VANISHES = "task_vanishes"
    """Somebody removes a container by hand."""
    RUNTIME_FAILS = "runtime_fails"
    """The container engine refuses."""
    STUBBORN = "stubborn"
    """A program ignores its stop signal."""
    UNREADY = "unready"
    """A program waits for another one, and says that it takes no work meanwhile."""
    FLAP = "flap"
    """A cable or a power supply with a loose contact: one host comes and goes."""
    SILENCE = "silence"
    """The switch to which most hosts are connected fails."""


_MAKERS: dict[Fault, Maker] = {
    Fault.CRASH: host_faults.crash,
    Fault.CRASH_IN_IO: host_faults.crash_in_io,
    Fault.POWER: host_faults.power,
    Fault.BLACKOUT: host_faults.blackout,
    Fault.PAUSE: host_faults.pause,
    Fault.SPLIT: network_faults.split,
    Fault.ISOLATE: network_faults.isolate,
    Fault.UNLINK: network_faults.unlink,
    Fault.ONE_WAY: network_faults.one_way,
    Fault.CLOG: network_faults.clog,
    Fault.STORM: network_faults.storm,
    Fault.SLOW_DISK: host_faults.slow_disk,
    Fault.STALL: host_faults.stall,
    Fault.SYNC_FAILS: host_faults.sync_fails,
    Fault.DISK_FULL: host_faults.disk_full,
    Fault.DAMAGE: host_faults.damage,
    Fault.OLD_SNAPSHOT: host_faults.old_snapshot,
    Fault.WIPE: host_faults.wipe,
    Fault.CLOCK_JUMP: host_faults.clock_jump,
    Fault.CLOCK_DRIFT: host_faults.clock_drift,
    Fault.HAND_OVER: cluster_faults.hand_over,
    Fault.MEMBERS: cluster_faults.members,
    Fault.TASK_ENDS: cluster_faults.task_ends,
    Fault.TASK_VANISHES: cluster_faults.task_vanishes,
    Fault.RUNTIME_FAILS: cluster_faults.runtime_fails,
    Fault.STUBBORN: cluster_faults.stubborn,
    Fault.UNREADY: cluster_faults.unready,
    Fault.FLAP: network_faults.flap,
    Fault.SILENCE: network_faults.silence,
}

_OF_TASKS = {Fault.TASK_ENDS, Fault.TASK_VANISHES, Fault.RUNTIME_FAILS, Fault.STUBBORN}
_LATER = {Fault.UNREADY, Fault.FLAP, Fault.SILENCE}
"""Kinds that came later: bare worlds are drawn as they were, so that old seeds mean something."""

NEEDS_TASKS = _OF_TASKS | _LATER
"""What has no meaning in a bare world."""


class Faults:
    """Makes trouble until it is told to stop."""

    def __init__(self, world: World, kinds: Sequence[Fault], pause_ms: int) -> None:
        rng = random.Random(world.rng.getrandbits(64))
        self._scene = Scene(world, rng, Life(world.clock), pause_ms)
        self._kinds = kinds
        self._scene.life.spawn(self._go_on())

    def calm(self) -> None:
        """End all trouble: whatever is down comes up, whatever is cut is joined."""
        self._scene.life.end()
        world = self._scene.world
        world.network.cuts.clear()
        world.network.clogs.clear()
        world.network.weather = Weather()
        for node_id, host in world.hosts.items():
            disk = host.disk
            disk.sync_ms, disk.stalled_until_ms = SYNC_MS, 0
            disk.is_low = disk.is_full = disk.sync_fails = False
            host.set_pace(1.0)
            host.runtime.stubborn.clear()
            for held in host.runtime.board.all():
                if held.health is Health.NOT_READY and held.state is HeldState.RUNNING:
                    host.runtime.feel(held.task_id, Health.NONE)
            if host.life is not None and disk.is_failing and disk.on_failure is not None:
                disk.on_failure()  # it would be noticed in a moment, and nobody start it again
            if host.life is None:
                world.start(node_id)
            else:
                host.life.fuse = None
                host.life.resume()

    async def _go_on(self) -> None:
        scene = self._scene
        while True:
            await scene.life.sleep(scene.rng.randrange(1, 2 * scene.pause_ms))
            kind = scene.rng.choice(self._kinds)
            what = _MAKERS[kind](scene)
            if what:
                scene.world.trace.tell("fault", f"{kind.value}: {what}")
                scene.world.trace.counts[f"of {kind.value}"] += 1


def drawn(rng: random.Random, *, is_bare: bool) -> list[Fault]:
    """The kinds of one world: each by chance, so that some worlds are pure in their trouble."""
    share = rng.choice((0.15, 0.3, 0.6, 1.0))
    drawn_of = [kind for kind in Fault if not (is_bare and kind in _LATER)]
    kinds = [kind for kind in drawn_of if rng.random() < share]
    return [kind for kind in kinds if not (is_bare and kind in NEEDS_TASKS)] or [Fault.CRASH]
