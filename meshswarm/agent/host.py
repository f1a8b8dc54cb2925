"""What a node finds on its host, for the node's row."""

import asyncio
import logging
import os
import platform
import socket
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from meshswarm import __version__
from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.model.node import ARCHITECTURES, NodeDescription
from meshswarm.model.resources import DeviceOffer, Resources
from meshswarm.model.service import RuntimeKind

log = logging.getLogger(__name__)


RESOLVE_TIMEOUT_S = 1.0
"""For a manager's name; a node is described without what does not resolve by then."""

MAX_ADDRESSES = 16
"""Addresses of one node; further ones are left out."""


async def describe(
    runtimes: Iterable[Runtime], devices: tuple[DeviceOffer, ...], managers: Iterable[str] = ()
) -> NodeDescription:
    """This host with these devices, and which of the runtimes answer right now.

    `managers` are the addresses (`HOST:PORT`) to which its own ones are told.
    """
    answering: list[RuntimeKind] = []
    engine_version = ""
    for runtime in runtimes:
        try:
            version = await runtime.version()
        except RuntimeFailure:
            continue  # not offered now; asked again at the next look
        answering.append(runtime.kind)
        if runtime.kind is RuntimeKind.DOCKER:
            engine_version = version
    machine = platform.machine()
    return NodeDescription(
        hostname=socket.gethostname(),
        addresses=await addresses_towards(managers),
        os=platform.system().lower(),
        arch=ARCHITECTURES.get(machine, machine),
        resources=Resources(
            nano_cpus=len(os.sched_getaffinity(0)) * 1_000_000_000,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        ),
        devices=devices,
        runtimes=tuple(answering),
        engine_version=engine_version,
        meshswarm_version=__version__,
    )


async def addresses_towards(managers: Iterable[str]) -> tuple[str, ...]:
    """The addresses that this host has on its ways to these (`HOST:PORT`); nothing is sent.

    All addresses of all interfaces would be too many: every host with an engine has 172.17.0.1.
    """
    found: set[str] = set()
    for manager in managers:
        host, _, port = manager.rpartition(":")
        address = await _resolved(host.strip("[]"))
        source = _source_towards(address, int(port)) if address is not None else None
        if source is not None:
            found.add(source)
    return tuple(sorted(found)[:MAX_ADDRESSES])


async def _resolved(host: str) -> str | None:
    """An IP address of the host; None if its name does not resolve now."""
    with suppress(ValueError):
        return str(ip_address(host))
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        log.debug("manager's name %s does not resolve: %s", host, error)
        return None
    return str(infos[0][4][0])


def _source_towards(address: str, port: int) -> str | None:
    """The address that packets to this one come from; None if there is no way to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, port))
            name: str = probe.getsockname()[0]
    except OSError as error:
        log.debug("no way to %s: %s", address, error)
        return None
    return name.partition("%")[0]
