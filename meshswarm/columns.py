"""Values of one class side by side: a list for each attribute, in place of a map for each value.

Commands come by the hundred, most of them of one kind. As maps each of them brings its class's name
and those of its attributes along, and each is a dictionary, filled, read and thrown away: half of
what it cost to carry out a small command. In columns a run of them is

    [class name, {attribute: [the first one's, the second one's, ...], ...}]

without the columns in which all hold the default. What holds nothing but one run is left as it is
when it is decoded (`Run`): whoever carries out hundreds of commands of a kind looks at their
columns, and the commands themselves are made for nobody. Pure.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, TypeVar, cast, get_args, overload

import attrs
from attrs import frozen

from meshswarm import codec
from meshswarm.making import maker

T = TypeVar("T")

RUN_MIN = 2
"""Fewer of a kind stay maps."""

_PLAIN = (str, bytes, int, bool)
"""What CBOR holds as it is: looked at, never converted."""


class Run(Sequence[T]):
    """Values of one class, in columns; equal to a tuple of them, made when somebody looks at one.

    `columns` lacks those in which all hold the default.
    """

    __slots__ = ("_length", "_values", "columns", "kind")

    def __init__(self, kind: type[T], columns: Mapping[str, list[Any]]) -> None:
        self.kind = kind
        self.columns = columns
        self._length = len(next(iter(columns.values())))
        self._values: tuple[T, ...] | None = None

    @property
    def values(self) -> tuple[T, ...]:
        """All of them."""
        if self._values is None:
            self._values = tuple(_columns(self.kind).made(self.columns, self._length))
        return self._values

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        return self.values[place]

    def __iter__(self) -> Iterator[T]:
        return iter(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Run | tuple):
            return NotImplemented
        return self.values == (other.values if isinstance(other, Run) else other)

    def __hash__(self) -> int:
        return hash(self.values)

    def __repr__(self) -> str:
        return repr(self.values)


def joined(runs: Sequence[Sequence[T]]) -> Run[T] | None:
    """Those runs one after the other; None unless they are of one kind, and of the same columns."""
    first = runs[0]
    if not isinstance(first, Run):
        return None
    for one in runs:
        if not isinstance(one, Run) or one.kind is not first.kind:
            return None
        if one.columns.keys() != first.columns.keys():
            return None
    parts = [cast(Run[T], one).columns for one in runs]
    return Run(
        first.kind,
        {name: list(chain.from_iterable([one[name] for one in parts])) for name in first.columns},
    )


def register_sequence(member: Any) -> None:
    """Let `Sequence[member]` be encoded in columns; `member` is a registered union.

    What was encoded as maps is read as before.
    """
    sequence = Sequence[member]
    classes = {cls.__name__: cls for cls in get_args(member)}
    codec.hook_for(
        sequence,
        structure=lambda plain: _structured(plain, member, classes),
        unstructure=lambda values: _unstructured(values, member, classes),
    )


def _structured(plain: Any, member: Any, classes: dict[str, type]) -> Sequence[Any]:
    """The values of a list of maps and runs; raises as `codec.structure` has it."""
    if type(plain) is not list:
        raise TypeError(f"not a list: {plain!r:.100}")
    if len(plain) == 1 and type(plain[0]) is list:
        ((name, columns),) = plain
        return _columns(classes[name]).run(columns)
    values: list[Any] = []
    for item in plain:
        if type(item) is list:
            name, columns = item
            values += _columns(classes[name]).run(columns)
        else:
            values.append(codec.structure(item, member))
    return tuple(values)


def _unstructured(values: Sequence[Any], member: Any, classes: dict[str, type]) -> list[Any]:
    plain: list[Any] = []
    for cls, run in _runs(values):
        if len(run) < RUN_MIN or cls.__name__ not in classes or not _columns(cls).fields:
            plain += [codec.unstructure(value, member) for value in run]
        else:
            plain.append([cls.__name__, _columns(cls).encoded(run)])
    return plain


def _runs(values: Sequence[Any]) -> Iterator[tuple[type, Sequence[Any]]]:
    """What is of one class and stands together."""
    if len(set(map(type, values))) == 1:
        yield type(values[0]), values
        return
    at = 0
    for cls, some in groupby(map(type, values)):
        end = at + sum(1 for _ in some)
        yield cls, values[at:end]
        at = end


@frozen
class _Field:
    """One attribute: how its values are converted, and what stands where nothing is said."""

    name: str
    of: Callable[[Any], Any]
    type_: Any
    default: Any

    def column(self, values: Sequence[Any]) -> list[Any] | None:
        """Their values of this attribute, plain; None if all are the default."""
        found = list(map(self.of, values))
        if self.default is not attrs.NOTHING and self._is_default(found):
            return None
        if self.type_ in _PLAIN:
            return found
        return [codec.unstructure(one, self.type_) for one in found]

    def values(self, column: Any, length: int) -> list[Any]:
        """What a column says; raises `TypeError` or what conversions raise."""
        if type(column) is not list or len(column) != length:
            raise TypeError(f"not a column of {length}: {self.name}")
        if self.type_ in _PLAIN:
            if set(map(type, column)) != {self.type_}:
                raise TypeError(f"{self.name} is a {self.type_.__name__}")
            return column
        return [codec.structure(one, self.type_) for one in column]

    def defaults(self, length: int) -> list[Any]:
        """What stands there instead of a column, where there need not be one."""
        assert self.default is not attrs.NOTHING, f"{self.name} has no default"
        if isinstance(self.default, attrs.Factory):  # type: ignore[arg-type]  # a class, at run time
            return [self.default.factory()] * length  # values are frozen: they may share it
        return [self.default] * length

    def _is_default(self, found: list[Any]) -> bool:
        (default,) = self.defaults(1)
        if isinstance(default, dict | tuple) and not default:
            return not any(found)  # of these only the empty ones are false
        return found.count(default) == len(found)


class Columns:
    """The columns of one class."""

    def __init__(self, cls: type) -> None:
        attrs.resolve_types(cls)
        self.fields = [
            _Field(one.name, attrgetter(one.name), _plain_type(one.type), one.default)
            for one in attrs.fields(cls)
        ]
        self._cls = cls
        self._names = {one.name for one in self.fields}
        self._make = _made(cls)
        self._may_refuse = hasattr(cls, "__attrs_post_init__") or any(
            one.validator or one.converter for one in attrs.fields(cls)
        )

    def encoded(self, values: Sequence[Any]) -> dict[str, list[Any]]:
        """At least one column, for it says how many there are."""
        columns = {one.name: one.column(values) for one in self.fields}
        full = {name: column for name, column in columns.items() if column is not None}
        if not full:
            first = self.fields[0]
            full = {first.name: [codec.unstructure(first.of(one), first.type_) for one in values]}
        return full

    def run(self, columns: Any) -> Run[Any]:
        """What they hold; raises as `codec.structure` has it."""
        if unknown := columns.keys() - self._names:
            raise KeyError(f"no attributes: {unknown!r:.100}")
        length = len(next(iter(columns.values()), ()))
        if not length:
            raise TypeError("columns without values")
        found = {}
        for one in self.fields:
            if one.name in columns:
                found[one.name] = one.values(columns[one.name], length)
            elif one.default is attrs.NOTHING:
                raise KeyError(one.name)
        run: Run[Any] = Run(self._cls, found)
        if self._may_refuse:
            _ = run.values  # now, not when somebody carries them out
        return run

    def made(self, columns: Mapping[str, list[Any]], length: int) -> list[Any]:
        """The values that these checked columns describe."""
        found = [columns.get(one.name) or one.defaults(length) for one in self.fields]
        return list(map(self._make, *found))


_columns: Callable[[type], Columns] = cache(Columns)


def _plain_type(type_: Any) -> Any:
    """The type of what a `NewType` names, if CBOR holds it as it is."""
    inner = getattr(type_, "__supertype__", type_)
    return inner if inner in _PLAIN else type_


def _made(cls: type) -> Callable[..., Any]:
    """Makes a `cls` by position; quickly, if it is of those for which that counts."""
    if "__weakref__" not in cast(Any, cls).__slots__:
        return maker(cls)
    names = [one.alias for one in attrs.fields(cls)]
    return lambda *values: cls(**dict(zip(names, values, strict=True)))
