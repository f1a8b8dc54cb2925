"""Mounts: the short texts (`data:/var/lib/data:ro`) and the long mappings.

What a mount names as its source is checked against the stack's volumes in `convert`.
"""

import posixpath
from typing import Any

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, host_path, section
from meshswarm.model.volume import Mount, MountKind

KINDS = {kind.value: kind for kind in MountKind}
PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")

_NO_EFFECT = ("rw", "cached", "delegated", "consistent")
_OPTIONS = ("ro", "rw", "z", "Z", "nocopy", *PROPAGATIONS)
_ONLY_FOR = {"bind": MountKind.BIND, "volume": MountKind.VOLUME, "tmpfs": MountKind.TMPFS}


def mounts(cursor: Cursor) -> tuple[tuple[Mount, Cursor], ...]:
    """All mounts of the list here with their places; two at one target are a fault."""
    found: dict[str, tuple[Mount, Cursor]] = {}
    for item in cursor.items():
        mount = applied(_long if item.kind == "a mapping" else _short, item)
        if mount is None:
            continue
        if mount.target in found:
            other = found[mount.target][1]
            item.fault(f"mounts at {mount.target}, where line {other.line} mounts already")
        found[mount.target] = (mount, item)
    return tuple(found.values())


def target(text: str) -> str:
    """Where a mount appears in the container: an absolute path, `.` and `..` resolved."""
    if not text.startswith("/"):
        raise Unfit(f"the target must be an absolute path, not `{text:.80}`")
    return posixpath.normpath(text)


def file_mode(cursor: Cursor) -> int:
    """Permission bits, as a number: 0440 (octal, unquoted)."""
    value = cursor.scalar()
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o7777:
        raise Unfit(f"must be permission bits such as 0770, unquoted, not {cursor.kind}")
    return value


def propagation(text: str) -> str:
    """How mounts below the bind appear on the other side."""
    if text not in PROPAGATIONS:
        raise Unfit(f"must be one of {', '.join(PROPAGATIONS)}, not `{text:.40}`")
    return text


def selinux(text: str) -> str:
    """Relabelling: z (shared) or Z (private)."""
    if text not in ("z", "Z"):
        raise Unfit(f"must be z (shared) or Z (private), not `{text:.40}`")
    return text


def _short(cursor: Cursor) -> Mount:
    text = cursor.scalar()
    if not isinstance(text, str) or not text:
        raise Unfit(f"must be a mount such as data:/data, not {cursor.kind}")
    parts = text.split(":")
    if "" in parts or len(parts) > 3:
        raise Unfit(f"`{text:.80}` is no mount; write [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) == 1:
        return Mount(kind=MountKind.VOLUME, target=target(text))
    options = parts[2].split(",") if len(parts) == 3 else []
    is_bind = parts[0][0] in "./~"
    _check_options(options, is_bind=is_bind)
    return Mount(
        kind=MountKind.BIND if is_bind else MountKind.VOLUME,
        source=host_path(cursor, parts[0]) if is_bind else parts[0],
        target=target(parts[1]),
        read_only="ro" in options,
        no_copy="nocopy" in options,
        selinux=next((option for option in options if option in ("z", "Z")), None),
        propagation=next((option for option in options if option in PROPAGATIONS), None),
    )


def _check_options(options: list[str], *, is_bind: bool) -> None:
    for option in options:
        if option not in _OPTIONS and option not in _NO_EFFECT:
            raise Unfit(f"there is no option `{option:.40}`, only {', '.join(_OPTIONS)}")
        if is_bind and option == "nocopy":
            raise Unfit("`nocopy` is for named volumes, not for paths of the host")
        if not is_bind and option in PROPAGATIONS:
            raise Unfit(f"`{option}` is for paths of the host, not for named volumes")


def _long(cursor: Cursor) -> Mount | None:
    long = section(cursor)
    missing = [key for key in ("type", "target") if long is not None and key not in long.places]
    for key in missing:
        cursor.fault(f"needs a `{key}`")
    if long is None or missing or "type" not in long.values or "target" not in long.values:
        return None
    kind, where = long.get("type"), long.get("target")
    for key, only in _ONLY_FOR.items():
        if key in long.places and only is not kind:
            long.at(key).fault(f"is for `type: {key}`, and this is `type: {kind.value}`")
    source = _source(long, kind)
    bind, volume, tmpfs = (long.get(key) for key in ("bind", "volume", "tmpfs"))
    return Mount(
        kind=kind,
        target=where,
        source=source,
        read_only=long.get("read_only", False),
        propagation=_of(bind, "propagation", None),
        selinux=_of(bind, "selinux", None),
        create_host_path=_of(bind, "create_host_path", True),
        no_copy=_of(volume, "nocopy", False),
        size_bytes=_of(tmpfs, "size", 0),
        mode=_of(tmpfs, "mode", None),
    )


def _source(long: Section, kind: MountKind) -> str | None:
    source: str | None = long.get("source")
    match kind:
        case MountKind.BIND:
            if not source and ("source" in long.values or "source" not in long.places):
                long.cursor.fault("needs a `source`, the path on the host")
            return host_path(long.at("source"), source) if source else None
        case MountKind.VOLUME:
            return source or None
        case MountKind.TMPFS:
            if source is not None:
                long.at("source").fault("a tmpfs has no source")
            return None


def _of(options: Section | None, key: str, default: Any) -> Any:
    return default if options is None else options.get(key, default)
