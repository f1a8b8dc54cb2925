"""Values to canonical CBOR and back: one converter for log, disk and mesh.

Equal values encode to equal bytes (map keys are sorted, attributes that hold their default are
left out). Decoding is bounded: at most `MAX_DEPTH` nested containers, no indefinite lengths, no
duplicate keys, no tags, so no integers beyond 64 bits (Python will not even print large ones);
whoever reads from outside caps the size before calling.
What does not fit raises `Undecodable` and nothing else.

Unknown attributes are refused by default, as the log must (a node that skips what others apply has
diverged); mesh calls pass `lenient=True`, so that old and new nodes meet.
"""

import struct
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, TypeVar, get_args

import cattrs
import cbor2
from cattrs.preconf.cbor2 import Cbor2Converter, make_converter

from meshswarm.errors import MeshswarmError

T = TypeVar("T")

MAX_DEPTH = 32
"""Deepest nesting of containers that is decoded; deeper input is refused."""

TAG = "$"
"""The map key under which a union's member says its class name."""


class Undecodable(MeshswarmError):
    """The bytes are not a value of the expected type."""

    code = "undecodable"


@cache
def _converter(lenient: bool) -> Cbor2Converter:
    converter = make_converter(
        omit_if_default=True, forbid_extra_keys=not lenient, detailed_validation=False
    )
    # Left to itself it would call the class: "7" and 7.9 are 7 then, 1e30 a number that no other
    # manager can read, and infinity an error of its own.
    for kind in (bool, int, str, bytes):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _real)
    return converter


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    """The hook of a plain type, and of the enumerations whose members are of it."""

    def exactly(plain: Any, wanted: Any) -> Any:
        if type(plain) is not kind:
            raise TypeError(f"{plain!r:.100} is no {kind.__name__}")
        return plain if wanted is kind else wanted(plain)

    return exactly


def _real(plain: Any, _: Any) -> float:
    if type(plain) is not float and type(plain) is not int:
        raise TypeError(f"{plain!r:.100} is no number")
    return float(plain)


def register_union(union: Any) -> None:
    """Let `union` (`A | B | ...` of attrs classes) be encoded and decoded, tagged by class name."""
    members = {member.__name__: member for member in get_args(union)}
    for lenient in (False, True):
        _register(union, members, _converter(lenient))


def _register(union: Any, members: dict[str, type], converter: Cbor2Converter) -> None:
    """The hooks of one converter; cattrs' own strategy for this takes twice as long."""

    @cache
    def structuring(name: str) -> Callable[[Any, Any], Any]:
        return converter.get_structure_hook(members[name])

    @cache
    def unstructuring(name: str) -> Callable[[Any], Any]:
        return converter.get_unstructure_hook(members[name])

    def structure_member(plain: Any, _: Any) -> Any:
        name = plain.pop(TAG)
        try:
            return structuring(name)(plain, members[name])
        finally:
            plain[TAG] = name  # the caller's map is as it was

    def unstructure_member(value: Any) -> Any:
        name = type(value).__name__
        plain = unstructuring(name)(value)
        plain[TAG] = name
        return plain

    converter.register_structure_hook(union, structure_member)
    converter.register_unstructure_hook(union, unstructure_member)


def structure_by(cls: type[T], hook: Callable[[Any, Any], T]) -> None:
    """Let `hook` make a `cls` of plain values: for what is decoded by the ten thousand a second.

    It must refuse what the general way does, with `KeyError`, `TypeError` or `ValueError`.
    """
    for lenient in (False, True):
        _converter(lenient).register_structure_hook(cls, hook)


def hook_for(
    wanted: Any, *, structure: Callable[[Any], Any], unstructure: Callable[[Any], Any]
) -> None:
    """Encode and decode values of exactly this type, which need not be a class, by these."""
    for lenient in (False, True):
        converter = _converter(lenient)
        converter.register_structure_hook_func(
            lambda found: found == wanted, lambda plain, _: structure(plain)
        )
        converter.register_unstructure_hook_func(lambda found: found == wanted, unstructure)


def dumps(plain: object) -> bytes:
    """Plain values (numbers, texts, bytes, lists, maps) as canonical CBOR."""
    return cbor2.dumps(plain, canonical=True)


dumps_in_order: Callable[[object], bytes] = cbor2.dumps
"""As CBOR, maps in the order that they have: a third of the time that sorting each takes.

For what is sent or logged and then only read; equal values may come out as different bytes.
"""


class Encoded(bytes):
    """The encoding of a plain value, where the value itself could stand: it is sent as it is."""

    __slots__ = ()


# What is sent or logged for each single command is put together of these, in a quarter of the
# library's time with cold caches (RFC 8949 section 3).

WIDE = 0x1B
"""Before a whole number of 8 bytes, which `struct` packs."""

NONE, NO_ITEMS = b"\xf6", b"\x80"
"""None, and an empty array."""

TEXT = 0x60
"""Added to the length of a text of fewer than `SHORT` bytes, this is what precedes it."""

SHORT = 24
"""The length from which on texts, byte strings, arrays and maps have it in bytes of its own."""


def number(value: int) -> bytes:
    """A whole number of 8 bytes, not below zero."""
    return _NUMBER.pack(WIDE, value)


