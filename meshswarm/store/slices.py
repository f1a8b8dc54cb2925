"""Views as bytes: in slices, so that a large one is written and read a little at a time."""

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from heapq import merge
from itertools import accumulate, chain, islice
from typing import Any, get_args

from meshswarm import codec
from meshswarm.ids import Index, Term
from meshswarm.model.config import Config
from meshswarm.model.file import KeptFile, Secret, SecretsKey
from meshswarm.model.job import Job, Run
from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout
from meshswarm.model.service import Revision, Service
from meshswarm.model.stack import Stack
from meshswarm.model.task import Task
from meshswarm.store.config_table import Configs, checked
from meshswarm.store.outcome import ClientSession
from meshswarm.store.view import Id, Row, Table, View, ViewBuilder

_ROWS: tuple[type[Row], ...] = get_args(Row)
"""The tables in the order in which a view is encoded, each by the class of its rows. A new one goes
to the end: its place is what the bytes say of it.
"""

_KINDS: dict[Table, type[Row]] = {
    Table.NODES: Node,
    Table.SERVICES: Service,
    Table.REVISIONS: Revision,
    Table.STACKS: Stack,
    Table.TASKS: Task,
    Table.CONFIGS: Config,
    Table.ROLLOUTS: Rollout,
    Table.SECRETS: Secret,
    Table.KEPT_FILES: KeptFile,
    Table.SECRETS_KEYS: SecretsKey,
    Table.RUNS: Run,
    Table.JOBS: Job,
}

_CONFIGS = _ROWS.index(Config)
_BY_ROW = frozenset(range(len(_ROWS))) - {_CONFIGS}
"""The tables whose slices have a map for each row; configs are packed already."""

CONFIGS_AT_ONCE = 1_024
"""Configs gathered before they are cut into slices; of small ones, one slice."""

SLICE_BYTES = 64 << 10
"""A slice of an encoded view ends with the row that passes this size."""

_SORTED_AT_ONCE = 8_192
"""Keys sorted in one go: sorting lets no other thread run, and a view may have millions."""

_MERGED_AT_ONCE = 4
"""So many of these merged in one go, in a fifth of the time."""

_LENGTH = struct.Struct(">I")
_ARRAY = struct.Struct(">BI")


def view_slices(view: View, tables: frozenset[Table] | None = None) -> Iterator[bytes]:
    """The view in slices of canonical bytes: equal views, equal slices. Of these tables alone, if
    any are named: then clients' sessions, which are in no table, are left out too.

    Each takes a few milliseconds at most, so that a thread which encodes a large view leaves the
    others room. The first tells the position and how many rows follow, the others hold rows of one
    table, in key order.
    """
    forgotten_at = int(view.forgotten_at) if tables is None else 0
    position = [int(view.index), int(view.term), view.clock_ms, forgotten_at]
    kinds = frozenset(_ROWS if tables is None else map(_KINDS.__getitem__, tables))
    yield codec.dumps([*position, _count_rows(view, kinds)])
    for number, kind in enumerate(_ROWS):
        if kind not in kinds:
            continue
        if kind is Config:
            yield from _config_slices(number, view.configs)
            continue
        rows: list[bytes] = []
        size = 0
        for row in _sorted_rows(view, kind):
            rows.append(codec.encode(row))
            size += len(rows[-1])
            if size >= SLICE_BYTES:
                yield _slice(number, rows)
                rows, size = [], 0
        if rows:
            yield _slice(number, rows)


def _count_rows(view: View, kinds: frozenset[type[Row]]) -> int:
    counts = {kind: len(table) for kind, table in _maps(view).items()}
    counts[Revision] = sum(map(len, view.revisions.values())) if Revision in kinds else 0
    return sum(counts[kind] for kind in kinds)


def _slice(table: int, rows: list[bytes]) -> bytes:
    """The CBOR array [table, [row, ...]], its rows as they are encoded already."""
    return b"".join((b"\x82", codec.dumps(table), _ARRAY.pack(0x9A, len(rows)), *rows))


