"""The composition root: one node, its parts, and how they start and stop together.

Read this first: it is the table of contents. A node claims its data directory, reads what it holds,
opens its mesh endpoint, takes its seat if it is a manager, and runs its agent; all in one task
group, so that a part that fails ends the node, loudly, and never half of it.
"""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Iterator

from meshswarm import systemd
from meshswarm.agent.agent import Agent
from meshswarm.agent.devices import offers_of
from meshswarm.agent.settings import AgentIdentity, AgentSettings
from meshswarm.cluster.membership import Membership
from meshswarm.cluster.seat import Identity, Restored, Seat
from meshswarm.cluster.settings import ClusterSettings
from meshswarm.control.liveness import FENCE_SLACK_MS, LivenessPolicy
from meshswarm.datadir import DataDir
from meshswarm.errors import Conflict, Invalid, MeshswarmError
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.keys import KeyPair, load
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.settings import PeerRow, Settings

log = logging.getLogger("meshswarm.node")

GC_THRESHOLD = (50_000, 20, 50)
"""Objects made and not freed before the garbage collector looks at the young ones, and how often it
looks at the older ones. Rows hold no cycles, so it finds next to nothing."""

SWITCH_S = 0.0002
"""How long a thread that has the interpreter may keep another waiting. The journal's thread needs
it for moments, several times in each commit: at Python's 5 ms a busy loop made commits wait."""

HAND_OVER_S = 2.0
"""How long a stopping leader waits for another one before it goes all the same."""


def run(settings: Settings) -> int:
    """Run the node until SIGTERM or SIGINT; the process's exit code.

    Raises what kept it from starting, and what broke it.
    """
    _log_to_stderr(settings)
    keys = _own_keys(settings)
    with DataDir.claim(settings.node.data_dir, settings.cluster.id, settings.me.id) as data_dir:
        try:
            asyncio.run(_serve(settings, keys, data_dir))
        except ExceptionGroup as errors:
            raise _cause(errors) from errors
    return 0


async def _serve(settings: Settings, keys: KeyPair, data_dir: DataDir) -> None:
    """All parts of the node, until it is told to stop or one of them fails."""
    sys.setswitchinterval(SWITCH_S)
    gc.disable()  # until all that was stored is read
    restored = _restored(settings, data_dir)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    fenced: asyncio.Future[Conflict] = loop.create_future()
    endpoint = Endpoint(
        keys,
        name=settings.node.name,
        incarnation=data_dir.incarnation,
        listen=settings.mesh.listen if settings.me.address else None,
        peers=tuple(_peers(settings)),
    )
    endpoint.on_fenced(fenced.set_result)
    try:
        async with endpoint.opened(), asyncio.TaskGroup() as parts:
            seat = _seat(settings, endpoint, restored, keys) if restored is not None else None
            running = [
                parts.create_task(part.run(), name=name)
                for name, part in (("seat", seat), ("agent", _agent(settings, endpoint, data_dir)))
                if part is not None
            ]
            parts.create_task(_stop_when_fenced(fenced), name="fence")
            # What a node is made of stays: the collector need not look at it, now or later.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLD)
            gc.enable()
            systemd.notify("READY=1")
            log.info("started node=%s id=%s", settings.node.name, settings.me.id)
            await stop.wait()
            systemd.notify("STOPPING=1")
            if seat is not None:
                await seat.leave_leadership(HAND_OVER_S)
            for task in running:
                task.cancel()
            fenced.cancel()
    finally:
        if restored is not None:
            await restored.journal.close()
    log.info("stopped node=%s", settings.node.name)


async def _stop_when_fenced(fenced: "asyncio.Future[Conflict]") -> None:
    raise await fenced


def _restored(settings: Settings, data_dir: DataDir) -> Restored | None:
    """What a manager's seat starts from; None on a worker."""
    if settings.me.role.value != PeerRole.MANAGER.value:
        return None
    return Seat.recover(
        data_dir.path / "raft",
        _identity(settings),
        _membership(settings),
        _cluster_settings(settings),
    )


