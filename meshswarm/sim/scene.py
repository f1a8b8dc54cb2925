"""Where faults are made: the world, the chance that picks in it, and a way to end them."""

import random
from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen

from meshswarm.ids import NodeId
from meshswarm.sim.clock import Life, Work
from meshswarm.sim.hosts import Host
from meshswarm.sim.seat import Seat
from meshswarm.sim.world import World

LONGEST_MS = 8_000
"""The longest that one fault lasts, in worlds where they come seldom ..."""

PAUSES = 3
"""... and the most pauses between two faults that it lasts in others: where all is broken at once
for ever, nobody leads, and nothing more can break."""


LEADERS_SHARE = 0.5
"""Of what happens to one node: it is meant for the leader."""


@frozen
class Scene:
    """`life` is that of the trouble: what is to happen later in it never does once it is over."""

    world: World
    rng: random.Random
    life: Life
    pause_ms: int
    """Between two faults, on average."""

    def some_nodes(self, count: int) -> list[NodeId]:
        """So many nodes, managers or workers."""
        return self.rng.sample(list(self.world.hosts), count)

    def a_host(self) -> Host:
        """One node's; often the leader's, for most depends on that."""
        return self._leaders_host() or self.world.hosts[self.some_nodes(1)[0]]

    def a_manager(self) -> Host:
        """One manager's, be it a member or not; often the leader's."""
        any_manager = NodeId(self.rng.choice(self.world.shape.manager_ids))
        return self._leaders_host() or self.world.hosts[any_manager]

    def _leaders_host(self) -> Host | None:
        leader = self.leader() if self.rng.random() < LEADERS_SHARE else None
        return None if leader is None else self.world.hosts[leader.id]

    def leader(self) -> Seat | None:
        """A manager that believes that it leads; of several the first."""
        return next((seat for seat in self.world.seats() if seat.leads), None)

    def everybody(self) -> list[str]:
        """All nodes and all users."""
        return [*self.world.hosts, *(user.id for user in self.world.users)]

    def links_of(self, node: NodeId) -> set[tuple[str, str]]:
        """Between this node and everybody else, both ways."""
        others = [name for name in self.everybody() if name != node]
        return {(node, other) for other in others} | {(other, node) for other in others}

    def duration_ms(self) -> int:
        """Mostly short, sometimes long."""
        return int(min(LONGEST_MS, PAUSES * self.pause_ms) * self.rng.random() ** 1.5) + 20

    def later(self, work: Work) -> int:
        """Let this end what was begun; in how many milliseconds that is."""
        duration_ms = self.duration_ms()
        self.life.after(duration_ms, work)
        return duration_ms

    def kill(self, nodes: Sequence[NodeId], *, power: bool) -> str:
        """End these nodes for a while; those that really ran."""
        killed = [node for node in nodes if self.world.hosts[node].is_up]
        for node in killed:
            self.world.kill(node, power=power)
            self.later(partial(self.start, node))
        return " ".join(killed)

    def start(self, node: NodeId) -> None:
        """Start a node, unless it runs or its disk has no room for that."""
        host = self.world.hosts[node]
        if not host.is_up and not host.disk.is_full:
            self.world.trace.tell("start", node)
            self.world.start(node)


Maker = Callable[[Scene], str]
"""Makes a fault; what it did in words, empty if there was nothing to do it to."""
