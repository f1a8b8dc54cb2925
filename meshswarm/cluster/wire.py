"""Raft's messages as mesh messages: a short header of integers and texts, entries as one blob.

The blob is the entries' framed bytes one after the other (length, term, kind, data), as they were
encoded once by whoever proposed them: neither sender nor receiver encodes an entry again.
"""

import struct
from enum import Enum
from typing import TypedDict, assert_never

from attrs import frozen

from meshswarm import codec
from meshswarm.ids import Index, NodeId, Term
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

NUMBER_MAX = (1 << 63) - 1
"""The largest term or index."""

Body = list[object]


class _Head(TypedDict):
    from_: NodeId
    to: NodeId
    term: Term


def lane_of(message: Message) -> Lane:
    """Bulk never delays a heartbeat: appends and snapshots have connections of their own."""
    match message:
        case AppendEntries():
            return Lane.DATA
        case InstallSnapshot():
            return Lane.BULK
        case _:
            return Lane.CONTROL


def pack(message: Message) -> tuple[Body, tuple[bytes, ...]]:
    """The message's header and payloads."""
    head: Body = [type(message).__name__, message.from_, message.to, message.term]
    match message:
        case RequestVote():
            fields = [message.last_index, message.last_term, message.pre_vote]
            return [*head, *fields, message.leadership_transfer], ()
        case VoteReply():
            fields = [message.granted, message.pre_vote]
            return [*head, *fields, message.commit, message.commit_term], ()
        case AppendEntries():
            fields = [message.prev_index, message.prev_term, message.commit]
            return [*head, *fields], (pack_entries(message.entries),)
        case AppendReply():
            fields = [message.index, message.rejected, message.hint_index, message.hint_term]
            return [*head, *fields, message.recovering], ()
        case Heartbeat():
            return [*head, message.commit, message.read_position], ()
        case HeartbeatReply():
            return [*head, message.read_position], ()
        case InstallSnapshot():
            meta = message.snapshot.meta
            conf = [list(ids) for ids in (meta.conf.voters, meta.conf.learners, meta.conf.removed)]
            return [*head, meta.index, meta.term, *conf], (message.snapshot.data,)
        case TimeoutNow() | Removed():
            return head, ()
        case _:
            assert_never(message)


def unpack(body: object, payloads: tuple[bytes, ...]) -> Message:
    """The message that `pack` described; raises `Undecodable` for anything else."""
    match body, payloads:
        case [str() as name, str() as from_, str() as to, int() as term, *fields], blobs if _fit(
            term, *fields
        ):
            head = _Head(from_=NodeId(from_), to=NodeId(to), term=Term(term))
        case _:
            raise codec.Undecodable(f"not a Raft message: {body!r:.200}")
    match name, fields, blobs:
        case "RequestVote", [int() as index, int() as last, bool() as pre, bool() as transfer], ():
            return RequestVote(
                **head,
                last_index=Index(index),
                last_term=Term(last),
                pre_vote=pre,
                leadership_transfer=transfer,
            )
        case "VoteReply", [bool() as yes, bool() as pre, int() as commit, int() as at], ():
            return VoteReply(
                **head, granted=yes, pre_vote=pre, commit=Index(commit), commit_term=Term(at)
            )
        case "AppendEntries", [int() as index, int() as prev, int() as commit], [bytes() as blob]:
            return AppendEntries(
                **head,
                prev_index=Index(index),
                prev_term=Term(prev),
                entries=unpack_entries(blob, Index(index + 1)),
                commit=Index(commit),
            )
        case (
            "AppendReply",
            [int() as index, bool() as no, int() as hint, int() as hint_term, bool() as lost],
            (),
        ):
            return AppendReply(
                **head,
                index=Index(index),
                rejected=no,
                hint_index=Index(hint),
                hint_term=Term(hint_term),
                recovering=lost,
            )
        case "Heartbeat", [int() as commit, int() as position], ():
            return Heartbeat(**head, commit=Index(commit), read_position=position)
        case "HeartbeatReply", [int() as position], ():
            return HeartbeatReply(**head, read_position=position)
        case "InstallSnapshot", [int() as index, int() as at, *ids], [bytes() as data] if (
            len(ids) == 3
        ):
            conf = ConfState(*(_node_ids(some) for some in ids))
            meta = SnapshotMeta(Index(index), Term(at), conf)
            return InstallSnapshot(**head, snapshot=Snapshot(meta, data))
        case "TimeoutNow" | "Removed", [], ():
            return TimeoutNow(**head) if name == "TimeoutNow" else Removed(**head)
        case _:
            raise codec.Undecodable(f"not a Raft message: {name} with {fields!r:.200}")


def pack_entries(entries: tuple[Entry, ...]) -> bytes:
    """Consecutive entries as one blob; their indexes follow from the first one's."""
    parts: list[bytes] = []
    for entry in entries:
        parts.append(_ENTRY.pack(len(entry.data), entry.term, entry.kind.value))
        parts.append(entry.data)
    return b"".join(parts)


def unpack_entries(blob: bytes, first: Index) -> tuple[Entry, ...]:
    """The entries of a blob, the first at index `first`; raises `Undecodable`."""
    entries: list[Entry] = []
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
            entries.append(Entry(Index(first + len(entries)), Term(term), data, EntryKind(kind)))
            offset += length
    except (struct.error, ValueError) as error:
        raise codec.Undecodable(f"not a blob of entries: {error}") from error
    return tuple(entries)


def _fit(*values: object) -> bool:
    """Whether all numbers among these are such as the journal can hold."""
    numbers = [value for value in values if isinstance(value, int)]
    return not numbers or 0 <= min(numbers) <= max(numbers) <= NUMBER_MAX


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
