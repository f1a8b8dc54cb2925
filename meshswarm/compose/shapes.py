"""What the values of attributes can look like: each shape reads a cursor and gives a Python value.

The shapes of whole mappings (`section`, `names_of`) consult the attribute table for their keys:
there is no second list of attributes anywhere.
"""

import difflib
import posixpath
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from attrs import frozen

from meshswarm.compose import source, texts
from meshswarm.compose.attribute import Support
from meshswarm.compose.cursor import Cursor, Section, Shape
from meshswarm.compose.report import Unfit

E = TypeVar("E", bound=Enum)

RESERVED_LABELS = "io.meshswarm."
"""Labels that begin so are the agent's own."""

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n", "off"), False),
}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")


# --- single values ------------------------------------------------------------------------------


def text(cursor: Cursor) -> str:
    """A text; what is none must be quoted, as in Compose."""
    value = cursor.scalar()
    if not isinstance(value, str):
        raise Unfit(f"must be a text, not {cursor.kind}; quote it")
    return value


def optional_text(cursor: Cursor) -> str | None:
    """A text, where the empty one is the same as none."""
    return text(cursor) or None


def flag(cursor: Cursor) -> bool:
    """true or false; also the words of YAML 1.1, with a warning."""
    value = cursor.scalar()
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _BOOLEANS:
        raise Unfit(f"must be true or false, not {cursor.kind}")
    meaning = _BOOLEANS[value.lower()]
    if value.lower() not in ("true", "false"):
        cursor.warn(f"`{value}` is read as {str(meaning).lower()}; write true or false")
    return meaning


def whole(low: int, high: int) -> Shape:
    """A whole number from `low` to `high`, quoted or not."""

    def read(cursor: Cursor) -> int:
        value = cursor.scalar()
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,18}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            shown = f"`{value:.40}`" if isinstance(value, str) else cursor.kind
            raise Unfit(f"must be a whole number, not {shown}")
        if not low <= value <= high:
            raise Unfit(f"must be from {low} to {high}, not {value}")
        return value

    return read


def choice(options: Mapping[str, E], *, later: tuple[str, ...] = ()) -> Shape:
    """One of the words in `options`; those in `later` are faults that say so."""

    def read(cursor: Cursor) -> E:
        word = text(cursor)
        if word in later:
            raise Unfit(f"`{word}` is not supported yet; it comes with a later release")
        if word not in options:
            raise Unfit(f"must be {_listed(options)}, not `{word:.40}`{_nearest(word, options)}")
        return options[word]

    return read


def written(parse: Callable[[str], Any], *, number: bool = False) -> Shape:
    """What `parse` makes of a text; with `number`, of an unquoted number as well."""

    def read(cursor: Cursor) -> Any:
        value = cursor.scalar()
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and is_number:
            return parse(repr(value))
        return parse(text(cursor))

    return read


def duration(cursor: Cursor) -> float:
    """Seconds; the text has its units, so a bare number is refused."""
    value = cursor.scalar()
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Unfit(f"needs a unit: write {cursor.stringified()}s for seconds")
    return texts.duration(text(cursor))


def path(cursor: Cursor) -> str:
    """A path, relative ones taken from the project directory, `~` from the variable HOME."""
    return host_path(cursor, text(cursor))


def host_path(cursor: Cursor, given: str) -> str:
    """`given` as an absolute path, in Compose's way; raises `Unfit` if it is empty."""
    if not given:
        raise Unfit("must not be empty")
    if given.startswith("~"):
        home = cursor.session.variables.get("HOME")
        if not home:
            raise Unfit("`~` needs the variable HOME")
        return posixpath.normpath(posixpath.join(home, given[1:].lstrip("/")))
    if given.startswith("/"):
        return given
    return posixpath.normpath(posixpath.join(cursor.session.directory, given))


# --- lists and mappings of texts ----------------------------------------------------------------


def list_of(shape: Shape) -> Shape:
    """A list whose items have `shape`; wrong ones are told and left out."""

    def read(cursor: Cursor) -> tuple[Any, ...]:
        return tuple(
            value for item in cursor.items() if (value := applied(shape, item)) is not None
        )

    return read


def command(cursor: Cursor) -> tuple[str, ...]:
    """A list of words, or one text that is split into words."""
    if cursor.is_text:
        return texts.words(text(cursor))
    words: tuple[str, ...] = list_of(text)(cursor)
    return words


def command_or_line(cursor: Cursor) -> tuple[str, ...] | str:
    """A list of words, or one text that is left as it is: a line for a shell."""
    return text(cursor) if cursor.is_text else command(cursor)


def environment(cursor: Cursor) -> dict[str, str | None]:
    """`KEY: VALUE` or `- KEY=VALUE`; None for a key alone, which takes its value from outside."""
    found: dict[str, str | None] = {}
    for name, value, place in _pairs(cursor):
        if not name:
            place.fault("a name must stand before the `=`")
        elif name != name.strip() or "=" in name or "\0" in name:
            place.fault(f"`{name:.40}` is no name of a variable")
        else:
            found[name] = value
    return found


def labels(cursor: Cursor) -> dict[str, str]:
    """`KEY: VALUE` or `- KEY=VALUE`; a key alone has the empty text."""
    found: dict[str, str] = {}
    for name, value, place in _pairs(cursor):
        if not name:
            place.fault("a name must stand before the `=`")
        elif name.startswith(RESERVED_LABELS):
            place.fault(f"labels that begin with {RESERVED_LABELS} are meshswarm's own")
        else:
            found[name] = value or ""
    return found


