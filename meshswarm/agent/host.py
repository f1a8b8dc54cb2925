"""What a node finds on its host, for the node's row."""

import os
import platform
import socket
from collections.abc import Iterable
from functools import cache
from importlib import metadata

from meshswarm.agent.runtimes.port import Runtime, RuntimeFailure
from meshswarm.model.node import NodeDescription
from meshswarm.model.resources import DeviceOffer, Resources
from meshswarm.model.service import RuntimeKind

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""Docker's names of the machines; others are called as the kernel does."""


async def describe(
    runtimes: Iterable[Runtime], devices: tuple[DeviceOffer, ...]
) -> NodeDescription:
    """This host with these devices, and which of the runtimes answer right now."""
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
        os=platform.system().lower(),
        arch=ARCHITECTURES.get(machine, machine),
        resources=Resources(
            nano_cpus=len(os.sched_getaffinity(0)) * 1_000_000_000,
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        ),
        devices=devices,
        runtimes=tuple(answering),
        engine_version=engine_version,
        meshswarm_version=_own_version(),
    )


@cache
def _own_version() -> str:
    return metadata.version("meshswarm")
