"""What a manager says of itself, with or without a quorum: the answer to `cluster status`."""

from collections.abc import Mapping

from attrs import asdict

from meshswarm import __version__
from meshswarm.cluster.divergence import Divergence
from meshswarm.cluster.driver import Driver
from meshswarm.cluster.journal import Journal
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.sessions import Sessions
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.control.brake import tell_brake
from meshswarm.ids import NodeId
from meshswarm.mesh.endpoint import Endpoint


def manager_status(
    name: str,
    settings: ClusterSettings,
    driver: Driver,
    sessions: Sessions,
    divergence: Divergence,
    journal: Journal,
    endpoint: Endpoint,
    membership: Membership,
) -> dict[str, object]:
    """The manager's own report; keys are stable, times in ms, indexes as Raft names them."""
    status = driver.core.status()
    stats = journal.stats()

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
        "liveness": asdict(settings.liveness),
        "unfit_because": driver.abdication.unfit_because,
        "recovering": status.recovering,
        "differing": {name_of(peer): at for peer, at in sorted(divergence.differing.items())},
        "metrics": _metrics(driver, status.elections, stats, endpoint),
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
        "brake": tell_brake(driver.hub.view),
        "journal": stats,
        "mesh": dict(endpoint.counters()),
    }


def _metrics(
    driver: Driver, elections: int, journal: Mapping[str, object], endpoint: Endpoint
) -> dict[str, object]:
    """What `cluster status -o json` has under `metrics`; its keys are told in `cli.managers`."""
    timed = driver.metrics
    commit_ms, lag_ms = timed.commit_ms.quantiles(), timed.loop_lag_ms.recent.quantiles()
    return {
        "fsync_p50_ms": journal["fsync_p50_ms"],
        "fsync_p99_ms": journal["fsync_p99_ms"],
        "commit_p50_ms": commit_ms.p50,
        "commit_p99_ms": commit_ms.p99,
        "loop_lag_p99_ms": lag_ms.p99,
        "loop_lag_max_ms": round(timed.loop_lag_ms.max, 3),
        "elections": elections,
        "leader_changes": timed.leader_changes,
        "snapshot_index": journal["snapshot_index"],
        "journal_bytes": journal["bytes"],
        "free_bytes": journal["free_bytes"],
        "dropped": dict(endpoint.dropped()),
    }
