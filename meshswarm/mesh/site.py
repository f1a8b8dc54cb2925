"""What all channels of one endpoint share: who we are, what we know of each peer, our handlers."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Iterable

from attrs import define

from meshswarm.errors import Conflict, Invalid
from meshswarm.ids import NodeId
from meshswarm.mesh.faults import Faults
from meshswarm.mesh.frames import NUMBER_MAX
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import Peer, PeerRole
from meshswarm.mesh.requests import (
    CallHandler,
    Handlers,
    NotifyHandler,
    PromptHandler,
    StreamHandler,
)


@define(eq=False)
class Standing:
    """What is known of one peer across all its connections."""

    peer: Peer
    incarnation: int = 0
    """The newest seen; messages of older ones are fenced."""
    last_heard: float | None = None
    """The loop's time of its last valid message."""
    calls_served: int = 0
    streams_served: int = 0

    def is_fenced(self, incarnation: int) -> bool:
        """Whether a newer process of this node is known; a client may run many at once."""
        return self.peer.role is not PeerRole.CLIENT and incarnation < self.incarnation


class Site:
    """The shared state of one endpoint; only the loop's thread touches it."""

    def __init__(self, *, node: NodeId, name: str, incarnation: int, limits: MeshLimits) -> None:
        assert 0 <= incarnation <= NUMBER_MAX, f"incarnation {incarnation} is not in 64 bits"
        self.id = node
        self.name = name
        self.incarnation = incarnation
        self.limits = limits
        self.now = time.monotonic
        """The time of our event loop, in seconds, without asking it."""
        self.faults = Faults(self.now)
        self.notifies: Handlers[NotifyHandler] = Handlers()
        self.calls: Handlers[CallHandler] = Handlers()
        self.prompt: dict[str, PromptHandler] = {}
        self.streams: Handlers[StreamHandler] = Handlers()
        self.messages_in = 0
        self.messages_out = 0
        self.is_closing = False
        self.on_lost: Callable[[Peer], None] | None = None
        self.on_turn_end: Callable[[], None] | None = None
        self.on_fenced: Callable[[Conflict], None] | None = None
        self.allowed: dict[NodeId, Peer] = {}
        self._by_key: dict[bytes, Peer] = {}
        self._standings: dict[NodeId, Standing] = {}
        self.sequences = itertools.count(1)
        """The numbers of the messages that we send, each greater than all before."""
        self._tasks: asyncio.TaskGroup | None = None

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """From now on handlers run as tasks of this group, on this loop."""
        self._tasks = tasks

    def lost(self, peer: Peer) -> None:
        """A connection that we dialed to this peer broke."""
        if self.on_lost is not None and not self.is_closing:
            self.on_lost(peer)

    def end_turn(self) -> None:
        """A connection brought some messages, and they are handed over."""
        if self.on_turn_end is not None and not self.is_closing:
            self.on_turn_end()

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` in the endpoint's task group."""
        assert self._tasks is not None, "the endpoint is not open"
        return self._tasks.create_task(work, name=name)

    def allow(self, peers: Iterable[Peer]) -> list[NodeId]:
        """Replace the allow list; gives the ids that are no longer in it.

        :raises Invalid: if two peers share a key or a name.
        """
        peers = list(peers)
        for what, values in (
            ("key", [peer.public_key for peer in peers]),
            ("name", [peer.name for peer in peers]),
        ):
            if len(set(values)) < len(values):
                raise Invalid(f"two peers have the same {what}: {sorted(p.name for p in peers)}")
        before = self.allowed
        self.allowed = {peer.id: peer for peer in peers}
        self._by_key = {peer.public_key: peer for peer in peers}
        for peer in peers:
            if peer.id in self._standings:
                self._standings[peer.id].peer = peer
        gone = [node for node in before if node not in self.allowed]
        for node in gone:
            self._standings.pop(node, None)
        return gone

    def id_of_key(self, public_key: bytes) -> NodeId | None:
        """The id of the allowed peer with this key (40 bytes of Z85)."""
        peer = self._by_key.get(public_key)
        return peer.id if peer else None

    def standing(self, peer: Peer) -> Standing:
        """What is known of `peer`; a blank sheet at first. One entry per peer allowed or dialed."""
        return self._standings.setdefault(peer.id, Standing(peer))

    def fenced(self, newest: int, told_by: Peer) -> None:
        """A manager knows a newer incarnation of us: tell whoever decides to stop this process."""
        handler = self.on_fenced
        if told_by.role is not PeerRole.MANAGER or newest <= self.incarnation or handler is None:
            return
        self.on_fenced = None
        handler(
            Conflict(
                f"a second node with the identity of `{self.name}` ({self.id}) runs, and is newer",
                where=f"told by {told_by.name}",
                hint="each node needs a key and a data directory of its own: do not copy them",
            )
        )
