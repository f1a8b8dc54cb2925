"""A record of the log and the head of a segment, to bytes and back. Pure.

    segment   magic, CRC-32, format, number, salt, identity (CBOR); then records
    record    salt, CRC-32, length, number of entries, index of the first; head; the entries

A record is what one commit made durable: the whole head and the entries, all or nothing, since one
CRC covers it. The CRC begins with its segment's head, and the salt is drawn anew each time that a
file becomes a segment. So no record of an earlier use of the file is taken for one of this, no
content of a client's looks like one, and a segment under another's name holds none.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from attrs import define, frozen

from meshswarm import codec
from meshswarm.errors import Conflict, Corrupt
from meshswarm.ids import ClusterId, Index, NodeId, Term
from meshswarm.raft.types import ConfState, Entry, EntryKind, HardState

FORMAT = 4
"""The version of what is stored; a directory of another one is refused, never guessed at."""

SALT_BYTES = 8
NUMBER_MAX = (1 << 63) - 1
"""Larger indexes and terms are damage: no message carries them."""

_MAGIC = b"meshlog\0"
_SEGMENT = struct.Struct(">8sIHHQ8s")
"""Magic, CRC, format, bytes of identity, number, salt."""
_UNCHECKED = len(_MAGIC) + 4

_SEAL = struct.Struct(">8sI")
"""Salt, CRC."""
_LENGTH = struct.Struct(">IIQ")
"""Bytes of the record, entries, index of the first of them."""
_HEAD = struct.Struct(">8QHH")
"""The head's numbers; bytes of the vote and one more (0: none), bytes of the damage."""
_ENTRY = struct.Struct(">QBI")
"""Term, kind, bytes of data."""
_START = struct.Struct(">8sIIIQ8QHH")
"""The three of them, as each record begins."""

LEAST_BYTES = _START.size
ENTRY_BYTES = _ENTRY.size
"""What an entry takes beside its data."""

_KINDS = {kind.value: kind for kind in EntryKind}
_NUMBERS = {kind: kind.value for kind in EntryKind}


@frozen(kw_only=True)
class Head:
    """What changes with every commit: one value, so that term, vote and log never mix."""

    counter: int = 0
    """Commits since the directory was made; 0 means that nothing was ever acknowledged."""
    incarnation: int = 0
    """How often this journal was opened."""
    hard_state: HardState = HardState()
    first_index: Index = Index(1)
    """Where the log begins; entries before it may lie about, they count no more."""
    last_index: Index = Index(0)
    snapshot_index: Index = Index(0)
    """The snapshot that the log stands on; 0: none."""
    snapshot_term: Term = Term(0)
    damage: str = ""
    """Why this node may not vote; empty when it may. Survives restarts until it is healed."""


@frozen
class Identity:
    """Whose journal it is; stands in every segment."""

    cluster_id: ClusterId
    node_id: NodeId
    initial_conf: ConfState


# --- heads --------------------------------------------------------------------------------------


def head_bytes(head: Head) -> bytes:
    """The bytes of a head."""
    hard = head.hard_state
    vote, damage = (hard.vote or "").encode(), head.damage.encode()
    return (
        _HEAD.pack(
            head.counter,
            head.incarnation,
            hard.term,
            hard.commit,
            head.first_index,
            head.last_index,
            head.snapshot_index,
            head.snapshot_term,
            0 if hard.vote is None else len(vote) + 1,
            len(damage),
        )
        + vote
        + damage
    )


def read_head(data: bytes, at: int) -> tuple[Head, int]:
    """The head at this place, and where it ends; raises `Corrupt` where there is none."""
    try:
        *numbers, vote_bytes, damage_bytes = _HEAD.unpack_from(data, at)
        vote_at = at + _HEAD.size
        damage_at = vote_at + max(0, vote_bytes - 1)
        end = damage_at + damage_bytes
        if end > len(data) or max(numbers) > NUMBER_MAX:
            raise Corrupt("not a head")
        vote = bytes(data[vote_at:damage_at]).decode() if vote_bytes else None
        damage = bytes(data[damage_at:end]).decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise Corrupt(f"not a head: {error}") from error
    counter, incarnation, term, commit, first, last, snapshot_index, snapshot_term = numbers
    head = Head(
        counter=counter,
        incarnation=incarnation,
        hard_state=HardState(Term(term), None if vote is None else NodeId(vote), Index(commit)),
        first_index=Index(first),
        last_index=Index(last),
        snapshot_index=Index(snapshot_index),
        snapshot_term=Term(snapshot_term),
        damage=damage,
    )
    return head, end


# --- segments -----------------------------------------------------------------------------------


@frozen
class Segment:
    """The head of a segment, as its records need it."""

    number: int
    identity: Identity
    salt: bytes
    seed: int
    """The CRC of the head, with which each record's begins."""
    start: int
    """Where the records begin."""


