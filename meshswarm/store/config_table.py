"""Configs by name, as a persistent map of packed rows.

Configs are written by the hundred thousand a second, and what a write costs is the memory it
touches: so a row is one string of bytes (which the garbage collector passes over), made, compared
and put into a snapshot by the column, and a `Config` only while somebody looks at it. A row is

    created_at_ms, version, updated_at_ms: 8 bytes each; the length of the labels: 4;
    the labels as canonical CBOR, if there are some; the content
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from operator import itemgetter
from typing import Any, TypeVar, overload

from immutables import Map

from meshswarm import codec
from meshswarm.ids import Index, Version
from meshswarm.making import maker
from meshswarm.model.config import Config

T = TypeVar("T")

_HEAD = struct.Struct(">QQQI")
_STAMP = struct.Struct(">QQI")
_CREATED = struct.Struct(">Q")

_created_of = itemgetter(slice(_CREATED.size))
_labels_of, _NO_LABELS = itemgetter(slice(_HEAD.size - 4, _HEAD.size)), {bytes(4)}
_make = maker(Config)
_Labels = Mapping[str, str]


class Configs(Mapping[str, Config]):
    """Immutable; a changed one shares what is alike. `rows` are packed."""

    __slots__ = ("rows",)

    def __init__(self, rows: Map[str, bytes] | None = None) -> None:
        self.rows = _NONE if rows is None else rows

    @staticmethod
    def of(configs: Iterable[Config]) -> "Configs":
        """A table of these, by their names."""
        return Configs().updated((one.name, packed(one)) for one in configs)

    def updated(self, rows: Iterable[tuple[str, bytes]]) -> "Configs":
        """With these packed rows."""
        return Configs(self.rows.update(rows))

    @overload
    def get(self, name: str, default: None = None, /) -> Config | None: ...
    @overload
    def get(self, name: str, default: Config | T, /) -> Config | T: ...
    def get(self, name: str, default: object = None, /) -> object:
        """The config of that name, if there is one; a lookup that finds none raises nothing."""
        row = self.rows.get(name)
        return default if row is None else unpacked(name, row)

    def without(self, name: str) -> "Configs":
        """Without the config of that name, which is there."""
        return Configs(self.rows.delete(name))

    def __getitem__(self, name: str) -> Config:
        return unpacked(name, self.rows[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __eq__(self, other: object) -> bool:
        return self.rows == other.rows if isinstance(other, Configs) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.rows)

    def __repr__(self) -> str:
        return f"Configs({dict(self)!r})"


_NONE = Map[str, bytes]()


def packed(config: Config) -> bytes:
    """The row; raises `Undecodable` for numbers that none has."""
    labels = codec.encode(config.labels, _Labels) if config.labels else b""
    times = config.created_at_ms, config.version, config.updated_at_ms
    try:
        return b"".join((_HEAD.pack(*times, len(labels)), labels, config.data))
    except struct.error as error:
        raise codec.Undecodable(f"no numbers of a config: {times!r:.100}") from error


def unpacked(name: str, row: bytes) -> Config:
    """What the row says; raises `Undecodable` if it is none."""
    try:
        created_at_ms, version, updated_at_ms, length = _HEAD.unpack_from(row)
    except struct.error as error:
        raise codec.Undecodable(f"no row of a config: {row!r:.100}") from error
    end = _HEAD.size + length
    labels = codec.structure(codec.loads(row[_HEAD.size : end]), _Labels) if length else {}
    return _make(name, row[end:], labels, Version(version), created_at_ms, updated_at_ms)


def checked(names: list[Any], rows: list[Any]) -> Iterator[tuple[str, bytes]]:
    """Names and rows of a table that was encoded; raises `Undecodable` if they are none."""
    if set(map(type, names)) - {str} or set(map(type, rows)) - {bytes} or len(names) != len(rows):
        raise codec.Undecodable(f"no configs: {names!r:.100} {rows!r:.100}")
    if min(map(len, rows), default=0) < _HEAD.size or set(map(_labels_of, rows)) != _NO_LABELS:
        for name, row in zip(names, rows, strict=True):
            unpacked(name, row)
    return zip(names, rows, strict=True)


def rewritten_one(row: bytes | None, content: bytes, version: Index, now_ms: int) -> bytes:
    """That row with another content and without labels; None: one that is created now."""
    created = _CREATED.pack(now_ms) if row is None else row[: _CREATED.size]
    return b"".join((created, _STAMP.pack(version, now_ms, 0), content))


def rewritten(
    rows: Iterable[bytes], contents: Iterable[bytes], version: Index, now_ms: int
) -> Iterator[bytes]:
    """As `rewritten_one`, of many rows that are there."""
    stamp = _STAMP.pack(version, now_ms, 0)
    return map(b"".join, zip(map(_created_of, rows), repeat(stamp), contents))


def newcomer(now_ms: int) -> bytes:
    """Stands for the row that a config has before it is created."""
    return _HEAD.pack(now_ms, 0, 0, 0)
