"""Devices as a node's settings name them, and as its tasks are told of what they have. PURE."""

import re
from collections.abc import Iterable
from typing import Any

from meshswarm.model.resources import DeviceGrant, DeviceOffer, DeviceRequest

_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})=([A-Za-z0-9][A-Za-z0-9_.:/-]{0,127})")


def offers_of(entries: Iterable[str]) -> tuple[DeviceOffer, ...]:
    """The devices that `KIND=ID` and `KIND=NUMBER` name; raises `ValueError` for what is neither.

    An id stands for one device, a number for so many of one kind that have no names.
    """
    ids: dict[str, list[str]] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise ValueError(f"write KIND=ID or KIND=NUMBER, not {entry!r:.80}")
        kind, value = found.groups()
        if value.isdigit() and kind not in counts:
            counts[kind] = int(value[:9])
        elif value.isdigit() or value in ids.get(kind, ()):
            raise ValueError(f"names {entry!r} twice")
        else:
            ids.setdefault(kind, []).append(value)
    both = sorted(set(ids) & set(counts))
    if both:
        raise ValueError(f"counts {both[0]!r}, and names devices of that kind: only one can hold")
    return tuple(
        DeviceOffer(kind=kind, ids=tuple(ids.get(kind, ())), count=counts.get(kind, 0))
        for kind in sorted({*ids, *counts})
    )


def variables_of(grants: Iterable[DeviceGrant]) -> dict[str, str]:
    """What tells a task of its devices: DOCKER_RESOURCE_KIND=ID,ID or =NUMBER, as in Swarm."""
    found: dict[str, list[str]] = {}
    for grant in grants:
        name = "DOCKER_RESOURCE_" + re.sub(r"[^A-Z0-9]", "_", grant.kind.upper())
        found.setdefault(name, []).extend(grant.ids or [str(grant.count)])
    return {name: ",".join(values) for name, values in found.items()}


def engine_requests(
    requests: Iterable[DeviceRequest], grants: Iterable[DeviceGrant]
) -> list[dict[str, Any]]:
    """The engine's `DeviceRequests`: the granted devices of each request that has capabilities."""
    return [
        {
            "Driver": request.driver,
            "Count": 0 if grant.ids else grant.count,
            "DeviceIDs": list(grant.ids),
            "Capabilities": [list(request.capabilities)],
            "Options": dict(request.options),
        }
        for request, grant in zip(requests, grants, strict=True)
        if request.capabilities
    ]
