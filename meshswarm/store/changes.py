"""Which rows an entry wrote or deleted: a set of keys, of hundreds of rows at once as well."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from meshswarm.store.view import Key, Table

Changed = Set[Key]
"""The keys of rows that changed, as a set or by table."""

NOTHING: Changed = frozenset[Key]()


class ByTable(Set[Key]):
    """Keys by table: of hundreds in one table a key each is made only if somebody looks."""

    __slots__ = ("_length", "names")

    def __init__(self, names: Mapping[Table, Set[str]]) -> None:
        self.names = names
        self._length = sum(map(len, names.values()))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Key]:
        return ((table, name) for table, names in self.names.items() for name in names)

    def __contains__(self, key: object) -> bool:
        match key:
            case (Table() as table, str() as name):
                return name in self.names.get(table, ())
            case _:
                return False

    @classmethod
    def _from_iterable(cls, keys: Iterable[Key]) -> frozenset[Key]:  # type: ignore[override]
        return frozenset(keys)  # what `|` and its like make


def by_table(keys: Iterable[Key], many: Iterable[tuple[Table, Set[str]]]) -> ByTable:
    """Single keys, and names of many rows in one table, together."""
    found: dict[Table, Set[str]] = {}
    for table, names in many:
        found[table] = found[table] | names if table in found else names
    single: dict[Table, set[str]] = {}
    for table, name in keys:
        single.setdefault(table, set()).add(name)
    for table, names in single.items():
        found[table] = found[table] | names if table in found else names
    return ByTable(found)


def merged(changed: Sequence[Changed]) -> Changed:
    """The keys of several entries."""
    if len(changed) == 1:
        return changed[0]
    many = [keys for keys in changed if type(keys) is ByTable]
    rest = frozenset[Key]().union(*(keys for keys in changed if type(keys) is not ByTable))
    return by_table(rest, [pair for keys in many for pair in keys.names.items()]) if many else rest


def tables_of(changed: Changed) -> Set[Table]:
    """The tables that rows changed in."""
    if isinstance(changed, ByTable):
        return changed.names.keys()
    return {table for table, _ in changed}
