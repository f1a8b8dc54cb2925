"""What a manager says of itself, with or without a quorum: the answer to `cluster status`."""

from meshswarm import __version__
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.journal import Journal
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.sessions import Sessions
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.ids import NodeId
from meshswarm.mesh.endpoint import Endpoint


def manager_status(
    name: str,
    settings: ClusterSettings,
    driver: Driver,
    sessions: Sessions,
    journal: Journal,
    endpoint: Endpoint,
    membership: Membership,
) -> dict[str, object]:
    """The manager's own report; keys are stable, times in ms, indexes as Raft names them."""
    status = driver.core.status()

    def name_of(node_id: NodeId) -> str:
        peer = membership.manager(node_id)
        return peer.name if peer else node_id

    return {
        "name": name,
        "id": status.id,
        "version": __version__,
        "raft_state": status.role.value,
        "leader": name_of(status.leader) if status.leader else None,
        "leader_id": status.leader,
        "term": status.term,
        "last_index": status.last_index,
        "commit_index": status.commit,
        "applied_index": status.applied,
        "heartbeat_ms": settings.heartbeat_ms,
        "election_timeout_ms": settings.election_timeout_ms,
        "peers": [
            {
                "name": name_of(peer.id),
                "id": peer.id,
                "match": peer.match,
                "next": peer.next,
                "lag": max(0, status.last_index - peer.match),
                "state": peer.state.value,
                "active": peer.recent_active,
            }
            for peer in status.peers
            if peer.id != status.id
        ],
        "sessions": len(sessions.serving),
        "journal": journal.stats(),
        "mesh": dict(endpoint.counters()),
    }
