"""Raft's messages as mesh messages: a short header of integers and texts, entries as one blob (a
small one in the header, else a frame of its own).

The blob is the entries' framed bytes one after the other (length, term, kind, data), as they were
encoded once by whoever proposed them: neither sender nor receiver encodes an entry again.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

from attrs import field, frozen

from meshswarm import codec
from meshswarm.ids import Index, NodeId, Term
from meshswarm.making import maker
from meshswarm.mesh.peers import Lane
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
from meshswarm.raft.types import ConfState, Entry, EntryKind, Snapshot, SnapshotMeta

KIND = "raft"
"""The mesh's notify kind for all of them but one."""

SNAPSHOT = "raft.snapshot"
"""The mesh's call that offers a snapshot (`InstallSnapshot`) and asks from where it is wanted."""

SNAPSHOT_CHUNK = "raft.snapshot.chunk"
"""The mesh's call that brings a piece of it."""

_ENTRY = struct.Struct(">IQB")
"""Before each entry's data: its length, its term, its kind."""

INLINE_BYTES = 2_048
"""A blob of at most so many bytes stands in the header: each frame is sealed, sent and opened by
itself, which for a few entries costs more than to copy them."""

NUMBER_MAX = (1 << 63) - 1
"""The largest term or index."""

Body = list[Any] | codec.Encoded


@frozen
class _Kind:
    """How messages of a class travel: as an array of its name and these attributes."""

    make: Callable[..., Message]
    name: str
    attributes: tuple[str, ...]
    types: list[type]
    """What the array holds, exactly: `True` is no number."""
    payloads: int

    values_of: Callable[[Message], tuple[object, ...]] = field(init=False)
    numbers_of: Callable[[list[Any]], tuple[int, ...]] = field(init=False)

    @values_of.default
    def _getter(self) -> Callable[[Message], tuple[object, ...]]:
        return attrgetter(*self.attributes)

    @numbers_of.default
    def _numbers(self) -> Callable[[list[Any]], tuple[int, ...]]:
        places = [place for place, type_ in enumerate(self.types) if type_ is int]
        return itemgetter(places[0], *places)  # of one place alone it would make no tuple


def _kind(
    cls: type[Message],
    attributes: Mapping[str, type],
    more: Sequence[type] = (),
    payloads: int = 0,
) -> _Kind:
    names = ("from_", "to", "term", *attributes)
    types = [str, str, str, int, *attributes.values(), *more]
    return _Kind(cls, cls.__name__, names, types, payloads)


_KINDS: dict[type[Message], _Kind] = {
    kind.make: kind  # type: ignore[misc]  # it is the class
    for kind in (
        _kind(
            RequestVote,
            {
                "last_index": int,
                "last_term": int,
                "pre_vote": bool,
                "leadership_transfer": bool,
                "commit": int,
                "commit_term": int,
            },
        ),
        _kind(
            VoteReply,
            {
                "granted": bool,
                "pre_vote": bool,
                "forgetful": bool,
                "commit": int,
                "commit_term": int,
            },
        ),
        _kind(Heartbeat, {"commit": int, "read_position": int, "vouched": int, "vouched_at": int}),
        _kind(HeartbeatReply, {"read_position": int}),
        # And the snapshot's index and term, then what `ConfState` has.
        _kind(InstallSnapshot, {}, (int, int, list, list, list, bool), payloads=1),
        _kind(TimeoutNow, {}),
        _kind(Removed, {}),
    )
}
_BY_NAME = {kind.name: kind for kind in _KINDS.values()}


def lane_of(message: Message) -> Lane:
    """Bulk never delays a heartbeat: appends and snapshots have connections of their own."""
    kind = type(message)
    if kind is AppendEntries:
        return Lane.DATA
    return Lane.BULK if kind is InstallSnapshot else Lane.CONTROL


def pack(message: Message) -> tuple[Body, tuple[bytes, ...]]:
    """The message's header and payloads."""
    if type(message) is AppendReply:
        return _pack_reply(message), ()
    if type(message) is AppendEntries:
        blob = pack_entries(message.entries)
        if len(blob) > INLINE_BYTES:
            return _pack_append(message), (blob,)
        return _pack_append(message, blob), ()
    if type(message) is Heartbeat:
        return _pack_heartbeat(message), ()
    if type(message) is HeartbeatReply:
        return _pack_heartbeat_reply(message), ()
    kind = _KINDS[type(message)]
    body = [kind.name, *kind.values_of(message)]
    if isinstance(message, InstallSnapshot):
        meta, conf = message.snapshot.meta, message.snapshot.meta.conf
        body += [meta.index, meta.term]
        body += [list(ids) for ids in (conf.voters, conf.learners, conf.removed)]
        body.append(conf.has_founders)
        return body, (message.snapshot.data,)
    return body, ()


