"""What a NORMAL entry of the log holds: a command, when it came, whose it is, and its name.

Read for every entry of the log, so by plain questions: a `match` takes twice as long.
"""

import struct

from attrs import frozen

from meshswarm import codec
from meshswarm.ids import ClientId, Index
from meshswarm.making import maker

CLIENT_CHARACTERS_MAX = 100
"""Of a client's id. It stands in the state, and what it is encoded as is kept for the next time."""

_TWO_ITEMS, _FOUR_ITEMS = codec.array_head(2), codec.array_head(4)
_COUNTS = struct.Struct(">BQBQBQ")


@frozen(kw_only=True, weakref_slot=False)
class Request:
    """A client's name for a command, so that repeating it applies it once (thesis section 6.3)."""

    client: ClientId
    sequence: int
    """1, 2, ... in the order the client first sent them."""
    acknowledged: int = 0
    """Answers up to this sequence have arrived; the state may forget them."""
    opened_at: Index = Index(0)
    """An entry that was applied somewhere before the client sent its first request."""

    def encoded(self) -> codec.Encoded:
        """What `request_of` reads, as it is written."""
        opened = (codec.WIDE, self.opened_at)
        counts = (codec.WIDE, self.sequence, codec.WIDE, self.acknowledged, *opened)
        return codec.Encoded(_FOUR_ITEMS + codec.name(self.client) + _COUNTS.pack(*counts))


_request = maker(Request)


def request_of(plain: object) -> Request | None:
    """What an array names, or None; raises `Undecodable`."""
    if plain is None:
        return None
    if type(plain) is list and len(plain) == 4:
        client, sequence, acknowledged, opened_at = plain
        if (
            type(client) is str
            and type(sequence) is type(acknowledged) is type(opened_at) is int
            and len(client) <= CLIENT_CHARACTERS_MAX
            and sequence >= 0
            and acknowledged >= 0
            and opened_at >= 0
        ):
            return _request(client, sequence, acknowledged, opened_at)
    raise codec.Undecodable(f"not a request's name: {plain!r:.100}")


@frozen(kw_only=True, weakref_slot=False)
class LogEntry:
    """What a NORMAL entry of the replicated log holds.

    The command travels as bytes encoded once by whoever proposed it; the leader only puts its
    clock and the request's name before it.
    """

    at_ms: int
    """Log time: the leader's wall clock, never smaller than an earlier entry's."""
    by: str
    """Who proposed: a node's or client's name."""
    request: Request | None
    command: bytes

    def encoded(self) -> bytes:
        """This entry as the bytes that the log stores."""
        command = self.command
        request = codec.NONE if self.request is None else self.request.encoded()
        start = (_FOUR_ITEMS, codec.number(self.at_ms), codec.name(self.by), request)
        return b"".join((*start, codec.bytes_head(len(command)), command))

    @staticmethod
    def decoded(data: bytes) -> "LogEntry":
        """The entry that these bytes hold; raises `Undecodable`."""
        plain = codec.loads(data)
        if type(plain) is list and len(plain) == 4:
            at_ms, by, named, command = plain
            if type(at_ms) is int and type(by) is str and type(command) is bytes:
                return _log_entry(at_ms, by, request_of(named), command)
        raise codec.Undecodable(f"not a log entry: {plain!r:.200}")


_log_entry = maker(LogEntry)


def proposal_of(command: bytes, request: Request) -> codec.Encoded:
    """[command, request], as a client sends it."""
    size = codec.bytes_head(len(command))
    return codec.Encoded(b"".join((_TWO_ITEMS, size, command, request.encoded())))
