"""An agent's session with one manager at a time: assignments come in, statuses go out.

The manager tells the node's assignments on a stream and acknowledges our beats; when the stream
ends or the beats stay unanswered the next manager is dialed. Losing a session touches no task.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from attrs import evolve

from meshswarm import codec
from meshswarm.agent import dialing
from meshswarm.agent.contact import boot_ms
from meshswarm.agent.lease import Lease
from meshswarm.agent.settings import AgentIdentity, AgentSettings
from meshswarm.errors import Conflict, MeshswarmError, Unavailable
from meshswarm.mesh.endpoint import Endpoint
from meshswarm.mesh.links import Link
from meshswarm.mesh.peers import Lane, Peer
from meshswarm.mesh.requests import Chunk, whole_of
from meshswarm.model.file import FileUse
from meshswarm.model.node import NodeDescription
from meshswarm.store.assignments import AssignmentChange, SessionHello
from meshswarm.store.commands import Command, RegisterNode, encode_command
from meshswarm.store.outcome import outcome_of

log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
"""From asking for a session to its first message; a manager without a quorum has nothing to say."""

PROPOSE_TIMEOUT_S = 10.0
FETCH_TIMEOUT_S = 10.0

DESCRIBE_INTERVAL_S = 20.0
"""Between two looks at what this host offers."""


class Session:
    """`describe` looks at the host; `on_change` is called with what the manager says, `lease` keeps
    count of how long no manager has known of this node."""

    def __init__(
        self,
        endpoint: Endpoint,
        identity: AgentIdentity,
        settings: AgentSettings,
        managers: Sequence[Peer],
        describe: Callable[[], Awaitable[NodeDescription]],
        on_change: Callable[[AssignmentChange], None],
        lease: Lease,
    ) -> None:
        assert managers, "an agent needs a manager to speak to"
        self._endpoint = endpoint
        self._identity = identity
        self._beat_s = settings.beat_ms / 1_000
        self._managers = dialing.in_order(managers, identity.node_id)
        self._describe = describe
        self._on_change = on_change
        self._lease = lease
        self._sequence = 0
        self._description: NodeDescription | None = None
        self._serving: Link | None = None
        self._beats = dialing.Beats(beat_s=self._beat_s, answered_s=0.0)
        self._random = random.Random()
        endpoint.on_notify("session.beat_ack", self._on_ack)
        endpoint.on_notify("session.probe", self._on_probe)

    @property
    def manager(self) -> Peer | None:
        """Who serves us; None between sessions."""
        return self._serving.peer if self._serving else None

    async def run(self) -> None:
        """Keep a session open until cancelled.

        :raises Conflict: if the cluster refuses this node for good: its name belongs to another
            key, or a newer process of it runs.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_beats(), name="session beats")
            group.create_task(self._keep_described(), name="session description")
            await self._keep_open()

    async def propose(self, command: Command) -> None:
        """Have the cluster carry a command out; raises its refusal, `Unavailable` if it could not.

        Only for commands that may be carried out twice: after `OutcomeUnknown` they are repeated.
        """
        link = self._serving
        if link is None:
            raise Unavailable("no manager serves this node")
        reply = await link.call(
            Lane.DATA, "propose", [encode_command(command), None], timeout_s=PROPOSE_TIMEOUT_S
        )
        outcome = outcome_of(reply.body)
        if outcome.error is not None:
            raise outcome.error

    async def fetch(self, use: FileUse) -> bytes:
        """The content of a config or secret that a task of this node uses; raises the refusal."""
        link = self._serving
        if link is None:
            raise Unavailable("no manager serves this node")
        body = [use.kind.value, use.source, int(use.version)]
        reply = await link.call(Lane.DATA, "session.file", body, timeout_s=FETCH_TIMEOUT_S)
        match reply.payloads:
            case (bytes() as content,):
                return content
            case _:
                raise codec.Undecodable("the manager sent no content")

    # --- one session ------------------------------------------------------------------------------

    async def _keep_open(self) -> None:
        failures = 0
        while True:
            manager = self._managers[failures % len(self._managers)]
            try:
                async for change in self._changes(manager):
                    failures = 0
                    self._on_change(change)
            except Conflict:
                raise
            except MeshswarmError as error:
                log.warning("session manager=%s over: %s", manager.name, error.message)
            finally:
                self._serving = None
            failures += 1
            await asyncio.sleep(
                dialing.pause_s(failures, len(self._managers), self._random.random())
            )

    async def _changes(self, manager: Peer) -> AsyncIterator[AssignmentChange]:
        """What a manager says, until it falls silent (raises `Unavailable`)."""
        loop = asyncio.get_running_loop()
        link = self._endpoint.link(manager)
        link.open(Lane.CONTROL, Lane.BULK)  # so that the manager can call us
        self._description = self._description or await self._describe()
        hello = SessionHello(registration=self._registration(self._description))
        async with link.stream(Lane.DATA, "session.open", codec.unstructure(hello)) as chunks:
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    first = await anext(chunks)
            except (TimeoutError, StopAsyncIteration) as error:
                raise Unavailable(f"{manager.name} opens no session") from error
            log.info("session manager=%s open", manager.name)
            self._serving = link
            self._beats = evolve(self._beats, answered_s=loop.time())
            yield _change_of(first)
            while True:
                try:
                    async with asyncio.timeout_at(self._beats.dead_s):
                        yield _change_of(await anext(chunks))
                except TimeoutError as error:
                    self._beats = self._beats.awake_until(loop.time())
                    if loop.time() >= self._beats.dead_s:
                        raise Unavailable(f"{manager.name} acknowledges no beats") from error
                except StopAsyncIteration as error:
                    raise Unavailable(f"{manager.name} ended the session") from error

    # --- beats ------------------------------------------------------------------------------------

    async def _send_beats(self) -> None:
        """The core's own sign of life: it comes from the loop, so a wedged loop falls silent."""
        while True:
            self._send_beat()
            await asyncio.sleep(self._beat_s)

    def _send_beat(self) -> None:
        if self._serving is not None:
            self._sequence += 1
            self._lease.sent(self._sequence, boot_ms())
            beat = [self._identity.incarnation, self._sequence]
            self._serving.notify(Lane.CONTROL, "session.beat", beat)

    def _on_probe(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        """A manager asks whether we live."""
        if self._serving is not None and peer.id == self._serving.peer.id:
            self._send_beat()

    def _on_ack(self, peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        match body:
            case [int(), int() as vouched]:
                pass
            case _:
                raise codec.Undecodable(f"not the acknowledgement of a beat: {body!r:.100}")
        if self._serving is not None and peer.id == self._serving.peer.id:
            self._lease.vouched(vouched)
            self._beats = evolve(self._beats, answered_s=asyncio.get_running_loop().time())

    # --- who we are -------------------------------------------------------------------------------

    async def _keep_described(self) -> None:
        """Register anew when what the host offers changed."""
        while True:
            await asyncio.sleep(DESCRIBE_INTERVAL_S)
            description = await self._describe()
            if description == self._description or self._serving is None:
                continue
            try:
                await self.propose(self._registration(description))
                self._description = description
            except Conflict:
                raise
            except MeshswarmError as error:  # tried again at the next look
                log.warning("cannot register what changed: %s", error.message)

    def _registration(self, description: NodeDescription) -> RegisterNode:
        return RegisterNode(
            node_id=self._identity.node_id,
            name=self._identity.name,
            role=self._identity.role,
            address=self._identity.address,
            incarnation=self._identity.incarnation,
            labels=self._identity.labels,
            description=description,
        )


def _change_of(chunk: Chunk) -> AssignmentChange:
    return codec.decode(whole_of(chunk), AssignmentChange, lenient=True)
