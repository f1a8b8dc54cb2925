"""The world of one seed: hosts, managers, agents, users, and what can be done to them."""

import random
from collections.abc import Iterable
from functools import partial

from meshswarm.ids import Index, NodeId
from meshswarm.model.node import NodeRole, NodeState
from meshswarm.raft.quorum import majority_of
from meshswarm.raft.types import ConfState, Role
from meshswarm.sim.agent import AgentRun
from meshswarm.sim.checkers import Checkers, States, Tasks
from meshswarm.sim.clerks import Clerk
from meshswarm.sim.clients import Caller, User
from meshswarm.sim.clock import Clock, Life
from meshswarm.sim.consensus import Consensus
from meshswarm.sim.disk import Disk
from meshswarm.sim.history import History
from meshswarm.sim.hosts import Host
from meshswarm.sim.ledger import Ledger
from meshswarm.sim.network import Door, Network
from meshswarm.sim.promises import slot_faults
from meshswarm.sim.seat import Premises, Seat
from meshswarm.sim.shape import TICK_MS, Shape
from meshswarm.sim.trace import Listener, Trace


class World:
    """Everything, and the one source of chance."""

    def __init__(self, rng: random.Random, shape: Shape, listener: Listener | None = None) -> None:
        self.rng, self.shape = rng, shape
        self.clock = Clock()
        self.trace = Trace(self.clock, listener)
        self.network = Network(self.clock, rng, self.trace)
        self.hosts = {NodeId(name): self._host(name) for name in shape.node_ids}
        states = States()
        founders = tuple(NodeId(name) for name in shape.founder_ids)
        self.checkers = Checkers(
            Consensus([(Index(0), ConfState(founders, has_founders=True))]),
            states,
            Tasks(self.hosts, lambda: states.newest),
            History(),
            Ledger(),
        )
        doors: dict[NodeId, Door[Seat]] = {NodeId(name): Door(name) for name in shape.manager_ids}
        self._premises = Premises(
            network=self.network, managers=doors, shape=shape, checkers=self.checkers
        )
        for node_id in self.hosts:
            self.start(node_id)
        self.users = [self._user(name) for name in shape.client_ids]

    def caller(self, name: str) -> Caller:
        """One more client, who asks for nothing by itself."""
        return Caller(name, Life(self.clock), self._premises, random.Random(name))

    def _user(self, name: str) -> User | Clerk:
        rng = random.Random(self.rng.getrandbits(64))
        caller = Caller(name, Life(self.clock), self._premises, rng)
        return (Clerk if self.shape.is_bare else User)(caller, self._premises, rng)

    def _host(self, name: str) -> Host:
        is_manager = name in self.shape.manager_ids
        return Host(
            id=NodeId(name),
            role=NodeRole.MANAGER if is_manager else NodeRole.WORKER,
            clock=self.clock,
            rng=self.rng,
            disk=Disk(self.rng, on_failure=partial(self._stop_failed, NodeId(name))),
            skew_ms=self.rng.randrange(-self.shape.skew_ms, self.shape.skew_ms + 1),
            tick_ms=TICK_MS + self.rng.randrange(-self.shape.drift_ms, self.shape.drift_ms + 1),
        )

    # --- what can be done ---------------------------------------------------------------------

    def start(self, node_id: NodeId) -> None:
        """Start the node's process."""
        host = self.hosts[node_id]
        assert host.life is None, f"{node_id} runs already"
        host.life = Life(self.clock)
        host.incarnation += 1
        door = self._premises.managers.get(node_id)
        if door is not None:
            door.open(host.life, Seat(host, host.life, self._premises))
        if not self.shape.is_bare:
            AgentRun(host, host.life, self._premises)

    def _stop_failed(self, node_id: NodeId) -> None:
        """The journal failed, so the manager ends; whoever mends the disk starts it again."""
        self.trace.tell("failure", f"the disk of {node_id} refuses")
        self.kill(node_id)

    def kill(self, node_id: NodeId, *, power: bool = False) -> None:
        """End the node's process, as kill -9 does; with the host's `power` goes all it ran."""
        host = self.hosts[node_id]
        assert host.life is not None, f"{node_id} does not run"
        host.life.end(silently=power)
        host.life = None
        host.disk.crash()
        door = self._premises.managers.get(node_id)
        if door is not None:
            door.close()
        if power:
            host.lose_power()
        elif door is not None:
            for seat in self.seats():
                if (node_id, seat.id) not in self.network.cuts:
                    seat.lost_contact(node_id)

    def end(self) -> None:
        """Nothing happens any more."""
        for host in self.hosts.values():
            if host.life is not None:
                host.life.end(silently=True)
        for user in self.users:
            user.life.end(silently=True)

    # --- what can be seen ---------------------------------------------------------------------

    def seats(self) -> list[Seat]:
        """The managers that run."""
        doors = self._premises.managers.values()
        return [door.process for door in doors if door.process is not None]

    def has_sound_quorum(
        self,
        without: Iterable[NodeId] = (),
        *,
        also: ConfState | None = None,
        founders: bool = False,
    ) -> bool:
        """Whether enough voters have a whole log, these left out, whatever the members are now.

        The limit of all that may be broken: what a quorum has lost nothing can bring back. `also`
        is one more membership to look at, `founders` that of a node that knows nothing.
        """
        lost = set(without)
        disks = {node: host.disk for node, host in self.hosts.items() if node not in lost}
        sound = {node for node, disk in disks.items() if disk.is_whole}
        confs = self.checkers.consensus.possible_confs()
        if also is not None:
            confs.append(also)
        if founders:
            confs.append(ConfState(tuple(NodeId(name) for name in self.shape.founder_ids)))
        return all(len(sound & set(conf.voters)) >= majority_of(len(conf.voters)) for conf in confs)

    def unsettled(self, dead: Iterable[NodeId] = ()) -> list[str]:
        """Why the cluster is not whole; empty if it is. Of the `dead` nothing is expected."""
        alive = [node for node in self.hosts if node not in set(dead)]
        found = self._consensus_faults()
        found += [f"{user.id} waits for an answer" for user in self.users if user.is_busy]
        if found:
            return found
        if self.shape.is_bare:
            return []
        view = self.checkers.states.newest
        for node in self.hosts:
            row = view.nodes.get(node)
            if node not in alive and not self.checkers.states.knew(node):
                continue  # it went before there was a leader to hear of it
            wanted = NodeState.READY if node in alive else NodeState.DOWN
            if row is None or row.state is not wanted:
                found.append(f"{node} is {row.state.value if row else 'not known'}")
        found += self.checkers.history.differs_from(view)
        found += slot_faults(view, alive)
        found += self.checkers.fires.unsettled(view)
        return found + self.checkers.tasks.leftovers(alive)

    def _consensus_faults(self) -> list[str]:
        members = self.checkers.consensus.conf.members
        statuses = [seat.driver.core.status() for seat in self.seats() if seat.id in members]
        leaders = [status for status in statuses if status.role is Role.LEADER]
        if len(leaders) != 1:
            return [f"{len(leaders)} leaders"]
        wanted = (leaders[0].id, leaders[0].term, leaders[0].last_index)
        return [
            f"{status.id} is at {status.commit} of {status.last_index} in term {status.term}"
            for status in statuses
            if (status.leader, status.term, status.applied) != wanted
        ]
