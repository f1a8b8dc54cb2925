"""Commit indexes that wait for company: none is lost, few go alone."""

from collections.abc import Callable

from meshswarm.cluster.notices import NOTICE_S, Notices
from meshswarm.ids import Index, NodeId, Term
from meshswarm.raft.messages import AppendEntries

A, B = NodeId("a"), NodeId("b")


class World:
    """Time that moves when it is told to, and what was sent when."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.sent: list[tuple[float, NodeId, int]] = []
        self.notices = Notices(self._send, self)

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self._timers.append((when, callback))

    def _send(self, message: AppendEntries) -> None:
        self.sent.append((round(self._now / NOTICE_S, 3), message.to, message.commit))

    def put(self, peer: NodeId, commit: int) -> None:
        self.notices.put(
            AppendEntries(
                from_=NodeId("me"),
                to=peer,
                term=Term(1),
                prev_index=Index(commit),
                prev_term=Term(1),
                entries=(),
                commit=Index(commit),
            )
        )

    def after(self, share: float) -> None:
        """Let this much of the waiting time pass."""
        end = self._now + share * NOTICE_S
        while due := [timer for timer in self._timers if timer[0] <= end]:
            timer = min(due, key=lambda one: one[0])
            self._timers.remove(timer)
            self._now = max(self._now, timer[0])
            timer[1]()
        self._now = end


def test_a_commit_index_goes_alone_once_it_waited() -> None:
    world = World()
    world.put(A, 1)
    world.after(0.5)
    world.put(B, 1)
    world.after(0.4)
    assert [] == world.sent
    world.after(1)
    assert [(1, A, 1), (1.5, B, 1)] == world.sent


def test_the_newest_is_told_as_soon_as_the_oldest_would_have_been() -> None:
    world = World()
    for commit in range(1, 5):
        world.put(A, commit)
        world.after(0.3)
    assert [(1, A, 4)] == world.sent


def test_under_a_load_none_goes_alone() -> None:
    """A timer of a notice that was overtaken sent the one that came after it, too early."""
    world = World()
    for commit in range(1, 50):
        world.put(A, commit)
        world.put(B, commit)
        world.after(0.6)
        world.notices.overtaken(A)
        world.notices.overtaken(B)
        world.after(0.1)
    assert [] == world.sent
    world.put(A, 50)
    world.after(2)
    assert 1 == len(world.sent)
    world.after(2)
    assert 1 == len(world.sent)
