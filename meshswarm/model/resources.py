"""Amounts of processor, memory and processes: what a task may use, what a node has."""

from attrs import field, frozen
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