def unpack(body: object, payloads: tuple[bytes, ...]) -> Message:
    """The message that `pack` described; raises `Undecodable` for anything else."""
    if type(body) is not list or not body or type(body[0]) is not str:
        raise _no_message(body)
    if body[0] == "AppendReply":
        return _unpack_reply(body, payloads)
    if body[0] == "AppendEntries":
        return _unpack_append(body, payloads)
    kind = _BY_NAME.get(body[0])
    if kind is None or list(map(type, body)) != kind.types or len(payloads) != kind.payloads:
        raise _no_message(body)
    numbers = kind.numbers_of(body)
    if min(numbers) < 0 or max(numbers) > NUMBER_MAX:
        raise _no_message(body)
    fields = dict(zip(kind.attributes, body[1:], strict=False))
    if kind.make is InstallSnapshot:
        voters, learners, removed = (_node_ids(some) for some in body[6:9])
        conf = ConfState(voters, learners, removed, body[9])
        fields["snapshot"] = Snapshot(SnapshotMeta(body[4], body[5], conf), payloads[0])
    return kind.make(**fields)


def _no_message(body: object) -> codec.Undecodable:
    return codec.Undecodable(f"not a Raft message: {body!r:.200}")


# --- appends, heartbeats and their replies ------------------------------------------------------
#
# They are what a write or a read waits for, on managers that have slept meanwhile: what puts them
# together, and takes a write's apart, touches little else, which with cold caches is a third of
# what the table costs.

_WIDE, _FALSE = codec.WIDE, 0xF4
"""In CBOR `False` is before `True`."""

_APPEND = struct.Struct(">BQBQBQBQ")
_REPLY = struct.Struct(">BQBQBBQBQBQ")
_HEARTBEAT = struct.Struct(">BQBQBQBQBQ")
_HEARTBEAT_REPLY = struct.Struct(">BQBQ")

_Often = AppendEntries | AppendReply | Heartbeat | HeartbeatReply

_ITEMS = {"AppendEntries": 7, "AppendReply": 9, "Heartbeat": 8, "HeartbeatReply": 5}
"""How many the array of each has; an append with its blob has one more."""

_append, _reply = maker(AppendEntries), maker(AppendReply)


@lru_cache(maxsize=256)
def _head(name: str, from_: NodeId, to: NodeId, *, more: int = 0) -> bytes:
    """How the array begins, of which `more` items than usual follow."""
    return codec.array_head(_ITEMS[name] + more) + b"".join(map(codec.text, (name, from_, to)))


def _array(layout: struct.Struct, message: _Often, *items: int) -> codec.Encoded:
    """The message's array; `items` stand behind its name, sender and receiver."""
    head = _head(type(message).__name__, message.from_, message.to)
    return codec.Encoded(head + layout.pack(*items))


def _pack_append(message: AppendEntries, blob: bytes | None = None) -> codec.Encoded:
    prev = (_WIDE, message.prev_index, _WIDE, message.prev_term)
    items = (_WIDE, message.term, *prev, _WIDE, message.commit)
    if blob is None:
        return _array(_APPEND, message, *items)
    head = _head("AppendEntries", message.from_, message.to, more=1)
    numbers = _APPEND.pack(*items)
    return codec.Encoded(b"".join((head, numbers, codec.bytes_head(len(blob)), blob)))


def _pack_reply(message: AppendReply) -> codec.Encoded:
    found = (_WIDE, message.index, _FALSE + message.rejected)
    hint = (_WIDE, message.hint_index, _WIDE, message.hint_term)
    recovery = (_WIDE, message.recovery)
    return _array(_REPLY, message, _WIDE, message.term, *found, *hint, *recovery)


def _pack_heartbeat(message: Heartbeat) -> codec.Encoded:
    items = (_WIDE, message.commit, _WIDE, message.read_position)
    vouched = (_WIDE, message.vouched, _WIDE, message.vouched_at)
    return _array(_HEARTBEAT, message, _WIDE, message.term, *items, *vouched)


def _pack_heartbeat_reply(message: HeartbeatReply) -> codec.Encoded:
    position = (_WIDE, message.read_position)
    return _array(_HEARTBEAT_REPLY, message, _WIDE, message.term, *position)


def _unpack_append(body: list[Any], payloads: tuple[bytes, ...]) -> AppendEntries:
    items = (*body, *payloads)
    if len(items) != 8 or len(body) < 7:
        raise _no_message(body)
    _, from_, to, term, index, prev_term, commit, blob = items
    are_texts = type(from_) is type(to) is str
    are_numbers = type(term) is type(index) is type(prev_term) is type(commit) is int
    if (
        not (are_texts and are_numbers)
        or type(blob) is not bytes
        or not 0 <= term <= NUMBER_MAX
        or not 0 <= index <= NUMBER_MAX
        or not 0 <= prev_term <= NUMBER_MAX
        or not 0 <= commit <= NUMBER_MAX
    ):
        raise _no_message(body)
    entries = unpack_entries(blob, Index(index + 1))
    return _append(from_, to, term, index, prev_term, entries, commit)


