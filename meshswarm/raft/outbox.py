"""Messages on their way out, each held until what it promises is durable.

This is the table "persistence before sending" as code. Messages are sorted here and nowhere else,
and the embedder gets a waiting message only from `persisted`, so that it cannot send it early.
"""

from collections import deque
from typing import assert_never

from meshswarm.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    Removed,
    RequestVote,
    TimeoutNow,
    VoteReply,
)


def waits_for_disk(message: Message) -> bool:
    """Whether `message` promises something that must be durable before it leaves.

    A real vote and a request for one promise (term, vote): were the candidate to forget that it
    ran, it could win the same term twice. An append reply promises entries, truncations and
    snapshots; refusals wait with it, for they show the term. A leader's append promises nothing:
    its term is durable since it was elected, and its entries count only once they are durable
    (thesis section 10.2.1). Heartbeats and pre-votes change nothing that lasts. Who tells another
    that it was removed must not forget it: the other stops, and nobody else may know.
    """
    match message:
        case AppendEntries() | Heartbeat() | HeartbeatReply() | InstallSnapshot() | TimeoutNow():
            return False
        case AppendReply() | Removed():
            return True
        case RequestVote() | VoteReply():
            return not message.pre_vote
        case _:
            assert_never(message)


class Outbox:
    """Sorts messages into those that leave at once and those that wait for a token.

    Tokens count up from 1 and become durable in order.
    """

    def __init__(self) -> None:
        self._now: list[Message] = []
        self._after_write: list[Message] = []
        self._waiting: deque[tuple[int, list[Message]]] = deque()
        self._last_token = 0
        self.is_empty = True
        """Whether the next `take` has no message to hand over."""

    def send(self, message: Message) -> None:
        """Take `message`; it leaves as soon as it may."""
        self.is_empty = False
        if waits_for_disk(message):
            self._after_write.append(message)
        else:
            self._now.append(message)

    def take(self, *, writes: bool) -> tuple[int | None, tuple[Message, ...]]:
        """A new token if this batch `writes` (else None), and what may be sent at once.

        Without a write of its own, a waiting message waits for the newest write under way: it may
        speak of entries in it. With none under way all that it speaks of is durable. What is said
        again takes the place of what was: a disk may hang for hours, and the leader goes on asking.
        """
        token = None
        held, self._after_write = self._after_write, []
        if writes:
            self._last_token = token = self._last_token + 1
            self._waiting.append((token, held))
        elif self._waiting:
            waiting = self._waiting[-1][1]
            waiting[:] = [*(message for message in waiting if message not in held), *held]
        else:
            self._now += held
        messages = tuple(self._now)
        self._now.clear()
        self.is_empty = True
        return token, messages

    def persisted(self, token: int) -> list[Message]:
        """The messages that waited for writes up to `token`, in order."""
        assert token <= self._last_token, f"token {token} persisted, last issued {self._last_token}"
        released: list[Message] = []
        while self._waiting and self._waiting[0][0] <= token:
            released += self._waiting.popleft()[1]
        return released
