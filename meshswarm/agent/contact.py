"""The clock that `lease` counts by, and the file in which an agent notes its last contact.

Of use to the agent's next process alone, on the same boot: with the host ends all that it ran.
"""

import time
from pathlib import Path

from meshswarm.agent.runtimes.proc import boot_id
from meshswarm.agent.runtimes.task_dir import write_aside


def boot_ms() -> int:
    """Milliseconds since the host was booted, its sleep included; nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class ContactFile:
    """`contact` in an agent's data directory: the boot's id and the instant."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved_ms: int | None = None

    def load(self) -> int | None:
        """The last contact of an earlier process; None if there was none on this boot."""
        try:
            boot, _, instant = self._path.read_text().strip().partition(" ")
            return int(instant) if boot == boot_id() else None
        except (OSError, ValueError):
            return None

    def save(self, contact_ms: int) -> None:
        """Note the last contact; raises OSError."""
        if contact_ms != self._saved_ms:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_aside(self._path, f"{boot_id()} {contact_ms}\n".encode())
            self._saved_ms = contact_ms
