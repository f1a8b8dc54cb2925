"""Configs and secrets: what a stack defines, and how its services use them.

A definition has its content from a file, a variable or the text itself, or it is external: made
with `meshswarm config create`. Content is read here, and put into the cluster beside the stack.
"""

import posixpath
import re
from collections.abc import Callable, Mapping

from attrs import field, frozen

from meshswarm.compose import texts
from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, section, text
from meshswarm.model.file import FileKind, FileUse, Reload
from meshswarm.model.service import RuntimeKind

MAX_BYTES = {FileKind.CONFIG: 1_000_000, FileKind.SECRET: 500_000}
"""Content of one; the store refuses a larger one as well."""

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
"""What a config or secret may be called."""

MAX_ID = 2**31 - 1
"""Largest number of a user or group."""

Read = Callable[[str], bytes | None]
"""Gives a file's content by its absolute path; None if there is no such file."""

_SOURCES = ("file", "environment", "content", "external")


@frozen(kw_only=True)
class Content:
    """A config or secret that the stack's file defines."""

    kind: FileKind
    name: str
    """Its full name in the cluster."""
    data: bytes = field(repr=False)
    labels: Mapping[str, str]


@frozen(kw_only=True)
class Definitions:
    """What a file defines of one kind."""

    kind: FileKind
    names: Mapping[str, str]
    """Full names by the names in the file; external ones too."""
    contents: tuple[Content, ...]


# --- shapes -----------------------------------------------------------------------------------


def uses(cursor: Cursor) -> tuple[tuple[Section | str, Cursor], ...]:
    """The configs or secrets that a service uses: names, or mappings; with their places."""
    found: list[tuple[Section | str, Cursor]] = []
    for item in cursor.items():
        use = applied(section if item.kind == "a mapping" else text, item)
        if use is not None:
            found.append((use, item))
    return tuple(found)


def owner(cursor: Cursor) -> int:
    """The number of a user or group, quoted or not; a name means nothing in another container."""
    value = cursor.scalar()
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:12])
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ID:
        raise Unfit(f"must be a number such as 1000, not {cursor.kind}")
    return value


def mode(cursor: Cursor) -> int:
    """Permission bits: 0440, quoted or not."""
    value = cursor.scalar()
    if isinstance(value, str):
        try:
            value = int(value, 8)
        except ValueError:
            value = None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0o777:
        raise Unfit(f"must be permission bits such as 0440, not {cursor.kind}")
    return value


def full_name(text: str) -> str:
    """A name in the cluster."""
    if not NAME.fullmatch(text):
        raise Unfit(f"`{text:.80}` is no name: letters, digits and ._- after the first, at most 64")
    return text


# --- definitions ------------------------------------------------------------------------------


def definitions(
    kind: FileKind, sections: Mapping[str, Section], stack: str, read: Read
) -> Definitions:
    """What the file defines of one kind; `read` gives a file by its absolute path."""
    names: dict[str, str] = {}
    contents: list[Content] = []
    for key, defined in sections.items():
        is_external = bool(defined.get("external"))
        name = defined.get("name", key if is_external else f"{stack}_{key}")
        names[key] = name
        if not NAME.fullmatch(name):
            defined.cursor.fault(f"`{name:.100}` is longer than 64 characters; shorten it")
        given = [source for source in _SOURCES if source in defined.places]
        if is_external:
            for other in (*given, *(k for k in ("labels",) if k in defined.places)):
                if other != "external":
                    defined.at(other).fault("an external one is not made here; remove this key")
            continue
        given = [source for source in given if source != "external"]
        if len(given) != 1:
            which = "file, environment or content"
            what = "needs" if not given else "has more than one, and needs just one, of"
            defined.cursor.fault(f"{what} {which}, or external: true")
            continue
        data = _content(defined, given[0], read)
        if data is not None and len(data) > MAX_BYTES[kind]:
            defined.at(given[0]).fault(
                f"has {len(data)} bytes; a {kind.value} has at most {MAX_BYTES[kind]}"
            )
        labels = defined.get("labels", {})
        contents.append(Content(kind=kind, name=name, data=data or b"", labels=labels))
    return Definitions(kind=kind, names=names, contents=tuple(contents))


