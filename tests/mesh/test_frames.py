"""Whatever bytes arrive, decoding gives a message or `BadFrame`, and nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshswarm import codec
from meshswarm.errors import Invalid
from meshswarm.ids import NodeId
from meshswarm.mesh.frames import (
    NUMBER_MAX,
    BadFrame,
    Message,
    RoutingId,
    Type,
    decode,
    encode,
    routing_id_of,
)
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import Lane

LIMITS = MeshLimits(header_bytes_max=4096, payload_bytes_max=2048, payloads_max=4)

numbers = st.integers(0, NUMBER_MAX)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
messages = st.builds(
    Message,
    st.sampled_from(Type),
    numbers,
    numbers,
    numbers,
    st.text(max_size=20),
    plain,
    st.lists(st.binary(max_size=100), max_size=4).map(tuple),
)


@given(messages)
def test_what_was_encoded_is_decoded(message: Message) -> None:
    assert message == decode(encode(*message, LIMITS), LIMITS)


@given(messages)
def test_a_header_is_one_array_by_position(message: Message) -> None:
    header, *payloads = encode(*message, LIMITS)
    assert [1, *message[:6]] == codec.loads(header)
    assert list(message.payloads) == payloads


@given(messages, st.data())
def test_a_flipped_byte_is_a_message_or_a_bad_frame(message: Message, data: st.DataObject) -> None:
    frames = encode(*message, LIMITS)
    header = bytearray(frames[0])
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(1, 255))
    decode_or_refuse([bytes(header), *frames[1:]])


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_s78_any_frames_are_a_message_or_a_bad_frame(frames: list[bytes]) -> None:
    decode_or_refuse(frames)


@given(st.lists(plain, max_size=9))
def test_s78_any_header_is_a_message_or_a_bad_frame(header: list[object]) -> None:
    decode_or_refuse([codec.dumps(header)])
    decode_or_refuse([codec.dumps([1, *header])])


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="none"),
        pytest.param([b""], id="empty"),
        pytest.param([codec.dumps([2, 0, 1, 1, 1, "", None])], id="version"),
        pytest.param([codec.dumps([1 << 20000, 0, 1, 1, 1, "", None])], id="huge version"),
        pytest.param([codec.dumps([1, 99, 1, 1, 1, "", None])], id="type"),
        pytest.param([codec.dumps([1, 0, -1, 1, 1, "", None])], id="negative"),
        pytest.param([codec.dumps([1, 0, 1, 1 << 64, 1, "", None])], id="65 bits"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, "x" * 101, None])], id="long name"),
        pytest.param([codec.dumps([1, 0, True, 1, 1, "", None])], id="truth for a number"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, b"", None])], id="bytes for a name"),
        pytest.param([codec.dumps(dict.fromkeys(range(7), 1))], id="map"),
        pytest.param([codec.dumps("1234567")], id="seven characters"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, ""])], id="six items"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, "", b"x" * 4096])], id="large header"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, "", None]), b"x" * 2049], id="large payload"),
        pytest.param([codec.dumps([1, 0, 1, 1, 1, "", None])] + [b""] * 5, id="many payloads"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60" + b"\x81" * 100 + b"\x01"], id="deep"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60" + b"\x81" * 4_000], id="4,000 deep"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60\x5a\x40\x00\x00\x00"], id="1 GB of bytes"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60\xd9\x12\x34\x00"], id="unknown tag"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60\x9b\x7f" + b"\xff" * 7], id="huge list"),
        pytest.param([b"\x87\x01\x00\x01\x01\x01\x60\xd8\x1c\x81\xd8\x1d\x00"], id="cycle"),
    ],
)
def test_s78_what_does_not_fit_is_a_bad_frame(frames: list[bytes]) -> None:
    with pytest.raises(BadFrame):
        decode(frames, LIMITS)


@pytest.mark.parametrize(
    "large",
    [
        Message(Type.NOTIFY, 1, 1, body="x" * 4096),
        Message(Type.NOTIFY, 1, 1, payloads=(b"x" * 2049,)),
        Message(Type.NOTIFY, 1, 1, payloads=(b"",) * 5),
    ],
    ids=["header", "payload", "payloads"],
)
def test_what_a_peer_would_not_take_is_not_sent(large: Message) -> None:
    with pytest.raises(Invalid, match="too large"):
        encode(*large, LIMITS)


@given(st.sampled_from(Lane), numbers)
def test_a_routing_id_survives(lane: Lane, incarnation: int) -> None:
    routing_id = RoutingId(NodeId("abcdefghijklm"), lane, incarnation, "nonce")
    assert routing_id == routing_id_of(routing_id.to_bytes())
    assert 255 >= len(routing_id.to_bytes())


@given(st.binary(max_size=255) | st.from_regex(rb"\A[a-z.0-9]*\Z"))
def test_any_name_is_a_routing_id_or_a_bad_frame(raw: bytes) -> None:
    with contextlib.suppress(BadFrame):
        routing_id_of(raw)


def decode_or_refuse(frames: list[bytes]) -> None:
    with contextlib.suppress(BadFrame):
        decode(frames, LIMITS)
