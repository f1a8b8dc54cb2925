"""Keys of changed rows: by table they are the same set."""

from hypothesis import given
from hypothesis import strategies as st

from meshswarm.ids import Index
from meshswarm.store.apply import apply_command
from meshswarm.store.changes import ByTable, Changed, by_table, merged, tables_of
from meshswarm.store.commands import Batch, Group, PutConfig, decode_command, encode_command
from meshswarm.store.transaction import MANY
from meshswarm.store.view import Key, Table, View

tables = st.sampled_from([Table.CONFIGS, Table.TASKS, Table.NODES])
keys = st.frozensets(st.tuples(tables, st.sampled_from("abcd")), max_size=6)
many = st.lists(st.tuples(tables, st.frozensets(st.sampled_from("cdef"), min_size=1)), max_size=3)


@given(keys, many)
def test_keys_by_table_are_the_set_of_them(
    some: frozenset[Key], more: list[tuple[Table, frozenset[str]]]
) -> None:
    whole = some | {(table, name) for table, names in more for name in names}
    found: Changed = by_table(some, more)
    assert whole == found
    assert found == whole
    assert (len(whole), whole) == (len(found), frozenset(found))
    assert {table for table, _ in whole} == tables_of(found)
    for table in Table:
        for name in "abcdefg":
            assert ((table, name) in whole) == ((table, name) in found)
    assert whole | {(Table.JOBS, "x")} == found | {(Table.JOBS, "x")}
    assert some | whole == some | found


@given(st.lists(st.tuples(keys, many, st.booleans()), max_size=4))
def test_what_several_entries_changed_is_all_of_it(
    entries: list[tuple[frozenset[Key], list[tuple[Table, frozenset[str]]], bool]],
) -> None:
    changed = [by_table(some, more) if is_by_table else some for some, more, is_by_table in entries]
    assert frozenset[Key]().union(*map(frozenset, changed)) == merged(changed)


def test_of_many_configs_no_key_each_is_made() -> None:
    puts = tuple(PutConfig(name=f"k{number}", data=b"1") for number in range(MANY))
    batch = Batch(commands=puts)
    applied = apply_command(View(index=Index(1)), decode_command(encode_command(batch)))
    assert {(Table.CONFIGS, put.name) for put in puts} == applied.changed
    assert isinstance(applied.changed, ByTable)
    again = Group(commands=(Batch(commands=puts[:2]), Batch(commands=puts[2:4])))
    few = apply_command(View(index=Index(1)), decode_command(encode_command(again)))
    assert {(Table.CONFIGS, put.name) for put in puts[:4]} == few.changed
