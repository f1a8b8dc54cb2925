"""YAML text to a tree of nodes that know their lines.

Built from the parser's events, so that duplicate keys are found with both lines, plain scalars
mean what they mean to Compose (`scalars`), and an alias bomb is refused before it unfolds.
"""

from collections.abc import Iterator
from typing import Any

from attrs import field, frozen
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from meshswarm.compose import scalars
from meshswarm.compose.report import Report

MAX_BYTES = 1024 * 1024
"""Size of a Compose or environment file; a larger one is refused."""

MAX_DEPTH = 40
"""Nesting of lists and mappings, aliases unfolded; deeper input is refused."""

MAX_NODES = 100_000
"""Values in a file, aliases unfolded; more are refused. Each 64 characters count as one more."""

_TAG = "tag:yaml.org,2002:"


@frozen(kw_only=True)
class Scalar:
    """A single value; `written` is its text in the file."""

    line: int
    value: scalars.Value
    written: str
    depth: int = 0

    @property
    def size(self) -> int:
        """How many values it counts for."""
        return 1 + len(self.written) // 64


@frozen(kw_only=True)
class Sequence:
    """A list."""

    line: int
    items: tuple["Node", ...]
    size: int
    depth: int


@frozen(kw_only=True)
class Entry:
    """A key of a mapping, where it stands, and its value."""

    line: int
    key: str
    value: "Node"


@frozen(kw_only=True)
class Mapping:
    """A mapping, its keys unique and in the file's order, merge keys (`<<`) unfolded."""

    line: int
    entries: tuple[Entry, ...]
    size: int
    depth: int


Node = Scalar | Sequence | Mapping


class _Stop(Exception):
    """The text cannot be read any further; the fault has been noted."""


