"""Amounts of processor, memory and processes, and devices: what a task may use, what a node has."""

from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import ge


@frozen(kw_only=True)
class Resources:
    """Amounts; 0 means "none reserved" in a reservation and "unlimited" in a limit."""

    nano_cpus: int = field(default=0, validator=ge(0))
    """Processor time: 1e9 is one core."""

    memory_bytes: int = field(default=0, validator=ge(0))

    pids: int = field(default=0, validator=ge(0))
    """Processes and threads; only ever a limit."""

    def plus(self, other: "Resources") -> "Resources":
        """Both amounts together."""
        return Resources(
            nano_cpus=self.nano_cpus + other.nano_cpus,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            pids=self.pids + other.pids,
        )


@frozen(kw_only=True)
class DeviceOffer:
    """Devices of one kind that a node has: named ones, or only so many."""

    kind: str
    ids: tuple[str, ...] = ()
    """Each is given to one task at a time; empty if they have no names."""
    count: int = field(default=0, validator=ge(0))
    """How many there are if they have no names."""

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.ids) or self.count


@frozen(kw_only=True)
class DeviceRequest:
    """Devices that a task needs for itself alone (Compose `devices` and `generic_resources`)."""

    kind: str
    """What a node's offer is called: "gpu", "ssd"."""
    count: int = field(default=1, validator=ge(0))
    """How many; 0: all that the node has."""
    ids: tuple[str, ...] = ()
    """Exactly these; `count` means nothing then."""
    driver: str = ""
    capabilities: tuple[str, ...] = ()
    """What the engine is asked for; empty: it is told of the devices by a variable only."""
    options: Mapping[str, str] = Factory(dict)


@frozen(kw_only=True)
class DeviceGrant:
    """Devices that a task has on its node; nobody else has them until it is over."""

    kind: str
    ids: tuple[str, ...] = ()
    count: int = 0
