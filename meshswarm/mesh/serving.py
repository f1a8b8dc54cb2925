"""The serving half of a channel: handlers that run for the peer."""

import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import TypeGuard

from attrs import define

from meshswarm import errors
from meshswarm.errors import Invalid, MeshswarmError, Unavailable
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import NUMBER_MAX, Message, Type
from meshswarm.mesh.outlet import Outlet
from meshswarm.mesh.requests import CallHandler, PromptHandler, Reply, Request, StreamHandler
from meshswarm.mesh.site import Site, Standing
from meshswarm.mesh.streams import Credit

logger = logging.getLogger(__name__)


@define(eq=False)
class Running:
    """One handler at work, and its place among those that its peer may have at once."""

    correlation: int
    type: Type
    cancel: Callable[[], object] | None = None
    """Stops the handler; its place is free when it has stopped."""
    credit: Credit | None = None
    """Of a stream: what it may send."""
    has_place: bool = True


class Serving:
    """Running handlers by correlation; cancelled when the asker gives up or its connection ends."""

    def __init__(self, site: Site, standing: Standing, outlet: Outlet) -> None:
        self._site = site
        self._standing = standing
        self._outlet = outlet
        self._running: dict[int, Running] = {}
        self.takers: Mapping[Type, Callable[[Message], None]] = {
            Type.CALL: self._take_request,
            Type.STREAM: self._take_request,
            Type.CREDIT: self._take_credit,
            Type.CANCEL: self._take_cancel,
        }
        """What to do with requests, and with what concerns running ones."""

    def end(self) -> None:
        """Cancel all handlers; none of them answers any more."""
        ended, self._running = self._running, {}
        for running in ended.values():
            if running.cancel is not None:
                running.cancel()

    def _take_request(self, message: Message) -> None:
        try:
            if message.correlation in self._running:
                raise Invalid(f"correlation {message.correlation} is in use")
            if message.type is Type.CALL:
                self._begin_call(message)
            else:
                self._begin_stream(message)
        except MeshswarmError as error:
            self._outlet.post(Type.ERROR, message.correlation, errors.to_wire(error))

    def _take_credit(self, message: Message) -> None:
        """Late credit means nothing, nor do late cancels."""
        running = self._running.get(message.correlation)
        if running is not None and running.credit is not None and _is_credit(message.body):
            running.credit.grant(message.body)

    def _take_cancel(self, message: Message) -> None:
        running = self._running.get(message.correlation)
        if running is not None and running.cancel is not None:
            running.cancel()

    def _begin_call(self, message: Message) -> None:
        peer, standing = self._standing.peer, self._standing
        handler = self._site.calls.find(message.name, peer)
        if standing.calls_served >= self._site.limits.calls_served:
            raise self._busy()
        standing.calls_served += 1
        request = Request(peer, message.name, message.body, message.payloads)
        running = Running(message.correlation, Type.CALL)
        self._running[message.correlation] = running
        prompt = self._site.prompt.get(message.name)
        if prompt is None or not self._is_taken_at_once(prompt, running, request):
            self._start(running, self._run_call(running, request, handler), message.name)

    def _begin_stream(self, message: Message) -> None:
        peer, standing = self._standing.peer, self._standing
        handler = self._site.streams.find(message.name, peer)
        if standing.streams_served >= self._site.limits.streams_served:
            raise self._busy()
        standing.streams_served += 1
        request = Request(peer, message.name, message.body, message.payloads)
        credit = Credit()
        running = Running(message.correlation, Type.STREAM, credit=credit)
        self._running[message.correlation] = running
        self._start(running, self._run_stream(running, credit, request, handler), message.name)

    def _is_taken_at_once(self, prompt: PromptHandler, running: Running, request: Request) -> bool:
        """Whether a prompt handler took the call, or has answered it already."""

        def answer(result: Reply | MeshswarmError) -> None:
            if not running.has_place:
                return  # nobody waits for it any more
            if isinstance(result, MeshswarmError):
                self._answer(running, Type.ERROR, errors.to_wire(result))
            else:
                self._answer(running, Type.REPLY, result.body, result.payloads)

        running.cancel = lambda: self._leave_place(running)
        try:
            return prompt(request, answer)
        except MeshswarmError as error:
            answer(error)
        except Exception:  # noqa: BLE001 - as in `_run_call`
            self._answer_bug(running, request)
        return True

    def _start(self, running: Running, work: Coroutine[object, object, None], method: str) -> None:
        task = self._site.start(work, f"mesh {method} for {self._standing.peer.name}")
        running.cancel = task.cancel
        # Not in the handler's `finally`: a task that is cancelled before its first step has none.
        task.add_done_callback(lambda _: self._leave_place(running))

    def _busy(self) -> Unavailable:
        peer = self._standing.peer.name
        self._site.faults.note(Fault.BUSY, peer, "has too many requests open")
        return Unavailable(
            f"{self._site.name} is busy: too many open requests of {peer}",
            hint="try again when some have been answered",
        )

    def _leave_place(self, running: Running) -> None:
        if not running.has_place:
            return
        running.has_place = False
        if self._running.get(running.correlation) is running:
            del self._running[running.correlation]
        if running.type is Type.CALL:
            self._standing.calls_served -= 1
        else:
            self._standing.streams_served -= 1

    async def _run_call(self, running: Running, request: Request, handler: CallHandler) -> None:
        try:
            reply = await handler(request)
            self._answer(running, Type.REPLY, reply.body, reply.payloads)
        except MeshswarmError as error:
            self._answer(running, Type.ERROR, errors.to_wire(error))
        except Exception:  # noqa: BLE001 - a bug in a handler must not end the endpoint
            self._answer_bug(running, request)

    async def _run_stream(
        self, running: Running, credit: Credit, request: Request, handler: StreamHandler
    ) -> None:
        try:
            chunks = handler(request)
            try:
                async for chunk in chunks:
                    await credit.spend()
                    await self._outlet.room()
                    self._outlet.post(Type.CHUNK, running.correlation, chunk.body, chunk.payloads)
            finally:
                if isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()
            self._answer(running, Type.END)
        except MeshswarmError as error:
            self._answer(running, Type.ERROR, errors.to_wire(error))
        except Exception:  # noqa: BLE001 - as above
            self._answer_bug(running, request)

    def _answer(
        self, running: Running, type_: Type, body: object = None, payloads: Sequence[bytes] = ()
    ) -> None:
        # The place first: whoever has the answer may ask again at once.
        self._leave_place(running)
        self._outlet.post(type_, running.correlation, body, payloads)

    def _answer_bug(self, running: Running, request: Request) -> None:
        peer = request.peer.name
        logger.exception("mesh handler failed method=%s peer=%s", request.method, peer)
        self._site.faults.note(Fault.HANDLER_FAILED, peer, request.method)
        message = f"`{request.method}` failed on {self._site.name}"
        hint = f"the log of {self._site.name} has the details; please report it"
        error = MeshswarmError(message, hint=hint)
        self._answer(running, Type.ERROR, errors.to_wire(error))


def _is_credit(body: object) -> TypeGuard[int]:
    return isinstance(body, int) and 0 < body <= NUMBER_MAX
