"""What waits travels together, and nobody's answer is lost on the way."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import pytest

from meshswarm.errors import Unavailable
from meshswarm.mesh.gathering import WINDOW, Gathering


class Post:
    """Sends when it is let: keeps what was sent, answers with the items in capitals."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self._gates: list[asyncio.Future[None]] = []

    async def send(self, items: list[str]) -> Sequence[str]:
        self.sent.append(items)
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        await gate
        return [item.upper() for item in items]

    def let(self, error: Exception | None = None) -> None:
        """Answer the oldest call that waits."""
        gate = self._gates.pop(0)
        if gate.cancelled():
            return
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)


def gathering(
    post: Post, tasks: asyncio.TaskGroup, *, items: int = 100, size: int = 1_000
) -> Gathering[str, str]:
    return Gathering(
        post.send,
        lambda work, name: tasks.create_task(work, name=name),
        name="post",
        size_of=len,
        most_items=items,
        most_bytes=size,
    )


async def settled(holds: Callable[[], bool]) -> None:
    """Let the loop turn until this holds."""
    for _ in range(100):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


async def one_by_one(
    tasks: asyncio.TaskGroup, post: Post, put: Callable[[str], Coroutine[object, object, str]]
) -> list[asyncio.Task[str]]:
    """As many puts as calls may be under way, each in a call of its own."""
    puts: list[asyncio.Task[str]] = []
    for name in "ab":
        puts.append(tasks.create_task(put(name), name=name))
        await settled(lambda: len(post.sent) == len(puts))
    assert len(puts) == WINDOW
    return puts


async def test_what_comes_while_calls_are_under_way_travels_together() -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        gatherer = gathering(post, tasks)
        first = await one_by_one(tasks, post, gatherer.put)
        later = [tasks.create_task(gatherer.put(name), name=name) for name in "cdef"]
        post.let()
        await settled(lambda: len(post.sent) == WINDOW + 1)
        assert [["a"], ["b"], ["c", "d", "e", "f"]] == post.sent
        post.let()
        post.let()
    assert ["A", "B", "C", "D", "E", "F"] == [task.result() for task in first + later]


async def test_who_was_answered_together_asks_again_together() -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        gatherer = gathering(post, tasks)
        first = tasks.create_task(gatherer.put("a"), name="a")
        await settled(lambda: 1 == len(post.sent))
        for name in "bcd":
            tasks.create_task(gatherer.put(name), name=name)
        await settled(lambda: WINDOW == len(post.sent))
        assert [["a"], ["b", "c", "d"]] == post.sent
        post.let()
        post.let()
    assert "A" == first.result()


@pytest.mark.parametrize(
    ("items", "size", "calls"),
    [(3, 1_000, [["c", "d", "e"], ["f"]]), (100, 2, [["c", "d"], ["e", "f"]])],
)
async def test_one_call_takes_no_more_than_the_limits(
    items: int, size: int, calls: list[list[str]]
) -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        gatherer = gathering(post, tasks, items=items, size=size)
        await one_by_one(tasks, post, gatherer.put)
        for name in "cdef":
            tasks.create_task(gatherer.put(name), name=name)
            await asyncio.sleep(0)
        for _ in range(4):
            await settled(lambda: bool(post._gates))
            post.let()
    assert [["a"], ["b"], *calls] == post.sent


async def test_an_item_larger_than_the_limit_travels_alone() -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(gathering(post, tasks, size=2).put("large"), name="put")
        await settled(lambda: bool(post.sent))
        post.let()
    assert "LARGE" == task.result()


async def test_an_error_is_the_answer_of_all_that_travelled_together_and_of_nobody_else() -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        gatherer = gathering(post, tasks)

        async def told(name: str) -> str:
            try:
                return await gatherer.put(name)
            except Unavailable as error:
                return error.message

        puts = await one_by_one(tasks, post, told)
        puts += [tasks.create_task(told(name), name=name) for name in "cd"]
        post.let()
        await settled(lambda: len(post.sent) == WINDOW + 1)
        post.let()
        post.let(Unavailable("nobody is there"))
    assert ["A", "B", "nobody is there", "nobody is there"] == [put.result() for put in puts]


async def test_who_gives_up_takes_nobody_along() -> None:
    post = Post()
    async with asyncio.TaskGroup() as tasks:
        gatherer = gathering(post, tasks)
        puts = await one_by_one(tasks, post, gatherer.put)
        puts += [tasks.create_task(gatherer.put(name), name=name) for name in "cd"]
        await asyncio.sleep(0)
        puts[0].cancel()  # on its way already
        puts[2].cancel()  # still waiting
        await asyncio.sleep(0)
        for _ in range(WINDOW + 1):
            await settled(lambda: bool(post._gates))
            post.let()
    assert [["a"], ["b"], ["d"]] == post.sent
    assert ["B", "D"] == [puts[1].result(), puts[3].result()]
