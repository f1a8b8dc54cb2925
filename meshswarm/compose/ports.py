"""Published ports: the short texts (`8080-8081:80-81/udp`) and the long mappings."""

import ipaddress
import re

from meshswarm.compose.cursor import Cursor, Section
from meshswarm.compose.report import Unfit
from meshswarm.compose.shapes import applied, section
from meshswarm.model.network import Port, Protocol

MAX_PORTS = 1000
"""Ports of one service, ranges counted out; more are refused."""

PROTOCOLS = {protocol.value: protocol for protocol in Protocol}

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_ONE_PUBLISHED = "a range of published ports for one port is not supported yet; give one"


def ports(cursor: Cursor) -> tuple[Port, ...]:
    """All ports of the list here, each once; ranges are counted out."""
    found: dict[Port, None] = {}
    taken: set[tuple[str, int, Protocol]] = set()
    is_implicit = False
    for item in cursor.items():
        is_mapping = item.kind == "a mapping"
        several = applied(_long if is_mapping else _short, item) or ()
        is_implicit |= not is_mapping or "mode" not in (item.entries() or {})
        for port in several:
            place = (port.host_ip, port.published, port.protocol)
            if port not in found and port.published and place in taken:
                item.fault(f"publishes {port.published}/{port.protocol.value} a second time")
            taken.add(place)
            found[port] = None
    if len(found) > MAX_PORTS:
        cursor.fault(f"publishes {len(found)} ports; a service may have {MAX_PORTS}")
        return ()
    if found and is_implicit:
        cursor.warn(
            "ports are published on the nodes that run the service (`mode: host`); "
            "one port on every node comes with a later release"
        )
    return tuple(found)


def short(text: str) -> tuple[Port, ...]:
    """The ports of `[[IP:][PUBLISHED]:]TARGET[/PROTOCOL]`, each number maybe a range."""
    numbers, _, word = text.partition("/")
    protocol = PROTOCOLS.get(word.lower() or "tcp")
    if protocol is None:
        raise Unfit(f"`{word:.20}` is no protocol; write tcp, udp or sctp")
    *ip, outside, inside = ("", "", *numbers.split(":"))
    targets = _range(inside, "the port of the container", 1)
    published = _range(outside, "the published port", 0) if outside else None
    if published is not None and len(published) != len(targets):
        if len(targets) == 1:
            raise Unfit(_ONE_PUBLISHED)
        raise Unfit(f"`{text:.80}` has {len(published)} ports outside and {len(targets)} inside")
    host_ip = address(":".join(ip[2:]) if len(ip) > 2 else "")
    return tuple(
        Port(
            target=target,
            published=0 if published is None else published[index],
            protocol=protocol,
            host_ip=host_ip,
        )
        for index, target in enumerate(targets)
    )


def address(text: str) -> str:
    """An IP address in its usual form, brackets removed; empty stays empty."""
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise Unfit(f"`{text:.60}` is no IP address") from None


def published(cursor: Cursor) -> int:
    """The published port of the long form: a number from 0, quoted or not."""
    value = cursor.scalar()
    numbers = _range(str(value), "the published port", 0)
    if len(numbers) > 1:
        raise Unfit(_ONE_PUBLISHED)
    return numbers[0]


def host_mode(cursor: Cursor) -> str:
    """The only mode there is yet."""
    mode = cursor.scalar()
    if mode == "ingress":
        raise Unfit("`ingress` comes with a later release; write `mode: host`, or leave it out")
    if mode != "host":
        raise Unfit(f"must be `host`, not {cursor.kind if mode is None else f'`{mode!s:.40}`'}")
    return "host"


def _short(cursor: Cursor) -> tuple[Port, ...]:
    value = cursor.scalar()
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Unfit(f"must be a port, not {cursor.kind}")
    return short(str(value))


def _long(cursor: Cursor) -> tuple[Port, ...]:
    long: Section | None = section(cursor)
    if long is None or "target" not in long.places:
        raise Unfit("needs a `target`, the port of the container")
    if "target" not in long.values:
        return ()
    return (
        Port(
            target=long.get("target"),
            published=long.get("published", 0),
            protocol=long.get("protocol", Protocol.TCP),
            host_ip=long.get("host_ip", ""),
        ),
    )


def _range(text: str, what: str, low: int) -> range:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise Unfit(f"{what} must be a number or a range, not `{text:.40}`")
    first, last = int(found[1]), int(found[2] or found[1])
    if not low <= first <= last <= 65535:
        raise Unfit(f"{what} must be from {low} to 65535, and a range must rise; not `{text}`")
    if last - first >= MAX_PORTS:
        raise Unfit(f"`{text}` has {last - first + 1} ports; a service may have {MAX_PORTS}")
    return range(first, last + 1)
