"""What `x-meshswarm` says of a service's health: probes, and how long silence is borne.

The values of `http.status` and of a check's `path` are read here as well; how Compose's own
`healthcheck` is read stands in `convert`.
"""

import re

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import text
from meshswarm.model.probe import Check, CommandCheck, HttpCheck, Probe, ProbeKind, Probes, TcpCheck
from meshswarm.model.rollout import UpdateOrder

LEAST_STOP_AFTER_S = 5.0
"""A `stop_after` must bear that one beat is lost, and the way back of what the leader heard."""

_STATUS = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_PATH = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHECKS = ("http", "tcp", "command")


def status(text: str) -> tuple[int, int]:
    """The lowest and the highest status that is well: `200`, `200-299`."""
    found = _STATUS.fullmatch(text)
    if found is None or (found[2] and found[2] < found[1]):
        raise Unfit(f"`{text:.40}` is no status; write 200, or 200-299")
    return int(found[1]), int(found[2] or found[1])


def path(cursor: Cursor) -> str:
    """A path with its query, as it stands in a request."""
    given = text(cursor)
    if not _PATH.fullmatch(given):
        raise Unfit(f"`{given:.80}` is no path; write /healthz, and %20 for a blank")
    return given


# --- to the model -------------------------------------------------------------------------------


def probes_of(own: Section | None) -> Probes:
    """The probes under `x-meshswarm`."""
    section: Section | None = own.get("probes") if own else None
    if section is None:
        return Probes()
    made = {kind: _probe(section.get(kind.value)) for kind in ProbeKind}
    return Probes(
        startup=made[ProbeKind.STARTUP],
        readiness=made[ProbeKind.READINESS],
        liveness=made[ProbeKind.LIVENESS],
    )


def silence_of(
    own: Section | None, grace_s: float, order: UpdateOrder
) -> tuple[float | None, float | None]:
    """`lost_after` and `stop_after`, which must go together."""
    if own is None:
        return None, None
    lost_s: float | None = own.get("lost_after")
    stop_s: float | None = own.get("stop_after")
    if stop_s is None:
        return lost_s, None
    place = own.at("stop_after")
    if stop_s < LEAST_STOP_AFTER_S:
        place.fault(f"must be {LEAST_STOP_AFTER_S:g}s at least, or one lost message stops it")
    if order is UpdateOrder.START_FIRST:
        place.fault(
            "lets at most one task of a slot run, and `update_config: {order: start-first}` two; "
            "remove one of them"
        )
    if lost_s is not None and stop_s > lost_s:
        place.fault(
            f"must not be longer than `lost_after` ({lost_s:g}s): a task would be replaced while "
            "its agent still runs it"
        )
    elif lost_s is not None and lost_s < stop_s + grace_s:
        place.warn(
            f"its agent needs {stop_s:g}s and up to {grace_s:g}s of `stop_grace_period`, so it is "
            f"replaced later than `lost_after` ({lost_s:g}s) says"
        )
    return lost_s, stop_s


def _probe(section: Section | None) -> Probe | None:
    """One probe; None if it is missing or wrong."""
    if section is None:
        return None
    named = [key for key in _CHECKS if key in section.places]
    if len(named) != 1:
        section.cursor.fault("needs exactly one of `http`, `tcp` and `command`")
        return None
    check = _check(section, named[0])
    if check is None:
        return None
    defaults = Probe(check=check)
    return Probe(
        check=check,
        interval_s=section.get("interval") or defaults.interval_s,
        timeout_s=section.get("timeout") or defaults.timeout_s,
        failure_threshold=section.get("failure_threshold", defaults.failure_threshold),
        success_threshold=section.get("success_threshold", defaults.success_threshold),
        initial_delay_s=section.get("initial_delay", defaults.initial_delay_s),
        start_period_s=section.get("start_period", defaults.start_period_s),
        start_interval_s=section.get("start_interval") or defaults.start_interval_s,
    )


def _check(section: Section, key: str) -> Check | None:
    if section.get(key) is None:
        return None  # told already
    if key == "command":
        command: tuple[str, ...] | str = section.get(key)
        argv = ("/bin/sh", "-c", command) if isinstance(command, str) else command
        if not argv or not argv[-1]:
            section.at(key).fault("is empty")
        return CommandCheck(argv=argv)
    check: Section = section.get(key)
    if "port" not in check.places:
        check.cursor.fault("needs a `port`: the task's own, published or not")
    port: int | None = check.get("port")
    if port is None:
        return None
    if key == "tcp":
        return TcpCheck(port=port)
    low, high = check.get("status", (200, 399))
    return HttpCheck(
        port=port,
        path=check.get("path", "/"),
        headers=_headers(check),
        status_low=low,
        status_high=high,
        is_https=check.get("https", False),
    )


def _headers(check: Section) -> dict[str, str]:
    headers: dict[str, str] = check.get("headers", {})
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            check.at("headers").fault(f"`{name:.80}` is no name of a header")
        elif not (value.isascii() and value.isprintable()):
            check.at("headers").fault(f"the value of `{name:.80}` is more than one line of ASCII")
    return headers
