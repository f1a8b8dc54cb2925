"""Values that are written as a text: durations, sizes, command lines, constraints, signals.

Each function takes the text and gives the value, or raises `Unfit` with a sentence.
"""

import math
import re
from ipaddress import ip_network

from meshswarm.compose.report import Unfit
from meshswarm.model.service import Comparison, Constraint

MAX_DURATION_S = 1e9
"""Longest duration: some 31 years."""

MAX_SIZE_BYTES = 2**62
"""Largest size."""

MAX_MISSING = 1_000_000
"""Most tasks that may be missing, as a number."""

_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0,
    "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0,
}  # fmt: skip
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|[smhdw])")
_SIZE = re.compile(
    r"\+?((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[0-9]{1,2})?) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE
)
_CPUS = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]{1,2})?", re.IGNORECASE)
_MOST_MISSING = re.compile(r"\+?([0-9]{1,9})(%?)")
_CONSTRAINT = re.compile(r"\s*([^\s=!]+)\s*(==|!=)\s*(.*?)\s*")
_CONSTRAINT_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE)
_CONSTRAINT_KEYS = (
    "node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch",
)  # fmt: skip
_LABEL_KEYS = ("node.labels.", "engine.labels.")
_SIGNALS = re.compile(
    "ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IO|IOT|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|"
    "STOP|SYS|TERM|TRAP|TSTP|TTIN|TTOU|URG|USR1|USR2|VTALRM|WINCH|XCPU|XFSZ|"
    r"RTMIN(\+[0-9]{1,2})?|RTMAX(-[0-9]{1,2})?"
)
_SHELL_ONLY = "|&;<>()`"


def duration(text: str) -> float:
    """Seconds >= 0 of `1m30s`, `1.5h`, `2d`: Go's units, and d and w (Compose)."""
    parts = _DURATION_PART.findall(text)
    if text.removeprefix("+") == "0":
        return 0.0
    if not parts or "".join(map("".join, parts)) != text.removeprefix("+"):
        raise Unfit(f"`{text:.40}` is no duration; write 90s, 1m30s, 2h or 1d")
    seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds > MAX_DURATION_S:
        raise Unfit(f"`{text:.40}` is longer than {MAX_DURATION_S:.0f} seconds")
    return seconds


def ratio(text: str) -> float:
    """A share from 0 to 1."""
    if not _CPUS.fullmatch(text) or not 0 <= float(text) <= 1:
        raise Unfit(f"`{text:.40}` is no share; write a number from 0 to 1, 0.25")
    return float(text)


def most_missing(text: str) -> tuple[int | None, int | None]:
    """How many tasks may be missing: the number of `2`, or the percentage of `25%`; one of both."""
    found = _MOST_MISSING.fullmatch(text.strip())
    number, is_share = (int(found[1]), bool(found[2])) if found else (-1, False)
    if not 0 <= number <= (100 if is_share else MAX_MISSING):
        raise Unfit(
            f"`{text:.40}` is no number of tasks from 0 to {MAX_MISSING}, "
            "and no share from 0% to 100%"
        )
    return (None, number) if is_share else (number, None)


def size(text: str) -> int:
    """Bytes of `512m`, `1.5GB`, `1GiB`: all units are powers of 1,024, as in Compose."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise Unfit(f"`{text:.40}` is no size; write 512m, 1.5g or a number of bytes")
    number, unit = found.groups(default="")
    value = float(number) * 1024 ** " kmgtp".index(unit.lower() or " ")
    if value > MAX_SIZE_BYTES:
        raise Unfit(f"`{text:.40}` is more than any host has")
    return int(value)


def cpus(text: str) -> int:
    """Nano-cpus of `0.5`: 1e9 is one core."""
    if not _CPUS.fullmatch(text):
        raise Unfit(f"`{text:.40}` is no number of processors; write 0.5 or 2")
    if float(text) > 1e6:
        raise Unfit(f"`{text:.40}` is more than any host has")
    return round(float(text) * 1e9)


def words(text: str) -> tuple[str, ...]:
    """The words of a command line: quotes and backslashes as in a shell, and nothing else of one.

    Compose drops an unquoted `|` and all that follows, and hands backquotes to the program as they
    are; here what only a shell understands is a fault.
    """
    found: list[str] = []
    current: str | None = None
    quote = ""
    characters = iter(text)
    for char in characters:
        if char == "\\" and quote != "'":
            escaped = next(characters, None)
            if escaped is None:
                raise Unfit("ends with a backslash that escapes nothing")
            current = (current or "") + escaped
        elif quote:
            if char == quote:
                quote = ""
            else:
                current = (current or "") + char
        elif char in "'\"":
            quote, current = char, current or ""
        elif char in " \t\r\n":
            found += [] if current is None else [current]
            current = None
        elif char in _SHELL_ONLY:
            raise Unfit(f"`{char}` needs a shell: write [sh, -c, '...'], or quote it if it is text")
        else:
            current = (current or "") + char
    if quote:
        raise Unfit(f"the closing {quote} is missing")
    return (*found, *([] if current is None else [current]))


def constraint(text: str) -> Constraint:
    """The placement constraint `KEY == VALUE` or `KEY != VALUE`."""
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        raise Unfit(f"`{text:.80}` is no constraint; write `node.labels.disk == ssd` or with `!=`")
    key, comparison, value = found.groups()
    if not _CONSTRAINT_VALUE.fullmatch(value):
        raise Unfit(f"the value `{value:.80}` is empty, or holds a character that none can have")
    known = _constraint_key(key)
    if known == "node.ip":
        value = _network(value)
    return Constraint(key=known, comparison=Comparison(comparison), value=value)


def _network(text: str) -> str:
    """An address or a network, as it is written usually: `10.1.2.3/8` is 10.0.0.0/8."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise Unfit(f"`{text:.80}` is no address, and no network such as 10.0.0.0/8") from None
    return str(network if "/" in text else network.network_address)


def _constraint_key(key: str) -> str:
    """`key` in lower case but for the name of a label."""
    lower = key.lower()
    for prefix in _LABEL_KEYS:
        if lower.startswith(prefix) and len(key) > len(prefix):
            return prefix + key[len(prefix) :]
    if lower not in _CONSTRAINT_KEYS:
        known = ", ".join((*_CONSTRAINT_KEYS, *(f"{prefix}NAME" for prefix in _LABEL_KEYS)))
        raise Unfit(f"there is no constraint on `{key:.80}`, only on {known}")
    return lower


def signal(text: str) -> str:
    """The name or number of a signal: SIGTERM, TERM, 15, SIGRTMIN+3."""
    name = text.upper().removeprefix("SIG")
    is_number = re.fullmatch(r"[1-9]|[1-5][0-9]|6[0-4]", text) is not None
    if not is_number and not _SIGNALS.fullmatch(name):
        raise Unfit(f"there is no signal `{text:.40}`; write SIGTERM, SIGINT or a number")
    return text
