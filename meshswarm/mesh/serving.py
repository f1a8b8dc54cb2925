"""The serving half of a channel: handlers that run for the peer."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import TypeGuard

from attrs import define, field

from meshswarm import errors
from meshswarm.errors import Invalid, MeshswarmError, Unavailable
from meshswarm.mesh.faults import Fault
from meshswarm.mesh.frames import NUMBER_MAX, Message, Type
from meshswarm.mesh.outlet import Outlet
from meshswarm.mesh.requests import CallHandler, Reply, Request, StreamHandler
from meshswarm.mesh.site import Site, Standing
from meshswarm.mesh.streams import Credit

logger = logging.getLogger(__name__)


@define(eq=False)
class Running:
    """One handler at work, and its place among those that its peer may have at once."""

    correlation: int
    type: Type
    credit: Credit = field(factory=Credit)
    task: asyncio.Task[None] | None = None
    give_up: Callable[[], None] | None = None
    """Of a call without a task: its answer is no longer wanted."""
    has_place: bool = True

    def cancel(self) -> None:
        """Stop the handler; its place is free when it has stopped."""
        if self.task is not None:
            self.task.cancel()
        elif self.give_up is not None:
            self.give_up()


class Serving:
    """Running handlers by correlation; cancelled when the asker gives up or its connection ends."""

    def __init__(self, site: Site, standing: Standing, outlet: Outlet) -> None:
        self._site = site
        self._standing = standing
        self._outlet = outlet
        self._running: dict[int, Running] = {}

    def receive(self, message: Message) -> None:
        """Take a request, or what concerns a running one; late credit and cancels mean nothing."""
        running = self._running.get(message.correlation)
        match message.type:
            case Type.CALL | Type.STREAM:
                try:
                    if running is not None:
                        raise Invalid(f"correlation {message.correlation} is in use")
                    self._begin(message)
                except MeshswarmError as error:
                    self._outlet.post(Type.ERROR, message.correlation, errors.to_wire(error))
            case Type.CREDIT:
                if running is not None and _is_credit(message.body):
                    running.credit.grant(message.body)
            case Type.CANCEL:
                if running is not None:
                    running.cancel()
            case _:
                raise AssertionError(f"{message.type} is not a request")

    def end(self) -> None:
        """Cancel all handlers; none of them answers any more."""
        ended, self._running = self._running, {}
        for running in ended.values():
            running.cancel()

    def _begin(self, message: Message) -> None:
        peer = self._standing.peer
        request = Request(peer, message.name, message.body, message.payloads)
        running = Running(message.correlation, message.type)
        work: Coroutine[object, object, None]
        if message.type is Type.CALL:
            call = self._site.calls.find(message.name, peer)
            self._take_place(message.type)
            if self._is_taken_at_once(running, request):
                return
            work = self._run_call(running, request, call)
        else:
            stream = self._site.streams.find(message.name, peer)
            self._take_place(message.type)
            work = self._run_stream(running, request, stream)
        self._running[running.correlation] = running
        running.task = self._site.start(work, f"mesh {message.name} for {peer.name}")
        # Not in the handler's `finally`: a task that is cancelled before its first step has none.
        running.task.add_done_callback(lambda _: self._leave_place(running))

    def _is_taken_at_once(self, running: Running, request: Request) -> bool:
        """Whether a prompt handler took the call, or has answered it already."""
        prompt = self._site.prompt.get(request.method)
        if prompt is None:
            return False

        def answer(result: Reply | MeshswarmError) -> None:
            if not running.has_place:
                return  # nobody waits for it any more
            if isinstance(result, MeshswarmError):
                self._answer(running, Type.ERROR, errors.to_wire(result))
            else:
                self._answer(running, Type.REPLY, result.body, result.payloads)

        self._running[running.correlation] = running
        running.give_up = lambda: self._leave_place(running)
        try:
            return prompt(request, answer)
        except MeshswarmError as error:
            answer(error)
        except Exception:  # noqa: BLE001 - as in `_run_call`
            self._answer_bug(running, request)
        return True

    def _take_place(self, type_: Type) -> None:
        standing, limits = self._standing, self._site.limits
        if type_ is Type.CALL and standing.calls_served < limits.calls_served:
            standing.calls_served += 1
        elif type_ is Type.STREAM and standing.streams_served < limits.streams_served:
            standing.streams_served += 1
        else:
            self._site.faults.note(Fault.BUSY, standing.peer.name, "has too many requests open")
            raise Unavailable(
                f"{self._site.name} is busy: too many open requests of {standing.peer.name}",
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

    async def _run_stream(self, running: Running, request: Request, handler: StreamHandler) -> None:
        try:
            chunks = handler(request)
            try:
                async for chunk in chunks:
                    await running.credit.spend()
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
