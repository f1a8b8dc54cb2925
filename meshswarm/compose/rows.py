"""How a row of the attribute table is written."""

from attrs import evolve

from meshswarm.compose.attribute import Attribute, Support
from meshswarm.compose.cursor import Shape

PASSED = "comes with a later release; remove it"
"""The hint of attributes that are passed to the engine some day."""

Rows = tuple[Attribute, ...]


def yes(
    path: str, shape: Shape, summary: str, *, nullable: bool = False, not_in_process: str = ""
) -> Attribute:
    """An attribute that is applied; see `Attribute` for what the arguments mean."""
    return Attribute(
        path=path,
        support=Support.APPLIED,
        shape=shape,
        summary=summary,
        nullable=nullable,
        not_in_process=not_in_process,
    )


def ignored(path: str, hint: str) -> Attribute:
    """An attribute without effect."""
    return Attribute(path=path, support=Support.IGNORED, hint=hint)


def later(paths: str, hint: str) -> Rows:
    """A row for each of the attributes in `paths`, for one and the same reason."""
    return tuple(Attribute(path=path, support=Support.LATER, hint=hint) for path in paths.split())


def refused(paths: str, hint: str) -> Rows:
    """The same for attributes that will never be applied."""
    return tuple(Attribute(path=path, support=Support.REFUSED, hint=hint) for path in paths.split())


def under(parent: str, *rows: Attribute) -> Rows:
    """The rows below a parent."""
    return tuple(evolve(row, path=f"{parent}.{row.path}") for row in rows)
