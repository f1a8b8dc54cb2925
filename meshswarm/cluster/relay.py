"""The way to a task or node: a client asks any manager, which asks the one that serves the node's
session, which asks the agent. Logs, pipes and measures go this way, on the bulk lane.
"""

from collections.abc import AsyncIterator, Callable

from meshswarm.cluster.driver import Driver
from meshswarm.cluster.heard import Heard
from meshswarm.cluster.sessions import Sessions
from meshswarm.errors import Conflict, Invalid, NotFound, Unavailable
from meshswarm.ids import NodeId, TaskId
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, Peer, PeerRole
from meshswarm.mesh.requests import Chunk, Reply, Request

USERS = frozenset({PeerRole.CLIENT, PeerRole.MANAGER})

AGENT = "task."
"""What the agents' names of these methods begin with."""

MAX_PIPES = 64
"""Pipes open by way of this manager; a further one is refused as busy."""

INPUT_TIMEOUT_S = 10.0
STATS_TIMEOUT_S = 3.0
"""For one call; an agent answers input within half of its time, read or not."""


class Relay:
    """Registers the methods on the endpoint; holds nothing but which way open pipes go."""

    def __init__(
        self,
        driver: Driver,
        sessions: Sessions,
        heard: Heard,
        endpoint: Endpoint,
        managers: Callable[[NodeId], Peer | None],
    ) -> None:
        self._driver = driver
        self._sessions = sessions
        self._heard = heard
        self._endpoint = endpoint
        self._managers = managers
        self._pipes: dict[tuple[NodeId, str], tuple[Link, str]] = {}
        endpoint.on_stream("logs", self._logs, roles=USERS)
        endpoint.on_stream("pipe", self._pipe, roles=USERS)
        endpoint.on_call("pipe.input", self._input, roles=USERS)
        endpoint.on_call("stats", self._stats, roles=USERS)

    async def _logs(self, request: Request) -> AsyncIterator[Chunk]:
        """A task's output."""
        link, method = self._way_to_task(request)
        async with link.stream(Lane.BULK, method, request.body) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _pipe(self, request: Request) -> AsyncIterator[Chunk]:
        """A pipe to a task; its input goes the same way as long as it is open."""
        match request.body:
            case {"pipe": str() as name}:
                key = (request.peer.id, name)
            case _:
                raise Invalid("a request for a pipe names it")
        link, method = self._way_to_task(request)
        if key in self._pipes:
            raise Conflict(f"a pipe {name} is open already")
        if len(self._pipes) >= MAX_PIPES:
            raise Unavailable(f"{MAX_PIPES} pipes are open already", hint="try again later")
        self._pipes[key] = (link, f"{method}.input")
        try:
            async with link.stream(Lane.BULK, method, request.body) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            del self._pipes[key]

    async def _input(self, request: Request) -> Reply:
        match request.body:
            case [str() as name, *_]:
                way = self._pipes.get((request.peer.id, name))
            case _:
                raise Invalid("input names its pipe")
        if way is None:
            return Reply(True)  # it has ended, which its stream tells
        link, method = way
        timeout_s = INPUT_TIMEOUT_S
        return await link.call(
            Lane.BULK, method, request.body, request.payloads, timeout_s=timeout_s
        )

    async def _stats(self, request: Request) -> Reply:
        """What a node and its tasks use at this moment."""
        match request.body:
            case {"node": str() as node_id} if NodeId(node_id) in self._driver.hub.view.nodes:
                pass
            case _:
                raise NotFound("a request for measures names a node", hint="meshswarm node ls")
        link, method = self._way(NodeId(node_id), request)
        return await link.call(Lane.BULK, method, request.body, timeout_s=STATS_TIMEOUT_S)

    # --- ways ---------------------------------------------------------------------------------

    def _way_to_task(self, request: Request) -> tuple[Link, str]:
        match request.body:
            case {"task": str() as task_id}:
                pass
            case _:
                raise Invalid(f"a {request.method} request names a task")
        task = self._driver.hub.view.tasks.get(TaskId(task_id))
        if task is None:
            raise NotFound(f"there is no task {task_id!r}", hint="meshswarm service ps SERVICE")
        if task.node_id is None:
            raise NotFound(f"task {task.name} has no node yet, so it has no {request.method}")
        return self._way(task.node_id, request)

    def _way(self, node_id: NodeId, request: Request) -> tuple[Link, str]:
        """Whom to ask next, by which method; one manager is asked at most on the way."""
        link = self._sessions.link_to(node_id)
        if link is not None:
            return link, f"{AGENT}{request.method}"
        server = self._heard.server_of(node_id)
        peer = self._managers(server) if server else None
        node = self._driver.hub.view.nodes.get(node_id)
        if peer is None or request.peer.role is PeerRole.MANAGER:
            raise Unavailable(
                f"no manager has a session with node {node.name if node else node_id}",
                hint="meshswarm node ls",
            )
        return self._endpoint.link(peer), request.method
