"""What can happen to hosts: to their processes, their clocks, their disks."""

from functools import partial

from meshswarm.ids import NodeId
from meshswarm.sim.disk import SYNC_MS
from meshswarm.sim.hosts import Host
from meshswarm.sim.scene import Scene
from meshswarm.sim.shape import ELECTION_MS

AWAY_MS, STEP_MS = ELECTION_MS - 150, 50
"""A leader that stood still for longer would give leadership away before it does anything else."""

HELPERS_SHARE = 0.5
"""Of the disks that are wiped: those of managers that have just helped to replace a leader."""

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
    """Let a manager find its disk empty: term and vote are gone too. Enough others are sound."""
    if scene.rng.random() < HELPERS_SHARE and (what := _wipe_a_helper(scene)):
        return what
    host = scene.a_manager()
    if not _may_lose_all(scene, host):
        return ""
    scene.kill([host.id], power=False)
    _lose_all(scene, host)
    return host.id


def _wipe_a_helper(scene: Scene) -> str:
    """A leader stands still until others have a new one. As it goes on, and knows nothing of that,
    one of those finds its disk empty, and nobody reaches the new leader."""
    leader = scene.leader()
    if leader is None or (life := scene.world.hosts[leader.id].life) is None or life.is_paused:
        return ""
    pairs = scene.links_of(leader.id)
    scene.world.network.cuts |= pairs
    life.pause()
    scene.life.after(STEP_MS, partial(_await_new, scene, leader.id, pairs, AWAY_MS))
    return f"one that helps to replace {leader.id}"


def _await_new(scene: Scene, old: NodeId, pairs: set[tuple[str, str]], left_ms: int) -> None:
    """Let the old leader go on as soon as there is a new one, or when its time is over."""
    new = _another(scene, old)
    if new is None and left_ms > 0:
        again = partial(_await_new, scene, old, pairs, left_ms - STEP_MS)
        scene.life.after(STEP_MS, again)
    else:
        scene.life.after(scene.rng.randrange(100), partial(_come_back, scene, old, pairs))


def _come_back(scene: Scene, old: NodeId, pairs: set[tuple[str, str]]) -> None:
    world, cuts = scene.world, scene.world.network.cuts
    cuts -= pairs
    new = _another(scene, old)
    helpers = [
        host
        for node, host in world.hosts.items()
        if node in world.shape.manager_ids and node not in (old, new) and host.is_up
    ]
    helper = scene.rng.choice(helpers) if helpers else None
    if new is not None and helper is not None and _may_lose_all(scene, helper):
        away = scene.links_of(new)
        cuts |= away
        scene.later(partial(cuts.difference_update, away))
        world.kill(helper.id)
        _lose_all(scene, helper)
        scene.life.after(scene.rng.randrange(20, ELECTION_MS // 2), partial(scene.start, helper.id))
    if (life := world.hosts[old].life) is not None:
        life.resume()


def _another(scene: Scene, old: NodeId) -> NodeId | None:
    return next((seat.id for seat in scene.world.seats() if seat.leads and seat.id != old), None)


def _may_lose_all(scene: Scene, host: Host) -> bool:
    """Whether it holds anything, and a quorum of others is sound."""
    sound = scene.world.has_sound_quorum(without=[host.id], founders=True)
    return sound and not host.disk.is_blank


def _lose_all(scene: Scene, host: Host) -> None:
    scene.world.trace.tell("wipe", host.id)
    host.disk.wipe()
    scene.world.checkers.lost(host.id, promises=True)
