"""Files that the cluster keeps and hands to tasks: configs and secrets, and how tasks use them."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, field, frozen
from attrs.validators import ge, optional

from meshswarm.ids import NodeId, Version


class FileKind(Enum):
    """Whether a file may be seen by whoever uses the cluster, or by the tasks that use it alone."""

    CONFIG = "config"
    SECRET = "secret"


def pin_key(kind: FileKind, name: str) -> str:
    """By what the uses of a config or secret are found."""
    return f"{kind.value}/{name}"


@frozen(kw_only=True)
class FileUse:
    """That a task has the content of a config or secret as a file."""

    kind: FileKind
    source: str
    """The config's or secret's name."""
    target: str
    """Absolute path in the container; of a plain process the name in its directory of files."""
    uid: int | None = field(default=None, validator=optional(ge(0)))
    """Whose file it is; None: 0 in a container, the task's user for a process."""
    gid: int | None = field(default=None, validator=optional(ge(0)))
    mode: int | None = None
    """Permission bits; None: 0444 in a container, 0400 for a process."""
    version: Version = Version(0)
    """Which content: the row's version when the service was given it. 0 asks for the newest, and
    is replaced by the cluster when it takes the service in."""


@frozen(kw_only=True)
class Reload:
    """How running tasks are given other content: the files change under them."""

    signal: str = ""
    """Sent to the task afterwards; empty: none."""


@frozen(kw_only=True)
class Secret:
    """A secret in the store; only managers can open `sealed`."""

    name: str
    sealed: bytes = field(repr=False)
    """Its content, encrypted with the key `key_id`."""
    digest: bytes
    """A keyed hash of the content: equal contents have equal ones, and nobody without the key can
    try contents out."""
    key_id: str
    labels: Mapping[str, str] = Factory(dict)
    version: Version
    created_at_ms: int
    updated_at_ms: int


@frozen(kw_only=True)
class KeptFile:
    """Content that its config or secret no longer has, but that a revision still uses."""

    kind: FileKind
    name: str
    version: Version
    """Of the row that held it."""
    data: bytes = field(repr=False)
    """Of a secret: sealed, as in its row."""
    digest: bytes = b""
    key_id: str = ""

    @property
    def key(self) -> str:
        """Its place in the table."""
        return f"{pin_key(self.kind, self.name)}/{self.version}"


@frozen(kw_only=True)
class SecretsKey:
    """The key that seals secrets, itself sealed for each manager's own key."""

    id: str
    sealed_for: Mapping[NodeId, bytes] = field(repr=False)
    created_at_ms: int
    version: Version = Version(0)
