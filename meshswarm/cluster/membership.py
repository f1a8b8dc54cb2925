"""Who the managers are: for now the peers of the settings file, the same on every node.

The types allow members to come and go (`ConfState`, `raft.ConfChange`); the operations for it come
with the membership commands.
"""

from collections.abc import Iterable

from attrs import frozen

from meshswarm.errors import Invalid
from meshswarm.ids import NodeId
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.raft.types import ConfState

MAX_MANAGERS = 9
"""More voters make every write slower and no cluster safer."""


@frozen
class Membership:
    """The managers of the cluster, by id."""

    managers: tuple[Peer, ...]

    @staticmethod
    def of(peers: Iterable[Peer]) -> "Membership":
        """The managers among these peers; raises `Invalid` if there are none, or too many."""
        managers = tuple(
            sorted((peer for peer in peers if peer.role is PeerRole.MANAGER), key=lambda p: p.id)
        )
        if not 1 <= len(managers) <= MAX_MANAGERS:
            raise Invalid(
                f"{len(managers)} managers; a cluster has 1 to {MAX_MANAGERS}, best 3 or 5",
                where="[[peers]]",
            )
        return Membership(managers)

    @property
    def initial_conf(self) -> ConfState:
        """The configuration before any change in the log."""
        return ConfState(tuple(peer.id for peer in self.managers))

    def manager(self, node_id: NodeId) -> Peer | None:
        """The manager with this id."""
        for peer in self.managers:
            if peer.id == node_id:
                return peer
        return None
