"""Linearizable reads without a log entry: ReadIndex by position (thesis section 6.4).

Reads that arrive between two heartbeats share a position. A follower's answer to a heartbeat
confirms the position that it carried, hence all earlier ones: whoever still follows at position p
did so when every read up to p arrived. So a lost answer costs nothing; a later one covers it.
"""

from collections import deque
from collections.abc import Collection

from meshswarm.ids import Index, NodeId
from meshswarm.raft import quorum
from meshswarm.raft.ready import ReadState


class Reads:
    """The reads of one reign that a majority has not confirmed yet."""

    def __init__(self, node: NodeId) -> None:
        self.position = 0
        """The position that heartbeats carry."""
        self.needs_heartbeat = False
        """Whether a read waits for a position that no heartbeat has carried."""
        self._node = node
        self._held: list[object] = []
        self._waiting: deque[tuple[int, ReadState]] = deque()
        self._confirmed: dict[NodeId, int] = {}
        self._done_to = 0
        """The position of the last read that was confirmed."""

    def __len__(self) -> int:
        """The reads that wait."""
        return len(self._held) + len(self._waiting)

    def hold(self, context: object) -> None:
        """Keep a read until the leader has committed in its term: only then it knows the commit
        index (thesis section 6.4, step 1)."""
        self._held.append(context)

    def add(self, context: object, commit: Index) -> None:
        """Let a read wait for the next position; it sees everything up to `commit`."""
        self._waiting.append((self.position + 1, ReadState(context, commit)))
        self.needs_heartbeat = True

    def release(self, commit: Index) -> None:
        """The first commit of this term: held reads wait for their position now."""
        for context in self._held:
            self.add(context, commit)
        self._held.clear()

    def next_position(self) -> int:
        """The position for the heartbeat that goes out now."""
        if self.needs_heartbeat:
            self.needs_heartbeat = False
            self.position += 1
        return self.position

    def confirm(self, node: NodeId, position: int) -> None:
        """`node` still followed when `position` was the newest."""
        if position > self._confirmed.get(node, 0):
            self._confirmed[node] = position

    def take_confirmed(self, voters: Collection[NodeId]) -> list[ReadState]:
        """The reads that a majority of `voters` has confirmed, in order of arrival."""
        if not self._waiting:
            return []
        self._confirmed[self._node] = self.position
        reached = quorum.majority_value([self._confirmed.get(voter, 0) for voter in voters])
        done: list[ReadState] = []
        while self._waiting and self._waiting[0][0] <= reached:
            self._done_to, read = self._waiting.popleft()
            done.append(read)
        return done

    def was_confirmed_by(self, node: NodeId) -> bool:
        """Whether `node` was among those who confirmed the last read that was."""
        return self._confirmed.get(node, 0) >= self._done_to

    def waits_for(self, position: int) -> bool:
        """Whether a read waits for this position, or for an earlier one."""
        return bool(self._waiting) and self._waiting[0][0] <= position

    def abandon(self) -> list[object]:
        """The contexts of all reads that will not complete here."""
        contexts = [read.context for _, read in self._waiting] + self._held
        self._waiting.clear()
        self._held.clear()
        self.needs_heartbeat = False
        return contexts
