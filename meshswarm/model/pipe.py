"""A pipe to a task: a command beside it, or an archive of its files, made or unpacked there."""

from enum import Enum

from attrs import field, frozen
from attrs.validators import and_, ge, le, max_len

PIECE_BYTES = 64 * 1024
"""What one piece of a pipe holds at most, in either direction."""

MAX_ARGUMENTS = 1_000
MAX_PATH = 4_096
MAX_SIDE = 10_000


class PipeKind(Enum):
    """What is at the task's end of a pipe."""

    RUN = "run"
    """A command, with its output, its input and its exit code."""
    STAT = "stat"
    """What `path` is: `directory`, `file`, or nothing at all if it is not there."""
    READ = "read"
    """A tar archive whose one root is what lies at `path`."""
    WRITE = "write"
    """A tar archive, written to the pipe and unpacked in the directory `path`."""


@frozen(kw_only=True)
class WindowSize:
    """Of a terminal, in characters."""

    rows: int = field(default=24, validator=and_(ge(1), le(MAX_SIDE)))
    columns: int = field(default=80, validator=and_(ge(1), le(MAX_SIDE)))


@frozen(kw_only=True)
class PipeWish:
    """What somebody wants a pipe for."""

    kind: PipeKind
    argv: tuple[str, ...] = field(default=(), validator=max_len(MAX_ARGUMENTS))
    """The command to run."""
    path: str = field(default="", validator=max_len(MAX_PATH))
    has_input: bool = False
    """Whether anything will be written to the command; else its input is empty."""
    window: WindowSize | None = None
    """The size of the terminal that the command is to have; None: it has none."""

    def __attrs_post_init__(self) -> None:
        """A command has words, an archive a place."""
        if not (self.argv if self.kind is PipeKind.RUN else self.path):
            what = "command" if self.kind is PipeKind.RUN else "path"
            raise ValueError(f"a pipe to {self.kind.value} needs a {what}")
