"""Messages as frames and back: a CBOR header, then each payload as a frame of its own. Pure.

The header is the array [version, type, incarnation, sequence, correlation, name, body], read by
position; payloads are never re-encoded. Sizes are checked before anything is decoded, and whatever
does not fit is a `BadFrame`, never another exception.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from attrs import frozen

from meshswarm import codec
from meshswarm.errors import Invalid, MeshswarmError
from meshswarm.ids import NodeId
from meshswarm.mesh.limits import MeshLimits
from meshswarm.mesh.peers import Lane

PROTOCOL_VERSION = 1
NUMBER_MAX = (1 << 64) - 1
"""Largest incarnation, sequence or correlation."""
NAME_CHARACTERS_MAX = 100


class BadFrame(MeshswarmError):
    """What arrived is not a message of this protocol."""

    code = "bad_frame"


class Type(IntEnum):
    """What a message is; `correlation` ties those of one call or stream together."""

    HELLO = 0
    """The first on a connection, or the answer where it is missing: what was open here is over."""
    PING = 1
    PONG = 2
    FENCED = 3
    """A newer incarnation (the body) of the receiver is known: stop."""
    NOTIFY = 4
    CALL = 5
    REPLY = 6
    STREAM = 7
    CHUNK = 8
    END = 9
    ERROR = 10
    """Instead of REPLY or END: `errors.to_wire` in the body."""
    CREDIT = 11
    """The reader of a stream takes so many (the body) chunks more."""
    CANCEL = 12
    """Whoever asked no longer wants the answer."""


class Message(NamedTuple):
    """One message; `body` is any plain CBOR-able value (or `codec.Encoded`, where it is sent),
    `sequence` grows with each one sent.

    A tuple, as it is taken apart again where it arrives.
    """

    type: Type
    incarnation: int
    sequence: int
    correlation: int = 0
    name: str = ""
    body: object = None
    payloads: tuple[bytes, ...] = ()


_HEAD = struct.Struct(">BBBBQBQBQ")
_ARRAY, _WIDE = codec.array_head(7)[0], codec.WIDE


def encode(
    type_: Type,
    incarnation: int,
    sequence: int,
    correlation: int,
    name: str,
    body: object,
    payloads: Sequence[bytes],
    limits: MeshLimits,
) -> list[bytes]:
    """The frames of a message; raises `Invalid` if it exceeds what a peer would take."""
    # The array's head and numbers are put together here, in a tenth of the library's time.
    numbers = (_WIDE, incarnation, _WIDE, sequence, _WIDE, correlation)
    header = _HEAD.pack(_ARRAY, PROTOCOL_VERSION, type_, *numbers) + codec.name(name)
    if body is None:
        header += codec.NONE
    else:
        header += body if type(body) is codec.Encoded else codec.dumps_in_order(body)
    if payloads or len(header) > limits.header_bytes_max:
        fault = _oversize(header, payloads, limits)
        if fault:
            raise Invalid(f"`{name}` is too large to send: {fault}")
    return [header, *payloads]


def decode(frames: Sequence[bytes], limits: MeshLimits) -> Message:
    """The message in these frames; raises `BadFrame`."""
    if not frames:
        raise BadFrame("no frames")
    header, *payloads = frames
    if payloads or len(header) > limits.header_bytes_max:
        fault = _oversize(header, payloads, limits)
        if fault:
            raise BadFrame(fault)
    try:
        plain = codec.read(header)
    except codec.UNREADABLE as error:
        raise BadFrame(f"not valid CBOR: {error}") from error
    if type(plain) is not list or len(plain) != 7 or plain[0] != PROTOCOL_VERSION:
        raise BadFrame(f"not a message of protocol version {PROTOCOL_VERSION}")
    _, kind, incarnation, sequence, correlation, name, body = plain
    are_numbers = type(kind) is type(incarnation) is type(sequence) is type(correlation) is int
    if not are_numbers or type(name) is not str:
        raise BadFrame(f"not a message of protocol version {PROTOCOL_VERSION}")
    if (
        kind not in _TYPES
        or not 0 <= incarnation <= NUMBER_MAX
        or not 0 <= sequence <= NUMBER_MAX
        or not 0 <= correlation <= NUMBER_MAX
    ):
        raise BadFrame("the header has an unknown type, or a number out of range")
    if len(name) > NAME_CHARACTERS_MAX:
        raise BadFrame(f"a name of {len(name)} characters")
    fields = (_TYPES[kind], incarnation, sequence, correlation, name, body, tuple(payloads))
    return _new(Message, fields)


_new = tuple.__new__
"""Spares each message the call of `Message` itself."""

_TYPES = {int(type_): type_ for type_ in Type}


def _oversize(header: bytes, payloads: Sequence[bytes], limits: MeshLimits) -> str | None:
    if len(header) > limits.header_bytes_max:
        return f"a header of {len(header)} bytes, at most {limits.header_bytes_max}"
    if len(payloads) > limits.payloads_max:
        return f"{len(payloads)} payloads, at most {limits.payloads_max}"
    for payload in payloads:
        if len(payload) > limits.payload_bytes_max:
            return f"a payload of {len(payload)} bytes, at most {limits.payload_bytes_max}"
    return None


@frozen
class RoutingId:
    """The name that a dialer's connection bears at the listener: who, which lane, which process.

    `nonce` is random per process, so that another member cannot take a connection over by bearing
    its name (the listener lets a reconnecting dialer replace its old connection).
    """

    node: NodeId
    lane: Lane
    incarnation: int
    nonce: str

    def to_bytes(self) -> bytes:
        """The routing id as ZeroMQ carries it: 1 to 255 bytes, the first not zero."""
        return f"{self.node}.{self.lane.value}.{self.incarnation}.{self.nonce}".encode()


def routing_id_of(raw: bytes) -> RoutingId:
    """The routing id in these bytes; raises `BadFrame`."""
    try:
        node, lane, incarnation, nonce = raw.decode("ascii").split(".")
        return RoutingId(NodeId(node), Lane(lane), int(incarnation), nonce)
    except ValueError as error:
        raise BadFrame("the connection does not bear a node's name") from error
