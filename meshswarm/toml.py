"""TOML files into attrs classes, with every fault told at once by file, line and name.

A class stands for the document: an attribute that is an attrs class is a section, a tuple of such
is an array of tables. Types, validators and defaults of the attributes are the whole schema.
Unknown keys are faults, with the nearest known name.
"""

import difflib
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import attrs

from meshswarm.errors import Denied, Invalid, MeshswarmError, NotFound

T = TypeVar("T")

ENVIRONMENT_PREFIX = "MESHSWARM_"
FILE_BYTES_MAX = 1 << 20
"""A larger file is refused: it is something else."""


class TomlFile:
    """One file read, and the faults found in it until someone refuses them.

    `environment` overrides single keys: `MESHSWARM_SECTION_KEY` stands for `key` of `[section]`.
    `hint` is shown where the file is missing.
    """

    def __init__(self, file: Path, environment: Mapping[str, str], hint: str) -> None:
        self._file = file
        self._environment = environment
        self._faults: list[str] = []
        text = _text_of(file, hint)
        try:
            self._document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"not valid TOML: {error}", where=str(file)) from error
        self._places = {path: f"{file.name}:{line}" for path, line in _lines_of(text).items()}

    def read(self, kind: type[T]) -> T:
        """The document as a `kind`; raises `Invalid` with a detail for each fault."""
        self._overlay_environment(get_type_hints(kind))
        document = self._table("", self._document, kind)
        self.refuse_faults()
        return cast(T, document)

    def fault(self, path: str, words: str) -> None:
        """Remember that the value at `path` is wrong; `words` go on after its name."""
        holder = path.rpartition(".")[0]
        place = self._places.get(path) or self._places.get(holder) or self._file.name
        self._faults.append(f"{place}: `{path}` {words}")

    def refuse_faults(self) -> None:
        """Raise `Invalid` with all faults remembered, if any."""
        if self._faults:
            count = len(self._faults)
            summary = f"{count} settings are wrong" if count > 1 else "a setting is wrong"
            raise Invalid(summary, where=str(self._file), details=self._faults)

    def _overlay_environment(self, sections: Mapping[str, Any]) -> None:
        """Write the variables that name a key of a section over what the file says."""
        for section, kind in sections.items():
            prefix = f"{ENVIRONMENT_PREFIX}{section.upper()}_"
            table = self._document.setdefault(section, {}) if attrs.has(kind) else None
            for variable in sorted(self._environment):
                if isinstance(table, dict) and variable.startswith(prefix):
                    key = variable.removeprefix(prefix).lower()
                    hint = get_type_hints(kind).get(key, str)
                    table[key] = _from_text(self._environment[variable], hint)
                    self._places[f"{section}.{key}"] = f"${variable}"

        for variable in sorted(self._environment):
            self._suspect(variable, sections)

    def _suspect(self, variable: str, sections: Iterable[str]) -> None:
        """Refuse a variable that names almost a section; others may be anybody's."""
        word, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).partition("_")
        if not variable.startswith(ENVIRONMENT_PREFIX) or not key or word.lower() in sections:
            return
        for meant in difflib.get_close_matches(word.lower(), list(sections), 1, 0.75):
            better = f"{ENVIRONMENT_PREFIX}{meant.upper()}_{key}"
            self._faults.append(f"${variable}: no section `{word.lower()}`; did you mean {better}?")

    def _table(self, path: str, raw: object, kind: type[Any]) -> Any:
        """One `kind`; None if something in it is wrong, which is then remembered."""
        if not isinstance(raw, dict):
            return self.fault(path, f"must be a table: {_shown(raw)}")
        faults_before = len(self._faults)
        prefix = f"{path}." if path else ""
        hints = get_type_hints(kind)
        self._refuse_unknown(prefix, raw, sorted(hints))
        values: dict[str, Any] = {}
        for attribute in attrs.fields(kind):
            name = attribute.name
            if name not in raw and attribute.default is attrs.NOTHING:
                self.fault(prefix + name, "is required")
            elif name in raw:
                values[name] = self._value(prefix + name, raw[name], hints[name], attribute)
            elif isinstance(attribute.default, Path):
                values[name] = self._file.parent.absolute() / attribute.default
        return kind(**values) if len(self._faults) == faults_before else None

    def _value(self, path: str, raw: object, hint: Any, attribute: "attrs.Attribute[Any]") -> Any:
        """`raw` as what the attribute declares and its validator allows, or a fault."""
        faults_before = len(self._faults)
        try:
            if attrs.has(hint):
                value = self._table(path, raw, hint)
            elif get_origin(hint) is tuple and attrs.has(get_args(hint)[0]):
                value = self._rows(path, raw, get_args(hint)[0])
            else:
                value = _converted(raw, hint)
            if attribute.validator is not None and len(self._faults) == faults_before:
                attribute.validator(None, attribute, value)
        except ValueError as error:
            return self.fault(path, str(error.args[0]).removeprefix(f"'{attribute.name}' "))
        return self._file.parent.absolute() / value if isinstance(value, Path) else value

    def _rows(self, path: str, raw: object, kind: type[Any]) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            raise ValueError(f"must be rows, each under `[[{path}]]`: {_shown(raw)}")
        return tuple(self._table(f"{path}[{number}]", row, kind) for number, row in enumerate(raw))

    def _refuse_unknown(self, prefix: str, names: Iterable[str], known: list[str]) -> None:
        for name in names:
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                advice = f"did you mean `{nearest[0]}`?" if nearest else f"known: {_listed(known)}"
                self.fault(prefix + name, f"is not a setting; {advice}")


