"""What handlers get and give, and the table of which handler answers what, for whom."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Generic, TypeVar

from attrs import frozen

from meshswarm.errors import Denied, MeshswarmError, NotFound
from meshswarm.mesh.peers import Peer, PeerRole

H = TypeVar("H")


@frozen
class Request:
    """A call or stream that `peer` (authenticated) asks for; `body` is a plain value."""

    peer: Peer
    method: str
    body: object = None
    payloads: tuple[bytes, ...] = ()


@frozen
class Reply:
    """The answer to a call."""

    body: object = None
    payloads: tuple[bytes, ...] = ()


@frozen
class Chunk:
    """One piece of a stream; keep it within 256 KiB where many follow each other: a whole window of
    them is in memory."""

    body: object = None
    payloads: tuple[bytes, ...] = ()


PART_BYTES = 4 << 20
"""A value that may be of any size travels in payloads of so many bytes."""


def in_parts(data: bytes) -> tuple[bytes, ...]:
    """The payloads that `data` travels in: one, unless it is large."""
    return tuple(data[at : at + PART_BYTES] for at in range(0, len(data), PART_BYTES)) or (b"",)


def whole_of(message: Reply | Chunk) -> bytes:
    """What its payloads are parts of."""
    return message.payloads[0] if len(message.payloads) == 1 else b"".join(message.payloads)


NotifyHandler = Callable[[Peer, object, tuple[bytes, ...]], None]
CallHandler = Callable[[Request], Awaitable[Reply]]

Answer = Callable[[Reply | MeshswarmError], None]
"""Answers a call, once, now or later; after the asker has given up it does nothing."""

PromptHandler = Callable[[Request, Answer], bool]
"""Takes a call in the turn of the loop that brought it, or says False: then nothing was done."""
StreamHandler = Callable[[Request], AsyncIterator[Chunk]]


class Handlers(Generic[H]):
    """The handlers of one sort, by name, each with the roles that it answers."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[H, frozenset[PeerRole]]] = {}

    def add(self, name: str, handler: H, roles: Collection[PeerRole]) -> None:
        """Let `handler` answer `name`; a name has one handler."""
        assert name not in self._by_name, f"`{name}` has a handler already"
        self._by_name[name] = (handler, frozenset(roles))

    def find(self, name: str, peer: Peer) -> H:
        """The handler of `name` for `peer`.

        :raises NotFound: if this node does not answer `name`.
        :raises Denied: if it does, but not for this peer's role.
        """
        if name not in self._by_name:
            raise NotFound(f"this node does not answer `{name:.100}`", hint="ask a manager")
        handler, roles = self._by_name[name]
        if peer.role not in roles:
            allowed = ", ".join(sorted(role.value for role in roles))
            who = f"the {peer.role.value} {peer.name}"
            raise Denied(f"`{name}` is not for {who}, but for: {allowed}")
        return handler
