"""The contract of a link, the same whichever side dialed, and to ourselves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshswarm.errors import (
    Conflict,
    Denied,
    Invalid,
    MeshswarmError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import EVERYONE, NODES, Lane, Peer, PeerRole
from meshswarm.mesh.requests import Answer, Chunk, Reply, Request
from tests.mesh.meeting import Way, eventually, meet

every_way = pytest.mark.parametrize("way", list(Way))
TIMEOUT_S = 5.0


async def echo(request: Request) -> Reply:
    return Reply([request.peer.name, request.body], request.payloads)


async def count(request: Request) -> AsyncIterator[Chunk]:
    assert isinstance(request.body, int)
    for number in range(request.body):
        yield Chunk(number, (bytes([number % 256]),))


@every_way
@pytest.mark.parametrize("lane", list(Lane))
async def test_a_call_is_answered_on_every_lane(way: Way, lane: Lane) -> None:
    async with meet(way) as meeting:
        meeting.server.on_call("echo", echo, NODES)
        body = {"a": [1, None, b"x", "é"], "b": {"c": True}}
        reply = await meeting.link.call(lane, "echo", body, (b"", b"y"), timeout_s=TIMEOUT_S)
        assert Reply(["asker", body], (b"", b"y")) == reply
        assert meeting.link.last_heard is not None
        assert meeting.link.is_up


@every_way
async def test_large_payloads_arrive_whole(way: Way) -> None:
    async with meet(way) as meeting:
        meeting.server.on_call("echo", echo, NODES)
        payloads = (bytes(range(256)) * 16384, b"z" * (1 << 20))
        reply = await meeting.link.call(Lane.BULK, "echo", None, payloads, timeout_s=TIMEOUT_S)
        assert payloads == reply.payloads


@every_way
async def test_many_calls_at_once_get_their_own_answers(way: Way) -> None:
    async with meet(way) as meeting:
        meeting.server.on_call("echo", echo, NODES)

        async def ask(number: int) -> None:
            reply = await meeting.link.call(Lane.CONTROL, "echo", number, timeout_s=TIMEOUT_S)
            assert ["asker", number] == reply.body

        async with asyncio.TaskGroup() as tasks:
            for number in range(60):
                tasks.create_task(ask(number), name=f"ask {number}")


@every_way
async def test_a_typed_error_crosses_the_mesh(way: Way) -> None:
    async def refuse(_: Request) -> Reply:
        raise Conflict("moved on", where="x.yml:3", hint="try again", details=["a", "b"])

    async with meet(way) as meeting:
        meeting.server.on_call("refuse", refuse, NODES)
        with pytest.raises(Conflict) as caught:
            await meeting.link.call(Lane.CONTROL, "refuse", timeout_s=TIMEOUT_S)
        error = caught.value
        assert ("moved on", "x.yml:3", "try again", ("a", "b")) == (
            error.message,
            error.where,
            error.hint,
            error.details,
        )


@every_way
async def test_an_unknown_method_and_a_wrong_role_are_refused(way: Way) -> None:
    async with meet(way) as meeting:
        meeting.server.on_call("clients", echo, {PeerRole.CLIENT})
        meeting.server.on_stream("clients", count, {PeerRole.CLIENT})
        with pytest.raises(NotFound, match="does not answer `nothing`"):
            await meeting.link.call(Lane.CONTROL, "nothing", timeout_s=TIMEOUT_S)
        with pytest.raises(Denied, match="not for the manager asker"):
            await meeting.link.call(Lane.CONTROL, "clients", timeout_s=TIMEOUT_S)
        async with meeting.link.stream(Lane.CONTROL, "clients") as chunks:
            with pytest.raises(Denied):
                await anext(chunks)


@every_way
@pytest.mark.parametrize("answer", ["raises", "answers with what no codec knows"])
async def test_a_bug_in_a_handler_harms_nobody_else(
    way: Way, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Request) -> Reply:
        if answer == "raises":
            raise ZeroDivisionError
        return Reply(object())

    async with meet(way) as meeting:
        meeting.server.on_call("broken", broken, NODES)
        meeting.server.on_call("echo", echo, NODES)
        with pytest.raises(MeshswarmError, match="`broken` failed on"):
            await meeting.link.call(Lane.CONTROL, "broken", timeout_s=TIMEOUT_S)
        await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
        assert 1 == meeting.server.counters()["handler_failed"]
        assert any(record.exc_info for record in caplog.records)


@every_way
async def test_too_large_is_refused_where_it_is_sent(way: Way) -> None:
    async def large(_: Request) -> Reply:
        return Reply("x" * 2000)

    async with meet(way, limits=MeshLimits(header_bytes_max=1000)) as meeting:
        meeting.server.on_call("large", large, NODES)
        with pytest.raises(Invalid, match="too large"):
            await meeting.link.call(Lane.CONTROL, "large", "x" * 2000, timeout_s=TIMEOUT_S)
        with pytest.raises(Invalid, match="too large"):
            await meeting.link.call(Lane.CONTROL, "large", timeout_s=TIMEOUT_S)


@every_way
async def test_a_caller_that_gives_up_cancels_the_handler(way: Way) -> None:
    cancelled = []

    async def slow(_: Request) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)
        raise AssertionError("an event that nobody sets")

    async with meet(way) as meeting:
        meeting.server.on_call("slow", slow, NODES)
        with pytest.raises(OutcomeUnknown, match="did not answer `slow`"):
            await meeting.link.call(Lane.CONTROL, "slow", timeout_s=0.2)
        await eventually(lambda: cancelled)


@every_way
async def test_too_many_calls_are_answered_busy(way: Way) -> None:
    started = 0

    async def never(_: Request) -> Reply:
        nonlocal started
        started += 1
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")

    async with meet(way, limits=MeshLimits(calls_served=2)) as meeting:
        meeting.server.on_call("never", never, NODES)
        meeting.server.on_call("echo", echo, NODES)
        before = len(asyncio.all_tasks())
        async with asyncio.TaskGroup() as tasks:
            held = [
                tasks.create_task(
                    meeting.link.call(Lane.CONTROL, "never", timeout_s=60), name="held"
                )
                for _ in range(2)
            ]
            await eventually(lambda: started == 2)
            with pytest.raises(Unavailable, match="is busy"):
                await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
            for task in held:
                task.cancel()
        # Cancels keep their order too, but a handler ends a turn of the loop later.
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
        await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
        assert 1 <= meeting.server.counters()["busy"]


@every_way
async def test_who_keeps_to_the_limit_is_never_answered_busy(way: Way) -> None:
    async with meet(way, limits=MeshLimits(calls_served=4)) as meeting:
        meeting.server.on_call("echo", echo, NODES)

        async def ask_on() -> None:
            for number in range(50):
                await meeting.link.call(Lane.CONTROL, "echo", number, timeout_s=TIMEOUT_S)

        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(ask_on(), name=f"asker {number}")


@every_way
async def test_notifies_arrive_in_order_through_full_queues(way: Way) -> None:
    got: list[object] = []
    async with meet(way) as meeting:
        meeting.server.on_notify("number", lambda peer, body, payloads: got.append(body))
        for number in range(3_000):
            await eventually(lambda n=number: meeting.link.notify(Lane.DATA, "number", n))  # type: ignore[misc]
            if number % 64 == 0:
                await asyncio.sleep(0)  # both ends live on this loop
        await eventually(lambda: len(got) == 3_000)
        assert list(range(3_000)) == got


@every_way
async def test_a_notify_is_never_delivered_within_the_call(way: Way) -> None:
    got: list[tuple[Peer, object, tuple[bytes, ...]]] = []
    async with meet(way) as meeting:
        meeting.server.on_notify("hey", lambda *message: got.append(message))
        meeting.link.open(Lane.CONTROL)
        await eventually(lambda: meeting.link.is_up)
        assert meeting.link.notify(Lane.CONTROL, "hey", 1, (b"p",))
        assert [] == got
        await eventually(lambda: got)
        peer, body, payloads = got[0]
        assert ("asker", 1, (b"p",)) == (peer.name, body, payloads)


@every_way
async def test_a_failing_or_unknown_notify_is_counted_and_the_next_arrives(way: Way) -> None:
    got: list[object] = []

    def fail(peer: Peer, body: object, payloads: tuple[bytes, ...]) -> None:
        raise ZeroDivisionError

    async with meet(way) as meeting:
        meeting.server.on_notify("fail", fail)
        meeting.server.on_notify("fine", lambda peer, body, payloads: got.append(body))
        for kind in ("fail", "unknown", "fine"):
            await eventually(lambda k=kind: meeting.link.notify(Lane.CONTROL, k, 7))  # type: ignore[misc]
        await eventually(lambda: [7] == got)
        counters = meeting.server.counters()
        assert (1, 1) == (counters["handler_failed"], counters["not_allowed"])


@every_way
async def test_a_stream_gives_every_chunk_in_order(way: Way) -> None:
    async with meet(way) as meeting:
        meeting.server.on_stream("count", count, NODES)
        async with meeting.link.stream(Lane.BULK, "count", 1000) as chunks:
            got = [chunk async for chunk in chunks]
        assert [Chunk(n, (bytes([n % 256]),)) for n in range(1000)] == got


@every_way
async def test_a_stream_waits_for_its_reader(way: Way) -> None:
    made = 0

    async def endless(_: Request) -> AsyncIterator[Chunk]:
        nonlocal made
        while True:
            made += 1
            yield Chunk(made)

    async with meet(way, limits=MeshLimits(stream_window=8)) as meeting:
        meeting.server.on_stream("endless", endless, NODES)
        meeting.server.on_call("echo", echo, NODES)
        async with meeting.link.stream(Lane.BULK, "endless") as chunks:
            await eventually(lambda: made == 9)  # a window, and one that waits for credit
            await meeting.link.call(Lane.BULK, "echo", timeout_s=TIMEOUT_S)
            assert 9 == made
            for expected in range(1, 101):
                assert expected == (await anext(chunks)).body
            assert made <= 100 + 9


@every_way
async def test_leaving_a_stream_ends_its_handler(way: Way) -> None:
    ended = []

    async def endless(_: Request) -> AsyncIterator[Chunk]:
        try:
            while True:
                yield Chunk()
        finally:
            ended.append(True)

    async with meet(way, limits=MeshLimits(streams_served=1)) as meeting:
        meeting.server.on_stream("endless", endless, NODES)
        for times in range(1, 4):
            async with meeting.link.stream(Lane.BULK, "endless") as chunks:
                await anext(chunks)
            await eventually(lambda t=times: len(ended) == t)  # type: ignore[misc]


@every_way
async def test_a_streams_error_follows_its_chunks(way: Way) -> None:
    async def short(_: Request) -> AsyncIterator[Chunk]:
        yield Chunk(1)
        yield Chunk(2)
        raise NotFound("the log ends here")

    async with meet(way) as meeting:
        meeting.server.on_stream("short", short, NODES)
        async with meeting.link.stream(Lane.BULK, "short") as chunks:
            assert [1, 2] == [(await anext(chunks)).body, (await anext(chunks)).body]
            with pytest.raises(NotFound, match="ends here"):
                await anext(chunks)


@every_way
async def test_too_many_streams_are_answered_busy(way: Way) -> None:
    async with meet(way, limits=MeshLimits(streams_served=1, stream_window=1)) as meeting:
        meeting.server.on_stream("count", count, NODES)
        async with meeting.link.stream(Lane.BULK, "count", 9) as first:
            await anext(first)
            async with meeting.link.stream(Lane.BULK, "count", 9) as second:
                with pytest.raises(Unavailable, match="is busy"):
                    await anext(second)


@every_way
async def test_a_lane_awaits_only_so_many_calls(way: Way) -> None:
    async with meet(way, limits=MeshLimits(calls_outstanding=1)) as meeting:
        meeting.server.on_stream("count", count, NODES)
        async with meeting.link.stream(Lane.CONTROL, "count", 1000):
            with pytest.raises(Unavailable, match="too many open calls"):
                await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)


async def test_a_client_may_call_what_is_open_to_everyone() -> None:
    async with meet(role=PeerRole.CLIENT) as meeting:
        meeting.server.on_call("echo", echo, EVERYONE)
        meeting.server.on_call("nodes", echo, NODES)
        await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
        with pytest.raises(Denied):
            await meeting.link.call(Lane.CONTROL, "nodes", timeout_s=TIMEOUT_S)
        assert meeting.server.accepted(meeting.asker.id) is None


async def test_an_accepted_link_falls_back_to_the_lane_that_was_dialed() -> None:
    async with meet() as meeting:
        meeting.asker.on_call("echo", echo, NODES)
        meeting.link.open(Lane.CONTROL)
        await eventually(lambda: meeting.server.accepted(meeting.asker.id))
        back = meeting.server.accepted(meeting.asker.id)
        assert back is not None
        reply = await back.call(Lane.DATA, "echo", 1, timeout_s=TIMEOUT_S)
        assert ["server", 1] == reply.body


async def test_an_error_in_the_block_leaves_it_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with meet() as meeting:
            raise ZeroDivisionError(meeting.link)


# --- calls that are taken at once -----------------------------------------------------------------


@every_way
async def test_a_prompt_handler_answers_now_or_later_or_leaves_it_to_the_other(way: Way) -> None:
    later: list[Answer] = []

    def prompt(request: Request, answer: Answer) -> bool:
        match request.body:
            case "now":
                answer(Reply("at once"))
            case "later":
                later.append(answer)
            case "refuse":
                answer(Conflict("moved on"))
            case "raise":
                raise Conflict("cannot")
            case "break":
                raise ZeroDivisionError
        return request.body != "leave"

    async with meet(way) as meeting:
        meeting.server.on_call("do", echo, NODES, prompt=prompt)

        async def ask(body: str) -> object:
            return (await meeting.link.call(Lane.CONTROL, "do", body, timeout_s=TIMEOUT_S)).body

        assert "at once" == await ask("now")
        assert ["asker", "leave"] == await ask("leave")
        for body in ("refuse", "raise"):
            with pytest.raises(Conflict):
                await ask(body)
        with pytest.raises(MeshswarmError, match="`do` failed on"):
            await ask("break")
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(ask("later"), name="asks")
            await eventually(lambda: bool(later))
            later[0](Reply("in the end"))
        assert "in the end" == asked.result()


@every_way
async def test_an_answer_that_nobody_waits_for_any_more_is_none(way: Way) -> None:
    later: list[Answer] = []

    def prompt(_: Request, answer: Answer) -> bool:
        later.append(answer)
        return True

    async with meet(way, limits=MeshLimits(calls_served=1)) as meeting:
        meeting.server.on_call("do", echo, NODES, prompt=prompt)
        for _ in range(2):  # the place of the first is free again
            with pytest.raises(OutcomeUnknown):
                await meeting.link.call(Lane.CONTROL, "do", timeout_s=0.05)
        meeting.server.on_call("echo", echo, NODES)
        await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
        assert 2 == len(later)
        for answer in later:
            answer(Reply("too late"))
        await meeting.link.call(Lane.CONTROL, "echo", timeout_s=TIMEOUT_S)
        assert 0 == meeting.asker.dropped()["late"]


@every_way
async def test_the_turn_ends_behind_each_message(way: Way) -> None:
    """At once: what a message put into the receiver is carried out before anything else runs."""
    happened: list[str] = []
    async with meet(way) as meeting:
        loop = asyncio.get_running_loop()

        def take(_: Peer, body: object, __: tuple[bytes, ...]) -> None:
            happened.append(f"message {body}")
            loop.call_soon(happened.append, "next turn")

        meeting.server.on_notify("word", take)
        meeting.server.on_turn_end(lambda: happened.append("end"))
        await eventually(lambda: meeting.link.notify(Lane.CONTROL, "word", 1))
        await eventually(lambda: "next turn" in happened)
        first = happened.index("message 1")
        assert happened[first : first + 3] == ["message 1", "end", "next turn"]