def _text_of(file: Path, hint: str) -> str:
    try:
        raw = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound("no such file", where=str(file), hint=hint) from error
    except PermissionError as error:
        raise Denied("not allowed to read this file", where=str(file)) from error
    except OSError as error:
        raise MeshswarmError(f"cannot be read: {error.strerror}", where=str(file)) from error
    if len(raw) > FILE_BYTES_MAX:
        raise Invalid(f"larger than {FILE_BYTES_MAX} bytes", where=str(file))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8: {error}", where=str(file)) from error


_PLAIN_KINDS = {str: "a text", int: "a whole number", bool: "true or false"}


def _converted(raw: object, hint: Any) -> object:
    """`raw` as the type that the attribute declares; raises ValueError in a user's words."""
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) is tuple:
        if not isinstance(raw, list):
            raise ValueError(f"must be a list: {_shown(raw)}")
        return tuple(_converted(item, get_args(hint)[0]) for item in raw)
    if get_origin(hint) is Mapping:
        if not isinstance(raw, dict) or not all(isinstance(text, str) for text in raw.values()):
            raise ValueError(f"must be a table of texts: {_shown(raw)}")
        return dict(raw)
    if hint == Path | None and raw == "":
        return None
    if hint in (Path, Path | None, bytes):
        text = str(_converted(raw, str))
        return text.encode() if hint is bytes else Path(text)
    if issubclass(hint, Enum):
        choices = [member.value for member in hint]
        if raw not in choices:
            raise ValueError(f"must be one of {_listed(choices)}: {_shown(raw)}")
        return hint(raw)
    if type(raw) is not hint:
        raise ValueError(f"must be {_PLAIN_KINDS[hint]}: {_shown(raw)}")
    return raw


def _from_text(text: str, hint: Any) -> object:
    """What a TOML file would hold for the text of an environment variable."""
    if hint is int:
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
    if hint is bool:
        return {"true": True, "false": False}.get(text, text)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(hint) is tuple:
        return parts
    if get_origin(hint) is Mapping:
        pairs = [part.partition("=") for part in parts]
        return {name: value for name, equals, value in pairs} if all(p[1] for p in pairs) else text
    return text


def _lines_of(text: str) -> dict[str, int]:
    """The line of every section, row and key, by path (`raft`, `peers[0].name`)."""
    lines: dict[str, int] = {}
    rows: Counter[str] = Counter()
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", line):
            section = header[2]
            if header[1] == "[[":
                rows[section] += 1
                section = f"{section}[{rows[section] - 1}]"
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w-]+)\s*[.=]", line):
            lines.setdefault(f"{section}.{key[1]}" if section else key[1], number)
    return lines


def _listed(choices: Iterable[str]) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _shown(value: object) -> str:
    return f"{value!r:.80}"
