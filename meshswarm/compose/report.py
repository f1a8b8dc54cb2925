"""What there is to say about a file: faults, each with its line, and warnings."""

from attrs import frozen

from meshswarm.errors import Invalid

MAX_TOLD = 100
"""Faults (and warnings) that are spelled out; of the others only the number is told."""


class Unfit(Exception):
    """A single value is wrong; its one sentence becomes a fault at the value's place."""


@frozen(order=True)
class Fault:
    """One thing that is wrong, as a person finds it."""

    line: int
    """From 1; 0 is the file as a whole."""
    path: str
    message: str

    def told(self, file: str) -> str:
        """`FILE:LINE: PATH: MESSAGE`, without the parts that are empty."""
        place = f"{file}:{self.line}" if self.line else file
        return ": ".join(part for part in (place, self.path, self.message) if part)


class Report:
    """Gathers what is wrong with one deploy's files; owned by one `load`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._faults: dict[str, set[Fault]] = {file: set()}
        self._warnings: dict[str, str] = {}
        """Each with its first place, by its words: they are told once."""

    def fault(self, line: int, path: str, message: str, *, file: str | None = None) -> None:
        """Note a fault; one of an environment file names that `file`."""
        self._faults.setdefault(file or self.file, set()).add(Fault(line, path, message))

    def warn(self, line: int, path: str, message: str) -> None:
        """Note what works, but not as its author may think."""
        self._warnings.setdefault(message, Fault(line, path, message).told(self.file))

    def warn_unset(self, name: str, line: int, *, file: str | None = None) -> None:
        """Note an unset variable, where it is used first."""
        message = f"the variable {name} is not set; it stands for the empty text"
        self._warnings.setdefault(message, Fault(line, "", message).told(file or self.file))

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings, in the order in which they came up."""
        told = tuple(self._warnings.values())
        if len(told) <= MAX_TOLD:
            return told
        return (*told[:MAX_TOLD], f"and {len(told) - MAX_TOLD} more warnings")

    def raise_faults(self) -> None:
        """Raise `Invalid` with all faults, file by file in the order of their lines, if any."""
        told = [
            fault.told(file) for file, faults in self._faults.items() for fault in sorted(faults)
        ]
        if not told:
            return
        count = f"{len(told)} faults" if len(told) > 1 else "a fault"
        more = [f"and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else []
        raise Invalid(f"{self.file} has {count}", details=told[:MAX_TOLD] + more)