def options(cursor: Cursor) -> dict[str, str]:
    """A mapping of texts and numbers (`driver_opts`)."""
    places = (cursor.entries(named=True) or {}).items()
    found = {key: applied(_option, place) for key, place in places}
    return {key: value for key, value in found.items() if value is not None}


def _option(cursor: Cursor) -> str:
    if isinstance(cursor.scalar(), bool | None):
        raise Unfit(f"must be a text or a number, not {cursor.kind}; quote it")
    return cursor.stringified()


@frozen(kw_only=True)
class EnvironmentFile:
    """One file of `env_file`, not read yet."""

    cursor: Cursor
    path: str
    required: bool = True
    is_raw: bool = False


def environment_files(cursor: Cursor) -> tuple[EnvironmentFile, ...]:
    """A path, or a list of paths and `{path, required, format}` mappings."""
    if cursor.is_text:
        return (EnvironmentFile(cursor=cursor, path=path(cursor)),)
    return tuple(
        file for item in cursor.items() if (file := applied(_environment_file, item)) is not None
    )


def _environment_file(cursor: Cursor) -> EnvironmentFile | None:
    if cursor.is_text:
        return EnvironmentFile(cursor=cursor, path=path(cursor))
    long = section(cursor)
    if long is None or "path" not in long.values:
        if long is not None and "path" not in long.places:
            cursor.fault("needs a `path`")
        return None
    return EnvironmentFile(
        cursor=cursor,
        path=long.get("path"),
        required=long.get("required", True),
        is_raw=long.get("format") == "raw",
    )


def environment_format(cursor: Cursor) -> str:
    """The grammar of an environment file: `raw`, or the usual one if it is left out."""
    if text(cursor) != "raw":
        raise Unfit(f"must be `raw`, or left out, not `{text(cursor):.40}`")
    return "raw"


# --- whole mappings, by the table ---------------------------------------------------------------


def section(cursor: Cursor) -> Section | None:
    """A mapping of attributes: each key is looked up in the table and read with its shape."""
    places = cursor.entries()
    if places is None:
        return None
    values: dict[str, Any] = {}
    for key, place in places.items():
        attribute = cursor.session.table.get(place.pattern)
        if attribute is None:
            if not key.startswith("x-") or key == "x-meshswarm":
                place.fault(_unknown(cursor, key))
        elif attribute.support is Support.IGNORED:
            place.warn(attribute.hint)
        elif attribute.shape is None:
            place.fault(attribute.refusal)
        elif place.is_null:
            if not attribute.nullable:
                place.fault("has no value; give it one, or remove the key")
        elif (value := applied(attribute.shape, place)) is not None:
            values[key] = value
    return Section(cursor=cursor, values=values, places=places)


def names_of(what: str) -> Shape:
    """A mapping of names that the author chose, each with the table's attributes for `*`."""

    def read(cursor: Cursor) -> dict[str, Section]:
        found: dict[str, Section] = {}
        for name, place in (cursor.entries(named=True) or {}).items():
            attribute = cursor.session.table[place.pattern]
            if not _NAME.fullmatch(name):
                place.fault(f"no name for a {what}: letters, digits and ._- after the first")
            elif place.is_null and attribute.nullable:
                found[name] = Section(cursor=place, values={}, places={})
            elif (value := section(place)) is not None:
                found[name] = value
        return found

    return read


def applied(shape: Shape, cursor: Cursor) -> Any:
    """What `shape` reads here; a value that does not fit is told, and None."""
    try:
        return shape(cursor)
    except Unfit as error:
        cursor.fault(str(error))
        return None


def _pairs(cursor: Cursor) -> list[tuple[str, str | None, Cursor]]:
    """The pairs of a mapping, or of a list of `KEY=VALUE`, with their places."""
    found: list[tuple[str, str | None, Cursor]] = []
    if not isinstance(cursor.node, source.Sequence):
        for key, place in (cursor.entries(named=True) or {}).items():
            value = applied(Cursor.stringified, place)
            if value is not None:
                found.append((key, None if place.is_null else value, place))
        return found
    for place in cursor.items():
        pair = applied(text, place)
        if pair is not None:
            key, sign, value = pair.partition("=")
            found.append((key, value if sign else None, place))
    return found


def _unknown(cursor: Cursor, key: str) -> str:
    """The fault that an unknown key is, with what its author may have meant."""
    if key == "x-meshswarm":
        return "stands on a service, not here"
    inside = f"{cursor.pattern}." if cursor.pattern else ""
    below = [
        known.removeprefix(inside) for known in cursor.session.table if known.startswith(inside)
    ]
    elsewhere = [known for known in below if known.endswith(f".{key}") and "*" not in known]
    if elsewhere:
        return f"unknown key here; did you mean `{elsewhere[0]}`?"
    here = [known for known in below if "." not in known and "*" not in known]
    near = _nearest(key, here)
    if not near and cursor.pattern.endswith("x-meshswarm"):  # no specification tells those
        near = f"; there are {', '.join(sorted(here))}"
    return f"unknown key{near}"


def _nearest(word: str, known: Mapping[str, Any] | list[str]) -> str:
    near = difflib.get_close_matches(word[:80], list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _listed(options: Mapping[str, Any]) -> str:
    *most, last = [f"`{option}`" for option in options]
    return f"{', '.join(most)} or {last}" if most else last