def _unpack_reply(body: list[Any], payloads: tuple[bytes, ...]) -> AppendReply:
    if len(body) != 9 or payloads:
        raise _no_message(body)
    _, from_, to, term, index, rejected, hint, hint_term, recovery = body
    are_texts = type(from_) is type(to) is str
    are_indexes = type(term) is type(index) is type(hint) is type(hint_term) is int
    if (
        not (are_texts and are_indexes)
        or type(rejected) is not bool
        or type(recovery) is not int
        or not 0 <= term <= NUMBER_MAX
        or not 0 <= index <= NUMBER_MAX
        or not 0 <= hint <= NUMBER_MAX
        or not 0 <= hint_term <= NUMBER_MAX
        or not 0 <= recovery <= NUMBER_MAX
    ):
        raise _no_message(body)
    return _reply(from_, to, term, index, rejected, hint, hint_term, recovery)


def pack_entries(entries: tuple[Entry, ...]) -> bytes:
    """Consecutive entries as one blob; their indexes follow from the first one's."""
    parts: list[bytes] = []
    for entry in entries:
        kind = 0 if entry.kind is EntryKind.NORMAL else entry.kind.value
        parts.append(_ENTRY.pack(len(entry.data), entry.term, kind))
        parts.append(entry.data)
    return b"".join(parts)


_ENTRY_KINDS = {kind.value: kind for kind in EntryKind}


def unpack_entries(blob: bytes, first: Index) -> tuple[Entry, ...]:
    """The entries of a blob, the first at index `first`; raises `Undecodable`."""
    entries: list[Entry] = []
    index: Any = first  # and terms: to call them so costs more than to read them
    offset, end, last = 0, len(blob), 0
    try:
        while offset < end:
            length, term, kind = _ENTRY.unpack_from(blob, offset)
            offset += _ENTRY.size
            if offset + length > end:
                raise codec.Undecodable(f"an entry of {length} bytes in {end - offset}")
            if not last <= term <= NUMBER_MAX:
                raise codec.Undecodable(f"an entry of term {term} after one of term {last}")
            last = term
            data = blob[offset : offset + length]
            entries.append(Entry(index, term, data, _ENTRY_KINDS[kind]))
            index += 1
            offset += length
    except (struct.error, KeyError) as error:
        raise codec.Undecodable(f"not a blob of entries: {error}") from error
    return tuple(entries)


def _node_ids(plain: object) -> tuple[NodeId, ...]:
    if not isinstance(plain, list) or not all(isinstance(item, str) for item in plain):
        raise codec.Undecodable(f"not a list of node ids: {plain!r:.200}")
    return tuple(NodeId(item) for item in plain)


# --- snapshots ----------------------------------------------------------------------------------


class SnapshotState(Enum):
    """What a receiver says of the snapshot that it is offered."""

    WANTED = "wanted"
    """From `offset` on."""
    CHECKING = "checking"
    """All of it is there; ask again."""
    TAKEN = "taken"
    """Its core has it, or has no need of it."""


@frozen
class SnapshotAnswer:
    """The answer to an offer and to each chunk."""

    state: SnapshotState
    offset: int

    def packed(self) -> Body:
        """The answer's body."""
        return [self.state.value, self.offset]

    @staticmethod
    def unpacked(body: object) -> "SnapshotAnswer":
        """The answer in this body; raises `Undecodable`."""
        match body:
            case [str() as state, int() as offset] if state in _STATES and offset >= 0:
                return SnapshotAnswer(_STATES[state], offset)
        raise codec.Undecodable(f"not a snapshot's answer: {body!r:.200}")


_STATES = {state.value: state for state in SnapshotState}


def pack_offer(message: InstallSnapshot, size: int) -> tuple[Body, tuple[bytes, ...]]:
    """The offer of a snapshot whose file is `size` bytes long; the message's data names it."""
    body, payloads = pack(message)
    return [size, body], payloads


def unpack_offer(body: object, payloads: tuple[bytes, ...]) -> tuple[InstallSnapshot, int]:
    """What `pack_offer` was given; raises `Undecodable`."""
    match body:
        case [int() as size, list() as packed] if size >= 0:
            message = unpack(packed, payloads)
            if isinstance(message, InstallSnapshot):
                return message, size
    raise codec.Undecodable(f"not the offer of a snapshot: {body!r:.200}")


@frozen
class SnapshotChunk:
    """A piece of the file that index, term and digest name."""

    index: Index
    term: Term
    digest: bytes
    offset: int
    data: bytes


def pack_chunk(chunk: SnapshotChunk) -> tuple[Body, tuple[bytes, ...]]:
    """A chunk's body and payloads."""
    return [chunk.index, chunk.term, chunk.offset], (chunk.digest, chunk.data)


def unpack_chunk(body: object, payloads: tuple[bytes, ...]) -> SnapshotChunk:
    """What `pack_chunk` was given; raises `Undecodable`."""
    match body, payloads:
        case [int() as index, int() as term, int() as offset], [digest, data] if offset >= 0:
            return SnapshotChunk(Index(index), Term(term), digest, offset, data)
    raise codec.Undecodable(f"not a snapshot's chunk: {body!r:.200}")
