"""The grammar of `.env` and `env_file`: what the official Compose reads, it reads the same.

Two things that Compose lets pass are faults here: text behind a closing quote (Compose takes it for
another variable), and a line without a name.
"""

import re
from collections import ChainMap
from collections.abc import Mapping

from meshswarm.compose import source
from meshswarm.compose.interpolate import Variables
from meshswarm.compose.report import Report, Unfit

_KEY = re.compile(r"(?:export[ \t]+)?([^\n=:]*)(?:(?P<sign>[=:])[ \t\f\v\xa0\x85]*|\n|\Z)")
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*+)'", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_REST_OF_LINE = re.compile(r"[^\n]*")
_ESCAPE = re.compile(r'\\([abfnrtv"$\\])')
_ESCAPED = {"$": "$$", **dict(zip('abfnrtv"\\', '\a\b\f\n\r\t\v"\\', strict=True))}


def parse(
    data: bytes, report: Report, *, file: str, outer: Variables, before: Mapping[str, str]
) -> dict[str, str]:
    """The variables that `file` sets; faults go to `report`, with the file's name and line.

    Values may use variables of `outer` (the process; it wins), of `before` (earlier files) and of
    the lines above. A name alone takes its value from `outer`, and is left out if that has none.
    """
    text = source.decode(data, report, file)
    found: dict[str, str] = {}
    if text is None:
        return found
    text = text.replace("\r\n", "\n")
    variables = Variables(ChainMap(dict(outer.values), found, dict(before)), outer.budget)
    place, line, counted = 0, 1, 0
    while (place := _start_of_statement(text, place)) < len(text):
        line, counted = line + text.count("\n", counted, place), place
        try:
            name, value, place = _statement(text, place, variables)
            value = outer.get(name) if value is None else value
        except Unfit as error:
            report.fault(line, "", str(error), file=file)
            place = _end_of_line(text, place)
            continue
        if value is not None:
            found[name] = value
        for unset in variables.take_unset():
            report.warn_unset(unset, line, file=file)
    return found


def parse_raw(data: bytes, report: Report, *, file: str, outer: Variables) -> dict[str, str]:
    """As `parse`, for `format: raw`: every value is taken as it stands, blanks and quotes too."""
    text = source.decode(data, report, file)
    found: dict[str, str] = {}
    for number, line in enumerate((text or "").replace("\r\n", "\n").split("\n"), start=1):
        statement = line.lstrip()
        name, sign, value = statement.partition("=")
        if not statement or statement.startswith("#"):
            continue
        try:
            _check_name(name)
            given = value if sign else outer.get(name)
        except Unfit as error:
            report.fault(number, "", str(error), file=file)
            continue
        if given is not None:
            found[name] = given
    return found


def _start_of_statement(text: str, place: int) -> int:
    """Where the next statement begins: blanks, empty lines and comments skipped."""
    while place < len(text) and (text[place].isspace() or text[place] == "#"):
        place = _end_of_line(text, place) if text[place] == "#" else place + 1
    return place


def _statement(text: str, place: int, variables: Variables) -> tuple[str, str | None, int]:
    """The name that stands at `place`, its value (None for a name alone), and where it ends."""
    key = _KEY.match(text, place)
    assert key is not None, "every text has a (possibly empty) name up to its line's end"
    name = key[1].strip()
    _check_name(name)
    if key["sign"] is None:
        return name, None, key.end()
    return name, *_value(text, key.end(), variables)


def _check_name(name: str) -> None:
    if not name:
        raise Unfit("a name must stand before the `=`")
    wrong = next((char for char in name if not (char.isalnum() or char in "_.-[]")), None)
    if wrong is not None:
        raise Unfit(f"the name `{name:.40}` holds {wrong!r}; letters, digits and _.-[] may be used")


def _value(text: str, place: int, variables: Variables) -> tuple[str, int]:
    """The value that begins at `place`, and where it ends."""
    quote = text[place : place + 1]
    if quote not in ("'", '"') or not quote:
        end = _end_of_line(text, place)
        return variables.expand(text[place:end].split(" #", 1)[0].rstrip()), end
    quoted = (_SINGLE_QUOTED if quote == "'" else _DOUBLE_QUOTED).match(text, place)
    if quoted is None:
        raise Unfit(f"a value opens with {quote} and is never closed")
    end = _end_of_line(text, quoted.end())
    behind = text[quoted.end() : end].strip()
    if behind and not behind.startswith("#"):
        raise Unfit(f"`{behind:.40}` stands behind the closing quote; quote the whole value")
    if quote == "'":
        return quoted[1].replace("\\'", "'"), end
    return variables.expand(_ESCAPE.sub(lambda found: _ESCAPED[found[1]], quoted[1])), end


def _end_of_line(text: str, place: int) -> int:
    found = _REST_OF_LINE.match(text, place)
    return len(text) if found is None else found.end()