def segment_bytes(number: int, identity: Identity, salt: bytes) -> bytes:
    """The head of a new segment."""
    owner = codec.encode(identity)
    head = _SEGMENT.pack(_MAGIC, 0, FORMAT, len(owner), number, salt) + owner
    return head[: len(_MAGIC)] + _crc_bytes(zlib.crc32(head[_UNCHECKED:])) + head[_UNCHECKED:]


def read_segment(data: bytes, name: str) -> Segment:
    """The head of the segment with these bytes; raises `Corrupt` if there is none, `Conflict` if it
    is sound and of another format."""
    if len(data) < _SEGMENT.size:
        raise Corrupt(f"{name} is cut short")
    magic, crc, found, size, number, salt = _SEGMENT.unpack_from(data)
    start = _SEGMENT.size + size
    if magic != _MAGIC or start > len(data) or zlib.crc32(data[_UNCHECKED:start]) != crc:
        raise Corrupt(f"{name} is damaged: the checksum of its head does not fit")
    if found != FORMAT:
        raise other_format(found)
    try:
        identity = codec.decode(data[_SEGMENT.size : start], Identity)
    except codec.Undecodable as error:
        raise Corrupt(f"{name} is damaged: its head is unreadable: {error}") from error
    return Segment(number, identity, salt, crc, start)


def other_format(found: object) -> Conflict:
    """The refusal of what another version wrote."""
    return Conflict(
        f"the journal has format {found}, this version knows {FORMAT}",
        hint="start the version of meshswarm that wrote it, or move the directory away: the other "
        "managers send this node what they have",
    )


def _crc_bytes(crc: int) -> bytes:
    return crc.to_bytes(4, "big")


# --- records ------------------------------------------------------------------------------------


@define(eq=False)
class Record:
    """A record whose checksum fits, in the bytes that hold it; parsed as far as is asked for."""

    data: bytes
    at: int
    end: int
    counter: int
    first_index: int
    """Where the log begins, by its head."""
    entries_first: int
    count: int
    entries_at: int

    @property
    def raw(self) -> bytes:
        """Its bytes."""
        return self.data[self.at : self.end]

    def head(self) -> Head:
        """Its head; raises `Corrupt`."""
        return read_head(self.data, self.at + _SEAL.size + _LENGTH.size)[0]

    def entries(self) -> list[Entry]:
        """Its entries; raises `Corrupt`: a checksum proves no sense."""
        data, at, end, first = self.data, self.entries_at, self.end, self.entries_first
        if self.count and not 0 < first <= NUMBER_MAX - self.count:
            raise Corrupt(f"entries that begin at {first}")
        entries = []
        try:
            for index in cast("Iterable[Index]", range(first, first + self.count)):
                term, kind, size = _ENTRY.unpack_from(data, at)
                start, at = at + ENTRY_BYTES, at + ENTRY_BYTES + size
                if at > end or term > NUMBER_MAX:
                    raise Corrupt(f"entry {index} does not fit into its record")
                entries.append(Entry(index, term, data[start:at], _KINDS[kind]))
        except (struct.error, KeyError) as error:
            raise Corrupt(f"an entry is unreadable: {error}") from error
        if at != end:
            raise Corrupt(f"its entries end at {at}, not at {end}")
        return entries


def record_bytes(segment: Segment, head: bytes, entries: Sequence[Entry]) -> tuple[bytes, bytes]:
    """A record in two pieces, to be written one behind the other."""
    parts = [b"", head]
    size = LEAST_BYTES - _HEAD.size + len(head)
    for entry in entries:
        data = entry.data
        parts += (_ENTRY.pack(entry.term, _NUMBERS[entry.kind], len(data)), data)
        size += ENTRY_BYTES + len(data)
    parts[0] = _LENGTH.pack(size, len(entries), entries[0].index if entries else 0)
    body = b"".join(parts)
    return _SEAL.pack(segment.salt, zlib.crc32(body, segment.seed)), body


def record_size(start: bytes) -> int:
    """How long the record that begins like this says it is."""
    size: int = _LENGTH.unpack_from(start.ljust(LEAST_BYTES, b"\0"), _SEAL.size)[0]
    return size


def record_at(data: bytes, at: int, segment: Segment) -> Record | None:
    """The record at this place of a segment; None if there is none, or none that is whole."""
    if at + LEAST_BYTES > len(data):
        return None
    salt, crc, size, count, entries_first, *head, vote, damage = _START.unpack_from(data, at)
    end = at + size
    if salt != segment.salt or size < LEAST_BYTES or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[at + _SEAL.size : end], segment.seed) != crc:
        return None
    entries_at = at + LEAST_BYTES + (vote - 1 if vote else 0) + damage
    return Record(data, at, end, head[0], head[4], entries_first, count, entries_at)


def records_after(data: bytes, at: int, segment: Segment) -> Iterator[Record]:
    """All records of a segment from this place on, also those behind bytes that are none."""
    while (at := data.find(segment.salt, at)) >= 0:
        record = record_at(data, at, segment)
        if record is not None:
            yield record
        at = record.end if record is not None else at + 1