def _content(defined: Section, source: str, read: Read) -> bytes | None:
    """The content that is defined; what cannot be had is told, and None."""
    value, place = defined.get(source), defined.at(source)
    if value is None:
        return None
    match source:
        case "content":
            return str(value).encode()
        case "environment":
            found = place.session.variables.get(value)
            if found is None:
                place.fault(f"the variable {value} is not set")
            return None if found is None else found.encode()
        case _:
            return _read(place, value, read)


def _read(place: Cursor, path: str, read: Read) -> bytes | None:
    shown = path.removeprefix(place.session.directory.rstrip("/") + "/")
    try:
        data: bytes | None = read(path)
        place.session.variables.budget.spend(len(data or b""))
    except (OSError, Unfit) as error:
        place.fault(f"`{shown}` cannot be read: {error}")
        return None
    if data is None:
        place.fault(f"there is no file `{shown}`")
    return data


# --- uses -------------------------------------------------------------------------------------


def uses_of(
    service: Section, every: tuple[Definitions, ...], runtime: RuntimeKind
) -> tuple[FileUse, ...]:
    """The files that a service has; two at one target are a fault."""
    found: dict[tuple[str, str], tuple[FileUse, Cursor]] = {}
    for defined in every:
        for written, place in service.get(f"{defined.kind.value}s", ()):
            use = _use(written, place, defined, runtime)
            if use is None:
                continue
            by = use.kind.value if runtime is RuntimeKind.PROCESS else ""
            if (by, use.target) in found:
                line = found[by, use.target][1].line
                place.fault(f"is at {use.target}, where line {line} has another already")
            found[by, use.target] = (use, place)
    return tuple(use for use, _ in found.values())


def _use(
    written: Section | str, place: Cursor, defined: Definitions, runtime: RuntimeKind
) -> FileUse | None:
    long = Section(cursor=place, values={}, places={}) if isinstance(written, str) else written
    key = written if isinstance(written, str) else long.get("source")
    kind = defined.kind.value
    if key is None:
        if "source" not in long.places:
            place.fault(f"needs a `source`: which {kind} it is")
        return None
    if key not in defined.names:
        place.fault(f"there is no `{key:.80}` under the file's own `{kind}s`")
        return None
    target = long.get("target", key)
    try:
        target = target_of(defined.kind, target, runtime)
    except Unfit as error:
        long.at("target").fault(str(error))
    return FileUse(
        kind=defined.kind,
        source=defined.names[key],
        target=target,
        uid=long.get("uid"),
        gid=long.get("gid"),
        mode=long.get("mode"),
    )


def target_of(kind: FileKind, target: str, runtime: RuntimeKind) -> str:
    """Where a task has the file: an absolute path, or a name in a process's directory of files."""
    if runtime is RuntimeKind.PROCESS:
        if "/" in target:
            variable = f"$MESHSWARM_{kind.value.upper()}S_DIR"
            raise Unfit(f"a process has its {kind.value}s in {variable}: write a mere name")
        return target
    start = "/run/secrets" if kind is FileKind.SECRET else "/"
    return posixpath.normpath(posixpath.join(start, target))


def signal(word: str) -> str:
    """A signal's name; empty for `none`."""
    return "" if word == "none" else texts.signal(word)


def reload_of(own: Section | None, files: tuple[FileUse, ...]) -> Reload | None:
    """How other content comes to running tasks."""
    change: Section | None = own.get("on_config_change") if own is not None else None
    if own is None or change is None:
        return None
    if "signal" not in change.places:
        change.cursor.fault("needs a `signal`: which one tells the service, SIGHUP, or none")
    if not files:
        own.at("on_config_change").warn("means nothing: the service has no configs and secrets")
    return Reload(signal=change.get("signal", ""))
