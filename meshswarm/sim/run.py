"""One run: trouble first, and nothing may break; then calm, and everything must become whole."""

import random
import traceback

from attrs import frozen

from meshswarm.ids import NodeId
from meshswarm.sim import faults, shape
from meshswarm.sim.faults import Faults
from meshswarm.sim.shape import ELECTION_MS, Shape
from meshswarm.sim.trace import Listener, Violation
from meshswarm.sim.world import World

SAFETY_MS = 60_000
"""How long the trouble lasts, unless told otherwise."""

LIVENESS_MS = 180_000
"""Within this after the trouble ends the cluster must be whole ..."""

REST_MS = 10_000
"""... and leave everything as it is for so long."""

ELECT_MS = 10 * ELECTION_MS
"""Within this there must be a leader."""

BARE_SHARE = 0.9
"""Of all worlds: bare ones cost a tenth, and most of what can break shows in them."""

STEP_MS = 500
"""How often it is looked whether the cluster is whole."""


@frozen(kw_only=True)
class Result:
    """What came of a run."""

    seed: int
    world: str
    """`bare`, `whole` or `ideal`."""
    violation: str | None
    """What broke; None: nothing did."""
    digest: str
    """Equal for equal runs."""
    simulated_ms: int
    whole_after_ms: int
    """From the end of the trouble until the cluster was whole."""
    counts: dict[str, int]
    """How often what happened."""


def run(
    seed: int,
    *,
    safety_ms: int = SAFETY_MS,
    managers: int = 3,
    kinds: tuple[faults.Fault, ...] | None = None,
    is_bare: bool | None = None,
    listener: Listener | None = None,
) -> Result:
    """The run that these arguments determine; `kinds` are the faults that may happen, `is_bare`
    is the kind of world, None: by chance."""
    rng = random.Random(f"{seed} {managers}")
    bare_by_chance = rng.random() < BARE_SHARE
    drawn = shape.drawn(rng, managers, is_bare=bare_by_chance if is_bare is None else is_bare)
    chosen = faults.drawn(rng, is_bare=drawn.is_bare)
    if kinds is not None:
        chosen = list(kinds)
    world = World(rng, drawn, listener)
    world.trace.tell("world", f"{drawn}")
    violation, whole_after_ms = None, 0
    try:
        whole_after_ms = _both_phases(world, chosen, safety_ms)
    except (Violation, AssertionError) as broken:
        violation = told(broken)
        world.trace.tell("violation", violation)
    world.end()
    return _result(seed, world, violation, whole_after_ms)


def idle(seed: int, *, managers: int = 3, simulated_ms: int, is_bare: bool = False) -> Result:
    """A cluster of managers alone that nobody uses and nothing happens to: what the world costs."""
    calm = Shape(managers=managers, workers=0, clients=0, is_bare=is_bare)
    world = World(random.Random(seed), calm)
    world.clock.run_until(simulated_ms)
    world.end()
    return _result(seed, world, None, 0)


def _both_phases(world: World, kinds: list[faults.Fault], safety_ms: int) -> int:
    """Run both phases; how long the cluster took to become whole. Raises `Violation`."""
    trouble = None
    if kinds:
        pause_ms = world.rng.choice((500, 1_500, 3_000))
        trouble = Faults(world, kinds, pause_ms)
    world.clock.run_until(safety_ms)
    if trouble is not None:
        trouble.calm()
    for user in world.users:
        user.rest()
    dead = _buried(world)
    world.trace.tell("calm", f"for good down: {' '.join(dead) or 'nobody'}")
    return _await_rest(world, dead)


def _buried(world: World) -> list[NodeId]:
    """Nodes that stay dark, by chance; enough sound voters stay, and most of the nodes."""
    nodes = list(world.hosts)
    dead = world.rng.sample(nodes, world.rng.randrange((len(nodes) - 1) // 2 + 1))
    while dead and not world.has_sound_quorum(without=dead):
        dead.pop()
    for node in dead:
        world.kill(node, power=True)
    return dead


def _await_rest(world: World, dead: list[NodeId]) -> int:
    """Wait until the cluster is whole and changes nothing any more; how long that took."""
    states, began_ms = world.checkers.states, world.clock.now_ms
    changes, rested_ms, took_ms = -1, 0, 0
    while rested_ms < REST_MS:
        world.clock.run_until(world.clock.now_ms + STEP_MS)
        waited_ms = world.clock.now_ms - began_ms
        if waited_ms >= ELECT_MS and not any(seat.leads for seat in world.seats()):
            raise Violation(f"no leader after {waited_ms} ms of calm")
        reasons = world.unsettled(dead)
        if not reasons and states.changes == changes:
            rested_ms += STEP_MS
            continue
        if waited_ms >= LIVENESS_MS:
            what = "; ".join(reasons[:8]) or "it goes on changing"
            raise Violation(f"not whole after {waited_ms} ms of calm: {what}")
        changes, rested_ms, took_ms = states.changes, 0, waited_ms
    world.checkers.ledger.check()
    world.trace.tell("whole", f"after {took_ms} ms")
    return took_ms


def told(broken: Exception) -> str:
    """A violation in words; one of the nodes' own assertions with the place where it stands."""
    if isinstance(broken, Violation):
        return str(broken)
    where = traceback.extract_tb(broken.__traceback__)[-1]
    return f"{broken} ({where.name} in {where.filename.rpartition('/')[2]}:{where.lineno})"


def _result(seed: int, world: World, violation: str | None, whole_after_ms: int) -> Result:
    return Result(
        seed=seed,
        world="bare" if world.shape.is_bare else "whole",
        violation=violation,
        digest=world.trace.digest,
        simulated_ms=world.clock.now_ms,
        whole_after_ms=whole_after_ms,
        counts=dict(world.trace.counts),
    )
