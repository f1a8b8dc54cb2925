"""Plain YAML scalars, read and written as the official Compose binary (Go) reads and writes them.

Compose resolves `0440` to 288, keeps `yes` and `22:22` as texts, and stringifies what is no text
as Go prints it: 3.10 becomes "3.1", 1e6 "1e+06". Python's YAML readers differ in each of these.
"""

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal

Value = None | bool | int | float | datetime | str

_WORDS: dict[str, Value] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    "-0": -0.0,
}
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)"
    # With a T the zone is required, after a blank there is none.
    r"(?:(?:[Tt](?=.*(?:Z|[-+]\d\d:\d\d)$)| (?=[\d:.]*$))(\d\d?):(\d\d?):(\d\d?)"
    r"(?:\.(\d{1,6}))?(?:Z|([-+])(\d\d):(\d\d))?)?"
)
_LARGEST = 2**64


def resolve(text: str) -> Value:
    """The value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    for read in (_timestamp, _integer, _float):
        value = read(text)
        if value is not None:
            return value
    return text


def stringified(value: Value) -> str:
    """The text that Compose makes of `value` where it wants a text; None is the empty text."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _printed_float(value)
        case datetime():
            return _printed_timestamp(value)
        case _:
            return str(value)


def kind(value: Value) -> str:
    """What `value` is, for people: `the number 5`, `nothing`, `a text`."""
    match value:
        case None:
            return "nothing"
        case str():
            return "a text"
        case bool():
            return f"the boolean {stringified(value)}"
        case datetime():
            return "a date"
        case _:
            return f"the number {stringified(value)}"


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text.replace("_", ""))
    # More digits than any 64-bit number has: left to `_float`, or a text.
    if found is None or len(text) > 80:
        return None
    sign, hexadecimal, binary, octal, decimal = found.groups()
    for digits, base in ((hexadecimal, 16), (binary, 2), (octal, 8), (decimal, 10)):
        if digits is not None:
            value = int(digits, base)
            in_range = value <= _LARGEST // 2 if sign == "-" else value < _LARGEST
            return (-value if sign == "-" else value) if in_range else None
    return None


def _float(text: str) -> float | None:
    plain = text.replace("_", "")
    if not _FLOAT.fullmatch(plain):
        return None
    value = float(plain)
    return None if value in (float("inf"), float("-inf")) else value


def _timestamp(text: str) -> datetime | None:
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return None
    *clock, fraction, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        year, month, day, hour, minute, second = (int(part or 0) for part in clock)
        microsecond = int((fraction or "").ljust(6, "0"))
        return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=zone)
    except ValueError:  # the 31st of February: a text after all
        return None


def _printed_float(value: float) -> str:
    """As Go's `%v`: the fewest digits that name it, an exponent from 1e+06 and below 1e-04."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    if value == 0:
        return "-0" if str(value).startswith("-") else "0"
    exact = Decimal(repr(value)).normalize()
    exponent = exact.adjusted()
    if -4 <= exponent < 6:
        return f"{exact:f}"
    sign, (first, *rest), _ = exact.as_tuple()
    fraction = f".{''.join(map(str, rest))}" if rest else ""
    return f"{'-' * sign}{first}{fraction}e{exponent:+03d}"


def _printed_timestamp(value: datetime) -> str:
    fraction = f"{value.microsecond:06d}".rstrip("0")
    point = f".{fraction}" if fraction else ""
    zone = value.strftime("%z") if value.utcoffset() else "+0000 UTC"
    name = "" if zone.endswith("UTC") else f" {zone}"
    return f"{value.year:04d}-{value:%m-%d %H:%M:%S}{point} {zone}{name}"
