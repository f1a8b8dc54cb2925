"""What can happen to hosts: to their processes, their clocks, their disks."""

from functools import partial

from meshswarm.sim.disk import SYNC_MS
from meshswarm.sim.hosts import Host
from meshswarm.sim.scene import Scene

# --- processes --------------------------------------------------------------------------------


def crash(scene: Scene) -> str:
    """End one node's process; what it runs goes on."""
    return scene.kill([scene.a_host().id], power=False)


def crash_in_io(scene: Scene) -> str:
    """Let a manager die in the midst of its work: before the n-th thing that it asks its host for.

    What it asked for before that happened, or is on its way; what would have followed never was.
    """
    host = scene.a_manager()
    if host.life is None:
        return ""
    power, calls = scene.rng.random() < 0.3, scene.rng.randrange(1, 40)
    host.life.fuse = calls, partial(_die, scene, host, power)
    return f"{host.id} within {calls} calls"


def _die(scene: Scene, host: Host, power: bool) -> None:
    scene.world.trace.tell("death", f"{host.id} in the midst of its work")
    scene.kill([host.id], power=power)


def power(scene: Scene) -> str:
    """Let one host go dark, with all that ran on it."""
    return scene.kill([scene.a_host().id], power=True)


def blackout(scene: Scene) -> str:
    """Let all hosts go dark at once."""
    return scene.kill(list(scene.world.hosts), power=True)


def pause(scene: Scene) -> str:
    """Stop one node's process where it is, and let it go on later."""
    host = scene.a_host()
    if host.life is None or host.life.is_paused:
        return ""
    host.life.pause()
    return f"{host.id} for {scene.later(host.life.resume)} ms"


# --- clocks -----------------------------------------------------------------------------------


def clock_jump(scene: Scene) -> str:
    """Set one host's wall clock."""
    host, by_ms = scene.a_host(), scene.rng.choice((100, 5_000, 3_600_000))
    by_ms *= scene.rng.choice((-1, 1))
    host.skew_ms += by_ms
    host.disturb()
    return f"{host.id} by {by_ms} ms"


def clock_drift(scene: Scene) -> str:
    """Let one host's wall clock run fast or slow for a while."""
    host, pace = scene.a_host(), scene.rng.choice((0.5, 0.9, 1.1, 2.0))
    host.set_pace(pace)
    return f"{host.id} at {pace} for {scene.later(partial(host.set_pace, 1.0))} ms"


# --- disks ------------------------------------------------------------------------------------


def slow_disk(scene: Scene) -> str:
    """Let each sync of one disk take long."""
    disk, name = (host := scene.a_manager()).disk, host.id
    disk.sync_ms = scene.rng.choice(((20, 100), (200, 900), (1_500, 3_000)))
    return f"{name} {disk.sync_ms} for {scene.later(partial(setattr, disk, 'sync_ms', SYNC_MS))} ms"


def stall(scene: Scene) -> str:
    """Let no sync of one disk end for a while."""
    host, duration_ms = scene.a_manager(), scene.duration_ms()
    host.disk.stalled_until_ms = scene.world.clock.now_ms + duration_ms
    return f"{host.id} for {duration_ms} ms"


def sync_fails(scene: Scene) -> str:
    """Let one disk refuse the next sync: its manager ends, and is started again."""
    host = scene.a_manager()
    if not host.is_up:
        return ""
    host.disk.sync_fails = True
    scene.later(partial(scene.start, host.id))
    return host.id


def disk_full(scene: Scene) -> str:
    """Fill one disk, to its watermark or to the brim; its manager starts again once it can."""
    host = scene.a_manager()
    disk = host.disk
    disk.is_low, disk.is_full = True, scene.rng.random() < 0.5
    duration_ms = scene.later(partial(_make_room, scene, host))
    return f"{host.id} {'has no room' if disk.is_full else 'is low'} for {duration_ms} ms"


def _make_room(scene: Scene, host: Host) -> None:
    host.disk.is_low = host.disk.is_full = False
    scene.start(host.id)


def damage(scene: Scene) -> str:
    """Let a manager find its log unreadable when it starts: a sector was corrupted, or holds what
    belongs elsewhere. A minority is spared: see `World.has_sound_quorum`."""
    host = scene.a_manager()
    if not scene.world.has_sound_quorum(without=[host.id]):
        return ""
    scene.kill([host.id], power=False)
    host.disk.lose_log()
    scene.world.checkers.lost(host.id)
    return host.id


def old_snapshot(scene: Scene) -> str:
    """Let a manager find its newest snapshot unreadable, and start from an older one, if any."""
    host = scene.a_manager()
    if host.disk.snapshot is None or not scene.world.has_sound_quorum(without=[host.id]):
        return ""
    scene.kill([host.id], power=False)
    if host.disk.lose_snapshot():
        scene.world.checkers.lost(host.id)
    return f"{host.id}, which is left with {host.disk.meta}"


def wipe(scene: Scene) -> str:
    """Let a manager find its disk empty: term and vote are gone as well.

    Only of a cluster at peace: a quorum of others is sound and knows of this node's term. A vote
    that only the wiped node and a candidate know of, once forgotten, lets two leaders commit; no
    Raft survives that under the same identity (it would have to be removed and join anew).
    """
    world, host = scene.world, scene.a_manager()
    term = host.disk.hard_state.term
    behind = [n for n, other in world.hosts.items() if other.disk.hard_state.term < term]
    if host.disk.is_blank or not world.has_sound_quorum(without=[host.id, *behind], founders=True):
        return ""
    scene.kill([host.id], power=False)
    world.trace.tell("wipe", host.id)
    host.disk.wipe()
    world.checkers.lost(host.id, promises=True)
    return host.id
