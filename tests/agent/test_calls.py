"""Blocking calls in threads: how many there are at once, and what one that hangs costs."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from meshswarm.agent.runtimes.calls import Calls


class Doors:
    """Calls that wait behind a door each."""

    def __init__(self) -> None:
        self.inside: list[int] = []
        self.doors = [threading.Event() for _ in range(9)]

    def enter(self, number: int) -> int:
        self.inside.append(number)
        self.doors[number].wait()
        return number

    def open(self) -> None:
        for door in self.doors:
            door.set()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 -- a thread tells nobody
            await asyncio.sleep(0.001)


async def test_no_more_than_may_run_at_once_and_in_order() -> None:
    doors, calls = Doors(), Calls("test", 2)
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(calls.run(doors.enter, number), name=f"{number}")
        await until(lambda: len(doors.inside) == 2)
        doors.doors[1].set()
        await until(lambda: len(doors.inside) == 3)
        assert [0, 1, 2] == doors.inside
        doors.open()
    assert [0, 1, 2, 3] == doors.inside


async def test_those_that_hang_make_room_until_too_many_do() -> None:
    doors, calls = Doors(), Calls("test", 1, spare=2, stuck_s=0.01)
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(calls.run(doors.enter, number), name=f"{number}")
        await until(lambda: len(doors.inside) == 3)
        assert 0 == calls.spare
        doors.doors[1].set()
        await until(lambda: len(doors.inside) == 4)
        assert [0, 1, 2, 3] == doors.inside
        doors.open()
    await until(lambda: calls.spare == 2)


async def test_a_caller_that_goes_away_leaves_its_call_its_place() -> None:
    doors, calls = Doors(), Calls("test", 1)
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(calls.run(doors.enter, 0), name="gone")
        await until(lambda: doors.inside == [0])
        gone.cancel()
        second = group.create_task(calls.run(doors.enter, 1), name="second")
        await asyncio.sleep(0)
        assert [0] == doors.inside
        doors.open()
        assert 1 == await second


async def test_what_a_call_raises_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Calls("test", 1).run(fail)
