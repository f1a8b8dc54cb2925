"""Raft's messages survive the mesh, and nothing else comes out of foreign bytes."""

from typing import Any, TypedDict

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from meshswarm.cluster import wire
from meshswarm.codec import Undecodable
from meshswarm.ids import Index, NodeId, Term
from meshswarm.mesh.frames import Type, decode, encode
from meshswarm.mesh.limits import DEFAULT_LIMITS
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

A, B = NodeId("a"), NodeId("b")


class _Head(TypedDict):
    from_: NodeId
    to: NodeId
    term: Term


HEAD = _Head(from_=A, to=B, term=Term(3))
ENTRIES = (
    Entry(Index(8), Term(2), b"x" * 300),
    Entry(Index(9), Term(3), b"", EntryKind.NOOP),
    Entry(Index(10), Term(3), b"\x00\xff", EntryKind.CONF_CHANGE),
)
LARGE = (Entry(Index(8), Term(2), bytes(wire.INLINE_BYTES)),)
MESSAGES: list[Message] = [
    RequestVote(
        **HEAD,
        last_index=Index(9),
        last_term=Term(2),
        pre_vote=True,
        commit=Index(8),
        commit_term=Term(1),
    ),
    VoteReply(**HEAD, granted=True, commit=Index(9), commit_term=Term(2)),
    AppendEntries(**HEAD, prev_index=Index(7), prev_term=Term(2), entries=ENTRIES, commit=Index(6)),
    AppendEntries(**HEAD, prev_index=Index(7), prev_term=Term(2), entries=(), commit=Index(6)),
    AppendEntries(**HEAD, prev_index=Index(7), prev_term=Term(2), entries=LARGE, commit=Index(6)),
    AppendReply(
        **HEAD,
        index=Index(4),
        rejected=True,
        hint_index=Index(2),
        hint_term=Term(1),
        recovery=7,
    ),
    Heartbeat(**HEAD, commit=Index(5), read_position=17, vouched=7),
    HeartbeatReply(**HEAD, read_position=17),
    InstallSnapshot(
        **HEAD,
        snapshot=Snapshot(
            SnapshotMeta(Index(9), Term(2), ConfState((B, A), (NodeId("c"),), (NodeId("z"),))), b"s"
        ),
    ),
    TimeoutNow(**HEAD),
    Removed(**HEAD),
]


def arrived(message: Message) -> tuple[list[Any], tuple[bytes, ...]]:
    """Body and payloads as the receiver's mesh gives them."""
    body, payloads = wire.pack(message)
    frames = encode(Type.NOTIFY, 1, 1, 0, wire.KIND, body, payloads, DEFAULT_LIMITS)
    told = decode(frames, DEFAULT_LIMITS)
    assert isinstance(told.body, list)
    return told.body, told.payloads


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_equal(message: Message) -> None:
    assert message == wire.unpack(*arrived(message))


@given(st.lists(st.integers(0, wire.NUMBER_MAX), min_size=4, max_size=4), st.booleans())
def test_all_numbers_come_back(numbers: list[Any], truth: bool) -> None:
    term, index, other, last = numbers
    head = _Head(from_=A, to=B, term=term)
    reply = AppendReply(
        **head,
        index=index,
        rejected=truth,
        hint_index=other,
        hint_term=last,
        recovery=last,
    )
    append = AppendEntries(**head, prev_index=index, prev_term=other, entries=(), commit=last)
    for message in (reply, append):
        assert message == wire.unpack(*arrived(message))


def test_few_entries_need_no_frame_of_their_own() -> None:
    few, none, large = [message for message in MESSAGES if isinstance(message, AppendEntries)]
    assert [0, 0, 1] == [len(wire.pack(append)[1]) for append in (few, none, large)]
    over = len(wire.pack_entries(LARGE)) - wire.INLINE_BYTES
    largest = evolve(few, entries=(evolve(LARGE[0], data=bytes(wire.INLINE_BYTES - over)),))
    assert () == wire.pack(largest)[1]
    assert largest == wire.unpack(*arrived(largest))


def test_appends_and_snapshots_do_not_share_a_lane_with_heartbeats() -> None:
    lanes = {type(message).__name__: wire.lane_of(message) for message in MESSAGES}
    assert lanes.pop("AppendEntries") is Lane.DATA
    assert lanes.pop("InstallSnapshot") is Lane.BULK
    assert set(lanes.values()) == {Lane.CONTROL}


def test_a_blob_cut_anywhere_is_refused() -> None:
    blob = wire.pack_entries(ENTRIES)
    ends = {0}
    for count in range(1, len(ENTRIES) + 1):
        ends.add(len(wire.pack_entries(ENTRIES[:count])))
    for end in range(len(blob)):
        if end in ends:
            continue
        with pytest.raises(Undecodable):
            wire.unpack_entries(blob[:end], Index(8))


@pytest.mark.parametrize("wrong", [-1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_numbers_that_no_journal_could_hold_are_refused(message: Message, wrong: int) -> None:
    body, payloads = arrived(message)
    places = [place for place, value in enumerate(body) if type(value) is int]
    for place in places:
        with pytest.raises(Undecodable):
            wire.unpack([*body[:place], wrong, *body[place + 1 :]], payloads)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_each_item_has_one_type_and_none_is_missing_or_too_much(message: Message) -> None:
    body, payloads = arrived(message)
    others = {str: b"a", bytes: "a", int: True, bool: 1, list: ["a", 1]}
    for place, value in enumerate(body):
        with pytest.raises(Undecodable):
            wire.unpack([*body[:place], others[type(value)], *body[place + 1 :]], payloads)
    for wrong in (body[:-1], [*body, 0], [], tuple(body), [["x"], *body[1:]]):
        with pytest.raises(Undecodable):
            wire.unpack(wrong, payloads)
    for blobs in ((*payloads, b""), payloads[:-1] if payloads else (b"",)):
        with pytest.raises(Undecodable):
            wire.unpack(body, blobs)


def test_entries_whose_terms_fall_are_refused() -> None:
    """The journal would take them, and call itself damaged at the next start."""
    for entries in ((ENTRIES[1], ENTRIES[0]), (evolve(ENTRIES[0], term=Term(1 << 63)),)):
        with pytest.raises(Undecodable, match="term"):
            wire.unpack_entries(wire.pack_entries(entries), Index(8))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=12,
)
NAMES = st.sampled_from([type(message).__name__ for message in MESSAGES])


@given(
    body=PLAIN | st.tuples(NAMES, st.text(max_size=3), st.text(max_size=3), st.integers(), PLAIN),
    payloads=st.lists(st.binary(max_size=40), max_size=2),
)
def test_foreign_values_only_raise_undecodable(body: object, payloads: list[bytes]) -> None:
    plain = [*body[:4], *body[4]] if isinstance(body, tuple) and isinstance(body[4], list) else body
    try:
        wire.unpack(plain, tuple(payloads))
    except Undecodable:
        return
