"""A node together with the way to it: what shapes read values from and tell faults to."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, frozen

from meshswarm.compose import scalars, source
from meshswarm.compose.attribute import Table
from meshswarm.compose.interpolate import Variables
from meshswarm.compose.report import Report, Unfit


@frozen(kw_only=True)
class Session:
    """What all cursors of one `load` share."""

    table: Table
    report: Report
    variables: Variables
    directory: str
    """The project directory: absolute; relative paths start here."""


@frozen(kw_only=True)
class Cursor:
    """A place in the file."""

    node: source.Node
    line: int
    path: str
    """As people see it: `services.web.ports[0]`."""
    pattern: str
    """As the table has it: `services.*.ports.*`."""
    session: Session

    def fault(self, message: str) -> None:
        """Note that something is wrong here."""
        self.session.report.fault(self.line, self.path, message)

    def warn(self, message: str) -> None:
        """Note something that its author should know."""
        self.session.report.warn(self.line, self.path, message)

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here: `key:`, `~` or `null`."""
        return isinstance(self.node, source.Scalar) and self.node.value is None

    @property
    def is_text(self) -> bool:
        """Whether a text stands here."""
        return isinstance(self.node, source.Scalar) and isinstance(self.node.value, str)

    @property
    def kind(self) -> str:
        """What stands here, for people."""
        match self.node:
            case source.Scalar(value=value):
                return scalars.kind(value)
            case source.Sequence():
                return "a list"
            case source.Mapping():
                return "a mapping"

    def scalar(self) -> scalars.Value:
        """The single value here, variables replaced; raises `Unfit` for a list or mapping."""
        if not isinstance(self.node, source.Scalar):
            raise Unfit(f"must be a single value, not {self.kind}")
        value = self.node.value
        if not isinstance(value, str):
            return value
        expanded = self.session.variables.expand(value)
        for name in self.session.variables.take_unset():
            self.session.report.warn_unset(name, self.line)
        return expanded

    def stringified(self) -> str:
        """The single value here as a text, with a warning if that is not what is written."""
        value = self.scalar()
        text = scalars.stringified(value)
        written = self.node.written if isinstance(self.node, source.Scalar) else text
        if not isinstance(value, str) and value is not None and text != written:
            self.warn(f"{written} is read as {text}, as Compose does; quote it to keep it as it is")
        return text

    def items(self) -> tuple["Cursor", ...]:
        """The items of the list here; a fault, and none, if it is no list."""
        if not isinstance(self.node, source.Sequence):
            self.fault(f"must be a list, not {self.kind}")
            return ()
        return tuple(
            evolve(
                self,
                node=item,
                line=item.line,
                path=f"{self.path}[{index}]",
                pattern=f"{self.pattern}.*",
            )
            for index, item in enumerate(self.node.items)
        )

    def entries(self, *, named: bool = False) -> dict[str, "Cursor"] | None:
        """The mapping here by its keys; a fault, and None, if it is none.

        `named`: the keys are names that the author chose, not attributes.
        """
        if not isinstance(self.node, source.Mapping):
            self.fault(f"must be a mapping, not {self.kind}")
            return None
        return {
            entry.key: evolve(
                self,
                node=entry.value,
                line=entry.line,
                path=f"{self.path}.{entry.key}" if self.path else entry.key,
                pattern=f"{self.pattern}.{'*' if named else entry.key}".removeprefix("."),
            )
            for entry in self.node.entries
        }


Shape = Callable[[Cursor], Any]
"""Reads the value at a cursor; where it is wrong, raises `Unfit` or notes faults and gives None."""


@frozen(kw_only=True)
class Section:
    """A checked mapping: the values of its attributes, and where they stand."""

    cursor: Cursor
    values: Mapping[str, Any]
    """Only of attributes that are right."""
    places: Mapping[str, Cursor]
    """Of all keys that are written, right or wrong."""

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute's value; `default` if it is missing or wrong."""
        return self.values.get(key, default)

    def is_wrong(self, key: str) -> bool:
        """Whether something is written for `key`, and no value came of it."""
        return key in self.places and key not in self.values and not self.places[key].is_null

    def at(self, key: str) -> Cursor:
        """Where `key` is written; the section itself if it is not."""
        return self.places.get(key, self.cursor)
