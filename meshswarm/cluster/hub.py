"""The change feed inside a manager: whoever watches is woken, and told which rows changed.

A watcher that does not come back in time loses nothing: the keys that changed since are merged,
and past `MAX_KEYS` it is told to look at everything. Who watches a node is woken by that node's
tasks alone: with hundreds of sessions, waking each by every change was all that a manager did.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from meshswarm.ids import NodeId, TaskId
from meshswarm.store.changes import Changed, tables_of
from meshswarm.store.view import Key, Table, View

ALL = frozenset(Table)

MAX_KEYS = 50_000
"""Changed keys kept for one watcher; beyond that its next look is a full one."""


class Watch:
    """One watcher's place in the feed."""

    def __init__(self, view: View, tables: frozenset[Table] = ALL) -> None:
        self.tables = tables
        self._view = view
        self._keys: set[Key] | None = None
        self._woken = asyncio.Event()
        self._woken.set()

    async def wait(self) -> None:
        """Return as soon as something changed since the last `take`."""
        await self._woken.wait()

    @property
    def has_news(self) -> bool:
        """Whether something changed since the last `take`."""
        return self._woken.is_set()

    def take(self) -> tuple[View, frozenset[Key] | None]:
        """The newest view, and the keys that changed since the last call; None: look at all."""
        self._woken.clear()
        keys = None if self._keys is None else frozenset(self._keys)
        self._keys = set()
        return self._view, keys

    def tell(self, view: View, changed: Changed | None) -> None:
        """Note a newer view; `changed` None means "anything may differ"."""
        self._view = view
        if changed is None or self._keys is None:
            self._keys = None
        else:
            self._keys.update(changed)
            if len(self._keys) > MAX_KEYS:
                self._keys = None
        self._woken.set()

    def note(self, view: View) -> None:
        """Take a newer view in which nothing differs that is watched."""
        self._view = view

    def wake(self) -> None:
        """Wake the watcher for a reason outside the feed."""
        self._woken.set()


class Hub:
    """The newest view of this manager, and those who watch it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._watches: set[Watch] = set()
        self._by_node: dict[NodeId, set[Watch]] = {}

    @contextmanager
    def watching(self, tables: frozenset[Table] = ALL) -> Iterator[Watch]:
        """A place in the feed for as long as the block runs; woken by changes in these tables."""
        watch = Watch(self.view, tables)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    @contextmanager
    def watching_node(self, node_id: NodeId) -> Iterator[Watch]:
        """A place in the feed of the tasks that are, or were, bound to this node."""
        watch = Watch(self.view)
        self._by_node.setdefault(node_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._by_node[node_id]
            watches.discard(watch)
            if not watches:
                del self._by_node[node_id]

    def publish(self, view: View, changed: Changed | None) -> None:
        """Make `view` the newest; a view that changed no row wakes nobody."""
        before, self.view = self.view, view
        if changed is not None and not changed:
            return
        tables = ALL if changed is None else tables_of(changed)
        for watch in self._watches:
            if watch.tables.isdisjoint(tables):
                watch.note(view)
            else:
                watch.tell(view, changed)
        if changed is None:
            for watches in self._by_node.values():
                for watch in watches:
                    watch.tell(view, None)
        elif self._by_node and Table.TASKS in tables:
            self._tell_nodes(before, changed)

    def _tell_nodes(self, before: View, changed: Changed) -> None:
        """Wake those who watch the nodes of these tasks. A task has one node for life, so the
        older row says whose it is as well as the newer one; it may be gone, or had none yet."""
        keys: dict[NodeId, list[Key]] = {}
        for key in changed:
            table, name = key
            if table is not Table.TASKS:
                continue
            task = self.view.tasks.get(TaskId(name)) or before.tasks.get(TaskId(name))
            if task is not None and task.node_id in self._by_node:
                keys.setdefault(task.node_id, []).append(key)
        for node_id, some in keys.items():
            for watch in self._by_node[node_id]:
                watch.tell(self.view, frozenset(some))
