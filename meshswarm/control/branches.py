"""The nodes that fit, by the values of labels: the best of the emptiest branch comes first.

Each branch keeps what is below it in a heap, so taking the best of n nodes, k times, costs
n + k log n however many labels there are.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from meshswarm.control.score import URGENT, Score, node_of
from meshswarm.ids import NodeId

Path = tuple[str, ...]
"""A node's values of the labels, in the order of the preferences."""

Key = tuple[Score, int, Score, str]

Take = Callable[[NodeId], Score | None]
"""Gives the node a task; returns its score for another one, None if it may not have one."""


class Leaves:
    """Nodes that no preference tells apart."""

    def __init__(self) -> None:
        self._heap: list[Score] = []
        self._is_heap = False

    def __bool__(self) -> bool:
        """Whether there is a node."""
        return bool(self._heap)

    def add(self, path: Path, score: Score) -> None:
        """Add a node, before the first one is taken."""
        self._heap.append(score)

    def best(self) -> Score:
        """The score of the best node."""
        if not self._is_heap:
            heapq.heapify(self._heap)
            self._is_heap = True
        return self._heap[0]

    def take(self, take: Take) -> None:
        """Give the best node a task."""
        score = take(node_of(self.best()))
        if score is None:
            heapq.heappop(self._heap)
        else:
            heapq.heapreplace(self._heap, score)


class Branch:
    """Nodes by the value of one label, and below it by those of the next ones."""

    def __init__(self, counts: Sequence[Mapping[Path, int]], path: Path = ()) -> None:
        self._counts, self._path = counts, path
        self._below: dict[str, Branch | Leaves] = {}
        self._taken: dict[str, int] = {}
        self._heap: list[tuple[Key, str]] = []
        self._is_heap = False

    def __bool__(self) -> bool:
        """Whether there is a node."""
        return any(self._below.values())

    def add(self, path: Path, score: Score) -> None:
        """Add a node, before the first one is taken."""
        depth = len(self._path)
        value = path[depth]
        below = self._below.get(value)
        if below is None:
            is_last = depth + 1 == len(path)
            below = Leaves() if is_last else Branch(self._counts, path[: depth + 1])
            self._below[value] = below
        below.add(path, score)

    def best(self) -> Score:
        """The score of the best node of the emptiest branch."""
        return self._below[self._ready()[0][1]].best()

    def take(self, take: Take) -> None:
        """Give the best node of the emptiest branch a task."""
        value = self._ready()[0][1]
        below = self._below[value]
        below.take(take)
        self._taken[value] = self._taken.get(value, 0) + 1
        if below:
            heapq.heapreplace(self._heap, (self._key(value), value))
        else:
            heapq.heappop(self._heap)
            del self._below[value]

    def _ready(self) -> list[tuple[Key, str]]:
        if not self._is_heap:
            self._heap = [(self._key(value), value) for value in self._below]
            heapq.heapify(self._heap)
            self._is_heap = True
        return self._heap

    def _key(self, value: str) -> Key:
        path = (*self._path, value)
        count = self._counts[len(path) - 1].get(path, 0) + self._taken.get(value, 0)
        best = self._below[value].best()
        return best[:URGENT], count, best, value


class EvenBranch(Branch):
    """The same where no value may get further than `most` tasks ahead of the one with the fewest.

    `tasks` are those of every value that counts, also of such as have no node that takes one. A
    value that is too far ahead stands aside until the lowest has caught up.
    """

    def __init__(
        self, counts: Sequence[Mapping[Path, int]], tasks: Mapping[str, int], most: int
    ) -> None:
        super().__init__(counts)
        self._tasks, self._most = dict(tasks), most
        self._levels = Counter(self._tasks.values())
        self._lowest = min(self._levels, default=0)
        self._aside: list[tuple[Key, str]] = []

    def __bool__(self) -> bool:
        """Whether there is a node that may have a task now."""
        return bool(self._ready())

    def take(self, take: Take) -> None:
        """Give the best node of the emptiest branch a task."""
        value = self._ready()[0][1]
        super().take(take)
        count = self._tasks[value]
        self._tasks[value] = count + 1
        self._levels[count] -= 1
        self._levels[count + 1] += 1
        if count == self._lowest and not self._levels[count]:
            self._lowest += 1  # its only task went one up, so there is somebody
            for one in self._aside:
                heapq.heappush(self._heap, one)
            self._aside.clear()

    def _ready(self) -> list[tuple[Key, str]]:
        heap = super()._ready()
        while heap and self._tasks[heap[0][1]] + 1 - self._lowest > self._most:
            self._aside.append(heapq.heappop(heap))
        return heap


def branches(
    counts: Sequence[Mapping[Path, int]], even: tuple[Mapping[str, int], int] | None = None
) -> Branch | Leaves:
    """An empty tree; `counts` are the service's tasks now, by each beginning of a path, `even`
    those by the first label's values and how many more than the fewest one may have."""
    if even is not None:
        return EvenBranch(counts, *even)
    return Branch(counts) if counts else Leaves()
