"""What commands do to configs and secrets, and which content a service is given.

A service names a config; the store pins the content that the config had when it took the service
in, so a revision always means the same bytes. Content that its row no longer has is kept as long as
a revision pins it (`KeptFile`).
"""

from collections import Counter
from collections.abc import Collection, Iterable

from attrs import evolve

from meshswarm.answers import FileRow
from meshswarm.errors import Conflict, Invalid, MeshswarmError, NotFound
from meshswarm.ids import NodeId, ServiceId, Version
from meshswarm.model.config import Config
from meshswarm.model.file import FileKind, FileUse, KeptFile, Secret, SecretsKey, pin_key
from meshswarm.model.service import ServiceSpec, TaskSpec
from meshswarm.model.stack import Stack, StackSpec
from meshswarm.store.commands import PutSecret, PutSecretsKey, RemoveConfig, RemoveSecret
from meshswarm.store.transaction import Transaction
from meshswarm.store.view import View, revision_key

Effects = tuple[tuple[str, str], ...]

MAX_SECRETS = 10_000
"""Secrets in the cluster; creating one more is refused."""

MAX_SECRET_BYTES = 500_000
"""Content of one secret; a larger one is refused."""

SEAL_BYTES = 100
"""What sealing may add to it."""

MAX_FILES = 100
"""Configs and secrets of one service; more are refused."""


# --- what commands do -------------------------------------------------------------------------


def put_secret(transaction: Transaction, command: PutSecret) -> Effects:
    """Create or replace one secret."""
    view, name = transaction.view, command.name
    present = view.secrets.get(name)
    if command.version is not None:
        check_version(FileKind.SECRET, name, present, command.version)
    if len(command.sealed) > MAX_SECRET_BYTES + SEAL_BYTES:
        raise Invalid(f"secret {name} is too large; at most {MAX_SECRET_BYTES} bytes are kept")
    if command.key_id not in view.secrets_keys:
        raise Conflict(f"secret {name} was sealed with a key that the cluster does not have")
    if present is None:
        if len(view.secrets) >= MAX_SECRETS:
            raise Invalid(f"the cluster has {MAX_SECRETS} secrets, its limit")
        created_at_ms, effect = view.clock_ms, "created"
    elif present.digest == command.digest and present.labels == command.labels:
        return ((name, "unchanged"),)
    else:
        created_at_ms, effect = present.created_at_ms, "updated"
        keep_pinned(transaction, present)
    transaction.put_secret(
        Secret(
            name=name,
            sealed=command.sealed,
            digest=command.digest,
            key_id=command.key_id,
            labels=command.labels,
            version=Version(view.index),
            created_at_ms=created_at_ms,
            updated_at_ms=view.clock_ms,
        )
    )
    return ((name, effect),)


def put_secrets_key(transaction: Transaction, command: PutSecretsKey) -> Effects:
    """Keep the first key that is made; later ones are refused, further copies of it are added."""
    view = transaction.view
    present = view.secrets_keys.get(command.key_id)
    if view.secrets_keys and present is None:
        raise Conflict("the cluster has a key for secrets already")
    if present is None:
        present = SecretsKey(id=command.key_id, sealed_for={}, created_at_ms=view.clock_ms)
    added = dict(command.sealed_for) | dict(present.sealed_for)
    transaction.put_secrets_key(evolve(present, sealed_for=added))
    return (("secrets key", "updated"),)


def remove_config(transaction: Transaction, command: RemoveConfig) -> Effects:
    """Drop one config that nobody uses."""
    return _remove(transaction, FileKind.CONFIG, command.name)


def remove_secret(transaction: Transaction, command: RemoveSecret) -> Effects:
    """Drop one secret that nobody uses."""
    return _remove(transaction, FileKind.SECRET, command.name)


def _remove(transaction: Transaction, kind: FileKind, name: str) -> Effects:
    """Old revisions cannot be gone back to any more if they use it: gone is gone."""
    view = transaction.view
    if view.file(kind, name) is None:
        raise NotFound(f"there is no {kind.value} {name!r}", hint=f"meshswarm {kind.value} ls")
    if used_by := users_of(view, kind, name):
        raise _in_use(kind, name, used_by)
    _drop(transaction, kind, name)
    for version in sorted(view.pins.get(pin_key(kind, name), ())):
        transaction.drop_kept_file(f"{pin_key(kind, name)}/{version}")
    return ((name, "removed"),)


def _in_use(kind: FileKind, name: str, used_by: Collection[str]) -> Conflict:
    users = ", ".join(sorted(used_by)[:5])
    more = f" and {len(used_by) - 5} more" if len(used_by) > 5 else ""
    return Conflict(
        f"{kind.value} {name} is in use by {users}{more}",
        hint="remove it from those services first, or remove them",
    )


