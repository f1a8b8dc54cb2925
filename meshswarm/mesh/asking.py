"""The asking half of a channel: calls and streams that we await."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from meshswarm import errors
from meshswarm.errors import MeshswarmError, OutcomeUnknown, Unavailable
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import Message, Type
from meshswarm.mesh.outlet import Outlet
from meshswarm.mesh.peers import Peer
from meshswarm.mesh.pump import Sent
from meshswarm.mesh.requests import Chunk, Reply
from meshswarm.mesh.site import Site
from meshswarm.mesh.streams import ChunkReader

OpenCall = tuple[asyncio.Future[Reply], float, str]
"""Who awaits the answer, until when (the loop's time), and what to say if none came."""


class Asking:
    """Open calls and streams by correlation; every one of them ends, if need be by `end`."""

    def __init__(self, site: Site, peer: Peer, outlet: Outlet) -> None:
        self._site = site
        self._peer = peer
        self._outlet = outlet
        self._calls: dict[int, OpenCall] = {}
        self._streams: dict[int, ChunkReader] = {}
        self._correlations = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.takers: Mapping[Type, Callable[[Message], None]] = {
            Type.REPLY: self._take_reply,
            Type.ERROR: self._take_error,
            Type.CHUNK: self._take_chunk,
            Type.END: self._take_end,
        }
        """What to do with answers."""

    async def call(
        self, method: str, body: object, payloads: Sequence[bytes], timeout_s: float
    ) -> Reply:
        """Ask and await the answer; the peer's handler is cancelled if we give up.

        :raises MeshswarmError: the peer's typed error.
        :raises Unavailable: if the call could not be sent.
        :raises OutcomeUnknown: if it was sent and no answer came.
        """
        correlation = self._send(Type.CALL, method, body, payloads)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        deadline = self._site.now() + timeout_s
        self._calls[correlation] = future, deadline, f"`{method}` within {timeout_s:g} s"
        if deadline < self._timer_at:
            self._look_at_deadlines(deadline)
        try:
            return await future
        finally:
            if self._calls.pop(correlation, None) is not None:
                self._outlet.post(Type.CANCEL, correlation)

    @asynccontextmanager
    async def stream(
        self, method: str, body: object, payloads: Sequence[bytes]
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        """The chunks that the peer's handler yields; it is cancelled when the block is left.

        :raises Unavailable: if the request could not be sent. Other errors come while iterating.
        """
        correlation = self._send(Type.STREAM, method, body, payloads)
        window = self._site.limits.stream_window

        def grant(chunks: int) -> None:
            self._outlet.post(Type.CREDIT, correlation, chunks)

        reader = ChunkReader(window, grant)
        self._streams[correlation] = reader
        try:
            grant(window)
            yield reader
        finally:
            if self._streams.pop(correlation, None) is not None:
                self._outlet.post(Type.CANCEL, correlation)

    def end(self, reason: str) -> None:
        """End all that is open, because the connection is lost for `reason`."""
        calls, self._calls = self._calls, {}
        streams, self._streams = self._streams, {}
        for future, _, _ in calls.values():
            if not future.done():
                future.set_exception(OutcomeUnknown(f"{self._peer.name} did not answer: {reason}"))
        for reader in streams.values():
            reader.finish(Unavailable(f"the stream from {self._peer.name} broke: {reason}"))

    def _look_at_deadlines(self, at: float) -> None:
        """Look at that time; a timer for each call (`asyncio.timeout`) is a third of its cost."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at < math.inf:
            self._timer = asyncio.get_running_loop().call_at(at, self._end_overdue)

    def _end_overdue(self) -> None:
        """End the calls whose time is up, and look again when the next one's is."""
        now = self._site.now()
        for future, deadline, what in self._calls.values():
            if deadline <= now and not future.done():
                future.set_exception(OutcomeUnknown(f"{self._peer.name} did not answer {what}"))
        self._look_at_deadlines(
            min((at for _, at, _ in self._calls.values() if at > now), default=math.inf)
        )

    def _send(self, type_: Type, method: str, body: object, payloads: Sequence[bytes]) -> int:
        if len(self._calls) + len(self._streams) >= self._site.limits.calls_outstanding:
            raise Unavailable(f"too many open calls to {self._peer.name}", hint="try again later")
        correlation = next(self._correlations)
        sent = self._outlet.offer(type_, correlation, method, body, payloads)
        if sent is not Sent.OK:
            reason = "is busy" if sent is Sent.BUSY else "is not connected"
            raise Unavailable(f"{self._peer.name} {reason}", hint="try again later")
        return correlation

    def _take_reply(self, message: Message) -> None:
        call = self._calls.pop(message.correlation, None)
        if call is None or call[0].done():
            self._note_late()
        else:
            call[0].set_result(Reply(message.body, message.payloads))

    def _take_error(self, message: Message) -> None:
        self._fail(message.correlation, errors.from_wire(message.body))

    def _take_end(self, message: Message) -> None:
        reader = self._streams.pop(message.correlation, None)
        if reader is not None:
            reader.finish()

    def _take_chunk(self, message: Message) -> None:
        reader = self._streams.get(message.correlation)
        if reader is None or reader.push(Chunk(message.body, message.payloads)):
            return
        what = "sent more chunks than it was allowed to"
        self._site.faults.note(Fault.OVERRUN, self._peer.name, what)
        self._fail(message.correlation, Unavailable(f"{self._peer.name} {what}"))
        self._outlet.post(Type.CANCEL, message.correlation)

    def _fail(self, correlation: int, error: MeshswarmError) -> None:
        call = self._calls.pop(correlation, None)
        reader = self._streams.pop(correlation, None)
        if call is not None and not call[0].done():
            call[0].set_exception(error)
        elif reader is not None:
            reader.finish(error)
        else:
            self._note_late()

    def _note_late(self) -> None:
        self._site.faults.note(Fault.LATE, self._peer.name, "an answer that nobody awaits")
