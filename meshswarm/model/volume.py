"""What a task sees of the file system besides its image: bind, volume and tmpfs mounts."""

from collections.abc import Mapping
from enum import Enum

from attrs import Factory, frozen


class MountKind(Enum):
    """Where a mount's content lives: a path of the host, a named volume, or memory."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


@frozen(kw_only=True)
class Mount:
    """One mount of a task; `source` is a host path (bind), a volume's full name, or None (tmpfs).

    A volume without a source is anonymous: it lives as long as its task.
    """

    kind: MountKind
    target: str
    """Absolute path inside the container."""
    source: str | None = None
    read_only: bool = False
    driver: str | None = None
    """The volume's driver; None is the engine's own."""
    driver_options: Mapping[str, str] = Factory(dict)
    labels: Mapping[str, str] = Factory(dict)
    """Labels of the volume, set when it is created."""
    external: bool = False
    """The volume must exist already; it is never created."""
    propagation: str | None = None
    """Bind only: rprivate, private, rshared, shared, rslave or slave."""
    selinux: str | None = None
    """Bind only: "z" (shared) or "Z" (private) relabelling."""
    create_host_path: bool = True
    """Bind only: make the host's directory if it is missing, as Compose's short form does."""
    no_copy: bool = False
    """Volume only: do not fill a new volume with the image's content."""
    size_bytes: int = 0
    """Tmpfs only: 0 is the engine's default."""
    mode: int | None = None
    """Tmpfs only: permission bits of its root."""