@frozen(kw_only=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    line: int
    anchor: str | None
    is_mapping: bool
    children: list[Node] = field(factory=list)
    """The items; for a mapping keys and values in turn."""


def parse(data: bytes, report: Report) -> Node | None:
    """The root of the only document in `data`; None, and a fault in `report`, if it has none.

    Duplicate keys are noted as faults and the first one stands.
    """
    text = decode(data, report, report.file)
    if text is None:
        return None
    try:
        return _Composer(report).compose(_events(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line + 1
        context = f"{error.context}: " if error.context else ""
        report.fault(line, "", f"not YAML: {context}{error.problem}")
    except YAMLError as error:
        report.fault(0, "", f"not YAML: {' '.join(str(error).split())}")
    except (ValueError, IndexError, AssertionError, OverflowError) as error:
        # The parser trips over some malformed escapes and directives without an error of its own.
        report.fault(0, "", f"not YAML: {error!r}")
    except _Stop:
        pass
    return None


def decode(data: bytes, report: Report, file: str) -> str | None:
    """`data` as text without its byte order mark; None, and a fault, if it is none or too large."""
    if len(data) > MAX_BYTES:
        report.fault(0, "", f"has {len(data)} bytes; at most {MAX_BYTES} are read", file=file)
        return None
    if (place := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, place) + 1
        report.fault(line, "", "not a text: holds a NUL", file=file)
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"byte 0x{data[error.start]:02x}"
        report.fault(line, "", f"not a UTF-8 text: {wrong} cannot be read", file=file)
        return None


def _events(text: str) -> Iterator[Any]:
    yield from YAML(typ="safe", pure=True).parse(text)


class _Composer:
    """Builds the tree from events; owns the anchors and the stack of what is still open."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._anchors: dict[str, Node] = {}
        self._open: list[_Open] = []
        self._root: Node | None = None

    def compose(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            match event:
                case DocumentStartEvent() if self._root is not None:
                    self._stop(event, "a second document starts; one file is one stack")
                case AliasEvent():
                    self._add(event, self._aliased(event))
                case ScalarEvent():
                    self._add(event, self._scalar(event), event.anchor)
                case SequenceStartEvent() | MappingStartEvent():
                    self._enter(event)
                case SequenceEndEvent() | MappingEndEvent():
                    done = self._open.pop()
                    self._add(event, self._closed(event, done), done.anchor)
                case _:
                    pass
        if self._root is None:
            self._report.fault(0, "", "is empty")
        return self._root

    def _stop(self, event: Any, message: str) -> None:
        self._report.fault(event.start_mark.line + 1, "", message)
        raise _Stop

    def _add(self, event: Any, node: Node, anchor: str | None = None) -> None:
        if node.size > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} values, counting what aliases repeat")
        if node.depth > MAX_DEPTH:
            self._stop(event, f"nested more than {MAX_DEPTH} levels deep")
        if anchor is not None:
            self._anchors[anchor] = node
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node

    def _aliased(self, event: AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            if any(event.anchor == above.anchor for above in self._open):
                self._stop(event, f"`*{event.anchor}` stands inside of what it repeats")
            self._stop(event, f"`*{event.anchor}` repeats an anchor that is not there")
        return self._anchors[event.anchor]

    def _enter(self, event: SequenceStartEvent | MappingStartEvent) -> None:
        is_mapping = isinstance(event, MappingStartEvent)
        self._refuse_tag(event, "map" if is_mapping else "seq")
        if len(self._open) > MAX_DEPTH:
            self._stop(event, f"nested more than {MAX_DEPTH} levels deep")
        line = event.start_mark.line + 1
        self._open.append(_Open(line=line, anchor=event.anchor, is_mapping=is_mapping))

    def _refuse_tag(self, event: Any, *allowed: str) -> None:
        if event.tag in (None, "!", *(_TAG + name for name in allowed)):
            return
        if event.tag in ("!reset", "!override"):
            self._stop(event, f"`{event.tag}` changes another file, and only one is read yet")
        self._stop(event, f"the tag `{event.tag.replace(_TAG, '!!')}` has no meaning here")

    def _scalar(self, event: ScalarEvent) -> Scalar:
        line = event.start_mark.line + 1
        self._refuse_tag(event, "str", "int", "float", "bool", "null", "merge")
        if "\0" in event.value or any("\ud800" <= char <= "\udfff" for char in event.value):
            self._stop(event, "holds a character that no program can take (NUL, or half of one)")
        value: scalars.Value = event.value
        if event.tag is None and event.style is None:
            value = scalars.resolve(event.value)
        elif event.tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            value = scalars.resolve(event.value)
            if isinstance(value, str):
                self._stop(event, f"`{event.value}` is no {event.tag.removeprefix(_TAG)}")
        return Scalar(line=line, value=value, written=event.value)

    def _closed(self, event: Any, done: _Open) -> Node:
        size = 1 + sum(child.size for child in done.children)
        depth = 1 + max((child.depth for child in done.children), default=0)
        if not done.is_mapping:
            items = tuple(done.children)
            return Sequence(line=done.line, items=items, size=size, depth=depth)
        if size > MAX_NODES:  # before the merge keys unfold
            self._stop(event, f"more than {MAX_NODES} values, counting what aliases repeat")
        entries = self._entries(done.children)
        return Mapping(line=done.line, entries=entries, size=size, depth=depth)

    def _entries(self, children: list[Node]) -> tuple[Entry, ...]:
        found: dict[str, Entry] = {}
        merging: dict[str, Entry] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                what = scalars.kind(key.value) if isinstance(key, Scalar) else "a list or mapping"
                self._report.fault(key.line, "", f"a key must be a text, not {what}; quote it")
            elif key.value in found or key.value in merging:
                first = (found | merging)[key.value]
                message = f"the key `{key.value}` is there already, in line {first.line}"
                self._report.fault(key.line, "", message)
            else:
                entry = Entry(line=key.line, key=key.value, value=value)
                (merging if key.value == "<<" else found)[key.value] = entry
        merged = self._merged(merging["<<"].value) if merging else {}
        return tuple((merged | found).values())

    def _merged(self, node: Node) -> dict[str, Entry]:
        """What a merge key adds; of several mappings the first that has a key gives it."""
        sources = node.items if isinstance(node, Sequence) else (node,)
        found: dict[str, Entry] = {}
        for source in sources:
            if isinstance(source, Mapping):
                found |= {entry.key: entry for entry in source.entries if entry.key not in found}
            else:
                self._report.fault(source.line, "", "`<<` merges a mapping, or a list of them")
        return found
