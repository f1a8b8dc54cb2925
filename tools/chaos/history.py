"""What clients did and were told: one operation a line, as JSON, in files that only grow.

A key is a service without replicas, its value a label of it, and each value is written once; so a
value also names the write that brought it. Times are this machine's monotonic clock, which all its
processes share.
"""

import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from attrs import asdict, frozen

from meshswarm.ids import Version
from meshswarm.model.service import ServiceSpec, TaskSpec
from meshswarm.store.commands import PutService
from meshswarm.store.view import View

LABEL = "value"


class Kind(Enum):
    """What a client asked for."""

    READ = "read"
    WRITE = "write"
    SWAP = "swap"
    """Write if the key still holds `expected`."""


class Outcome(Enum):
    """What it was told."""

    OK = "ok"
    REFUSED = "refused"
    """A swap that found another value than `expected`."""
    FAILED = "failed"
    """Surely nothing was done."""
    ODD = "odd"
    """An answer for which there is no reason; it may have been done."""
    UNKNOWN = "unknown"
    """It may have been done, may still be, or never will."""


@frozen(kw_only=True)
class Operation:
    """One operation of one client."""

    client: str
    key: str
    kind: Kind
    outcome: Outcome
    invoked_ns: int
    returned_ns: int
    value: str | None = None
    """Written, or read; None if there was none to read."""
    expected: str | None = None
    index: int = 0
    """The log index at which it took effect, or whose view was read; 0 if not known."""
    why: str = ""
    """What the client was told of a failure."""

    def line(self) -> str:
        """This operation as one line of JSON."""
        plain = asdict(self, value_serializer=lambda _, __, v: v.value if _is_enum(v) else v)
        return json.dumps({name: value for name, value in plain.items() if value not in ("", None)})


def _is_enum(value: object) -> bool:
    return isinstance(value, Enum)


def operation_of(line: str) -> Operation:
    """The operation that a line holds."""
    plain = json.loads(line)
    kind, outcome = Kind(plain.pop("kind")), Outcome(plain.pop("outcome"))
    return Operation(kind=kind, outcome=outcome, **plain)


def operations_in(folder: Path) -> list[Operation]:
    """All operations of a run, in the order they were invoked."""
    found = [op for file in sorted(folder.glob("history-*.jsonl")) for op in _operations(file)]
    return sorted(found, key=lambda op: (op.invoked_ns, op.client))


def _operations(file: Path) -> Iterator[Operation]:
    """The whole lines of a file; what is written just now may end in half a line."""
    with file.open(encoding="utf-8") as lines:
        yield from (operation_of(line) for line in lines if line.endswith("\n"))


# --- keys and values in the cluster ---------------------------------------------------------------


def write_of(key: str, value: str, version: Version | None = None) -> PutService:
    """The command that gives the key this value, if it is at `version` still (None: always)."""
    task = TaskSpec(image="none")
    spec = ServiceSpec(name=key, replicas=0, labels={LABEL: value}, task=task)
    return PutService(spec=spec, version=version)


def value_of(view: View, key: str) -> tuple[str | None, Version | None]:
    """The value and version that a key has in this view; None where it has none."""
    service = view.service_named(key)
    return (service.spec.labels[LABEL], service.version) if service else (None, None)