def _config_slices(table: int, configs: Configs) -> Iterator[bytes]:
    """The configs as [table, [name, ...], [packed row, ...]]; a slice ends as others do, or with
    the last of `CONFIGS_AT_ONCE`."""
    sorted_names = _sorted_keys(configs.rows)
    while names := list(islice(sorted_names, CONFIGS_AT_ONCE)):
        rows = list(map(configs.rows.__getitem__, names))
        ends, at = list(accumulate(map(len, rows))), 0
        while at < len(names):
            begin = ends[at - 1] if at else 0
            end = bisect_left(ends, begin + SLICE_BYTES, at) + 1
            yield codec.dumps_in_order([table, names[at:end], rows[at:end]])
            at = end


def _sorted_rows(view: View, kind: type[Row]) -> Iterator[Row]:
    if kind is Revision:
        for service_id in _sorted_keys(view.revisions):
            numbered = view.revisions[service_id]
            for number in sorted(numbered):
                yield numbered[number]
        return
    table = _maps(view)[kind]
    for key in _sorted_keys(table):
        yield table[key]


def _maps(view: View) -> dict[type[Row], Mapping[Any, Any]]:
    """The tables by the class of their rows; of revisions there are several."""
    return {
        Node: view.nodes,
        Service: view.services,
        Stack: view.stacks,
        Task: view.tasks,
        ClientSession: view.clients,
        Config: view.configs,
        Rollout: view.rollouts,
        Secret: view.secrets,
        KeptFile: view.kept_files,
        SecretsKey: view.secrets_keys,
        Run: view.runs,
        Job: view.jobs,
    }


def _sorted_keys(table: Mapping[Id, Any]) -> Iterator[Id]:
    keys = iter(table)
    runs: list[list[Id]] = []
    while run := sorted(islice(keys, _SORTED_AT_ONCE)):
        runs.append(run)
    if len(runs) <= _MERGED_AT_ONCE:
        return iter(sorted(chain.from_iterable(runs)))  # which sees that they are runs
    return merge(*runs)


def encode_view(view: View) -> bytes:
    """The view as canonical bytes: equal views, equal bytes."""
    return b"".join(map(framed, view_slices(view)))


def framed(part: bytes) -> bytes:
    """A slice as it stands in what `decode_view` reads."""
    return _LENGTH.pack(len(part)) + part


def decode_view(data: bytes) -> View:
    """The view that these bytes hold, its indexes rebuilt; raises `Undecodable`."""
    return view_of_slices(_cut(data))


def _cut(data: bytes) -> Iterator[bytes]:
    at, end = 0, len(data)
    while at < end:
        if at + _LENGTH.size > end:
            raise codec.Undecodable(f"the view ends within a length, at byte {at}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        if at > end:
            raise codec.Undecodable(f"a slice of {length} bytes reaches beyond the view's end")
        yield data[at - length : at]


def view_of_slices(slices: Iterable[bytes]) -> View:
    """The view whose slices these are; raises `Undecodable`."""
    parts = iter(slices)
    match codec.loads(next(parts, b"")):
        case [
            int() as index,
            int() as term,
            int() as clock_ms,
            int() as forgotten_at,
            int() as left,
        ] if min(index, term, forgotten_at) >= 0:
            base = View(
                index=Index(index),
                term=Term(term),
                clock_ms=clock_ms,
                forgotten_at=Index(forgotten_at),
            )
            builder = ViewBuilder(base)
        case other:
            raise codec.Undecodable(f"not the position of a view: {other!r:.100}")
    for part in parts:
        match codec.loads(part):
            case [int() as table, list() as rows] if table in _BY_ROW:
                kind, left = _ROWS[table], left - len(rows)
                for row in rows:
                    builder.put(codec.structure(row, kind))
            case [int() as table, list() as names, list() as rows] if table == _CONFIGS:
                left -= len(rows)
                builder.put_configs(checked(names, rows))
            case other:
                raise codec.Undecodable(f"not rows of a table: {other!r:.100}")
    if left:
        raise codec.Undecodable(f"{left} rows less than the view has")
    return builder.view()
