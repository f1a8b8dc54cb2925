"""The room's one door: Compose text in, a `StackSpec` and warnings out, or all faults at once."""

import posixpath
import re
from collections.abc import Mapping

from attrs import evolve, frozen

from meshswarm.compose import convert, dotenv, shapes, source
from meshswarm.compose.cursor import Cursor, Session
from meshswarm.compose.files import Content, Read
from meshswarm.compose.interpolate import Budget, Variables, is_clean
from meshswarm.compose.report import Report
from meshswarm.compose.table import TABLE
from meshswarm.model.stack import StackSpec

_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_STACK_NAME_RULE = "is made of a-z, 0-9, - and _, and begins with a letter or digit"


@frozen(kw_only=True)
class Loaded:
    """What a file says."""

    spec: StackSpec
    files: tuple[Content, ...]
    """Configs and secrets of the stack's own, to be put into the cluster before it."""
    warnings: tuple[str, ...]
    """What works, but not as the author may think; one line each, with its place."""


def load(
    text: bytes,
    *,
    file: str,
    name: str | None,
    directory: str,
    environment: Mapping[str, str],
    read: Read,
) -> Loaded:
    """The stack that a Compose file describes.

    `file` is how faults name it. `directory` is the absolute project directory: relative paths and
    `.env` are there. `name` is the stack's; without it the file's `name:` counts, then the
    directory's. Variables come from `environment`, and from `.env` where that has none. `read`
    gives `.env` and all other files by absolute path, None for one that is not there.
    Raises `Invalid` with one detail a fault: `FILE:LINE: PATH: MESSAGE`.
    """
    assert posixpath.isabs(directory), f"{directory=} must be absolute"
    report = Report(file)
    if not is_clean(directory):
        report.fault(0, "", "the name of its directory is not a UTF-8 text")
    variables = _variables(report, directory, environment, read)
    root = source.parse(text, report)
    made: tuple[StackSpec, tuple[Content, ...]] | None = None
    if root is not None:
        session = Session(table=TABLE, report=report, variables=variables, directory=directory)
        cursor = Cursor(node=root, line=root.line, path="", pattern="", session=session)
        made = _made(cursor, name, read)
    report.raise_faults()
    assert made is not None, "what is no stack is a fault"
    return Loaded(spec=made[0], files=made[1], warnings=report.warnings)


def _variables(
    report: Report, directory: str, environment: Mapping[str, str], read: Read
) -> Variables:
    """The process's variables, and those of `.env` that it does not have."""
    outer = Variables(environment, Budget())
    try:
        data = read(posixpath.join(directory, ".env"))
    except OSError as error:
        report.fault(0, "", f"cannot be read: {error}", file=".env")
        data = None
    if data is None:
        return outer
    inner = dotenv.parse(data, report, file=".env", outer=outer, before={})
    return Variables({**inner, **environment}, outer.budget)


def _made(
    cursor: Cursor, given_name: str | None, read: Read
) -> tuple[StackSpec, tuple[Content, ...]] | None:
    name = _stack_name(cursor, given_name)
    variables = cursor.session.variables
    values = {**variables.values, "COMPOSE_PROJECT_NAME": name}
    session = evolve(cursor.session, variables=Variables(values, variables.budget))
    root = shapes.section(evolve(cursor, session=session))
    return None if root is None else convert.stack_spec(root, name=name, read=read)


def _stack_name(cursor: Cursor, given: str | None) -> str:
    """The stack's name; a fault if it is none, with the command that helps."""
    if given is not None:
        if not _STACK_NAME.fullmatch(given):
            cursor.fault(f"`{given:.80}` is no name for a stack: it {_STACK_NAME_RULE}")
        return given
    is_mapping = isinstance(cursor.node, source.Mapping)
    place = (cursor.entries() or {}).get("name") if is_mapping else None
    if place is not None and not place.is_null:
        name = shapes.applied(shapes.text, place)
        if name and not _STACK_NAME.fullmatch(name):
            place.fault(f"`{name:.80}` is no name for a stack: it {_STACK_NAME_RULE}")
        if name != "":
            return name or "wrong"  # told already
    name = normalised(posixpath.basename(cursor.session.directory.rstrip("/")))
    if not name:
        cursor.fault(
            "the directory gives no name for the stack: use `meshswarm deploy --name NAME`"
        )
    return name


def normalised(directory: str) -> str:
    """The stack's name that a directory's name gives, as Compose makes it; maybe empty."""
    return re.sub(r"[^a-z0-9_-]", "", directory.lower()).lstrip("_-")
