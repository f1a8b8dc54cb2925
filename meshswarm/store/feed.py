"""The change feed: what turns a watcher's copy of some tables into the newer one.

A watcher holds a `View` of the tables it asked for and applies each `Delta` to it; deltas carry
whole rows, so a watcher that missed some is sent a fresh copy and is right again.
"""

from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen
from immutables import Map

from meshswarm import codec
from meshswarm.codec import Undecodable
from meshswarm.ids import Index, JobId, NodeId, ServiceId, TaskId, Term
from meshswarm.model.config import Config
from meshswarm.model.file import KeptFile, Secret, SecretsKey
from meshswarm.model.job import Job, Run
from meshswarm.model.node import Node
from meshswarm.model.rollout import Rollout
from meshswarm.model.service import Revision, Service
from meshswarm.model.stack import Stack
from meshswarm.model.task import Task
from meshswarm.store.config_table import packed
from meshswarm.store.slices import decode_view
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import Key, Table, View


@frozen(kw_only=True)
class Delta:
    """Rows written and rows deleted on the way to `index`."""

    index: Index
    term: Term
    clock_ms: int
    nodes: tuple[Node, ...] = ()
    services: tuple[Service, ...] = ()
    revisions: tuple[Revision, ...] = ()
    stacks: tuple[Stack, ...] = ()
    tasks: tuple[Task, ...] = ()
    configs: tuple[Config, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    secrets: tuple[Secret, ...] = ()
    kept_files: tuple[KeptFile, ...] = ()
    secrets_keys: tuple[SecretsKey, ...] = ()
    runs: tuple[Run, ...] = ()
    jobs: tuple[Job, ...] = ()
    deleted: tuple[tuple[str, str], ...] = ()
    """(table, key) of each deleted row; revisions go with their service's last task."""


def deltas_of(
    view: View, changed: Iterable[Key], tables: frozenset[Table], most: int
) -> Iterator[Delta]:
    """The same as `delta_of`, so many rows at a time, of which only all together make the newer
    copy; what was deleted comes first. There is none if
    no row differs."""
    keys = [key for key in changed if key[0] in tables]
    keys.sort(key=lambda key: (row_of(view, *key) is not None, key[0].value, key[1]))
    for at in range(0, len(keys), most):
        yield delta_of(view, keys[at : at + most], tables)


def delta_of(view: View, changed: Iterable[Key], tables: frozenset[Table]) -> Delta:
    """The delta that brings a copy of `tables` up to `view`, given the keys that changed since."""
    rows: dict[str, list[object]] = {}
    deleted: list[tuple[str, str]] = []
    for table, key in sorted(changed, key=lambda item: (item[0].value, item[1])):
        if table not in tables:
            continue
        row = row_of(view, table, key)
        if row is None:
            deleted.append((table.value, key))
        else:
            rows.setdefault(table.value, []).append(row)
    return Delta(
        index=view.index,
        term=view.term,
        clock_ms=view.clock_ms,
        deleted=tuple(deleted),
        # A delta's fields are named as the tables are, and `row_of` looked in that one.
        **{name: tuple(found) for name, found in rows.items()},  # type: ignore[arg-type]
    )


def follow(view: View, delta: Delta) -> View:  # noqa: C901, PLR0912 -- a table
    """The watcher's next copy; raises `Undecodable` if the delta deletes what can be no row."""
    transaction = Transaction(view, delta.index, delta.term, delta.clock_ms, replaying=True)
    # Deletions first: a name that was freed may have been taken anew.
    for table, key in delta.deleted:
        try:
            _delete(transaction, Table(table), key)
        except ValueError as error:
            raise Undecodable(f"no row that could be deleted: {table} {key:.100}") from error
    for node in delta.nodes:
        transaction.put_node(node)
    for service in delta.services:
        transaction.put_service(service)
    for revision in delta.revisions:
        transaction.put_revision(revision)
    for stack in delta.stacks:
        transaction.put_stack(stack)
    for task in delta.tasks:
        transaction.put_task(task)
    names = [config.name for config in delta.configs]
    transaction.put_configs(names, map(packed, delta.configs))
    for rollout in delta.rollouts:
        transaction.put_rollout(rollout)
    for secret in delta.secrets:
        transaction.put_secret(secret)
    for kept in delta.kept_files:
        transaction.put_kept_file(kept)
    for row in delta.secrets_keys:
        transaction.put_secrets_key(row)
    for run in delta.runs:
        transaction.put_run(run)
    for job in delta.jobs:
        transaction.put_job(job)
    return transaction.view


def looked_up(delta: Delta, keys: Sequence[Key]) -> list[object | None]:
    """The rows under these keys, of a delta that holds what is under them and nothing else."""
    if len(keys) == 1:
        ((table, _),) = keys
        (row,) = getattr(delta, table.value) or (None,)
        return [row]
    view = follow(View(), delta)
    return [row_of(view, table, key) for table, key in keys]


class Copy:
    """A watcher's copy, as it is told piece by piece: whole tables in slices, then deltas."""

    def __init__(self) -> None:
        self._slices: list[bytes] = []
        self._view = View()

    def take(self, kind: object, data: bytes) -> View | None:
        """Take a piece in; the newer view, if it is whole with that. Raises `Undecodable`."""
        match kind:
            case ["copy", bool() as is_whole]:
                self._slices.append(data)
                if is_whole:
                    self._view, self._slices = decode_view(b"".join(self._slices)), []
            case ["delta", bool() as is_whole]:
                self._view = follow(self._view, codec.decode(data, Delta))
            case _:
                raise Undecodable(f"neither a copy nor a delta: {kind!r:.100}")
        return self._view if is_whole else None


def row_of(view: View, table: Table, key: str) -> object | None:  # noqa: C901 -- a table
    """The row under this key, if there is one."""
    match table:
        case Table.NODES:
            return view.nodes.get(NodeId(key))
        case Table.SERVICES:
            return view.services.get(ServiceId(key))
        case Table.STACKS:
            return view.stacks.get(key)
        case Table.TASKS:
            return view.tasks.get(TaskId(key))
        case Table.CONFIGS:
            return view.configs.get(key)
        case Table.ROLLOUTS:
            return view.rollouts.get(ServiceId(key))
        case Table.SECRETS:
            return view.secrets.get(key)
        case Table.KEPT_FILES:
            return view.kept_files.get(key)
        case Table.SECRETS_KEYS:
            return view.secrets_keys.get(key)
        case Table.RUNS:
            return view.runs.get(ServiceId(key))
        case Table.JOBS:
            return view.jobs.get(JobId(key))
        case Table.REVISIONS:
            owner, _, number = key.partition("/")
            numbered = view.revisions.get(ServiceId(owner), Map())
            return next((numbered[one] for one in numbered if str(one) == number), None)


def _delete(  # noqa: C901, PLR0912 -- a table
    transaction: Transaction, table: Table, key: str
) -> None:
    view = transaction.view
    match table:
        case Table.SERVICES:
            service = view.services.get(ServiceId(key))
            if service is not None:
                transaction.drop_service(service)
        case Table.STACKS:
            transaction.drop_stack(key)
        case Table.TASKS:
            task = view.tasks.get(TaskId(key))
            if task is not None:
                transaction.drop_task(task)
        case Table.CONFIGS:
            transaction.drop_config(key)
        case Table.ROLLOUTS:
            transaction.drop_rollout(ServiceId(key))
        case Table.SECRETS:
            transaction.drop_secret(key)
        case Table.KEPT_FILES:
            transaction.drop_kept_file(key)
        case Table.SECRETS_KEYS:
            transaction.drop_secrets_key(key)
        case Table.RUNS:
            transaction.drop_run(ServiceId(key))
        case Table.JOBS:
            transaction.drop_job(JobId(key))
        case Table.REVISIONS:
            owner, _, number = key.partition("/")
            transaction.drop_revision(ServiceId(owner), int(number))
        case Table.NODES:
            transaction.drop_node(NodeId(key))
