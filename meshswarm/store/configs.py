"""What putting configs does; they come by the hundred, and are carried out by the column.

A row costs a few steps of C and none of the interpreter as long as nothing about it is special;
whatever is goes the long way (`_put_each`), one command after the other. Both ways mean the same.
"""

from collections.abc import Collection, Sequence
from itertools import repeat
from operator import is_

from meshswarm.columns import Run
from meshswarm.errors import Invalid, MeshswarmError
from meshswarm.ids import Version
from meshswarm.making import maker
from meshswarm.model.config import Config
from meshswarm.model.file import FileKind, pin_key
from meshswarm.store import files
from meshswarm.store.commands import PutConfig
from meshswarm.store.config_table import newcomer, packed, rewritten, rewritten_one
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View

Effects = tuple[tuple[str, str], ...]

MAX_CONFIGS = 100_000
"""Configs in the cluster; creating one more is refused."""

MAX_CONFIG_BYTES = 1_000_000
"""Content of one config; a larger one is refused."""


def put_config(transaction: Transaction, command: PutConfig) -> Effects:
    """Create or replace one config."""
    view, name, content = transaction.view, command.name, command.data
    rows = view.configs.rows
    row = rows.get(name)
    if (
        command.version is None
        and not command.labels
        and not (view.pins and _PIN + name in view.pins)
        and len(content) <= MAX_CONFIG_BYTES
        and (len(rows) < MAX_CONFIGS if row is None else not row.endswith(content))
    ):
        row_after = rewritten_one(row, content, view.index, view.clock_ms)
        transaction.put_config(name, row_after)
        return ((name, "created" if row is None else "updated"),)
    (result,) = _put_each(transaction, (command,))
    if isinstance(result, MeshswarmError):
        raise result
    return result


def put_configs(
    transaction: Transaction, commands: Sequence[PutConfig], *, wants_effects: bool
) -> list[Effects | MeshswarmError]:
    """Carry these out one after the other, and write what comes of it in one go; what each did, or
    just that it did if nobody wants to know more."""
    if (
        isinstance(commands, Run)
        and commands.columns.keys() == _PLAIN
        and _put_all(transaction, commands.columns["name"], commands.columns["data"], wants_effects)
    ):
        if not wants_effects:
            return [()] * len(commands)
        return list(zip(zip(commands.columns["name"], repeat("updated"))))
    return _put_each(transaction, commands)


def _put_all(
    transaction: Transaction, names: list[str], contents: list[bytes], wants_effects: bool
) -> bool:
    """Give the configs other contents if each of these differs from what is there, which nobody
    pins; else False, and nothing is done. With `wants_effects` also if not each of them is plainly
    an update.

    Of several contents for one name the last stands: if that differs from what was there, it is
    a change whatever came between.
    """
    view, last = transaction.view, dict(zip(names, contents, strict=True))
    new = newcomer(view.clock_ms)
    present = list(map(view.configs.rows.get, last, repeat(new)))
    created = sum(map(is_, present, repeat(new)))
    if (
        (view.pins and any(map(view.pins.__contains__, map(_PIN.__add__, last))))
        or max(map(len, contents)) > MAX_CONFIG_BYTES
        or any(map(bytes.endswith, present, last.values()))
        or (created and (wants_effects or len(view.configs) + created > MAX_CONFIGS))
        or (wants_effects and not _all_change(names, contents, last.keys(), present))
    ):
        return False
    rows = rewritten(present, last.values(), view.index, view.clock_ms)
    transaction.put_configs(last, rows)
    return True


def _all_change(
    names: list[str], contents: list[bytes], once: Collection[str], present: list[bytes]
) -> bool:
    """Whether of the contents for one name each differs from the one before."""
    if len(once) == len(names):
        return True  # one each, and those were compared
    rows = dict(zip(once, present, strict=True))
    for name, content in zip(names, contents, strict=True):
        if rows[name].endswith(content):
            return False
        rows[name] = content
    return True


_PIN = pin_key(FileKind.CONFIG, "")
"""With a config's name behind it: by what the uses of its contents are found."""

_PLAIN = {"name", "data"}
"""The columns of commands that neither have labels nor name a version."""


def _put_each(
    transaction: Transaction, commands: Sequence[PutConfig]
) -> list[Effects | MeshswarmError]:
    view, created = transaction.view, 0
    configs, version, now_ms = view.configs, Version(view.index), view.clock_ms
    written: dict[str, Config] = {}
    results: list[Effects | MeshswarmError] = []
    for command in commands:
        name, data, labels = command.name, command.data, command.labels
        present = written.get(name) or configs.get(name)
        if present is None or command.version is not None or len(data) > MAX_CONFIG_BYTES:
            try:
                _check_config(view, command, present, created)
            except MeshswarmError as error:
                results.append(error)
                continue
        if present is None:
            created += 1
            created_at_ms, effect = now_ms, "created"
        elif present.data == data and present.labels == labels:
            results.append(((name, "unchanged"),))
            continue
        else:
            created_at_ms, effect = present.created_at_ms, "updated"
            if view.pins:
                files.keep_pinned(transaction, present)
        written[name] = _config(name, data, labels, version, created_at_ms, now_ms)
        results.append(((name, effect),))
    transaction.put_configs(written, map(packed, written.values()))
    return results


_config = maker(Config)
"""Of name, data, labels, version, and the times when it was created and updated."""


def _check_config(view: View, command: PutConfig, present: Config | None, created: int) -> None:
    """Raise why it cannot be put; `created` others are new in this transaction."""
    if command.version is not None:
        files.check_version(FileKind.CONFIG, command.name, present, command.version)
    if len(command.data) > MAX_CONFIG_BYTES:
        size = len(command.data)
        raise Invalid(
            f"config {command.name} holds {size} bytes; at most {MAX_CONFIG_BYTES} are kept"
        )
    if present is None and len(view.configs) + created >= MAX_CONFIGS:
        raise Invalid(f"the cluster has {MAX_CONFIGS} configs, its limit")