_NUMBER = struct.Struct(">BQ")


def text(value: str) -> bytes:
    """A text."""
    encoded = value.encode()
    return _head(TEXT, len(encoded)) + encoded


name = lru_cache(maxsize=1_000)(text)
"""A text that comes again and again."""


def array_head(length: int) -> bytes:
    """What precedes the items of an array in canonical CBOR (RFC 8949 section 3)."""
    return _head(0x80, length)


def map_head(length: int) -> bytes:
    """What precedes the keys and values of a map."""
    return _head(0xA0, length)


def bytes_head(length: int) -> bytes:
    """What precedes the bytes of a byte string."""
    return _head(0x40, length)


def short_bytes(encoded: bytes, at: int) -> bytes | None:
    """The byte string of fewer than 65,536 bytes that begins there and ends with the whole; None if
    there is anything else. Raises `IndexError` if it should begin behind the end."""
    match encoded[at] - 0x40:
        case size if 0 <= size < SHORT:
            start = at + 1
        case 0x18:
            size, start = encoded[at + 1], at + 2
        case 0x19:
            size, start = int.from_bytes(encoded[at + 1 : at + 3], "big"), at + 3
        case _:
            return None
    return encoded[start:] if start + size == len(encoded) else None


def _head(major: int, length: int) -> bytes:
    if length < SHORT:
        return bytes((major | length,))
    for width, mark in ((1, 0x18), (2, 0x19), (4, 0x1A)):
        if length < 1 << 8 * width:
            return bytes((major | mark,)) + length.to_bytes(width, "big")
    raise ValueError(f"{length} items or bytes are too many")


def loads(data: bytes) -> object:
    """The plain value that these bytes encode; raises `Undecodable`."""
    try:
        return read(data)
    except UNREADABLE as error:
        raise Undecodable(f"not valid CBOR: {error}") from error


def _refuse_tag(*_: object) -> object:
    raise ValueError("tags are not plain values")


# Left to itself the library would build dates, patterns, addresses, numbers of any size, and lists
# that hold themselves.
_REFUSED_TAGS = dict.fromkeys(
    (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000),
    _refuse_tag,
)

UNREADABLE = (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError)
"""What `read` raises."""

read = partial(
    cbor2.loads,
    tag_hook=_refuse_tag,
    semantic_decoders=_REFUSED_TAGS,
    max_depth=MAX_DEPTH,
    allow_indefinite=False,
    allow_duplicate_keys=False,
)
"""As `loads`, with the library's own errors: for the mesh, whose every message is read."""


def encode(value: object, as_type: Any = None) -> bytes:
    """`value` as canonical CBOR; `as_type` names the union that it belongs to, if any."""
    plain = unstructure(value, as_type)
    try:
        return cbor2.dumps(_in_order(plain))
    except _NotSortable:
        return dumps(plain)


class _NotSortable(Exception):
    """Something whose canonical encoding is left to the library."""


_ATOMS = frozenset((str, bytes, int, bool, type(None)))
"""What has one encoding only, whether canonical or not."""


def _in_order(plain: Any) -> Any:
    """The same with every map in canonical order; the library sorts the keys of each map anew,
    which takes longer than all the rest."""
    kind = type(plain)
    if kind in _ATOMS:
        return plain
    if kind is dict:
        return {name: _in_order(plain[name]) for name in _canonical_order(tuple(plain))}
    if kind is list or kind is tuple:
        return [_in_order(item) for item in plain]
    raise _NotSortable


@lru_cache(maxsize=1_000)
def _canonical_order(names: tuple[Any, ...]) -> tuple[str, ...]:
    """Texts in the order of their encodings (RFC 7049 section 3.9): the shorter one first."""
    if not all(type(name) is str for name in names):
        raise _NotSortable  # what is raised is not kept: 1 and True are equal, but no texts
    return tuple(sorted(names, key=_encoded_text))


def _encoded_text(text: str) -> tuple[int, bytes]:
    encoded = text.encode()
    return len(encoded), encoded


def decode(data: bytes, as_type: type[T], *, lenient: bool = False) -> T:
    """The `as_type` that `data` encodes; raises `Undecodable` for anything else."""
    value: T = structure(loads(data), as_type, lenient=lenient)
    return value


def unstructure(value: object, as_type: Any = None) -> Any:
    """`value` as plain CBOR-able values."""
    return _converter(False).unstructure(value, unstructure_as=as_type)


def structure(plain: object, as_type: Any, *, lenient: bool = False) -> Any:
    """The `as_type` that these plain values describe; raises `Undecodable`."""
    try:
        return _converter(lenient).structure(plain, as_type)
    except (
        cattrs.BaseValidationError,
        cattrs.errors.StructureHandlerNotFoundError,
        cattrs.errors.ForbiddenExtraKeysError,
        ArithmeticError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise Undecodable(f"not a {_told(plain, as_type)}: {error!r:.300}") from error


def _told(plain: object, as_type: Any) -> str:
    """What it should have been, in a few words: of a union's dozens the one that it says it is."""
    if get_args(as_type) and isinstance(plain, dict):
        return f"{plain.get(TAG, 'member of a union')!s:.60}"
    return f"{getattr(as_type, '__name__', as_type)!s:.60}"