def _seat(settings: Settings, endpoint: Endpoint, restored: Restored, keys: KeyPair) -> Seat:
    identity, membership = _identity(settings), _membership(settings)
    return Seat(identity, membership, endpoint, restored, _cluster_settings(settings), keys)


def _identity(settings: Settings) -> Identity:
    me = settings.me
    return Identity(cluster_id=settings.cluster.id, node_id=me.id, name=me.name)


def _membership(settings: Settings) -> Membership:
    return Membership.of(_peer(row) for row in settings.peers)


def _agent(settings: Settings, endpoint: Endpoint, data_dir: DataDir) -> Agent:
    me = settings.me
    own_first = sorted(settings.managers, key=lambda row: (row.id != me.id, row.name))
    return Agent(
        endpoint,
        AgentSettings(
            runtimes=settings.agent.runtimes,
            devices=offers_of(settings.agent.devices),
            docker_host=settings.agent.docker_host,
            max_parallel_starts=settings.agent.max_parallel_starts,
            log_bytes_max=settings.agent.log_bytes_max,
            files_dir=settings.agent.files_dir,
            beat_ms=settings.liveness.beat_ms,
        ),
        AgentIdentity(
            cluster_id=settings.cluster.id,
            node_id=me.id,
            name=me.name,
            role=me.role,
            address=me.address,
            labels=settings.node.labels,
            incarnation=data_dir.incarnation,
        ),
        [_peer(row) for row in own_first],
        data_dir.path / "agent",
    )


def _cluster_settings(settings: Settings) -> ClusterSettings:
    raft, liveness = settings.raft, settings.liveness
    return ClusterSettings(
        heartbeat_ms=raft.heartbeat_ms,
        election_timeout_ms=raft.election_timeout_ms,
        max_append_bytes=raft.max_append_bytes,
        max_inflight=raft.max_inflight,
        max_uncommitted_bytes=raft.max_uncommitted_bytes,
        snapshot_entries=raft.snapshot_entries,
        trailing_entries=raft.trailing_entries,
        snapshot_bytes_per_s=raft.snapshot_bytes_per_s,
        shallow_sleep=raft.shallow_sleep,
        min_free_bytes=settings.store.min_free_bytes,
        beat_ms=liveness.beat_ms,
        liveness=LivenessPolicy(
            suspect_ms=liveness.suspect_ms,
            down_ms=liveness.down_ms,
            storm_percent=liveness.storm_percent,
            storm_after_ms=liveness.storm_after_ms,
            storm_pause_ms=liveness.storm_pause_ms,
            flap_downs=liveness.flap_downs,
            flap_window_ms=liveness.flap_window_ms,
            flap_first_ms=liveness.flap_first_ms,
            flap_max_ms=liveness.flap_max_ms,
            fence_ms=2 * raft.election_timeout_ms + FENCE_SLACK_MS,
        ),
        rebalance=settings.scheduling.rebalance,
    )


def _peers(settings: Settings) -> Iterator[Peer]:
    """Everyone who may speak to this node, itself included."""
    yield from (_peer(row) for row in settings.peers)
    for client in settings.clients:
        yield Peer(name=client.name, role=PeerRole.CLIENT, public_key=client.public_key)


def _peer(row: PeerRow) -> Peer:
    return Peer(
        name=row.name,
        role=PeerRole(row.role.value),
        public_key=row.public_key,
        address=row.address or None,
    )


def _own_keys(settings: Settings) -> KeyPair:
    """This node's key pair, checked to be the one that the others know it by."""
    keys = load(settings.key_file)
    if keys.public != settings.me.public_key:
        raise Invalid(
            f"the key is not that of node {settings.node.name!r} in [[peers]]",
            where=str(settings.key_file),
            hint="use the key file that was written together with this settings file",
        )
    return keys


def _log_to_stderr(settings: Settings) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log.level.value.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )


def _cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell: the first of ours in the group, however deep; else the group itself."""
    ours = errors.subgroup(MeshswarmError)
    found: BaseException = errors if ours is None else ours
    while ours is not None and isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