def check_version(
    kind: FileKind, name: str, present: Config | Secret | None, wanted: Version
) -> None:
    """Raise `Conflict` unless that is the row's version; 0: there is no row."""
    if present is None and wanted == 0:
        return
    if present is None:
        raise Conflict(f"{kind.value} {name} is gone, not at {wanted}")
    if wanted == 0:
        raise Conflict(
            f"there is a {kind.value} {name} already",
            hint=f"meshswarm {kind.value} update {name} FILE",
        )
    if present.version != wanted:
        raise Conflict(f"{kind.value} {name} is at version {present.version}, not at {wanted}")


# --- a stack's own ----------------------------------------------------------------------------


def check_own(view: View, spec: StackSpec) -> None:
    """Raise `Conflict` unless the stack's own configs and secrets are there, and no other's."""
    for kind, names in _own(spec):
        for name in names:
            if view.file(kind, name) is None:
                raise Conflict(
                    f"{kind.value} {name} of stack {spec.name} is not there any more",
                    hint="deploy again",
                )
            for other in view.stacks.values():
                if other.name != spec.name and name in dict(_own(other))[kind]:
                    raise Conflict(f"{kind.value} {name} belongs to stack {other.name}")


def drop_own(transaction: Transaction, stack: Stack, spec: StackSpec | None) -> Effects:
    """Drop what the stack no longer has; `Conflict` if a service outside of it uses that."""
    kept = dict(_own(spec)) if spec is not None else {}
    effects: list[tuple[str, str]] = []
    for kind, names in _own(stack):
        for name in names:
            if name in kept.get(kind, ()) or transaction.view.file(kind, name) is None:
                continue
            view = transaction.view
            own = {service.spec.name for service in view.services_of(stack.name)}
            own |= {task.service_name for task in view.tasks.values() if task.stack == stack.name}
            if others := users_of(view, kind, name) - own:
                raise _in_use(kind, name, others)
            _drop(transaction, kind, name)
            effects.append((name, "removed"))
    return tuple(effects)


def _own(stack: Stack | StackSpec) -> tuple[tuple[FileKind, tuple[str, ...]], ...]:
    return (FileKind.CONFIG, stack.configs), (FileKind.SECRET, stack.secrets)


# --- content ----------------------------------------------------------------------------------


def keep_pinned(transaction: Transaction, row: Config | Secret) -> None:
    """Keep the row's content if a revision uses it: the row is about to lose it."""
    kind = FileKind.CONFIG if isinstance(row, Config) else FileKind.SECRET
    if row.version not in transaction.view.pins.get(pin_key(kind, row.name), ()):
        return
    kept = KeptFile(kind=kind, name=row.name, version=row.version, data=_bytes_of(row))
    if isinstance(row, Secret):
        kept = evolve(kept, digest=row.digest, key_id=row.key_id)
    transaction.put_kept_file(kept)


def _drop(transaction: Transaction, kind: FileKind, name: str) -> None:
    row = transaction.view.file(kind, name)
    assert row is not None, f"there is no {kind.value} {name}"
    keep_pinned(transaction, row)
    if kind is FileKind.CONFIG:
        transaction.drop_config(name)
    else:
        transaction.drop_secret(name)


def _bytes_of(row: Config | Secret | KeptFile) -> bytes:
    return row.sealed if isinstance(row, Secret) else row.data


def _is_same(one: Config | Secret | KeptFile, other: Config | Secret | KeptFile) -> bool:
    """Whether two rows of one kind hold equal contents."""
    if isinstance(one, Config):
        return one.data == _bytes_of(other)
    assert not isinstance(other, Config), f"{one.name} and {other.name} are of one kind"
    return one.digest == other.digest


def users_of(view: View, kind: FileKind, name: str) -> set[str]:
    """The services that may need it: it is in their spec, in what they may be turned back to while
    a rollout is under way, or a task of theirs that is not over has it."""
    found: set[str] = set()
    for keys in view.pins.get(pin_key(kind, name), {}).values():
        for key in keys:
            owner, _, number = key.partition("/")
            if (user := _user(view, ServiceId(owner), int(number))) is not None:
                found.add(user)
    return found


def services_using(view: View, kind: FileKind, name: str) -> list[ServiceId]:
    """The services whose present or earlier revisions use it, in the order of their names."""
    keys = (key for pins in view.pins.get(pin_key(kind, name), {}).values() for key in pins)
    owners = {ServiceId(key.partition("/")[0]) for key in keys}
    present = [view.services[owner] for owner in owners if owner in view.services]
    return [service.id for service in sorted(present, key=lambda each: each.spec.name)]


