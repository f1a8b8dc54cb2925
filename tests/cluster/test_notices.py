"""News that wait for company: none are lost, few go alone."""

from collections.abc import Callable

import pytest

from meshswarm.cluster.notices import NOTICE_S, Notices
from meshswarm.ids import Index
from meshswarm.raft.types import News


class World:
    """Time that moves when it is told to, and what was told when (in shares of the wait)."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.told: list[tuple[float, int]] = []
        self.notices = Notices(self._tell, self)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers.append((self._now + delay / NOTICE_S, callback))

    def _tell(self, news: News) -> None:
        self.told.append((round(self._now, 3), news.commit))

    def commit(self, index: int) -> None:
        self.notices.look(News(Index(index), Index(index), 0))

    def append(self, committed: int, last: int) -> None:
        self.notices.look(News(Index(committed), Index(last), 0))

    def until(self, end: float) -> None:
        while due := [timer for timer in self._timers if timer[0] <= end + 1e-9]:
            timer = min(due, key=lambda one: one[0])
            self._timers.remove(timer)
            self._now = timer[0]
            timer[1]()
        self._now = end


def test_a_commit_index_is_told_once_it_waited() -> None:
    world = World()
    world.commit(1)
    world.until(0.9)
    assert world.told == []
    world.until(1)
    assert world.told == [(1, 1)]
    world.until(9)
    assert world.told == [(1, 1)], "nothing is told twice"


def test_what_came_meanwhile_waits_its_own_time() -> None:
    world = World()
    world.commit(1)
    world.until(0.5)
    world.commit(2)
    world.until(9)
    assert world.told == [(1, 1), (2, 2)]


def test_under_a_load_one_timer_serves_all() -> None:
    world = World()
    for index in range(1, 101):
        world.commit(index)
        world.until(index / 10)
    world.until(20)
    assert len(world.told) <= 11
    assert world.told[-1][1] == 100


def test_what_was_seen_before_is_no_news() -> None:
    world = World()
    world.commit(5)
    world.until(2)
    world.commit(5)
    world.until(9)
    assert world.told == [(1, 5)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(5, 6, id="an entry that is not committed"),
        # The leader of another reign has lost what it had appended in the one before.
        pytest.param(50, 6, id="a log that became shorter"),
    ],
)
def test_another_end_of_the_log_is_news_too(before: int, after: int) -> None:
    world = World()
    world.append(5, before)
    world.until(2)
    world.append(5, after)
    world.until(9)
    assert world.told == [(1, 5), (3, 5)]


def test_telling_one_index_may_find_a_newer_one() -> None:
    """What is sent may be answered, and more be committed, while it is told."""
    world = World()
    world.commit(1)
    tell = world._tell

    def tell_and_commit(news: News) -> None:
        tell(news)
        if news.commit == 1:
            world.commit(2)

    world.notices._tell = tell_and_commit
    world.until(9)
    assert world.told == [(1, 1), (2, 2)]
