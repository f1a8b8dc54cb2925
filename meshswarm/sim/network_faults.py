"""What can happen to the network: cuts, clogs, weather."""

from collections.abc import Set
from functools import partial

from meshswarm.sim.network import Weather
from meshswarm.sim.scene import Scene


def split(scene: Scene) -> str:
    """Cut some nodes, and some users, off from all others."""
    if len(scene.world.hosts) < 2:
        return ""
    users = [user.id for user in scene.world.users if scene.rng.random() < 0.5]
    size = scene.rng.randrange(1, len(scene.world.hosts))
    return _cut_off(scene, {*scene.some_nodes(size), *users})


def isolate(scene: Scene) -> str:
    """Cut one node off; often only from the other nodes, while users still reach it."""
    users = {user.id for user in scene.world.users} if scene.rng.random() < 0.8 else set[str]()
    return _cut_off(scene, {scene.a_host().id}, spared=users)


def _cut_off(scene: Scene, inside: set[str], spared: Set[str] = frozenset()) -> str:
    outside = [name for name in scene.everybody() if name not in inside | spared]
    pairs = {(a, b) for a in inside for b in outside}
    return f"{' '.join(sorted(inside))} {_cut(scene, pairs | {(b, a) for a, b in pairs})}"


def unlink(scene: Scene) -> str:
    """Cut two nodes apart that both still reach all others."""
    if len(scene.world.hosts) < 2:
        return ""
    one, other = scene.some_nodes(2)
    return f"{one} and {other} {_cut(scene, {(one, other), (other, one)})}"


def one_way(scene: Scene) -> str:
    """What a node sends to some others is lost; what they send arrives."""
    node = scene.a_host().id
    others = [name for name in scene.everybody() if name != node]
    if not others:
        return ""
    deaf = scene.rng.sample(others, scene.rng.randrange(1, len(others) + 1))
    return f"{node} is not heard by {' '.join(deaf)} {_cut(scene, {(node, o) for o in deaf})}"


def _cut(scene: Scene, pairs: set[tuple[str, str]]) -> str:
    cuts = scene.world.network.cuts
    cuts |= pairs
    return f"for {scene.later(partial(cuts.difference_update, pairs))} ms"


def flap(scene: Scene) -> str:
    """Cut one node off, let it back, and again: each time for long enough to be given up."""
    node, times = scene.a_host().id, scene.rng.randrange(2, 6)
    pairs, cuts, at_ms = scene.links_of(node), scene.world.network.cuts, 0
    for _ in range(times):
        scene.life.after(at_ms, partial(cuts.update, pairs))
        at_ms += scene.rng.randrange(4_000, 7_000)
        scene.life.after(at_ms, partial(cuts.difference_update, pairs))
        at_ms += scene.rng.randrange(500, 3_000)
    return f"{node}, {times} times in {at_ms} ms"


def silence(scene: Scene) -> str:
    """Cut most nodes off from everybody, themselves included: a switch is gone."""
    nodes = list(scene.world.hosts)
    cut = scene.some_nodes(scene.rng.randrange(len(nodes) // 2, len(nodes)))
    pairs = {(str(a), b) for a in cut for b in scene.everybody() if a != b}
    pairs |= {(b, a) for a, b in pairs}
    cuts, duration_ms = scene.world.network.cuts, scene.rng.randrange(3_000, 20_000)
    cuts |= pairs
    scene.life.after(duration_ms, partial(cuts.difference_update, pairs))
    return f"{' '.join(sorted(cut))} for {duration_ms} ms"


def clog(scene: Scene) -> str:
    """What a node sends to some others is held up, and then comes all at once."""
    (node,) = scene.some_nodes(1)
    others = [name for name in scene.everybody() if name != node]
    if not others:
        return ""
    stuck = scene.rng.sample(others, scene.rng.randrange(1, len(others) + 1))
    leader = scene.leader()
    if leader is not None and leader.id not in (node, *stuck):
        stuck.append(leader.id)
    network, duration_ms = scene.world.network, scene.duration_ms()
    until_ms = scene.world.clock.now_ms + duration_ms
    for other in stuck:
        network.clogs[node, other] = max(until_ms, network.clogs.get((node, other), 0))
    scene.life.after(duration_ms, network.forget_clogs)
    return f"{node} to {' '.join(stuck)} for {duration_ms} ms"


def storm(scene: Scene) -> str:
    """Messages are lost, late, repeated, overtaken."""
    network, rng = scene.world.network, scene.rng
    network.weather = Weather(
        loss=rng.choice((0.0, 0.05, 0.3)),
        duplication=rng.choice((0.0, 0.05, 0.3)),
        delay_ms=rng.choice(((1, 3), (5, 60), (50, 400))),
        gusts=rng.choice((0.0, 0.1, 0.5)),
    )
    duration_ms = scene.later(partial(setattr, network, "weather", Weather()))
    return f"{network.weather} for {duration_ms} ms"
