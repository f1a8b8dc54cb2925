"""Watchers see every change, merged, and are told to look at all when they fell behind."""

from attrs import evolve

from meshswarm.cluster.hub import MAX_KEYS, Hub
from meshswarm.ids import Index
from meshswarm.store.view import Key, Table, View
from tests.support.builders import node, service, task, view


def _at(index: int) -> View:
    return evolve(View(), index=Index(index))


def _keys(*names: str) -> frozenset[Key]:
    return frozenset((Table.TASKS, name) for name in names)


async def test_the_first_look_is_a_full_one() -> None:
    hub = Hub(_at(1))
    with hub.watching() as watch:
        await watch.wait()
        assert watch.take() == (_at(1), None)
        assert not watch.has_news


async def test_changes_between_two_looks_are_merged() -> None:
    hub = Hub(_at(1))
    with hub.watching() as watch:
        watch.take()
        hub.publish(_at(2), _keys("a"))
        hub.publish(_at(3), _keys("b"))
        assert watch.take() == (_at(3), _keys("a", "b"))


async def test_a_view_that_changed_no_row_wakes_nobody() -> None:
    hub = Hub(_at(1))
    with hub.watching() as watch:
        watch.take()
        hub.publish(_at(2), frozenset())
        assert not watch.has_news
        assert hub.view.index == 2


async def test_a_watcher_that_fell_behind_looks_at_everything() -> None:
    hub = Hub(_at(1))
    with hub.watching() as watch:
        watch.take()
        hub.publish(_at(2), _keys(*(str(n) for n in range(MAX_KEYS + 1))))
        assert watch.take() == (_at(2), None)


async def test_a_watch_ends_with_its_block() -> None:
    hub = Hub(_at(1))
    with hub.watching() as watch:
        watch.take()
    hub.publish(_at(2), _keys("a"))
    assert not watch.has_news


async def test_who_watches_a_node_is_woken_by_its_tasks_alone() -> None:
    web, n1, n2 = service("web"), node("n1"), node("n2")
    mine, other = task(web, 1, n1, id="mine"), task(web, 2, n2, id="other")
    hub = Hub(view([n1, n2], [web], []))
    with hub.watching_node(n1.id) as watch:
        watch.take()
        hub.publish(view([n1, n2], [web], [other]), _keys("other"))
        assert not watch.has_news
        there = view([n1, n2], [web], [mine, other])
        hub.publish(there, _keys("mine"))
        assert watch.take() == (there, _keys("mine"))
        gone = view([n1, n2], [web], [other])
        hub.publish(gone, _keys("mine"))
        assert watch.take() == (gone, _keys("mine"))
        hub.publish(there, None)
        assert watch.take() == (there, None)
    hub.publish(gone, _keys("mine"))
    assert not watch.has_news


async def test_who_watches_some_tables_is_not_woken_by_others() -> None:
    hub, config = Hub(_at(1)), (Table.CONFIGS, "c")
    with hub.watching(frozenset({Table.TASKS})) as watch:
        watch.take()
        hub.publish(_at(2), frozenset({config}))
        assert (False, (_at(2), frozenset())) == (watch.has_news, watch.take())
        hub.publish(_at(3), _keys("t") | {config})
        assert watch.has_news
        assert (_at(3), _keys("t") | {config}) == watch.take()
        hub.publish(_at(4), None)
        assert (_at(4), None) == watch.take()