def _user(view: View, service_id: ServiceId, number: int) -> str | None:
    """The name of the service, if this revision of it still matters."""
    service, rollout = view.services.get(service_id), view.rollouts.get(service_id)
    if service is not None:
        back_to = rollout.stable_revision if rollout is not None and rollout.is_under_way else None
        if number in (service.revision, back_to):
            return service.spec.name
    for task in view.tasks_of(service_id):
        if task.revision == number and not task.status.state.is_terminal:
            return task.service_name
    return None


# --- what services are given ------------------------------------------------------------------


def pinned(view: View, spec: ServiceSpec, present: ServiceSpec | None) -> ServiceSpec:
    """The spec with the newest content where it asks for that; what it has of equal content stays.

    Raises `NotFound` for what does not exist.
    """
    if not spec.task.files:
        return spec
    if len(spec.task.files) > MAX_FILES:
        raise Invalid(f"service {spec.name} uses {len(spec.task.files)} files; at most {MAX_FILES}")
    had = present.task.files if present is not None else ()
    files = tuple(_pinned(view, spec.name, use, had) for use in spec.task.files)
    return evolve(spec, task=evolve(spec.task, files=files))


def _pinned(view: View, service: str, use: FileUse, had: Iterable[FileUse]) -> FileUse:
    kind, source = use.kind.value, use.source
    if use.version:
        if view.content(use) is None:
            raise NotFound(f"service {service} uses content of {kind} {source} that is gone")
        return use
    newest = view.file(use.kind, source)
    if newest is None:
        raise NotFound(
            f"service {service} uses {kind} {source!r}, which does not exist",
            hint=f"meshswarm {kind} create {source} FILE",
        )
    for before in had:
        if (before.kind, before.source) == (use.kind, source):
            kept = view.content(before)
            if kept is not None and _is_same(newest, kept):
                return evolve(use, version=before.version)
    return evolve(use, version=newest.version)


def unpinned(spec: ServiceSpec, kind: FileKind, name: str) -> ServiceSpec | None:
    """The spec asking for the newest content of this one; None if it does not use it."""
    files = spec.task.files
    if not any(use.kind is kind and use.source == name for use in files):
        return None
    asking = tuple(
        evolve(use, version=Version(0)) if use.kind is kind and use.source == name else use
        for use in files
    )
    return evolve(spec, task=evolve(spec.task, files=asking))


def is_reload(before: TaskSpec, after: TaskSpec) -> bool:
    """Whether running tasks can be given `after` in place: nothing but contents differ."""
    return after.reload is not None and _without_contents(before) == _without_contents(after)


def _without_contents(task: TaskSpec) -> TaskSpec:
    files = tuple(evolve(use, version=Version(0)) for use in task.files)
    return evolve(task, files=files, reload=None)


def is_for(view: View, node_id: NodeId, use: FileUse) -> bool:
    """Whether a task that is not over uses this content on the node: nobody else is given it."""
    pins = view.pins.get(pin_key(use.kind, use.source))
    keys = pins.get(use.version, ()) if pins is not None else ()
    return any(
        revision_key(task.service_id, task.revision) in keys
        for task in view.tasks_on(node_id)
        if not task.status.state.is_terminal
    )


def missing(view: View, service: str, task: TaskSpec) -> MeshswarmError | None:
    """Why a revision cannot run any more: what it uses was removed."""
    for use in task.files:
        if view.content(use) is None:
            return Conflict(
                f"that revision of {service} uses {use.kind.value} {use.source}, which was removed",
                hint=f"meshswarm service inspect {service}",
            )
    return None


def listing(view: View, kind: FileKind) -> list[FileRow]:
    """All configs or secrets by name, without their contents."""
    rows: Iterable[Config | Secret] = (
        view.configs.values() if kind is FileKind.CONFIG else view.secrets.values()
    )
    kept = Counter(each.name for each in view.kept_files.values() if each.kind is kind)
    return [
        FileRow(
            name=row.name,
            bytes=len(row.data) if isinstance(row, Config) else None,
            labels=row.labels,
            version=row.version,
            created_at_ms=row.created_at_ms,
            updated_at_ms=row.updated_at_ms,
            users=tuple(sorted(users_of(view, kind, row.name))),
            kept=kept[row.name],
        )
        for row in sorted(rows, key=lambda row: row.name)
    ]


def is_as_asked(asked: TaskSpec, present: TaskSpec) -> bool:
    """Whether a service runs what was asked for: the newest contents mean those that it has."""
    if len(asked.files) != len(present.files):
        return False
    pairs = zip(asked.files, present.files, strict=True)
    files = tuple(use if use.version else evolve(use, version=had.version) for use, had in pairs)
    return evolve(asked, files=files) == present
